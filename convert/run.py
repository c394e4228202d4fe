"""`mm15-mlx convert`: a public checkpoint becomes a model folder, with proof.

What this file is: the steps in their order, from the folder that the user named to one
that has been loaded again and run, and what is said about it. What it is not: any
knowledge of families (families.py), files (sources.py, stream.py) or the network.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mm15_mlx import __version__
from mm15_mlx.checkpoint import CONFIG, WeightsError, read_json, weight_files
from mm15_mlx.config import ConfigError, ModelConfig, UserError
from mm15_mlx.convert.families import recognise
from mm15_mlx.convert.recipes import Licence, Recipe
from mm15_mlx.convert.sources import Source, open_source
from mm15_mlx.convert.stream import Quantisation, plan_model, write_model
from mm15_mlx.load import load
from mm15_mlx.tokenizer import TOKENIZER_FILE, TOKENIZER_JSON, Tokenizer, tokenizer_file

Say = Callable[[str], None]
CARD = "README.md"
PARTS = ("encoder", "connector", "decoder")
_LICENCE = re.compile(
    r"^license(?:_name)?:\s*[\"']?([\w .-]+?)[\"']?\s*$", re.MULTILINE
)
_CLASSES = (
    ("research-only", ("apple-amlr", "apple-ascl", "apple-sample-code-license",
                       "llama2-research")),
    ("non-commercial", ("cc-by-nc", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "other-nc")),
    ("permissive", ("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc",
                    "cc0-1.0", "cc-by-4.0", "unlicense")),
)  # fmt: skip


def read_licence(folder: Path, family: Licence | None = None) -> Licence:
    """What the source's own card says, else that of the whole `family`; nothing is
    guessed."""
    card = folder / CARD
    text = card.read_bytes()[:20_000].decode(errors="replace") if card.is_file() else ""
    return licence_in(text, family)


def licence_in(text: str, family: Licence | None = None) -> Licence:
    """The licence that a card's text names, else that of the whole `family`."""
    match = _LICENCE.search(text)
    if not match:
        return family or Licence("", "unknown")
    name = match[1].lower()
    return Licence(name, next((k for k, n in _CLASSES if name in n), "unknown"))


def dtype(name: str | None) -> mx.Dtype | None:
    """The type that floats are stored in; None keeps the source's."""
    known = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
    if name is None:
        return None
    if name not in known:
        raise UserError(f"--dtype is {name!r}; it must be one of {', '.join(known)}")
    return known[name]


_MODES = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}  # bits, group size


def quantisation(bits: int, group_size: int, mode: str) -> Quantisation:
    """What `-q` means; the modes other than affine know their own sizes."""
    if mode in _MODES:
        return Quantisation(*_MODES[mode], mode)
    if mode != "affine":
        names = ", ".join(("affine", *_MODES))
        raise UserError(f"--q-mode is {mode!r}; it must be one of {names}")
    if bits not in (2, 3, 4, 5, 6, 8) or group_size not in (32, 64, 128):
        raise UserError(
            f"--q-bits {bits} with --q-group-size {group_size} is not to be had; bits "
            "are 2, 3, 4, 5, 6 or 8 and groups 32, 64 or 128"
        )
    return Quantisation(bits, group_size)


def convert(
    source: Path,
    folder: Path | None,
    *,
    name: str,
    revision: str | None = None,
    dtype: mx.Dtype | None = None,
    quantisation: Quantisation | None = None,
    dry_run: bool = False,
    force: bool = False,
    say: Say = print,
) -> None:
    """Convert the checkpoint in `source`, called `name`, to the model folder `folder`.

    With `dry_run` the plan is said and nothing written; `folder` may then be None.
    Raises UserError for whatever keeps the source from being converted; then nothing
    has been written either, but where the proof fails: that folder is left to look at.
    """
    if folder and folder.exists() and not force and not dry_run:
        raise WeightsError(f"{folder} exists; choose another name or give --force")
    checkpoint = open_source(source)
    shapes = {name: t.stored.shape for name, t in checkpoint.tensors.items()}
    recipe = recognise(source, shapes)
    config = with_image_token(recipe, source)
    plan = plan_model(config, checkpoint.placeholders(), recipe.rules)
    licence = read_licence(source, recipe.licence)
    say(f"family      {recipe.family}")
    say(f"licence     {licence.kind}" + (f" ({licence.name})" if licence.name else ""))
    for note in recipe.notes:
        say(f"note        {note}")
    say(f"source      {checkpoint.parameters:,} parameters, {_size(checkpoint.nbytes)}")
    filled = sum(a.size for a in plan.parameters.values())
    say(f"model       {filled:,} parameters")
    if dry_run or folder is None:
        for line in plan.lines():
            say(line)
        return
    config = dataclasses.replace(
        config, provenance=_provenance(name, revision, checkpoint, licence)
    )
    write_model(
        folder, config, plan, checkpoint.read,
        files=_files(source, name, recipe, licence, config), dtype=dtype,
        quantisation=quantisation, force=force,
    )  # fmt: skip
    for line in bits_per_weight(folder, plan.parameters):
        say(line)
    say(f"proof       {prove(folder)}")


def with_image_token(recipe: Recipe, source: Path) -> ModelConfig:
    """The configuration with the id that the source's tokenizer gives its image token.

    Raises WeightsError where there is no tokenizer, and ConfigError where the source's
    own configuration says otherwise.
    """
    config, path = recipe.config, tokenizer_file(source)
    if not path.is_file():
        origin = f", which are {recipe.tokenizer}'s," if recipe.tokenizer else ""
        raise WeightsError(
            f"{source} holds no tokenizer; put {TOKENIZER_JSON} or {TOKENIZER_FILE}"
            f"{origin} beside the weights"
        )
    token = config.prompt.image_token
    found = Tokenizer(path).special(token)
    data = read_json(source / CONFIG)
    for key in ("image_token_id", "image_token_index"):
        if key in data and data[key] != found:
            raise ConfigError(
                f"{source / CONFIG} has {key} {data[key]!r}, but {token} is {found} in "
                "the tokenizer; fetch both from the same revision"
            )
    prompt = dataclasses.replace(config.prompt, image_token_id=found)
    return dataclasses.replace(config, prompt=prompt)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"


def one_digest(digests: Mapping[str, str]) -> str:
    """Of one file its own digest, of several that of the list sha256sum prints."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    listing = "".join(f"{d}  {n}\n" for n, d in sorted(digests.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def _provenance(
    name: str, revision: str | None, checkpoint: Source, licence: Licence
) -> dict[str, Any]:
    return {
        "source": name, "revision": revision or "",
        "sha256": one_digest(checkpoint.sha256()),
        "licence": licence.name or "unknown", "licence_class": licence.kind,
        "tool": f"mm15-mlx {__version__}",
    }  # fmt: skip


def _files(
    source: Path, name: str, recipe: Recipe, licence: Licence, config: ModelConfig
) -> dict[str, bytes]:
    """The tokenizer, and a card that says where the weights are from."""
    tokenizer = tokenizer_file(source)
    kind = TOKENIZER_JSON if tokenizer.suffix == ".json" else TOKENIZER_FILE
    shown = licence.name or "not named by the source"
    provenance = config.provenance or {}
    card = f"""---
library_name: mlx
pipeline_tag: image-text-to-text
tags: [mlx, mm15]
---

# {name}, converted

Made by mm15-mlx {__version__} from `{name}` (family {recipe.family}); the weights are \
their makers'.

| | |
|---|---|
| revision | {provenance.get("revision") or "not given"} |
| sha256 | `{provenance.get("sha256")}` |
| licence | {shown}: {licence.kind} |
"""
    return {kind: tokenizer.read_bytes(), CARD: card.encode()}


def bits_per_weight(folder: Path, like: dict[str, mx.array]) -> Iterator[str]:
    """Of every part: its parameters, and how many bits each takes on the disk."""
    stored = {n: s for f in weight_files(folder).values() for n, s in f.items()}
    for part in PARTS:
        count = sum(a.size for n, a in like.items() if n.startswith(f"{part}."))
        nbytes = sum(s.nbytes for n, s in stored.items() if n.startswith(f"{part}."))
        bits = 8 * nbytes / max(count, 1)
        yield f"{part:<11} {count:,} parameters, {bits:.2f} bits each"


def prove(folder: Path) -> str:
    """Loads the folder and runs one view and a few words; raises WeightsError where
    anything that comes out is not finite."""
    model, processor = load(folder)
    size = model.config.tiling.tile_size
    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp, ramp[:, None], ramp[::-1]), axis=-1)
    inputs = processor("What is this?", images=[picture])
    last = model(**inputs)[0, -1]
    if not bool(mx.isfinite(last).all().item()):
        raise WeightsError(
            f"{folder} gives numbers that are not finite; its source is damaged, or "
            "--dtype float16 is too narrow for it: use bfloat16"
        )
    count = sum(a.size for _, a in tree_flatten(model.parameters()))
    token = int(last.argmax().item())
    ids = inputs["input_ids"].shape[1]
    return f"loaded {count:,} numbers, ran {ids} tokens, next would be token {token}"
