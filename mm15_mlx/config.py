"""Every number of an MM1.5-shaped model, as frozen dataclasses.

What this file is: the shapes of the paper's six sizes and of `nano-ui`, strict reading
and writing of `config.json`. What it is not: MM1.5's own configuration. Apple published
neither weights nor decoder shapes; fields that are our own choice say so.
"""

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field

from mm15_mlx.input_config import (
    ConfigError,
    CoordinateConfig,
    PromptConfig,
    TilingConfig,
)
from mm15_mlx.input_config import UserError as UserError
from mm15_mlx.input_config import check_choice as _choice
from mm15_mlx.input_config import check_ranges as _ranges
from mm15_mlx.limits import MAX_GRID
from mm15_mlx.rope import RopeScaling

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's constants
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def _divides(name: str, whole: int, part_name: str, part: int) -> None:
    if part <= 0 or whole % part:
        raise ConfigError(f"{name} {whole} is not a multiple of {part_name} {part}")


# The names that Hugging Face gives them; gelu is the exact one.
GELUS = ("gelu", "gelu_pytorch_tanh")


@dataclass(frozen=True)
class VisionConfig:
    """CLIP ViT (MM1 §3.1: ViT-H/14 trained at 378 px on DFN-5B).

    The switches are what SigLIP and InternViT have otherwise.
    """

    hidden_size: int = 1280  # ViT-L 1024, nano-ui 256
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 16  # head dim 80: fused on Metal
    patch_size: int = 14
    image_size: int = 378  # side of the position table; other grids are interpolated
    hidden_act: str = "quick_gelu"  # CLIP, DFN5B; InternViT gelu; SigLIP with tanh
    layer_norm_eps: float = 1e-5  # SigLIP, InternViT 1e-6
    # Pixels beyond the last whole patch are not seen (SigLIP so400m: 384 px, 27 × 14).
    crop_to_patches: bool = False
    class_token: bool = True  # a token before the patches; SigLIP has none
    patch_bias: bool = False  # SigLIP, InternViT true
    qkv_bias: bool = True  # bias on q, k and v
    pre_norm: bool = True  # CLIP's norm before the blocks; SigLIP, InternViT none
    layer_scale: bool = False  # InternViT: each branch times a vector
    feature_layer: int = -1  # not published: our choice; last block, no ln_post
    post_norm: bool = False  # Idefics3: features pass the norm after the last block
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        _ranges("vision_config", self)
        _choice("vision_config.hidden_act", self.hidden_act, ("quick_gelu", *GELUS))
        _divides("vision_config.hidden_size", self.hidden_size,
                 "num_attention_heads", self.num_attention_heads)  # fmt: skip
        self.check_side("vision_config.image_size", self.image_size)
        if self.feature_layer not in (-1, -2):
            raise ConfigError(
                f"vision_config.feature_layer is {self.feature_layer}; use -1 or -2"
            )
        if self.post_norm and self.feature_layer != -1:
            raise ConfigError(
                "vision_config.post_norm is the norm after the last block; with "
                f"feature_layer {self.feature_layer} it must be false"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def check_side(self, name: str, side: int) -> None:
        """Raises ConfigError where views of `side` pixels are no whole patches."""
        if not self.crop_to_patches:
            _divides(name, side, "vision_config.patch_size", self.patch_size)

    @property
    def grid_size(self) -> int:
        """Patches along one side of the position table."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ConnectorConfig:
    """Honeybee's C-Abstractor (MM1 §3.1), MM1's two ablations of it, or pixel shuffle.

    Idefics3 and InternVL shuffle: the patches of a square become one token's channels.
    """

    type: str = "c_abstractor"  # c_abstractor | avg_pool | mlp | pixel_shuffle
    num_visual_tokens: int = 144  # MM1.5: 144 per view
    hidden_size: int = 1024  # not published: Honeybee's default
    depth: int = 3  # not published: Honeybee's default; blocks per stage
    mlp_depth: int = 2  # not published: Honeybee's default; Idefics3 1, InternVL 2
    # Of mlp and pixel_shuffle:
    mlp_bias: bool = True  # Idefics3 false
    hidden_act: str = "gelu"  # between the Linears
    # Of pixel_shuffle:
    scale_factor: int = 1  # side of the square; SmolVLM 4 or 3, InternVL 2
    pre_norm: bool = False  # a LayerNorm before the Linears; InternVL true

    def __post_init__(self) -> None:
        _ranges("connector_config", self)
        _choice("connector_config.type", self.type, (
            "c_abstractor", "mlp", "avg_pool", "pixel_shuffle"
        ))  # fmt: skip
        _choice("connector_config.hidden_act", self.hidden_act, GELUS)
        if self.pooled_grid**2 != self.num_visual_tokens:
            raise ConfigError(
                f"connector_config.num_visual_tokens is {self.num_visual_tokens}; "
                "it must be a square number such as 144"
            )

    @property
    def pooled_grid(self) -> int:
        """Visual tokens along one side of a view (12 for 144)."""
        return round(self.num_visual_tokens**0.5)

    def check_grid(self, grid: int) -> None:
        """Raises ConfigError where views of `grid`² patches give other tokens."""
        if self.type == "mlp" and grid**2 != self.num_visual_tokens:
            raise ConfigError(
                f"an mlp connector keeps all {grid**2} patches of a view; "
                f"num_visual_tokens is {self.num_visual_tokens}"
            )
        if self.type == "pixel_shuffle":
            _divides("patches along a view:", grid,
                     "connector_config.scale_factor", self.scale_factor)  # fmt: skip
            tokens = (grid // self.scale_factor) ** 2
            if tokens != self.num_visual_tokens:
                raise ConfigError(
                    f"a pixel_shuffle connector with scale_factor {self.scale_factor} "
                    f"makes {tokens} tokens of a view's {grid**2} patches; "
                    f"num_visual_tokens is {self.num_visual_tokens}"
                )


@dataclass(frozen=True)
class TextConfig:
    """Decoder-only transformer, dense or with experts in every k-th layer.

    Shapes are not published. The 3B default is that of Apple's later open `honeycrisp`
    configuration, whose MoE variant has the 64B parameters that MM1 reports. The
    switches are what Llama, Qwen, Mixtral, Gemma and Phi-3 have otherwise.
    """

    hidden_size: int = 3072
    intermediate_size: int = 8064
    num_hidden_layers: int = 26
    num_attention_heads: int = 24
    num_key_value_heads: int = 8
    head_dim: int = 128  # 64 or 128: fused prefill and decode on Metal
    vocab_size: int = 49152
    hidden_act: str = "silu"  # of the gate; Gemma gelu_pytorch_tanh
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    max_position_embeddings: int = 4096  # MM1: sequences of 4,096
    embedding_scale: float = 1.0  # of token embeddings; Gemma √hidden_size
    attention_bias: bool = False  # bias on q, k and v (Qwen2)
    qk_norm: bool = True
    tie_word_embeddings: bool = True
    num_experts: int = 0  # 0 = dense; MM1.5-MoE: 64
    num_experts_per_tok: int = 2  # MM1.5: top-2
    norm_topk_prob: bool = True  # the chosen experts' shares sum to 1
    decoder_sparse_step: int = 2  # MM1.5: experts replace the FFN every two layers
    moe_intermediate_size: int = 0
    router_aux_loss_coef: float = 0.01  # MM1.5
    router_z_loss_coef: float = 0.001  # MM1.5

    def __post_init__(self) -> None:
        _ranges("text_config", self)
        _divides("text_config.num_attention_heads", self.num_attention_heads,
                 "num_key_value_heads", self.num_key_value_heads)  # fmt: skip
        _divides("text_config.head_dim", self.head_dim, "a rotated pair's", 2)
        _choice("text_config.hidden_act", self.hidden_act, ("silu", *GELUS))
        self._check_longrope()
        if self.num_experts and self.hidden_act != "silu":
            raise ConfigError(
                f"text_config.hidden_act is {self.hidden_act!r}; experts have 'silu'"
            )
        if self.num_experts and not self.moe_intermediate_size:
            raise ConfigError(
                f"text_config.num_experts is {self.num_experts} but "
                "moe_intermediate_size is 0; give the width of one expert"
            )
        if self.num_experts and self.num_experts_per_tok > self.num_experts:
            raise ConfigError(
                f"text_config.num_experts_per_tok {self.num_experts_per_tok} is more "
                f"than num_experts {self.num_experts}"
            )

    def _check_longrope(self) -> None:
        rope = self.rope_scaling
        if rope.rope_type != "longrope":
            return
        if 2 * len(rope.short_factor) != self.head_dim:
            raise ConfigError(
                f"text_config.rope_scaling.short_factor has {len(rope.short_factor)} "
                f"numbers; head_dim {self.head_dim} needs {self.head_dim // 2}"
            )
        # Beyond it other factors hold, and keys already cached would be wrong.
        if self.max_position_embeddings > rope.original_max_position_embeddings:
            raise ConfigError(
                "text_config.max_position_embeddings is "
                f"{self.max_position_embeddings}; longrope is supported up to "
                "original_max_position_embeddings, "
                f"{rope.original_max_position_embeddings}"
            )

    def is_sparse(self, layer: int) -> bool:
        """Whether `layer` (from 0) holds experts: the last of every k layers."""
        return self.num_experts > 0 and (layer + 1) % self.decoder_sparse_step == 0


@dataclass(frozen=True)
class ModelConfig:
    """A whole model folder's `config.json`."""

    vision_config: VisionConfig = field(default_factory=VisionConfig)
    connector_config: ConnectorConfig = field(default_factory=ConnectorConfig)
    text_config: TextConfig = field(default_factory=TextConfig)
    tiling: TilingConfig = field(default_factory=TilingConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    coordinates: CoordinateConfig = field(default_factory=CoordinateConfig)
    quantization: dict[str, typing.Any] | None = None
    provenance: dict[str, typing.Any] | None = None
    model_type: str = "mm15"

    def __post_init__(self) -> None:
        if self.model_type != "mm15":
            raise ConfigError(
                f"model_type is {self.model_type!r}, not 'mm15'; "
                "run mm15-mlx convert on this folder first"
            )
        self.vision_config.check_side("tiling.tile_size", self.tiling.tile_size)
        if not 1 <= self.view_grid <= MAX_GRID:
            raise ConfigError(
                f"tiling.tile_size {self.tiling.tile_size} has {self.view_grid} patches"
                f" of vision_config.patch_size along a side; 1 to {MAX_GRID} can be had"
            )
        numbers, tiling = self.coordinates, self.tiling
        if numbers.frame in ("canvas", "tiles") and tiling.pad_side != "end":
            raise ConfigError(
                f"coordinates.frame {numbers.frame!r} needs tiling.pad_side 'end', not "
                f"{tiling.pad_side!r}: both must begin at the same corner"
            )
        if tiling.n_max * numbers.per_tile > numbers.range:
            raise ConfigError(
                f"tiling.n_max {tiling.n_max} tiles of coordinates.per_tile "
                f"{numbers.per_tile} numbers exceed coordinates.range {numbers.range}"
            )
        self.connector_config.check_grid(self.view_grid)

    @property
    def view_grid(self) -> int:
        """Patches along one side of a view."""
        return self.tiling.tile_size // self.vision_config.patch_size

    def to_dict(self) -> dict[str, typing.Any]:
        """Plain JSON values; the inverse of `from_dict`."""
        data = dataclasses.asdict(self)
        return {k: v for k, v in data.items() if v is not None}

    @classmethod
    def from_dict(cls, data: dict[str, typing.Any]) -> "ModelConfig":
        """Strict: an unknown, missing or mistyped key is a ConfigError naming it."""
        return _read(cls, data, "config.json")


# All but the first two are younger than folders in use: there the default holds.
_OPTIONAL = {
    "quantization", "provenance", "split_last", "video_frames", "per_tile", "ground",
    "widgets",
}  # fmt: skip
_SCALARS = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}


def _read(cls: type, data: typing.Any, where: str) -> typing.Any:
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be an object, not {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where} has an unknown key {key!r}{hint}")
    missing = [k for k in hints if k not in data and k not in _OPTIONAL]
    if missing:
        raise ConfigError(f"{where} lacks the key {missing[0]!r}")
    return cls(**{k: _value(hints[k], v, f"{where}: {k}") for k, v in data.items()})


def _value(hint: typing.Any, value: typing.Any, where: str) -> typing.Any:
    if dataclasses.is_dataclass(hint):
        return _read(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if kinds[-1] is ...:  # any number of one kind
            kinds = kinds[:1] * (len(value) if isinstance(value, list | tuple) else 0)
            if not isinstance(value, list | tuple):
                raise ConfigError(f"{where} must be a list, not {value!r}")
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            raise ConfigError(f"{where} must be a list of {len(kinds)} numbers")
        return tuple(_value(t, v, where) for t, v in zip(kinds, value, strict=True))
    if hint in _SCALARS:
        odd = isinstance(value, bool) and hint is not bool  # True is an int in Python
        if odd or not isinstance(value, _SCALARS[hint]):
            raise ConfigError(f"{where} must be {hint.__name__}, not {value!r}")
        try:
            return hint(value)
        except OverflowError:
            raise ConfigError(f"{where} is {value!r:.60}; it is too large") from None
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{where} must be an object, not {value!r}")
    return value


def _mm15(text: TextConfig) -> ModelConfig:
    return ModelConfig(text_config=text)


# Not published: widths and depths chosen so that the totals match the paper's names.
_TEXT_1B = TextConfig(
    hidden_size=2048, intermediate_size=5632, num_hidden_layers=20,
    num_attention_heads=16, num_key_value_heads=8,
)  # fmt: skip
_TEXT_3B = TextConfig()
_TEXT_7B = TextConfig(
    hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=8,
)  # fmt: skip
_TEXT_30B = TextConfig(
    hidden_size=7168, intermediate_size=20480, num_hidden_layers=54,
    num_attention_heads=56,
    num_key_value_heads=14,  # 4 queries to a key: fused on Metal for 1 to 8 tokens too
)  # fmt: skip
# MM1.5: 64 experts, top-2, in every second layer; expert width not published.
_TEXT_1B_MOE = dataclasses.replace(
    _TEXT_1B, num_experts=64, moe_intermediate_size=_TEXT_1B.intermediate_size
)
_TEXT_3B_MOE = dataclasses.replace(
    _TEXT_3B, num_experts=64, moe_intermediate_size=_TEXT_3B.intermediate_size
)

# The bundled model: the same parts, small enough to train and run on two CPU cores.
_NANO_UI = ModelConfig(
    vision_config=VisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=6,
        num_attention_heads=4, patch_size=24, image_size=480,
    ),
    # 20² of a phone's width: a visual token is as high as one line of text.
    connector_config=ConnectorConfig(hidden_size=512, num_visual_tokens=400),
    text_config=TextConfig(
        hidden_size=384, intermediate_size=1024, num_hidden_layers=5,
        num_attention_heads=6, num_key_value_heads=6, head_dim=64, vocab_size=2304,
        rope_theta=10_000.0,
        # Tied, an input is a tenth of a visual token's size and drowns beside it.
        tie_word_embeddings=False,
    ),
    tiling=TilingConfig(tile_size=480, n_min=1, n_max=4),
    prompt=PromptConfig(video_frames=8),  # of 400 tokens: 24 would not fit
    coordinates=CoordinateConfig(format="tokens", frame="tiles", per_tile=250),
)  # fmt: skip

PRESETS: dict[str, ModelConfig] = {
    "1b": _mm15(_TEXT_1B),
    "3b": _mm15(_TEXT_3B),
    "7b": _mm15(_TEXT_7B),
    "30b": _mm15(_TEXT_30B),
    "1b-moe": _mm15(_TEXT_1B_MOE),
    "3b-moe": _mm15(_TEXT_3B_MOE),
    "nano-ui": _NANO_UI,
}
