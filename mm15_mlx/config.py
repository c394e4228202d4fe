"""Every number of an MM1.5-shaped model, as frozen dataclasses.

What this file is: the shapes of the paper's six sizes and of `nano-ui`, strict reading
and writing of `config.json`. What it is not: MM1.5's own configuration. Apple published
neither weights nor decoder shapes; fields that are our own choice say so.
"""

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's constants
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class UserError(ValueError):
    """A mistake that a user can mend; the message is one line and says how."""


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the key and the remedy."""


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        names = ", ".join(allowed)
        raise ConfigError(f"{name} is {value!r}; it must be one of {names}")


def _divides(name: str, whole: int, part_name: str, part: int) -> None:
    if part <= 0 or whole % part:
        raise ConfigError(f"{name} {whole} is not a multiple of {part_name} {part}")


@dataclass(frozen=True)
class VisionConfig:
    """CLIP ViT (MM1 §3.1: ViT-H/14 trained at 378 px on DFN-5B)."""

    hidden_size: int = 1280  # ViT-L 1024, nano-ui 256
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 16  # head dim 80: fused on Metal
    patch_size: int = 14
    image_size: int = 378  # side of the position table; other grids are interpolated
    hidden_act: str = "quick_gelu"  # DFN5B weights: QuickGELU
    layer_norm_eps: float = 1e-5
    feature_layer: int = -1  # not published: our choice; last block, no ln_post
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        _choice("vision_config.hidden_act", self.hidden_act, ("quick_gelu", "gelu"))
        _divides("vision_config.hidden_size", self.hidden_size,
                 "num_attention_heads", self.num_attention_heads)  # fmt: skip
        _divides("vision_config.image_size", self.image_size,
                 "patch_size", self.patch_size)  # fmt: skip
        if self.feature_layer not in (-1, -2):
            raise ConfigError(
                f"vision_config.feature_layer is {self.feature_layer}; use -1 or -2"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def grid_size(self) -> int:
        """Patches along one side of the position table."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ConnectorConfig:
    """Honeybee's C-Abstractor (MM1 §3.1), or MM1's two ablations of it."""

    type: str = "c_abstractor"  # c_abstractor | mlp | avg_pool
    num_visual_tokens: int = 144  # MM1.5: 144 per view
    hidden_size: int = 1024  # not published: Honeybee's default
    depth: int = 3  # not published: Honeybee's default; blocks per stage
    mlp_depth: int = 2  # not published: Honeybee's default

    def __post_init__(self) -> None:
        _choice("connector_config.type", self.type, ("c_abstractor", "mlp", "avg_pool"))
        if self.pooled_grid**2 != self.num_visual_tokens:
            raise ConfigError(
                f"connector_config.num_visual_tokens is {self.num_visual_tokens}; "
                "it must be a square number such as 144"
            )

    @property
    def pooled_grid(self) -> int:
        """Visual tokens along one side of a view (12 for 144)."""
        return round(self.num_visual_tokens**0.5)


@dataclass(frozen=True)
class TextConfig:
    """Decoder-only transformer, dense or with experts in every k-th layer.

    Shapes are not published. The 3B default is that of Apple's later open `honeycrisp`
    configuration, whose MoE variant has the 64B parameters that MM1 reports.
    """

    hidden_size: int = 3072
    intermediate_size: int = 8064
    num_hidden_layers: int = 26
    num_attention_heads: int = 24
    num_key_value_heads: int = 8
    head_dim: int = 128  # 64 or 128: fused prefill and decode on Metal
    vocab_size: int = 49152
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    max_position_embeddings: int = 4096  # MM1: sequences of 4,096
    attention_bias: bool = False  # bias on q, k and v (Qwen2)
    qk_norm: bool = True
    tie_word_embeddings: bool = True
    num_experts: int = 0  # 0 = dense; MM1.5-MoE: 64
    num_experts_per_tok: int = 2  # MM1.5: top-2
    decoder_sparse_step: int = 2  # MM1.5: experts replace the FFN every two layers
    moe_intermediate_size: int = 0
    router_aux_loss_coef: float = 0.01  # MM1.5
    router_z_loss_coef: float = 0.001  # MM1.5

    def __post_init__(self) -> None:
        _divides("text_config.num_attention_heads", self.num_attention_heads,
                 "num_key_value_heads", self.num_key_value_heads)  # fmt: skip
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

    def is_sparse(self, layer: int) -> bool:
        """Whether `layer` (from 0) holds experts: the last of every k layers."""
        return self.num_experts > 0 and (layer + 1) % self.decoder_sparse_step == 0


@dataclass(frozen=True)
class TilingConfig:
    """Dynamic image splitting (MM1.5 §3.5)."""

    tile_size: int = 672  # side of one view in pixels
    policy: str = "dynamic"  # dynamic | static | none
    n_min: int = 4  # MM1.5: (4, 9)
    n_max: int = 9
    static_grid: tuple[int, int] = (2, 2)  # rows, columns of the static policy
    overview: str = "after"  # after | before | none
    indicator: str = "index"  # index | seps | none
    max_split_images: int = 2  # "fewer than three images" are split
    grid_rule: str = "mm15"  # mm15 = Eq. 1 | anyres = LLaVA's select_best_resolution
    pad_color: tuple[int, int, int] = (0, 0, 0)  # not published: our choice
    pad_side: str = "end"  # not published: our choice; end = right and bottom | center

    def __post_init__(self) -> None:
        _choice("tiling.policy", self.policy, ("dynamic", "static", "none"))
        _choice("tiling.overview", self.overview, ("after", "before", "none"))
        _choice("tiling.indicator", self.indicator, ("index", "seps", "none"))
        _choice("tiling.grid_rule", self.grid_rule, ("mm15", "anyres"))
        _choice("tiling.pad_side", self.pad_side, ("end", "center"))
        if not 1 <= self.n_min <= self.n_max:
            raise ConfigError(
                f"tiling.n_min {self.n_min} and n_max {self.n_max} must hold "
                "1 <= n_min <= n_max"
            )


@dataclass(frozen=True)
class PromptConfig:
    """The conversation's text. Nothing of it is published: all our choice."""

    bos: str = ""
    user_start: str = "<|user|>"
    assistant_start: str = "<|assistant|>"
    system_start: str = "<|system|>"
    turn_end: str = "<|end|>"
    image_token: str = "<|image|>"
    image_token_id: int = 4  # its id in the tokenizer; one per visual token
    index_format: str = "({k}, {i}, {j})"  # before each view; overview is (k, 0, 0)
    system: str = ""  # default system text


@dataclass(frozen=True)
class CoordinateConfig:
    """How boxes and points are written for the model. Not published: our choice.

    `tokens`: `<box>` and four location tokens `<loc_0>`…`<loc_range>`. `digits`: the
    text `[x1, y1, x2, y2]` as Ferret writes it. Both count 0…range over the original
    picture. Location tokens may count over the canvas of all tiles instead: then the
    same place in a tile is the same number, whatever the picture's proportions are.
    Users see numbers of the picture either way.
    """

    format: str = "digits"  # digits | tokens
    range: int = 1000
    frame: str = "picture"  # picture | canvas

    def __post_init__(self) -> None:
        _choice("coordinates.format", self.format, ("digits", "tokens"))
        _choice("coordinates.frame", self.frame, ("picture", "canvas"))
        if self.frame == "canvas" and self.format != "tokens":
            raise ConfigError(
                "coordinates.frame 'canvas' needs the format 'tokens': digits are "
                "shown to users as the model writes them"
            )


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
        _divides("tiling.tile_size", self.tiling.tile_size,
                 "vision_config.patch_size", self.vision_config.patch_size)  # fmt: skip
        if self.coordinates.frame == "canvas" and self.tiling.pad_side != "end":
            raise ConfigError(
                "coordinates.frame 'canvas' needs tiling.pad_side 'end', not "
                f"{self.tiling.pad_side!r}: both must begin at the same corner"
            )
        if self.connector_config.type == "mlp":
            grid = self.view_grid**2
            if grid != self.connector_config.num_visual_tokens:
                raise ConfigError(
                    f"an mlp connector keeps all {grid} patches of a view; "
                    f"num_visual_tokens is {self.connector_config.num_visual_tokens}"
                )

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


_OPTIONAL = {"quantization", "provenance"}
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
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            raise ConfigError(f"{where} must be a list of {len(kinds)} numbers")
        return tuple(_value(t, v, where) for t, v in zip(kinds, value, strict=True))
    if hint in _SCALARS:
        odd = isinstance(value, bool) and hint is not bool  # True is an int in Python
        if odd or not isinstance(value, _SCALARS[hint]):
            raise ConfigError(f"{where} must be {hint.__name__}, not {value!r}")
        return hint(value)
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
        num_attention_heads=6, num_key_value_heads=2, head_dim=64, vocab_size=2304,
        rope_theta=10_000.0,
        # Tied, an input is a tenth of a visual token's size and drowns beside it.
        tie_word_embeddings=False,
    ),
    tiling=TilingConfig(tile_size=480, n_min=1, n_max=4),
    coordinates=CoordinateConfig(format="tokens", frame="canvas"),
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
