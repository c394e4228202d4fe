"""A model that knows one app's style: screens, LoRA, and the metrics before and after.

Renders screens of one UI kit (or takes rendered ones), keeps every fifth for the test,
writes the rest as training rows, trains a LoRA on `nano-ui`, and evaluates the model
with and without it on the kept screens and on a general set, which it must not forget.
A row is a conversation of several questions about one screen: the picture, which takes
most of the time, is read once for all of them. With `--replay`, rows about screens of
the kinds that the model knows come in between, so that it does not forget them. The
last line of stdout is one JSON document.

Run: python benchmarks/worked_example.py --out style --kit weui \
         --general benchmarks/data/layouts-ten-kits.jsonl
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from mm15_mlx import load
from mm15_mlx.config import UserError
from mm15_mlx.evaluate import Prediction, predictions, read_tasks, task_means
from mm15_mlx.screens.questions import Question, short_questions
from mm15_mlx.screens.sheet import read_rows
from mm15_mlx.screens.tasks import tasks
from mm15_mlx.tasks import question
from mm15_mlx.train import run

EVERY = 5  # one screen of so many is for the test, and the one after it validates
STYLE, KNOWN = "style", "known"  # categories of training rows
SCHEDULE = {"name": "cosine_decay", "warmup": 0.05, "end": 0.05}
Metrics = dict[str, Any]
Row = dict[str, Any]
Message = dict[str, str]


def conversation(questions: Sequence[Question]) -> list[Message]:
    return [
        {"role": role, "content": text}
        for q in questions
        for role, text in (("user", q.prompt), ("assistant", q.answer))
    ]


def conversations(
    folder: Path, row: Row, k: int, questions: int, turns: int, category: str
) -> list[dict[str, Any]]:
    """Training rows about screen `k` of a folder."""
    rng = Random(k)
    asked = short_questions(row, rng, questions)
    rng.shuffle(asked)
    return [
        {
            "messages": conversation(asked[start : start + turns]),
            "images": [str((folder / row["image"]).resolve())],
            "category": category,
        }
        for start in range(0, len(asked), turns)
    ]


def write_data(
    screens: Path,
    out: Path,
    questions: int,
    turns: int,
    per_task: int,
    replay: Path | None = None,
) -> None:
    """train.jsonl, valid.jsonl and tasks.jsonl in `out`, beside links to pictures; with
    `replay`, rows about the screens of that folder are in train.jsonl too.
    Lists of widgets are not asked for: one takes as long as all other tasks."""
    lines: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "tasks": []}
    for k, row in enumerate(read_rows(screens)):
        if k % EVERY == 0:
            made = tasks(row, str(screens.resolve()), per_task, seed=0)
            lines["tasks"] += [t for t in made if t["task"] != "widgets"]
            continue
        name = "valid" if k % EVERY == 1 and k > EVERY else "train"
        lines[name] += conversations(screens, row, k, questions, turns, STYLE)
    for k, row in enumerate(read_rows(replay) if replay else []):
        lines["train"] += conversations(replay, row, k, turns, turns, KNOWN)
    out.mkdir(parents=True, exist_ok=True)
    for name, values in lines.items():
        text = "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")


def answered(path: Path, adapters: Path | None, limit: int | None) -> list[Prediction]:
    """Tasks answered as `eval` does."""
    rows = read_tasks(path)[:limit]
    model, processor = load("nano-ui", adapter_path=adapters)
    return list(predictions(model, processor, rows))


def first_gain(before: list[Prediction], after: list[Prediction]) -> Row | None:
    """The first text that was not found and is found now."""
    for old, new in zip(before, after, strict=True):
        if new.row["task"] != "find_text":
            continue
        if new.scores["acc@0.5"] > old.scores["acc@0.5"]:
            return new.row
    return None


def pictured(adapters: Path, row: Row, path: Path) -> None:
    """The app, asked this task with the adapters."""
    from app_user import User, chromium, serving

    from mm15_mlx.apps.worker import Choice

    choice = Choice("nano-ui", adapters)
    with (
        tempfile.TemporaryDirectory() as uploads,
        chromium() as browser,
        serving((choice,), Path(uploads)) as url,
    ):
        user = User(browser, url, width=1160)
        user.picture(Path(row["image"]))
        user.ask(question(row))
        user.answers(1)
        user.page.wait_for_timeout(1000)  # scrolling is smooth
        user.page.screenshot(path=path)


def table(title: str, before: Metrics, after: Metrics) -> str:
    lines = [f"| {title} | metric | before | after | change | n |", "|---" * 6 + "|"]
    for task, values in before.items():
        for key, value in values.items():
            if key != "n":
                now = after[task][key]
                lines.append(
                    f"| {task} | {key} | {value:.3f} | {now:.3f} | {now - value:+.3f} "
                    f"| {values['n']} |"
                )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--screens", type=Path, help="rendered already; else rendered")
    parser.add_argument("--kit", default="weui")
    parser.add_argument("--n", type=int, default=200, help="screens to render")
    parser.add_argument("--questions", type=int, default=48, help="of a screen")
    parser.add_argument("--turns", type=int, default=24, help="of a conversation")
    parser.add_argument("--per-task", type=int, default=2)
    parser.add_argument("--replay", type=Path, help="screens of kinds that it knows")
    parser.add_argument("--replay-share", type=float, default=0.5, help="of the rows")
    parser.add_argument("--general", type=Path, help="tasks not to be forgotten")
    parser.add_argument("--limit", type=int, help="of the tasks of each set")
    parser.add_argument("--iters", type=int, default=330)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--picture", type=Path, help="of the app, to write")
    parser.add_argument("--num-layers", type=int, default=-1, help="the last ones")
    args = parser.parse_args(arguments)
    screens = args.screens or args.out / "screens"
    try:
        if not args.screens:
            from mm15_mlx.screens import build

            build.render_screens(screens, args.n, 0, build.Options(kits=(args.kit,)))
        data, adapters = args.out / "data", args.out / "adapters"
        write_data(
            screens, data, args.questions, args.turns, args.per_task, args.replay
        )
        sets = {"style": data / "tasks.jsonl"}
        if args.general:
            sets["general"] = args.general
        before = {k: answered(path, None, args.limit) for k, path in sets.items()}
        begin = time.perf_counter()
        shutil.rmtree(adapters, ignore_errors=True)
        settings = {
            "data": str(data), "adapter_path": str(adapters), "iters": args.iters,
            "batch_size": args.batch_size, "learning_rate": args.learning_rate,
            "num_layers": args.num_layers, "lr_schedule": SCHEDULE,
            "steps_per_eval": max(1, args.iters // 4), "val_batches": 8,
        }  # fmt: skip
        if args.replay:
            share = args.replay_share
            settings["mixture"] = {STYLE: 1 - share, KNOWN: share}
        report, status = run(settings)
        if status:
            return status
        seconds = time.perf_counter() - begin
        after = {k: answered(path, adapters, args.limit) for k, path in sets.items()}
        shown = first_gain(before["style"], after["style"])
        if args.picture and shown:
            pictured(adapters, shown, args.picture)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    means = {
        when: {name: task_means(done) for name, done in answers.items()}
        for when, answers in (("before", before), ("after", after))
    }
    for name in sets:
        print(table(name, means["before"][name], means["after"][name]) + "\n")
    print(json.dumps({
        "kit": None if args.screens else args.kit, "iters": args.iters,
        "drawn": report["drawn"],
        "seconds": round(seconds, 1), "loss": report["loss"],
        "valid_loss": report["best"], **means,
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
