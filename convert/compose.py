"""`mm15-mlx compose`: an encoder and a decoder become a model that can be trained.

What this file is: a public vision encoder, a fresh connector and a public decoder,
dense or made sparse, joined in one model folder as a stream. What it is not: opening
the two (parts.py) or their tokens (vocabulary.py). The connector is random: the model
answers in words from the first day, and about pictures once it has been trained.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mm15_mlx import __version__
from mm15_mlx.checkpoint import Stored, WeightsError, listed
from mm15_mlx.config import (
    ConfigError,
    ConnectorConfig,
    ModelConfig,
    TextConfig,
    TilingConfig,
)
from mm15_mlx.convert.gguf import Gguf
from mm15_mlx.convert.keys import Keys, keys_of_parts
from mm15_mlx.convert.origins import Digest, commit_of, sign
from mm15_mlx.convert.parts import Part, open_decoder, open_encoder
from mm15_mlx.convert.proof import bits_per_weight, prove
from mm15_mlx.convert.recipes import Licence
from mm15_mlx.convert.rules import Plan, Rule, plan_rules
from mm15_mlx.convert.run import Say, licence_named, read_licence, strictest
from mm15_mlx.convert.stream import Read, write_model
from mm15_mlx.convert.upload import (
    check_licence,
    check_repo,
    front_matter,
    public,
    upload,
)
from mm15_mlx.convert.vocabulary import (
    Vocabulary,
    read_vocabulary,
    table_rows,
    with_rows,
)
from mm15_mlx.mm15 import MM15
from mm15_mlx.weights import apart, quantize_like

VISUAL_TOKENS = 144  # MM1.5
ROUTER = 0.02  # deviation of a fresh router's weights; not published: our choice
_DENSE = re.compile(r"(decoder\.layers\.(\d+)\.mlp\.)((?:gate|up|down)_proj\..*)")
_GATE = re.compile(r"decoder\.layers\.\d+\.mlp\.gate\.weight")


@dataclass(frozen=True)
class Experts(Rule):
    """A dense decoder's rule, whose MLPs become experts: equal copies of themselves.

    Two equal experts whose shares sum to 1 give what the one MLP gave, whatever the
    router says, so the model begins as the dense one (sparse upcycling, Komatsuzaki et
    al. 2023).
    """

    text: TextConfig = dataclasses.field(default_factory=TextConfig)

    def targets(self, name: str) -> tuple[str, ...] | None:
        targets = super().targets(name)
        if targets is None:
            return None
        made: list[str] = []
        for target in targets:
            match = _DENSE.fullmatch(target)
            if match is None or not self.text.is_sparse(int(match[2])):
                made.append(target)
                continue
            whole = f"{match[1]}switch_mlp.{match[3]}"
            made += (f"{whole}[{i}]" for i in range(self.text.num_experts))
        return tuple(made)

    def apply(self, array: mx.array, count: int) -> tuple[mx.array, ...]:
        own = 1 if isinstance(self.target, str) else len(self.target or ())
        if count == own:
            return super().apply(array, count)
        return tuple(a for a in super().apply(array, own) for _ in range(count // own))


@dataclass(frozen=True)
class Joined:
    """All that a model folder is made of; its weights still lie in the sources."""

    config: ModelConfig
    encoder: Part
    decoder: Part
    words: Vocabulary
    seed: int
    tokenizer: dict[str, str] | None = None  # its source, where it is another's

    @property
    def made_sparse(self) -> bool:
        """Whether a dense decoder's MLPs become experts."""
        return any(isinstance(rule, Experts) for rule in self.decoder.rules)


def join(
    encoder: str,
    decoder: str,
    *,
    connector: str = "c_abstractor",
    tile_size: int = 672,
    tokenizer: str | None = None,
    experts: int = 0,
    every: int = 2,
    seed: int = 0,
    revisions: tuple[str | None, str | None] = (None, None),
) -> Joined:
    """Open both sources, and settle configuration and vocabulary.

    `tile_size` is in pixels; MM1.5's is 672, and the encoder interpolates its positions
    to it. With `experts`, every `every`-th layer gets as many, of which a token uses 2.
    Raises UserError for what cannot be joined.
    """
    vision, eyes = open_encoder(encoder, revisions[0])
    text, mouth, file = open_decoder(decoder, revisions[1], tokenizer)
    words = read_vocabulary(file)
    rows = max(table_rows(mouth), words.size)
    text = dataclasses.replace(text, vocab_size=rows)
    mouth = with_rows(mouth, words, seed)
    if experts:
        text = sparse(text, experts, every)
        rules = tuple(
            Experts(r.source, r.target, r.transform, text) for r in mouth.rules
        )
        mouth = dataclasses.replace(mouth, rules=rules)
    vision.check_side("--tile-size", tile_size)
    grid = tile_size // vision.patch_size
    tokens = grid**2 if connector == "mlp" else min(VISUAL_TOKENS, grid**2)
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(type=connector, num_visual_tokens=tokens),
        text_config=text,
        tiling=TilingConfig(tile_size=tile_size),
        prompt=words.prompt,
    )
    other = None
    if tokenizer:
        revision = commit_of(file.parent) or ""
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        other = {"source": tokenizer, "revision": revision, "sha256": digest}
    return Joined(config, eyes, mouth, words, seed, other)


def sparse(text: TextConfig, experts: int, every: int) -> TextConfig:
    """The configuration of a dense decoder with experts in every `every`-th layer."""
    if text.num_experts:
        raise ConfigError(
            f"the decoder has {text.num_experts} experts already; leave out --experts"
        )
    if experts < 2 or not 1 <= every <= text.num_hidden_layers:
        raise ConfigError(
            f"--experts {experts} --every {every} cannot be; there must be 2 experts "
            f"or more, in every 1st to {text.num_hidden_layers}th layer"
        )
    return dataclasses.replace(
        text, num_experts=experts, num_experts_per_tok=2, norm_topk_prob=True,
        decoder_sparse_step=every, moe_intermediate_size=text.intermediate_size,
    )  # fmt: skip


def fresh(config: ModelConfig, seed: int) -> dict[str, mx.array]:
    """The connector, and the routers of layers with experts, as they are before
    training: small enough to be held."""
    mx.random.seed(seed)
    made = {}
    for name, array in tree_flatten(MM15(config).parameters()):
        if name.startswith("connector."):
            made[name] = array
        elif _GATE.fullmatch(name):
            made[name] = ROUTER * mx.random.normal(array.shape)
    mx.eval(made)
    return made


def plan_joined(joined: Joined, dtype: mx.Dtype | None) -> tuple[Plan, Read]:
    """How the parts fill the model, and what reads a tensor by its name, which begins
    with its part's. Packed layers stay packed; `dtype`, if given, is that of floats."""
    new = fresh(joined.config, joined.seed)
    own = (Rule(r"(.*)", r"\1"),)
    rules: list[Rule] = []
    readers: dict[str, Read] = {}
    tensors: dict[str, mx.array] = {}
    for part, held, reader, table in (
        ("encoder", joined.encoder.tensors, joined.encoder.read, joined.encoder.rules),
        ("connector", new, new.__getitem__, own),
        ("decoder", joined.decoder.tensors, joined.decoder.read, joined.decoder.rules),
    ):
        readers[part] = reader
        tensors |= {f"{part}/{n}": _cast(a, dtype) for n, a in held.items()}
        rules += (
            dataclasses.replace(rule, source=f"{part}/(?:{rule.source})")
            for rule in table
        )

    def read(name: str) -> mx.array:
        part, _, rest = name.partition("/")
        return _cast(readers[part](rest), dtype)

    model = MM15(joined.config)
    problems = quantize_like(model, _stored(tensors, rules))
    if problems:
        raise WeightsError(f"the decoder's packed layers do not fit:{listed(problems)}")
    expected = {n: a.shape for n, a in tree_flatten(model.parameters())}
    # Rules are checked for floats; words of packed layers pass as such here.
    floats = {n: mx.zeros(a.shape, mx.float32) for n, a in tensors.items()}
    plan = plan_rules(floats, rules, expected)
    real = dict(plan.run(tensors.__getitem__))  # never evaluated
    return dataclasses.replace(plan, parameters=real), read


def _cast(array: mx.array, dtype: mx.Dtype | None) -> mx.array:
    floating = mx.issubdtype(array.dtype, mx.floating)
    return array.astype(dtype) if dtype is not None and floating else array


def _stored(tensors: Mapping[str, mx.array], rules: list[Rule]) -> dict[str, Stored]:
    """The parameters that the tensors become, as a file's header would have them."""
    stored = {}
    for name, array in tensors.items():
        kind = "U32" if array.dtype == mx.uint32 else "F16"
        for rule in rules:
            for target in rule.targets(name) or ():
                stored[target.partition("[")[0]] = Stored(kind, array.shape)
    return stored


def compose(
    encoder: str,
    decoder: str,
    folder: Path | None,
    joined: Joined,
    *,
    revisions: tuple[str | None, str | None] = (None, None),
    dtype: mx.Dtype | None = None,
    upload_repo: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    say: Say = print,
) -> None:
    """Write the model folder of what `join` opened under the names given to it.

    With `dry_run` the plan is said and nothing written; with `upload_repo` the folder
    goes to the hub. Raises UserError for whatever keeps it from being written; then
    nothing has been.
    """
    if folder and folder.exists() and not force and not dry_run:
        raise WeightsError(f"{folder} exists; choose another name or give --force")
    if folder and not dry_run:
        apart(folder, *joined.encoder.held.files, *joined.decoder.held.files)
    if upload_repo:
        check_repo(upload_repo)
        encoder, decoder = public(encoder), public(decoder)
        if other := joined.tokenizer:
            other = other | {"source": public(other["source"])}
            joined = dataclasses.replace(joined, tokenizer=other)
    plan, read = plan_joined(joined, dtype)
    parts = {"encoder": joined.encoder, "decoder": joined.decoder}
    keys = keys_of_parts(joined.config, parts, plan, joined.made_sparse)
    keys.check(f"{encoder} with {decoder}")
    sources = {
        part: _source(name, revision, parts[part])
        for part, name, revision in zip(
            parts, (encoder, decoder), revisions, strict=True
        )
    }
    licences = [Licence(s["licence"], s["licence_class"]) for s in sources.values()]
    kind = strictest(licences).kind
    if upload_repo:
        check_licence(upload_repo, kind, strictest(licences).name)
    for part, source in sources.items():
        say(f"{part:<11} {source['source']} ({source['licence']})")
    say(f"licence     {kind}")
    say(f"keys        {keys.names()}")
    say(f"model       {keys.numbers()}")
    for line in _tokens(joined.words):
        say(line)
    if dry_run or folder is None:
        for line in plan.lines():
            say(line)
        return
    digests = {part: Digest(held.held) for part, held in parts.items()}
    like = dict(tree_flatten(MM15(joined.config).parameters()))

    def check(partial: Path) -> None:
        for part, digest in digests.items():
            sources[part]["sha256"] = str(digest)
        card = _card(sources, kind, joined, keys)
        sign(partial, _provenance(sources, kind, joined), card)
        for line in bits_per_weight(partial, like):
            say(line)
        say(f"proof       {prove(partial, folder)}")

    files = {joined.words.name: joined.words.content}
    write_model(
        folder, joined.config, plan, read, files=files, check=check, force=force
    )
    if upload_repo:
        say(f"upload      {upload(folder, upload_repo)}")


def _source(name: str, revision: str | None, part: Part) -> dict[str, str]:
    """Name, revision and licence of one source."""
    if isinstance(part.held, Gguf):  # its own metadata has it, not a card beside it
        name = part.held.metadata.get("general.license") or ""
        licence = licence_named(str(name).lower())
    else:
        licence = read_licence(part.folder)
    return {
        "source": name, "revision": commit_of(part.folder) or revision or "",
        "licence": licence.name or "unknown", "licence_class": licence.kind,
    }  # fmt: skip


def _provenance(
    sources: Mapping[str, Mapping[str, str]], kind: str, joined: Joined
) -> dict[str, Any]:
    """Both sources, and of the whole what `info` shows."""
    both = list(sources.values())
    listing = "".join(f"{s['sha256']}  {part}\n" for part, s in sources.items())
    other = {"tokenizer": joined.tokenizer} if joined.tokenizer else {}
    return {
        "source": " + ".join(s["source"] for s in both),
        "revision": " + ".join(s["revision"] or "not given" for s in both),
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "licence": " + ".join(dict.fromkeys(s["licence"] for s in both)),
        "licence_class": kind, "tool": f"mm15-mlx {__version__}",
        **{part: dict(s) for part, s in sources.items()}, **other,
        "connector": {"source": "random", "seed": joined.seed},
        "not_published": "special tokens, their rows, and the chat are our choice",
    }  # fmt: skip


def _tokens(words: Vocabulary) -> list[str]:
    """What was done to the vocabulary, for people."""
    lines = [f"image token {words.prompt.image_token}, {words.prompt.image_token_id}"]
    if words.added:
        lines.append(f"added       {' '.join(words.added)}")
    if words.reserved:
        lines.append(f"reserved    {' '.join(words.reserved)} now used")
    return lines


def _card(
    sources: Mapping[str, Mapping[str, str]], kind: str, joined: Joined, keys: Keys
) -> str:
    rows = "".join(
        f"| {part} | `{s['source']}` | {s['revision'] or 'not given'} | "
        f"`{s['sha256']}` | {s['licence']}: {s['licence_class']} |\n"
        for part, s in sources.items()
    )
    if other := joined.tokenizer:
        rows += (
            f"| tokenizer | `{other['source']}` | {other['revision'] or 'not given'} | "
            f"`{other['sha256']}` | |\n"
        )
    text, connector = joined.config.text_config, joined.config.connector_config
    experts = ""
    if joined.made_sparse:
        experts = (
            f"In every {text.decoder_sparse_step} layers the MLP of the last has "
            f"become {text.num_experts} equal experts.\n"
        )
    licences = [Licence(s["licence"], s["licence_class"]) for s in sources.values()]
    head = front_matter(licences, [s["source"] for s in sources.values()])
    return f"""{head}
# An encoder and a decoder, joined

Made by mm15-mlx {__version__}. The connector ({connector.type}, seed {joined.seed}) \
is random: train it before asking about pictures.
{experts}
| part | source | revision | sha256 | licence |
|---|---|---|---|---|
{rows}
{keys.names()}: {keys.numbers()}.

The stricter of the two licences holds for the whole: {kind}. Not published by MM1.5, \
our choice: {"; ".join(_tokens(joined.words))}.
"""
