"""What a decoder's vocabulary needs besides: an image token, and roles if it has none.

What this file is: which of the decoder's tokens serve, the tokenizer's file with those
that were added, and the rows of the embedding and the head that go with them. What it
is not: reading text (tokenizer.py).

MM1.5 publishes none of this; all of it is our choice:
- A decoder that was taught a chat keeps it, with its own end of turn; one that was not
  gets the roles and the end of `PromptConfig`.
- A special token of the right name serves as it is; else one that the tokenizer has in
  reserve takes its place; else it is added, with an id after the others.
- The rows of such tokens, unless they had the right name, are the mean of the others
  and a little noise, so that no logit of theirs stands out.
"""

import dataclasses
import functools
import json
import struct
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from mm15_mlx.config import PromptConfig
from mm15_mlx.convert.gguf import GROUP
from mm15_mlx.convert.parts import Part
from mm15_mlx.templates import TEMPLATES
from mm15_mlx.tokenizer import Tokenizer

IMAGE = "<|image|>"
ROLES = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
# What families keep in reserve: Llama 3, Gemma, Phi-3, Mistral.
_RESERVED = (
    "<|reserved_special_token_{}|>", "<unused{}>", "<|placeholder{}|>", "[control_{}]"
)  # fmt: skip
NOISE = 0.1  # of each column's deviation; not published: our choice
_ROWS = 4096  # of a table at a time
_TABLES = ("decoder.embed_tokens.", "decoder.lm_head.")


def _chat(name: str, **other: str) -> PromptConfig:
    """A family's chat, with pictures as MM1.5 writes them and without its system."""
    ours = PromptConfig()
    return dataclasses.replace(
        TEMPLATES[name], system="", image_start=ours.image_start,
        image_end=ours.image_end, tile_text=ours.tile_text, row_end=ours.row_end,
        overview_text=ours.overview_text, whole_text=ours.whole_text, **other,
    )  # fmt: skip


# By the special tokens that a chat is known by.
_CHATS: dict[tuple[str, ...], PromptConfig] = {
    ("<|im_start|>", "<|im_end|>"): _chat("internvl2_5"),
    ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"): _chat("llava_llama_3"),
    ("<start_of_turn>", "<end_of_turn>"): _chat(
        "ferret_gemma_instruct", assistant_end="<end_of_turn>\n"
    ),
    ("<|user|>", "<|assistant|>", "<|end|>"): _chat(
        "phi3-chat", user_end="<|end|>\n", assistant_end="<|end|>\n"
    ),
}
_STARTS = ("<|begin_of_text|>", "<s>", "<bos>")


@dataclass(frozen=True)
class Vocabulary:
    """A decoder's prompt and tokenizer, with what was added or taken from reserve."""

    prompt: PromptConfig
    name: str  # of the tokenizer's file
    content: bytes
    known: int  # ids that the tokenizer had before
    size: int  # and has now
    fresh: tuple[int, ...]  # ids whose rows are made here
    added: tuple[str, ...]
    reserved: tuple[str, ...]


def read_vocabulary(path: Path) -> Vocabulary:
    """What becomes of the tokenizer in `path`; TokenizerError where it is none."""
    tokenizer = Tokenizer(path)

    def has(name: str) -> bool:
        return [type(part) for part in tokenizer.split(name)] == [int]

    spare = [t for f in _RESERVED for i in range(256) if has(t := f.format(i))]
    chat = next((c for marks, c in _CHATS.items() if all(map(has, marks))), None)
    names: dict[str, str] = {}
    added: list[str] = []
    reserved: list[str] = []
    for name in (IMAGE, *(() if chat else ROLES)):
        names[name] = name
        if has(name):
            continue
        if spare:
            names[name] = spare.pop(0)
            reserved.append(names[name])
        else:
            added.append(name)
    known = tokenizer.vocab_size
    ids = {name: known + i for i, name in enumerate(added)}
    image = names[IMAGE]
    image_id = ids[image] if image in ids else tokenizer.special(image)
    if chat is None:
        start = next((s for s in _STARTS if has(s)), "")
        chat = _roles(*(names[r] for r in ROLES), bos=start)
    stop = tuple(s for s in chat.stop if has(s) or s in ids)
    prompt = dataclasses.replace(
        chat, image_token=image, image_token_id=image_id, stop=stop
    )
    fresh = (*(tokenizer.special(name) for name in reserved), *ids.values())
    return Vocabulary(
        prompt, path.name, _extended(path, added, known), known, known + len(added),
        fresh, tuple(added), tuple(reserved),
    )  # fmt: skip


def _roles(user: str, assistant: str, system: str, end: str, bos: str) -> PromptConfig:
    return PromptConfig(
        bos=bos, system_start=system, system_end=end, user_start=user, user_end=end,
        assistant_start=assistant, assistant_end=end, stop=(end,),
    )  # fmt: skip


def _extended(path: Path, names: list[str], first: int) -> bytes:
    """The tokenizer's file with special tokens of ids from `first` on."""
    content = path.read_bytes()
    if path.suffix == ".json":
        data = json.loads(content)
        usual = {
            "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }  # fmt: skip
        new = [{"id": first + i, "content": n} | usual for i, n in enumerate(names)]
        if not new:
            return content
        data["added_tokens"] = [*(data.get("added_tokens") or []), *new]
        return json.dumps(data, ensure_ascii=False, indent=2).encode()
    # A message of protobuf whose repeated field goes on at the end (its encoding
    # guide): field 1 of the model is a piece, with text 1, score 2 and type 3.
    for name in names:
        text = name.encode()
        piece = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", 0)
        piece += b"\x18\x03"  # control
        content += b"\x0a" + bytes([len(piece)]) + piece
    return content


# --- rows of the tables -------------------------------------------------------------


def table_rows(part: Part) -> int:
    """How many rows a decoder's embedding has."""
    return min(part.tensors[name].shape[0] for name in _tables(part))


def with_rows(part: Part, words: Vocabulary, seed: int) -> Part:
    """The decoder with rows for every id, those of new tokens being made here.

    Tables only grow. A packed table's new rows are packed as the others are.
    """
    tables, rows = _tables(part), table_rows(part)
    size = max(rows, words.size)
    ids = sorted({*words.fresh, *range(rows, size)})
    if not ids:
        return part

    @functools.cache
    def made(base: str) -> dict[str, mx.array]:
        return _new_rows(part, base, min(rows, words.known), len(ids), seed)

    def read(name: str) -> mx.array:
        table = part.read(name)
        if name not in tables:
            return table
        base, _, last = name.rpartition(".")
        more = mx.zeros((size - rows, *table.shape[1:]), table.dtype)
        table = mx.concatenate([table, more])
        table[mx.array(ids)] = made(base)[last].astype(table.dtype)
        return table

    grown = {
        n: mx.zeros((size, *a.shape[1:]), a.dtype) if n in tables else a
        for n, a in part.tensors.items()
    }
    return dataclasses.replace(part, tensors=grown, read=read)


def _tables(part: Part) -> set[str]:
    return {
        name
        for name in part.tensors
        for rule in part.rules
        for target in rule.targets(name) or ()
        if target.startswith(_TABLES)
    }


def _new_rows(
    part: Part, base: str, known: int, count: int, seed: int
) -> dict[str, mx.array]:
    """`count` rows near the mean of a table's first `known`, by the parts' names."""
    names = [f"{base}.{p}" for p in ("weight", "scales", "biases")]
    packed = names[1] in part.tensors
    arrays = [part.read(n) for n in (names if packed else names[:1])]
    bits = 32 * arrays[0].shape[1] // (GROUP * arrays[1].shape[1]) if packed else 0
    total = squares = mx.array(0.0)
    for start in range(0, known, _ROWS):
        block = [a[start : min(start + _ROWS, known)] for a in arrays]
        rows = mx.dequantize(*block, GROUP, bits) if packed else block[0]
        rows = rows.astype(mx.float32)  # (R, D)
        total, squares = total + rows.sum(axis=0), squares + (rows * rows).sum(axis=0)
        mx.eval(total, squares)
    mean = total / known  # (D,)
    deviation = mx.sqrt(mx.maximum(squares / known - mean * mean, 0))
    # The head's noise is another than the embedding's.
    key = mx.random.key(2 * seed + base.endswith(("output", "lm_head")))
    noise = mx.random.normal((count, mean.shape[0]), key=key)
    made = mean + NOISE * deviation * noise
    if not packed:
        return {"weight": made}
    words, scales, biases = mx.quantize(made.astype(mx.float16), GROUP, bits)
    return {"weight": words, "scales": scales, "biases": biases}
