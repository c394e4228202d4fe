"""What a user takes away: a PNG, JSON, Markdown, the same as a command or as Python,
and a row to train on. Nothing here needs Gradio; only `save_row` writes to the disk."""

import base64
import hashlib
import io
import json
import os
import shlex
import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from mm15_mlx.apps.drawing import annotate
from mm15_mlx.apps.pictures import Shot
from mm15_mlx.apps.settings import EACH, OWN, WHOLE
from mm15_mlx.apps.state import Conversation, Turn, messages
from mm15_mlx.config import UserError
from mm15_mlx.grounding import split_regions
from mm15_mlx.prompt import PICTURE

CATEGORY = "app"  # of the rows, for `train`'s mixture
_WRITING = threading.Lock()


def png(conversation: Conversation) -> bytes:
    """The shown picture with what was found on it, in its own size."""
    shot = conversation.shots[conversation.shown]
    out = io.BytesIO()
    annotate(shot.picture.image, conversation.found()).save(
        out, "PNG", compress_level=3
    )
    return out.getvalue()


def as_json(turn: Turn) -> str:
    """The document that `generate --json` prints."""
    return json.dumps(turn.document, ensure_ascii=False, indent=2)


def as_markdown(conversation: Conversation) -> str:
    """The whole conversation; fences are longer than any in the text."""
    lines = ["# Conversation", ""]
    names = [s.name for s in conversation.shots]
    lines += [f"- picture {k + 1}: `{name}`" for k, name in enumerate(names)]
    for turn in conversation.turns:
        about = ", ".join(str(k + 1) for k in turn.scope) or "none"
        model = f"{turn.model} + {turn.adapters.name}" if turn.adapters else turn.model
        lines += ["", f"## Picture {about}, {model}", "", *_fenced(turn.question)]
        lines += ["", *_fenced(turn.answer or "(no answer)"), "", turn.timings]
    return "\n".join(lines) + "\n"


def _fenced(text: str) -> list[str]:
    fence = "```"
    while fence in text:
        fence += "`"
    return [fence + "text", text, fence]


def as_command(turn: Turn, shots: Sequence[Shot]) -> str:
    """The same on the command line, quoted for a POSIX shell; a question with others
    before it is their `chat`. Where no flag splits pictures so, Python does it."""
    asked = turn.settings
    # `<image>` would be a place, and `-` all of stdin
    plain = turn.earlier or (PICTURE not in turn.question and turn.question != "-")
    split = (OWN,) if turn.earlier else (OWN, WHOLE, EACH)
    if asked.split not in split or not plain:
        return f"python3 - <<'END'\n{as_python(turn, shots)}END"
    words = ["mm15-mlx", "chat" if turn.earlier else "generate", "--model", turn.model]
    if turn.adapters:
        words += ["--adapter-path", str(turn.adapters)]
    if turn.scope:
        words += ["--image", *(_path(shots[k].name) for k in turn.scope)]
    words += ["--max-tokens", str(asked.max_tokens)]
    if asked.temp:
        words += ["--temp", f"{asked.temp:g}"]
    if asked.split != OWN:
        words += ["--split-last", str(len(turn.scope) if asked.split == EACH else 0)]
    if not turn.earlier:
        words += ["--prompt", turn.question]
        return shlex.join(words)
    lines = [*(question for question, _ in turn.earlier), turn.question]
    return f"printf '%s\\n' {shlex.join(lines)} | {shlex.join(words)}"


def _path(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


def as_python(turn: Turn, shots: Sequence[Shot]) -> str:
    """The same in Python."""
    extra = f", adapter_path={str(turn.adapters)!r}" if turn.adapters else ""
    asked: Any = turn.question
    as_messages = bool(turn.earlier) or PICTURE in turn.question
    if as_messages:
        asked = messages(turn.earlier, turn.question, [{} for _ in turn.scope])
    names = [shots[k].name for k in turn.scope]
    shown = json.dumps(asked, ensure_ascii=False, indent=4)
    set_ = turn.settings
    split, temp = "", f" temp={set_.temp:g}," if set_.temp else ""
    begin = "from mm15_mlx import generate, load\n"
    if set_.split != OWN:
        begin += (
            "from mm15_mlx.apps.settings import split_as\n"
            "from mm15_mlx.processor import Processor\n"
        )
        split = (
            f"config = split_as(processor.config, {set_.split!r})\n"
            "processor = Processor(config, processor.tokenizer)\n"
        )
    return (
        f"{begin}\n"
        f"model, processor = load({turn.model!r}{extra})\n{split}"
        f"prompt = {shown if as_messages else repr(asked)}\n"
        f"answer = generate(\n    model, processor, prompt, images={names!r},\n"
        f"    max_tokens={set_.max_tokens},{temp}\n)\n"
        "print(answer.text, answer.boxes)\n"
    )


def links(conversation: Conversation) -> str:
    """Files to save, held by the page itself: nothing is written on the server."""
    turn = conversation.current()
    stem = "conversation"
    if turn.scope:
        stem = Path(conversation.shots[conversation.shown].name).stem
    held = [
        (f"{stem}.json", "application/json", as_json(turn).encode()),
        (f"{stem}.md", "text/markdown", as_markdown(conversation).encode()),
    ]
    if conversation.shots:
        held.insert(0, (f"{stem}-marked.png", "image/png", png(conversation)))
    shown = "".join(
        f'<a download="{escape(name)}" href="data:{kind};base64,'
        f'{base64.b64encode(data).decode()}">{escape(name)}</a>'
        for name, kind, data in held
    )
    return f'<div class="mm-links">{shown}</div>'


# --- a row to train on -------------------------------------------------------------


def training_row(turn: Turn, answer: str, paths: Sequence[str]) -> dict[str, Any]:
    """`turn` as `train` reads it, with the corrected answer in pixel markup. Alone:
    what the model said before has not been corrected, and would be learnt as well."""
    asked: Any = turn.question
    if PICTURE in asked:  # mere text beside parts that are pictures
        (message,) = messages((), asked, [{} for _ in paths])
        asked = message["content"]
    return {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ],
        "images": list(paths),
        "category": CATEGORY,
    }


def save_row(folder: Path, turn: Turn, shots: Sequence[Shot], answer: str) -> Path:
    """Append the row to train.jsonl in `folder`, with its pictures beside it, named by
    their content. Raises UserError where a place in the answer is none."""
    answer = answer.strip()
    if not answer:
        raise UserError("the answer is empty; write what is right")
    sizes = [shots[k].size for k in turn.scope]
    split_regions(answer, sizes, 1000)  # each place must lie in its picture
    path = folder / "train.jsonl"
    with _WRITING:
        try:
            (folder / "images").mkdir(parents=True, exist_ok=True)
            paths = [_save_picture(folder, shots[k]) for k in turn.scope]
            line = json.dumps(training_row(turn, answer, paths), ensure_ascii=False)
            _append(path, line)
        except OSError as e:
            raise UserError(
                f"the row cannot be written to {path.name}: {e.strerror}; "
                "look at the folder of --rows"
            ) from e
    return path


def _save_picture(folder: Path, shot: Shot) -> str:
    image = shot.picture.image
    digest = hashlib.blake2b(image.tobytes() + repr(image.size).encode(), digest_size=8)
    name = f"images/{digest.hexdigest()}.png"
    if not (folder / name).exists():
        partial = (folder / name).with_suffix(".partial")
        image.save(partial, "PNG")
        os.replace(partial, folder / name)
    return name


def _append(path: Path, line: str) -> None:
    """As a line of its own, also after a file that does not end with one."""
    with path.open("a+b") as f:
        if f.tell():
            f.seek(-1, os.SEEK_END)
            if f.read(1) != b"\n":
                line = "\n" + line
        f.write(line.encode() + b"\n")
