"""Text to ids and back: tokenizer.json, Llama's and Gemma's sentencepiece models."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from mm15_mlx.config import CoordinateConfig
from mm15_mlx.prompt import AnswerDecoder
from mm15_mlx.tokenizer import (
    MAX_BYTES,
    TOKENIZER_FILE,
    TOKENIZER_JSON,
    Tokenizer,
    TokenizerError,
    tokenizer_file,
)

tokenizers = pytest.importorskip("tokenizers")

LINES = [
    "What is on this screen? The Wi-Fi switch is on, 12:30.",
    "Hello hello, world! An emoji 🙂 and 設定 or 设置, żółw.",
] * 20
SPECIAL = ["<|im_start|>", "<|im_end|>", "<image>"]


def byte_level(special: list[str] = SPECIAL, size: int = 400) -> Any:
    """A small BPE over bytes, as GPT-2, Qwen, Llama 3 and SmolVLM have it."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.train_from_iterator(
        LINES,
        tokenizers.trainers.BpeTrainer(
            vocab_size=size, show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    made.add_special_tokens(special)
    return made


def llama_like(prepend: str = "▁", scheme: str | None = None) -> Any:
    """Llama's: bytes as tokens for unknown characters, a space before the text."""
    parts = tokenizers.normalizers
    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(unk_token="<unk>", byte_fallback=True)
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=420, show_progress=False, special_tokens=names
    )
    if scheme:
        made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme=scheme)
        made.train_from_iterator(LINES, trainer)
    else:
        made.normalizer = parts.Replace(" ", "▁")
        made.train_from_iterator([f"▁{line}" for line in LINES], trainer)
        made.normalizer = parts.Sequence(
            [parts.Prepend(prepend), parts.Replace(" ", "▁")]
        )
    d = tokenizers.decoders
    made.decoder = d.Sequence(
        [d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)]
    )
    content = json.loads(made.to_str())
    content["added_tokens"] = [
        t for t in content["added_tokens"] if not t["content"].startswith("<0x")
    ]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def saved(made: Any, folder: Path) -> Tokenizer:
    path = folder / TOKENIZER_JSON
    made.save(str(path))
    return Tokenizer(path)


@pytest.fixture(scope="module", params=["bytes", "llama", "metaspace"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, Any]:
    """Ours and the library's."""
    made = {
        "bytes": byte_level,
        "llama": llama_like,
        "metaspace": lambda: llama_like(scheme="first"),
    }[request.param]()
    return saved(made, tmp_path_factory.mktemp(request.param)), made


texts = st.text(max_size=40) | st.text("Wi-Fi 設定🙂é\n ", max_size=40)


@given(texts)
@example(" two  spaces")
@example("👩‍👧 ok\n\n done ")
@example("<s>")
def test_ids_and_text_are_the_library_s(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, theirs = pair
    ids = theirs.encode(text, add_special_tokens=False).ids
    specials = theirs.get_added_tokens_decoder()
    if specials.keys() & set(ids):  # what a user writes is never a special token
        assert not specials.keys() & set(ours.encode(text))
        return
    assert ours.encode(text) == ids
    assert ours.decode(ids) == theirs.decode(ids)


@given(texts)
@example("a設🙂b 設")
@example(" leading space")
def test_streaming_gives_the_library_s_text(
    pair: tuple[Tokenizer, Any], text: str
) -> None:
    ours, theirs = pair
    ids = theirs.encode(text, add_special_tokens=False).ids
    answer = AnswerDecoder(ours, CoordinateConfig())
    pieces = [answer.add(i) for i in ids]
    assert not any("\ufffd" in p for p in pieces) or "\ufffd" in text
    assert "".join(pieces) + answer.finish() == theirs.decode(ids)
    assert answer.text == theirs.decode(ids)


def test_a_leading_space_stays_with_bytes_and_goes_with_llama(tmp_path: Path) -> None:
    for made, shown in ((byte_level(), " Hello hello"), (llama_like(), "Hello hello")):
        tokenizer = saved(made, tmp_path)
        text = " Hello hello" if shown[0] == " " else "Hello hello"
        answer = AnswerDecoder(tokenizer, CoordinateConfig())
        ids = tokenizer.encode(text)
        assert "".join(answer.add(i) for i in ids) + answer.finish() == shown


def test_a_silent_token_between_words_leaves_their_space(tmp_path: Path) -> None:
    tokenizer = saved(llama_like(), tmp_path)
    answer = AnswerDecoder(tokenizer, CoordinateConfig())
    ids = tokenizer.encode("Hello")
    ids += [tokenizer.special("<s>"), *tokenizer.encode("world")]
    assert "".join(answer.add(i) for i in ids) == "Hello world"


@given(st.lists(st.integers(0, 402), max_size=12))
def test_random_tokens_stream_to_their_text(
    byte_pair: tuple[Tokenizer, Any], ids: list[int]
) -> None:
    """Bytes in any order: what ends within a character waits, what is broken shows."""
    ours, theirs = byte_pair
    answer = AnswerDecoder(ours, CoordinateConfig())
    streamed = "".join(answer.add(i) for i in ids) + answer.finish()
    assert streamed == theirs.decode(ids, skip_special_tokens=True)


@pytest.fixture(scope="module")
def byte_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    made = byte_level([])
    return saved(made, tmp_path_factory.mktemp("random")), made


# --- special tokens ---------------------------------------------------------------


@pytest.mark.parametrize("special", [True, False])
def test_what_a_user_types_is_no_special_token(tmp_path: Path, special: bool) -> None:
    made = byte_level([])
    add = made.add_special_tokens if special else made.add_tokens
    add(["<|im_end|>"])
    tokenizer = saved(made, tmp_path)
    end = tokenizer.special("<|im_end|>")
    ids = tokenizer.encode("stop<|im_end|> here")
    assert end not in ids and tokenizer.decode(ids) == "stop<|im_end|> here"
    assert tokenizer.split("x<|im_end|>\n") == ["x", end, "\n"]
    assert tokenizer.name(end) == ("<|im_end|>" if special else None)


def test_runs_of_whitespace_stay_tokens(tmp_path: Path) -> None:
    made = byte_level([])
    made.add_tokens(["\n\n"])
    tokenizer = saved(made, tmp_path)
    assert tokenizer.encode("a\n\nb") == made.encode("a\n\nb").ids
    assert len(tokenizer.encode("a\n\nb")) == 3


def test_a_space_before_the_first_text_only(tmp_path: Path) -> None:
    made = llama_like(scheme="first")
    tokenizer = saved(made, tmp_path)
    whole = made.encode("Hello<s>Hello", add_special_tokens=False).ids
    at = whole.index(tokenizer.special("<s>"))
    assert tokenizer.encode("Hello") == whole[:at]
    assert tokenizer.encode("Hello", first=False) == whole[at + 1 :] != whole[:at]


def test_tokens_that_take_whitespace_with_them(tmp_path: Path) -> None:
    made = byte_level([])
    made.add_special_tokens([tokenizers.AddedToken("<|end|>", rstrip=True)])
    tokenizer = saved(made, tmp_path)
    assert tokenizer.strips(tokenizer.special("<|end|>")) == (False, True)
    assert tokenizer.strips(0) == (False, False)


def test_pieces(tmp_path: Path) -> None:
    for made in (byte_level(), llama_like()):
        tokenizer = saved(made, tmp_path)
        ids = tokenizer.encode("Hello hello")
        assert "".join(map(tokenizer.piece, ids)).strip() == "Hello hello"
        assert tokenizer.vocab_size == 1 + max(made.get_vocab().values())


def test_half_a_character(tmp_path: Path) -> None:
    """Of a smiley that was cut in two, or of bytes that are not UTF-8."""
    for made in (byte_level(), llama_like()):
        tokenizer = saved(made, tmp_path)
        message = r"character 3 of a text is '\\ud83d', half of one: the text was cut"
        with pytest.raises(TokenizerError, match=message):
            tokenizer.encode("Hi\ud83d there")


def test_unknown_names_and_ids(tmp_path: Path) -> None:
    tokenizer = saved(byte_level(), tmp_path)
    with pytest.raises(TokenizerError, match=r"json has no special token '<row>'"):
        tokenizer.special("<row>")
    assert tokenizer.decode([10**6]) == "" and tokenizer.decode([]) == ""


# --- sentencepiece models of others -----------------------------------------------


def piece_model(folder: Path, symbols: list[str], prefix: bool) -> Tokenizer:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=out, model_type="bpe",
        vocab_size=380, byte_fallback=True, hard_vocab_limit=False,
        user_defined_symbols=symbols, add_dummy_prefix=prefix,
        remove_extra_whitespaces=False, normalization_rule_name="identity",
        minloglevel=2,
    )  # fmt: skip
    (folder / TOKENIZER_FILE).write_bytes(out.getvalue())
    return Tokenizer(folder / TOKENIZER_FILE)


def test_llama_s_model_has_its_own_special_tokens(tmp_path: Path) -> None:
    tokenizer = piece_model(tmp_path, [], prefix=True)
    assert [tokenizer.special(n) for n in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    ids = tokenizer.encode("</s><unk> 設 Hello")
    assert not {0, 1, 2} & set(ids)
    assert tokenizer.decode(ids) == "</s><unk> 設 Hello"
    assert tokenizer.encode("\nHello")[0] != tokenizer.encode("Hello")[0]


def test_gemma_s_turns_are_symbols_that_a_user_cannot_write(tmp_path: Path) -> None:
    tokenizer = piece_model(tmp_path, ["<start_of_turn>", "\n\n"], prefix=False)
    turn = tokenizer.special("<start_of_turn>")
    assert tokenizer.split("<start_of_turn>user\n") == [turn, "user\n"]
    for text in ("<start_of_turn>", "a <start_of_turn><start_of_turn> b", "<<b>"):
        ids = tokenizer.encode(text)
        assert turn not in ids and tokenizer.decode(ids) == text
    with pytest.raises(TokenizerError, match="has no special token"):
        tokenizer.special("\n\n")


# --- files ------------------------------------------------------------------------


def test_the_folder_says_which(tmp_path: Path) -> None:
    assert tokenizer_file(tmp_path).name == TOKENIZER_FILE, "whose absence is reported"
    (tmp_path / TOKENIZER_FILE).touch()
    assert tokenizer_file(tmp_path).name == TOKENIZER_FILE
    (tmp_path / TOKENIZER_JSON).touch()
    assert tokenizer_file(tmp_path).name == TOKENIZER_JSON


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", '{"added_tokens": [{}], "model": {}}', '{"model": {}}'],
)
def test_files_that_are_no_tokenizer(tmp_path: Path, content: str) -> None:
    path = tmp_path / TOKENIZER_JSON
    path.write_text(content)
    message = r"json is not a tokenizer\.json of the tokenizers library; copy the model"
    with pytest.raises(TokenizerError, match=message):
        Tokenizer(path)


def test_a_file_that_would_end_the_process(tmp_path: Path) -> None:
    """The library aborts where this prefix is longer than a token."""
    content = json.loads(byte_level().to_str())
    content["model"]["continuing_subword_prefix"] = "####"
    path = tmp_path / TOKENIZER_JSON
    path.write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match=r"is not a tokenizer\.json of the tok"):
        Tokenizer(path)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / TOKENIZER_JSON
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 2**20)
    with pytest.raises(TokenizerError, match="has 65 MiB; a tokenizer has at most 64"):
        Tokenizer(path)


# --- files made to do harm ----------------------------------------------------------


def altered(tmp_path: Path, **parts: Any) -> Path:
    data = json.loads(byte_level().to_str()) | parts
    path = tmp_path / TOKENIZER_JSON
    path.write_text(json.dumps(data))
    return path


def test_an_id_that_is_anothers(tmp_path: Path) -> None:
    """Else the text that has this id would stand for a picture."""
    added = json.loads(byte_level().to_str())["added_tokens"]
    true = added[2]["id"]
    for lie in (1, true + 1, -1, str(true), None):
        added[2]["id"] = lie
        path = altered(tmp_path, added_tokens=added)
        with pytest.raises(TokenizerError, match=r"tokenizer\.json .*copy the model f"):
            Tokenizer(path)
    added[2]["id"] = 1
    expected = f"declares '<image>' with the id 1, and it is {true}; copy the model"
    with pytest.raises(TokenizerError, match=expected):
        Tokenizer(altered(tmp_path, added_tokens=added))


def test_a_file_that_breaks_the_library(tmp_path: Path) -> None:
    broken = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer\.js"):
        Tokenizer(altered(tmp_path, normalizer=broken))


def test_rules_that_break_the_library(tmp_path: Path) -> None:
    empty = {"type": "Replace", "pattern": {"String": ""}, "content": "x"}
    tokenizer = Tokenizer(altered(tmp_path, normalizer=empty))
    expected = r"the tokenizer cannot follow its own rules \(.*\); copy the model fold"
    with pytest.raises(TokenizerError, match=expected):
        tokenizer.encode("ab ab")
