"""This project, mlx-vlm and transformers on one machine, with the same random weights.

A model of a public shape (`--shape`; fewer layers with `--layers`) is made once in
transformers' layout and converted for ours. Every trial is a process of its own; each
asks about the same picture: a first question, a second, then `--questions` more, with
answers of `--max-tokens`. MLX has the same fast BLAS in both programs. Ours answers
the further questions side by side, the others one after the other, as their
documentation shows; mlx-vlm also with the caches that it leaves off. In float32,
PyTorch also in bfloat16. A shorter trial, which is not counted, warms the disk first.

A run may be split and stopped: every trial is a line of `--out` as soon as it is done,
and the same command runs only what is missing there, of the programs in `--only`.
`--table` measures nothing: it joins such files into a markdown table of medians, what
is compared with mlx-vlm, and a JSON line with the spread. The table's last columns are
checks: the first prompt has the same number of tokens in every row, and a row whose CPU
time falls well behind the clock was disturbed.

mlx-vlm wants other versions than ours, so it lives in an environment of its own:

    python -m venv ../peers && ../peers/bin/pip install mlx-vlm==0.7.10 'mlx[cpu]'
    python benchmarks/side_by_side.py --work runs --out runs/beside.jsonl \
        --only "mm15-mlx;mlx-vlm" --peer-python ../peers/bin/python
    python benchmarks/side_by_side.py --table runs/beside.jsonl

transformers comes with the extra `parity`. LLaVA-NeXT's 32 layers take 28 GB; two or
more of them (`--layers 2`) show as much of it. "mlx-vlm, as installed" has the BLAS of
MLX's own wheel and takes ten times as long; it runs where `--only` names it.

`--words N` compares the text part alone: no picture, and every question begins with the
same N words. It has a row of llama.cpp, whose package is on PyPI as source only
(`../peers/bin/pip install gguf llama-cpp-python` builds it, with a C++ compiler):

    python benchmarks/side_by_side.py --work runs --out runs/text.jsonl --words 240 \
        --peer-python ../peers/bin/python
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_peer
import peers

from mm15_mlx import blas
from mm15_mlx.config import UserError

ROOT = Path(__file__).parents[1]
COLUMNS = {
    "cold_start_s": "cold start, s", "first_token_s": "first token, s",
    "second_question_s": "second question, s", "more_questions_s": "{n} questions, s",
    "decode_tokens_per_s": "decode, tokens/s", "peak_rss_bytes": "peak RSS, MB",
    "prompt_tokens": "prompt tokens",
    "cpu_share": "CPU / wall",
}  # fmt: skip
CHECKS = ("prompt_tokens", "cpu_share")
OURS, LLAMA = "mm15-mlx", "llama.cpp"
Line = dict[str, Any]  # of a trial: name, settings, figures, versions
Way = tuple[str, str, Path]  # interpreter, code, model folder


# --- the models ------------------------------------------------------------------


def models(work: Path, shape: str, layers: int | None) -> tuple[Path, Path]:
    """Folders of the model in transformers' layout and in ours, made if need be."""
    made = work / f"{shape}-{layers or 'all'}"
    source, ours = made / "source", made / "ours"
    if not source.exists():
        # Elsewhere, because a process inherits the peak of the one that starts it.
        command = [sys.executable, __file__, "--make", str(made / "part")]
        command += ["--shape", shape]
        command += ["--layers", str(layers)] if layers else []
        subprocess.run(command, check=True)
        (made / "part").rename(source)
    if not ours.exists():
        convert = ["convert", "--hf-path", str(source), "--mlx-path", str(ours)]
        subprocess.run(
            [sys.executable, "-m", "mm15_mlx", *convert], check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return source, ours


# --- the trials ------------------------------------------------------------------


def gguf(peer_python: str, source: Path) -> None:
    """llama.cpp's file beside `source`, made if need be. Raises UserError without its
    packages."""
    target = source.parent / "text.gguf"
    if target.exists():
        return
    part = target.with_suffix(".part")
    writer = str(ROOT / "benchmarks" / "llama_peer.py")
    made = subprocess.run([peer_python, writer, str(source), str(part)])
    if made.returncode:
        raise UserError(
            f"{peer_python} could not write {target.name}; llama.cpp's row needs gguf "
            "and llama-cpp-python there, or leave it out with --only"
        )
    part.rename(target)


def ways(
    peer_python: str | None, source: Path, ours: Path, words: int = 0
) -> dict[str, Way]:
    """Name → interpreter, code and folder of each program that can run here."""
    python, before, measure = sys.executable, peers.BEFORE, peers.MEASURE
    threads = blas.usable_cores()
    found = {OURS: (python, before + peers.OURS + measure, ours)}
    if peer_python:
        fast, plain = before + peers.FAST_BLAS + peers.MLX_VLM, before + peers.MLX_VLM
        for name, code in (
            ("mlx-vlm", fast),
            ("mlx-vlm, its caches", fast + peers.CACHES),
            ("mlx-vlm, as installed", plain),
        ):
            found[name] = (peer_python, code + measure, source)
    if peer_python and words:
        code = before + llama_peer.LLAMA.format(threads=threads) + measure
        found[LLAMA] = (peer_python, code, source.parent)
    # PyTorch's generate calls back, so its `asked` stands for the common one.
    head, tail = measure.split("first, *others")
    head = head[: head.index("def asked")]
    for dtype in ("float32", "bfloat16"):
        code = peers.TORCH.format(threads=threads, dtype=dtype)
        code = before + peers.HIDE + head + code + "first, *others" + tail
        found[f"transformers {dtype}"] = (python, code, source)
    return found


def chosen(found: dict[str, Way], only: str | None) -> dict[str, Way]:
    """What `--only` names, or all but the slowest. Raises UserError for other names."""
    names = only.split(";") if only else [n for n in found if "installed" not in n]
    if unknown := [name for name in names if name not in found]:
        raise UserError(
            f"--only has {unknown[0]!r}; it must be one of {'; '.join(found)}"
            + ("" if len(found) > 3 else " (mlx-vlm needs --peer-python)")
        )
    return {name: found[name] for name in names}


def trial(
    way: Way, args: argparse.Namespace, questions: int, tokens: int
) -> dict[str, Any]:
    """One process; raises RuntimeError with its last words."""
    python, code, folder = way
    image, chat = args.image, peers.SHAPES[args.shape].chat
    asked = list(peers.QUESTIONS[:questions])
    if args.words:
        before = " ".join(peers.drawn_words(args.words))
        image, chat = "", chat.replace("<image>", "")
        asked = [f"{before} {question}" for question in asked]
    command = [
        python, "-c", code, str(folder), image, json.dumps(asked), chat,
        str(tokens), repr(time.time()), str(ROOT / "mm15_mlx" / "blas.py"),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=args.timeout
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def environment() -> dict[str, str]:
    """One BLAS for both programs on MLX; nobody is fetching anything."""
    env = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    package = importlib.util.find_spec("scipy_openblas32")
    if package and package.origin:
        found = sorted((Path(package.origin).parent / "lib").glob("libscipy_open*.so*"))
        env.setdefault("MM15_BLAS", str(found[0]))
    return env


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What trials must have in common to be compared."""
    about = {"words": args.words} if args.words else {"image": Path(args.image).name}
    return about | {
        "shape": args.shape, "layers": args.layers or "all",
        "questions": args.questions, "max_tokens": args.max_tokens,
        "machine": platform.processor() or platform.machine(),
        "cores": blas.usable_cores(),
    }  # fmt: skip


def measure(
    found: dict[str, Way], args: argparse.Namespace, lines: Sequence[Line]
) -> Iterator[Line]:
    """The trials that `lines` lack, each as soon as it is done."""
    own = settings(args)
    for name, way in found.items():
        old = [
            line for line in lines if (line["name"], line["settings"]) == (name, own)
        ]
        missing = args.trials - len(old)
        if missing <= 0:
            continue
        try:
            trial(way, args, 1, 2)  # warms the disk cache and the compiler's
            for _ in range(missing):
                figures = trial(way, args, 2 + args.questions, args.max_tokens)
                versions = figures.pop("versions")
                yield {
                    "name": name, "settings": own, "figures": figures,
                    "versions": versions | {OURS: version(OURS)},
                }  # fmt: skip
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            print(f"{name} failed: {e}", file=sys.stderr, flush=True)


# --- the table -------------------------------------------------------------------


def read(paths: Sequence[Path]) -> list[Line]:
    """The lines of all files that are there. Raises UserError for other lines."""
    lines = []
    for path in paths:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for number, line in enumerate(text.splitlines(), 1):
            try:
                lines.append(json.loads(line))
                _ = lines[-1]["name"], lines[-1]["settings"], lines[-1]["figures"]
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"{path}, line {number} is no trial; name a file of --out"
                ) from None
    return lines


def joined(lines: Sequence[Line]) -> dict[str, dict[str, list[float]]]:
    """Figures by program. Raises UserError where settings differ."""
    report: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        if line["settings"] != lines[0]["settings"]:
            raise UserError(
                f"trials of {line['name']} are of other settings "
                f"({line['settings']}) than the first ({lines[0]['settings']}); "
                "give --table files of the same"
            )
        for key, value in line["figures"].items():
            report.setdefault(line["name"], {}).setdefault(key, []).append(value)
    return report


def table(report: dict[str, dict[str, list[float]]], questions: int) -> str:
    """Medians as markdown, and how many trials they are of."""
    heads = [title.format(n=questions) for title in COLUMNS.values()]
    lines = ["| | " + " | ".join(heads) + " | trials |"]
    lines.append("|---" * (len(heads) + 2) + "|")
    for name, figures in report.items():
        cells = []
        for key in COLUMNS:
            scale = 1e-6 if key.endswith("bytes") else 1
            values = figures.get(key)
            cells.append(f"{statistics.median(values) * scale:.4g}" if values else "–")
        trials = max(len(values) for values in figures.values())
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {trials} |")
    return "\n".join(lines)


def ratios(report: dict[str, dict[str, list[float]]]) -> str:
    """Ours over each other program's, of medians; "" where ours is not there."""
    others = [name for name in report if name != OURS]
    if OURS not in report or not others:
        return ""
    keys = [key for key in COLUMNS if key not in CHECKS and key in report[OURS]]
    lines = ["| ours over | " + " | ".join(keys) + " |"]
    lines.append("|---" * (len(keys) + 1) + "|")
    for name in others:
        cells = []
        for key in keys:
            values = report[name].get(key)
            ours = statistics.median(report[OURS][key])
            cells.append(f"{ours / statistics.median(values):.3g}" if values else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def document(lines: Sequence[Line]) -> dict[str, Any]:
    """Least, median and greatest of everything, with settings and versions."""
    versions: dict[str, str] = {}
    for line in lines:
        versions |= line.get("versions", {})
    spread = {
        name: {
            key: [min(v), statistics.median(v), max(v)] for key, v in figures.items()
        }
        for name, figures in joined(lines).items()
    }
    return lines[0]["settings"] | {"versions": versions, "figures": spread}


def show(lines: Sequence[Line]) -> None:
    if not lines:
        raise UserError("there are no trials yet; run them with --out FILE")
    report = joined(lines)
    print(table(report, lines[0]["settings"]["questions"]), end="\n\n")
    if beside := ratios(report):
        print(beside, end="\n\n")
    print(json.dumps(document(lines)))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shape", choices=sorted(peers.SHAPES), default="smolvlm-256m")
    parser.add_argument("--image", default=str(ROOT / "examples" / "settings.png"))
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--words", type=int, default=0, help="No picture, but text.")
    parser.add_argument("--layers", type=int, help="At most so many in each tower.")
    parser.add_argument("--peer-python", help="Of the environment with mlx-vlm.")
    parser.add_argument("--only", help="Names of rows, with semicolons.")
    parser.add_argument("--timeout", type=float, default=7200, help="s, of a trial.")
    parser.add_argument("--out", type=Path, help="A line for every trial is added.")
    parser.add_argument("--work", type=Path, help="Where models are kept.")
    parser.add_argument("--table", type=Path, nargs="+", help="Join files of --out.")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parsed(arguments)
    if args.make:
        peers.make(args.make, args.shape, args.layers)
        return 0
    try:
        if args.table:
            show(read(args.table))
            return 0
        lines = read([args.out] if args.out else [])
        with tempfile.TemporaryDirectory() as scratch:
            work = args.work or Path(scratch)
            peer, words = args.peer_python, args.words
            chosen(ways(peer, work, work, words), args.only)  # names come first
            source, ours = models(work, args.shape, args.layers)
            found = chosen(ways(peer, source, ours, words), args.only)
            if LLAMA in found:
                gguf(peer, source)
            for line in measure(found, args, lines):
                lines.append(line)
                print(line["name"], line["figures"], file=sys.stderr, flush=True)
                if args.out:
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    with args.out.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(line) + "\n")
        own = settings(args)
        show([line for line in lines if line["settings"] == own])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
