"""LLaVA's vision tower from elsewhere, where it was frozen and left out of the files.

What this file is: a checkpoint of LLaVA's own layout and one of OpenAI's CLIP, read as
if they were one. What it is not: the tables (encoders.py), or what becomes of both
(llava.py).
"""

import re
from pathlib import Path, PurePosixPath

from mm15_mlx.checkpoint import CONFIG, read_json
from mm15_mlx.config import ConfigError
from mm15_mlx.convert.llava import TOWER
from mm15_mlx.convert.sources import Source, open_source

# The hub's copies have the prefix, those that transformers 5 saves anew do not; what
# else a CLIP holds begins otherwise.
_OWN = re.compile(
    r"(?:vision_model\.)?((?:embeddings|pre_layrnorm|encoder|post_layernorm)\..+)"
)
_SIZES = re.compile(r"-patch(\d+)(?:-(\d+))?")


def open_tower(base: Source, folder: Path, tower: Path) -> tuple[Source, Source]:
    """The checkpoint of `folder` with the tower of the CLIP in `tower`; and that CLIP.

    Raises ConfigError where none is needed, or the CLIP is another than was used.
    """
    data = read_json(folder / CONFIG)
    if "mm_projector_type" not in data:
        raise ConfigError(
            f"--vision-tower is for LLaVA in its own layout; {folder} (model_type "
            f"{data.get('model_type')!r}) has a tower of its own: leave the flag out"
        )
    if any(name.startswith(TOWER) for name in base.tensors):
        raise ConfigError(
            f"{folder} holds its vision tower already; leave out --vision-tower"
        )
    named = str(data.get("mm_vision_tower", data.get("vision_tower")))
    _check(named, tower)
    held = open_source(tower)
    tensors, homes = dict(base.tensors), dict(base.homes)
    for name, tensor in held.tensors.items():
        if match := _OWN.fullmatch(name):
            tensors[TOWER + match[1]] = tensor
            homes[TOWER + match[1]] = held.homes[name]
    return Source((*base.files, *held.files), tensors, homes), held


def _check(named: str, tower: Path) -> None:
    """That the CLIP in `tower` is the one `named`: its shapes would not tell."""
    data = read_json(tower / CONFIG)
    kind = data.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise ConfigError(
            f"--vision-tower {tower} has model_type {kind!r}; it must be OpenAI's "
            f"CLIP as transformers has it, {named}"
        )
    vision = dict(data.get("vision_config") or {}) if kind == "clip" else data
    if (act := vision.get("hidden_act", "quick_gelu")) != "quick_gelu":
        raise ConfigError(
            f"--vision-tower {tower} has hidden_act {act!r}; OpenAI's CLIP, {named}, "
            "has 'quick_gelu'"
        )
    match = _SIZES.search(PurePosixPath(named).name)
    if match is None:
        return
    wanted = int(match[1]), int(match[2] or 224)
    # Defaults of transformers' CLIPVisionConfig.
    found = vision.get("patch_size", 32), vision.get("image_size", 224)
    if found != wanted:
        raise ConfigError(
            f"--vision-tower {tower} has patches of {found[0]} and pictures of "
            f"{found[1]} pixels, and {named}, which was used, of {wanted[0]} and "
            f"{wanted[1]}; give that one"
        )
