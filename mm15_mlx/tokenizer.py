"""Text to token ids and back: sentencepiece models and `tokenizer.json` files.

Two readers, one face. Text that a person wrote never produces a special token, whatever
it says: those are reached by name only. No code of a model's folder is run.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import sentencepiece

from mm15_mlx.config import UserError

TOKENIZER_FILE = "tokenizer.model"
TOKENIZER_JSON = "tokenizer.json"
MAX_BYTES = 64 * 2**20  # the largest in use, Gemma 3's, has 33 MB
_NAME = re.compile(r"<\S+>")  # what a sentencepiece symbol of no text looks like


class TokenizerError(UserError):
    """A tokenizer that cannot be used; the message names the file."""


class _Reader(Protocol):
    """What differs between the two kinds of file."""

    special: dict[str, int]  # every token that text must not produce
    silent: set[int]  # those of them that are no part of an answer's text
    strips: dict[int, tuple[bool, bool]]  # whitespace that goes before, after them
    size: int

    def encode(self, text: str, first: bool) -> list[int]: ...

    def decode(self, tokens: list[int]) -> str: ...

    def piece(self, token: int) -> str: ...


class _SentencePiece:
    """Control symbols are special, and so is `<unk>`; of the symbols that a user of
    sentencepiece defined those in angle brackets, such as Gemma's `<start_of_turn>`."""

    def __init__(self, path: Path) -> None:
        self._sp = sp = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.size = sp.get_piece_size()
        apart = {i for i in range(self.size) if sp.is_control(i) or sp.is_unknown(i)}
        # The library does not say which pieces a user defined; their score is 0, and
        # that of learnt ones the negative of their rank.
        named = {
            i for i in set(range(self.size)) - apart
            if not sp.get_score(i) and not sp.is_byte(i)
            and _NAME.fullmatch(sp.id_to_piece(i))
        }  # fmt: skip
        self.special = {sp.id_to_piece(i): i for i in sorted(apart | named)}
        self.silent = apart
        self.strips: dict[int, tuple[bool, bool]] = {}
        names = sorted((sp.id_to_piece(i) for i in named), key=len, reverse=True)
        inner = "|".join(re.escape(name[1:]) for name in names)
        self._inner = re.compile(f"(?<=<)(?:{inner})") if names else None

    def encode(self, text: str, first: bool) -> list[int]:
        if self._inner is None:
            return self._sp.encode(text)
        ids: list[int] = []
        end = 0
        for match in self._inner.finditer(text):  # a name is broken after its bracket
            ids += self._sp.encode(text[end : match.start()])
            end = match.start()
        return ids + self._sp.encode(text[end:])

    def decode(self, tokens: list[int]) -> str:
        return self._sp.decode(tokens)

    def piece(self, token: int) -> str:
        return self._sp.id_to_piece(token).replace("▁", " ")


class _Json:
    """A file of Hugging Face's `tokenizers`; special are its added tokens.

    Some are not marked so in the file, such as Qwen's `<think>`: they are part of an
    answer's text, but what a user types does not become one either. Runs of whitespace
    stay what they are.
    """

    def __init__(self, path: Path) -> None:
        import tokenizers  # here: nano-ui needs none of it

        content: dict[str, Any] = json.loads(path.read_bytes())
        if content["model"].get("continuing_subword_prefix"):
            raise ValueError("longer than a token it would end the process")
        added = [t for t in content.get("added_tokens") or [] if t["content"].strip()]
        self.special = {t["content"]: t["id"] for t in added}
        self.silent = {t["id"] for t in added if t["special"]}
        self.strips = {t["id"]: (t["lstrip"], t["rstrip"]) for t in added}
        for token in added:
            token["special"] = True  # else the next lines but one would not see it
        content["truncation"] = content["padding"] = None
        self._first = tokenizers.Tokenizer.from_str(json.dumps(content))
        self._first.encode_special_tokens = True  # as text, not as themselves
        self._later = self._first
        if _begins_once(content.get("pre_tokenizer")):
            self._later = tokenizers.Tokenizer.from_str(json.dumps(content))
            self._later.encode_special_tokens = True
        self.size = 1 + max(self._first.get_vocab(with_added_tokens=True).values())
        for name, token in self.special.items():
            if (found := self._first.token_to_id(name)) != token:
                raise TokenizerError(
                    f"{path} declares {name!r:.100} with the id {token!r:.30}, and it "
                    f"is {found}; copy the model folder again"
                )

    def encode(self, text: str, first: bool) -> list[int]:
        tokenizer = self._first if first else self._later
        with _one_line():
            return tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: list[int]) -> str:
        with _one_line():
            return self._first.decode(tokens, skip_special_tokens=False)

    def piece(self, token: int) -> str:
        """The second of two: a decoder may strip the space of the first."""
        return self.decode([token] * 2)[len(self.decode([token])) :]


def _is_the_files(error: BaseException) -> bool:
    """Whether it is the tokenizer that cannot be used. What Rust's code cannot go on
    from is no Exception in Python."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except BaseException as e:
        if not _is_the_files(e):
            raise
        raise TokenizerError(
            f"the tokenizer cannot follow its own rules ({e!s:.100}); copy the model "
            "folder again"
        ) from e


def _begins_once(part: Any) -> bool:
    """Whether only the text that begins a prompt gets a space before it; if so, `part`
    is changed to never give one."""
    if not isinstance(part, dict):
        return False
    if part.get("prepend_scheme") == "first":
        part["prepend_scheme"] = "never"
        return True
    return any([_begins_once(p) for p in part.get("pretokenizers") or []])


class Tokenizer:
    """The tokenizer of one file, whose suffix says which kind it is."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise TokenizerError(
                f"{self.path} is missing: the model folder holds no tokenizer"
            )
        size = self.path.stat().st_size
        if size > MAX_BYTES:
            raise TokenizerError(
                f"{self.path} has {size / 2**20:.0f} MiB; a tokenizer has at most "
                f"{MAX_BYTES // 2**20}: copy the model folder again"
            )
        as_json = self.path.suffix == ".json"
        try:
            read = _Json if as_json else _SentencePiece
            self._reader: _Reader = read(self.path)
        except TokenizerError:
            raise
        except BaseException as e:  # tokenizers raises nothing more special
            if not _is_the_files(e):
                raise
            kind = "tokenizer.json of the tokenizers library" if as_json else (
                "sentencepiece model"
            )  # fmt: skip
            raise TokenizerError(
                f"{self.path} is not a {kind}; copy the model folder again"
            ) from e
        self._special = self._reader.special
        self._names = {
            i: name for name, i in self._special.items() if i in self._reader.silent
        }
        names = sorted(self._special, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, names)) + ")")

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self._reader.size

    def special(self, name: str) -> int:
        """The id of a special token; TokenizerError if the model has none so named."""
        if name not in self._special:
            raise TokenizerError(
                f"{self.path} has no special token {name!r}: it belongs to another "
                "model; copy the model folder again"
            )
        return self._special[name]

    def name(self, token: int) -> str | None:
        """The special token's name, None for tokens that are text."""
        return self._names.get(token)

    def piece(self, token: int) -> str:
        """The characters of one ordinary token."""
        return self._reader.piece(token)

    def split(self, template: str) -> list[str | int]:
        """A template's own text: ids for the special tokens that it names, and the
        plain text between them."""
        if not self._special:
            return [template] if template else []
        return [
            self._special.get(part, part)
            for part in self._split.split(template)
            if part
        ]

    def strips(self, token: int) -> tuple[bool, bool]:
        """Whether whitespace before and after a special token goes (Phi-3's)."""
        return self._reader.strips.get(token, (False, False))

    def encode(self, text: str, first: bool = True) -> list[int]:
        """Ids of plain text; `<box>` or `<|image|>` in it are just characters.

        first: whether no text of the prompt stands before it. Some tokenizers put a
        space before that one only. Raises TokenizerError for half a character, which
        JSON (`\\ud83d`) and a terminal's bytes can hold.
        """
        try:
            text.encode()
        except UnicodeEncodeError as e:
            raise TokenizerError(
                f"character {e.start + 1} of a text is {text[e.start]!a}, half of one: "
                "the text was cut or is not UTF-8; write it again"
            ) from e
        return self._reader.encode(text, first)

    def decode(self, tokens: list[int]) -> str:
        """Plain text of ordinary tokens; ids beyond the vocabulary have none."""
        known = [t for t in tokens if t < self.vocab_size]
        return self._reader.decode(known) if known else ""


def tokenizer_file(folder: str | Path) -> Path:
    """The tokenizer that a model folder holds; `tokenizer.json` before the other, as it
    also knows the tokens that were added later."""
    made = Path(folder) / TOKENIZER_JSON
    return made if made.is_file() else Path(folder) / TOKENIZER_FILE
