"""`mm15-mlx convert`: a public checkpoint becomes a model folder, with proof.

What this file is: the steps in their order, from the folder that the user named to one
that has been loaded again and run, and what is said about it. What it is not: any
knowledge of families (families.py), files (sources.py, stream.py) or the network.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from mm15_mlx import __version__
from mm15_mlx.checkpoint import CARD, CONFIG, WeightsError, read_json
from mm15_mlx.config import ConfigError, ModelConfig, UserError
from mm15_mlx.convert.drifted import drifted
from mm15_mlx.convert.families import recognise
from mm15_mlx.convert.keys import Keys, keys_of
from mm15_mlx.convert.mm15 import FAMILY
from mm15_mlx.convert.origins import Digest, commit_of, sign
from mm15_mlx.convert.proof import bits_per_weight, prove
from mm15_mlx.convert.recipes import Licence, Recipe
from mm15_mlx.convert.sources import Source, open_source
from mm15_mlx.convert.stream import plan_model, write_model
from mm15_mlx.convert.towers import open_tower
from mm15_mlx.convert.upload import (
    check_licence,
    check_repo,
    front_matter,
    public,
    upload,
)
from mm15_mlx.convert.verify import find_reference, verify
from mm15_mlx.quantize import TEXT_PARTS, Quantisation
from mm15_mlx.quantize import quantisation as quantisation
from mm15_mlx.tokenizer import TOKENIZER_FILE, TOKENIZER_JSON, Tokenizer, tokenizer_file
from mm15_mlx.weights import apart

Say = Callable[[str], None]
_NAME = re.compile(r"[\w .+-]{1,200}")
_CARD_BYTES = 1 << 20
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
    card, text = folder / CARD, ""
    if card.is_file():
        with card.open("rb") as file:
            text = file.read(_CARD_BYTES).decode(errors="replace")
    return licence_in(text, family)


def licence_in(card: str, family: Licence | None = None) -> Licence:
    """The licence that a card's front matter names, else that of the whole `family`.

    A licence of another form than one plain name is unknown; so is `other`, unless
    `license_name` says which.
    """
    said = _front_matter(card)
    if "license" not in said:
        return family or Licence("", "unknown")
    name = said["license"]
    if name == "other":
        name = said.get("license_name") or name
    return licence_named(name)


def licence_named(name: str) -> Licence:
    """The licence of this name, if it is one."""
    if not _NAME.fullmatch(name):
        return Licence("", "unknown")
    return Licence(name, next((k for k, n in _CLASSES if name in n), "unknown"))


def _front_matter(card: str) -> dict[str, str]:
    """The plain values of the lines between a card's first two `---`, lower-cased.

    A list of one is its item. What is said twice, or otherwise, is "".
    """
    lines = re.split(r"\r\n?|\n", card.removeprefix("\ufeff").lstrip())
    if lines[0].rstrip() != "---":
        return {}
    ends = [i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"]
    said: dict[str, str] = {}
    key = ""
    for line in lines[1 : ends[0]] if ends else ():
        name, colon, value = line.partition(":")
        value = value.partition(" #")[0].strip().lower()
        if line[:1] == "-" or line[:1].isspace():  # belongs to the key before
            item = line.strip().partition(" #")[0]
            if item and key in said:
                only = item.startswith("- ") and not said[key]
                said[key] = _plain(item[2:].strip().lower()) if only else "?"
        elif colon:
            key = name.strip().strip("\"'")
            value = value[1:-1].strip() if value[:1] + value[-1:] == "[]" else value
            odd = key in said or line[len(name) + 1 :][:1].strip()
            said[key] = "?" if odd else _plain(value)
    return said


def _plain(value: str) -> str:
    """Without its quotes."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value


# From what leaves the user the most freedom to what leaves the least; where nothing is
# named nothing is granted.
_STRICTNESS = ("permissive", "non-commercial", "research-only", "unknown")


def strictest(licences: Sequence[Licence]) -> Licence:
    """The licence of what was made of several: all names, and the strictest class."""
    names = dict.fromkeys(licence.name or "unknown" for licence in licences)
    kind = max((licence.kind for licence in licences), key=_STRICTNESS.index)
    if len(names) == 1:
        return Licence(licences[0].name, kind)
    return Licence(" + ".join(names), kind)


def dtype(name: str | None) -> mx.Dtype | None:
    """The type that floats are stored in; None keeps the source's."""
    known = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
    if name is None:
        return None
    if name not in known:
        raise UserError(f"--dtype is {name!r}; it must be one of {', '.join(known)}")
    return known[name]


def convert(
    source: Path,
    folder: Path | None,
    *,
    name: str,
    revision: str | None = None,
    tower: tuple[str, Path] | None = None,
    dtype: mx.Dtype | None = None,
    quantisation: Quantisation | None = None,
    compare: bool = False,
    upload_repo: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    say: Say = print,
) -> None:
    """Convert the checkpoint in `source`, called `name`, to the model folder `folder`.

    `tower` is the name and the folder of a vision tower that the source lacks. With
    `compare` the result is compared with transformers (verify.py); with `upload_repo`
    it then goes to the hub. With `dry_run` the plan is said and nothing written;
    `folder` may then be None. Raises UserError for whatever keeps the source from being
    converted, proven or compared; then nothing has been written.
    """
    if folder and folder.exists() and not force and not dry_run:
        raise WeightsError(f"{folder} exists; choose another name or give --force")
    if folder and not dry_run:
        apart(folder, source, *([tower[1]] if tower else []))
    if upload_repo:
        check_repo(upload_repo)
    held = open_source(source)
    whole, clip = open_tower(held, source, tower[1]) if tower else (held, None)
    shapes = {name: t.stored.shape for name, t in whole.tensors.items()}
    recipe = recognise(source, shapes)
    config = with_image_token(recipe, source)
    plan = plan_model(config, whole.placeholders(), recipe.rules)
    keys = keys_of(whole, plan)
    keys.check(name)
    licence = read_licence(source, recipe.licence)
    origins = [_Origin(name, commit_of(source) or revision or "", held, licence)]
    if tower and clip:
        licence = read_licence(tower[1])
        origins.append(_Origin(tower[0], commit_of(tower[1]) or "", clip, licence))
    licence = strictest([origin.licence for origin in origins])
    if upload_repo:
        check_licence(upload_repo, licence.kind, licence.name)
        origins = [o._replace(name=public(o.name)) for o in origins]
    reference = find_reference(source, bool(quantisation)) if compare else None
    say(f"family      {recipe.family}")
    say(f"licence     {licence.kind}" + (f" ({licence.name})" if licence.name else ""))
    for note in recipe.notes:
        say(f"note        {note}")
    say(f"source      {whole.parameters:,} parameters, {_size(whole.nbytes)}")
    say(f"keys        {keys.names()}")
    say(f"model       {keys.numbers()}")
    if dry_run or folder is None:
        for line in plan.lines():
            say(line)
        return
    digests = [Digest(origin.held) for origin in origins]

    def check(partial: Path) -> None:
        taken = [str(digest) for digest in digests]
        card = _card(recipe.family, keys, origins, taken)
        sign(partial, _provenance(origins, taken, licence), card)
        for line in bits_per_weight(partial, plan.parameters):
            say(line)
        say(f"proof       {prove(partial, folder)}")
        if quantisation:
            say(f"drift       {drifted(partial, config, plan, whole.read)}")
        if reference:
            say(f"verify      {verify(partial, whole, source, reference, dtype)}")

    # Encoder and connector stay as they are, being small and sensitive (our choice).
    parts = dict.fromkeys(TEXT_PARTS, quantisation) if quantisation else None
    write_model(
        folder, config, plan, whole.read, files=_tokenizer(source),
        dtype=dtype, parts=parts, check=check, force=force,
    )  # fmt: skip
    if upload_repo:
        say(f"upload      {upload(folder, upload_repo)}")


class _Origin(NamedTuple):
    """A checkpoint that went into the model, as the user named it."""

    name: str
    revision: str  # "" where nothing tells
    held: Source
    licence: Licence


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
    claims = {k: data[k] for k in ("image_token_id", "image_token_index") if k in data}
    if recipe.family == FAMILY:
        claims["prompt.image_token_id"] = config.prompt.image_token_id
    for key, claimed in claims.items():
        if claimed != found:
            raise ConfigError(
                f"{source / CONFIG} has {key} {claimed!r}, but {token} is {found} in "
                "the tokenizer; fetch both from the same revision"
            )
    prompt = dataclasses.replace(config.prompt, image_token_id=found)
    return dataclasses.replace(config, prompt=prompt)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"


def _provenance(
    origins: list[_Origin], digests: list[str], licence: Licence
) -> dict[str, Any]:
    """Of the source, and beside it of a tower that came from elsewhere."""
    facts = [
        {"source": o.name, "revision": o.revision, "sha256": digest}
        for o, digest in zip(origins, digests, strict=True)
    ]
    whole: dict[str, Any] = {
        **facts[0], "licence": licence.name or "unknown",
        "licence_class": licence.kind, "tool": f"mm15-mlx {__version__}",
    }  # fmt: skip
    if len(facts) > 1:
        whole["vision_tower"] = facts[1] | {"licence": origins[1].licence.name}
    return whole


def _tokenizer(source: Path) -> dict[str, bytes]:
    path = tokenizer_file(source)
    kind = TOKENIZER_JSON if path.suffix == ".json" else TOKENIZER_FILE
    return {kind: path.read_bytes()}


def _card(family: str, keys: Keys, origins: list[_Origin], digests: list[str]) -> str:
    """The model card: where the weights are from, and what became of them."""
    head = front_matter([o.licence for o in origins], [o.name for o in origins])
    name = origins[0].name
    rows = "".join(
        f"| `{o.name}` | {o.revision or 'not given'} | `{digest}` | "
        f"{o.licence.name or 'not named by it'}: {o.licence.kind} |\n"
        for o, digest in zip(origins, digests, strict=True)
    )
    return f"""{head}
# {name}, converted

Made by mm15-mlx {__version__} from `{name}` (family {family}); the weights are \
their makers'.

| source | revision | sha256 | licence |
|---|---|---|---|
{rows}
{keys.names()}: {keys.numbers()}.
"""
