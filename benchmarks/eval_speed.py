"""What `eval` saves: questions about screens, together and one after the other.

Four ways in one process, with the same weights and the same questions: together, as
`eval` asks; one `generate` each in the same order, with what the program remembers of a
picture; the same in a random order, as files of questions often are; one `generate`
each with nothing remembered, as a process for each question would have it (without its
start). Each way begins with an empty memory. Lists of widgets are left out: one takes
as long as all other answers. The last line of stdout is one JSON document.

Run: python benchmarks/eval_speed.py benchmarks/data/kits.jsonl --screens 2
1,000 questions: python benchmarks/eval_speed.py benchmarks/data/kits.jsonl
    benchmarks/data/layouts.jsonl benchmarks/data/layouts-ten-kits.jsonl
    --screens 100 --ways together remembered --trials 1
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

from mm15_mlx import generate, load
from mm15_mlx.answered import ordered
from mm15_mlx.config import UserError
from mm15_mlx.evaluate import predictions
from mm15_mlx.images import load_picture
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.tasks import MAX_TOKENS, Row, pictures, question, read_tasks

TITLES = {
    "together": "together",
    "remembered": "one by one",
    "mixed": "one by one, in random order",
    "fresh": "one by one, nothing kept",
}
Answers = dict[str, str]
Way = Callable[[MM15, Processor, Sequence[Row]], Answers]


def together(model: MM15, processor: Processor, rows: Sequence[Row]) -> Answers:
    return {p.row["id"]: p.result.text for p in predictions(model, processor, rows)}


def remembered(model: MM15, processor: Processor, rows: Sequence[Row]) -> Answers:
    return {row["id"]: _ask(model, processor, row) for row in rows}


def mixed(model: MM15, processor: Processor, rows: Sequence[Row]) -> Answers:
    return remembered(model, processor, random.Random(0).sample(rows, len(rows)))


def fresh(model: MM15, processor: Processor, rows: Sequence[Row]) -> Answers:
    answers = {}
    for row in rows:
        processor.memory.forget()
        answers[row["id"]] = _ask(model, processor, row)
    return answers


def _ask(model: MM15, processor: Processor, row: Row) -> str:
    images = [load_picture(p) for p in pictures(row)]
    limit = MAX_TOKENS[row["task"]]
    return generate(model, processor, question(row), images, max_tokens=limit).text


WAYS: dict[str, Way] = {
    "together": together, "remembered": remembered, "mixed": mixed, "fresh": fresh,
}  # fmt: skip


def gathered(files: Sequence[Path]) -> list[Row]:
    """The rows of all files; their ids begin with the file's name."""
    return [
        row | {"id": f"{path.stem}/{row['id']}"}
        for path in files
        for row in read_tasks(path)
    ]


def chosen(rows: Sequence[Row], screens: int, questions: int) -> list[Row]:
    """The first questions about each of the first screens that have enough."""
    rows = [row for row in rows if row["task"] != "widgets"]
    groups = [group for group in ordered(rows) if len(group) >= questions]
    if len(groups) < screens:
        raise UserError(
            f"only {len(groups)} screens have {questions} questions; "
            "ask for fewer with --screens or --questions"
        )
    return [row for group in islice(groups, screens) for row in group[:questions]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", type=Path, nargs="+")
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--screens", type=int, default=2)
    parser.add_argument("--questions", type=int, default=10, help="about each screen")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS),
        help="default: all; the others are compared with the first",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    try:
        rows = chosen(gathered(args.tasks), args.screens, args.questions)
        model, processor = load(args.model)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    together(model, processor, rows[:2])  # compiles and reads the weights
    seconds: dict[str, list[float]] = {way: [] for way in args.ways}
    cpu: dict[str, list[float]] = {way: [] for way in args.ways}
    answers: dict[str, Answers] = {}
    for _ in range(args.trials):
        for way in args.ways:
            processor.memory.forget()
            begin, begin_cpu = time.perf_counter(), time.process_time()
            answers[way] = WAYS[way](model, processor, rows)
            seconds[way].append((time.perf_counter() - begin) / len(rows))
            cpu[way].append((time.process_time() - begin_cpu) / len(rows))
            line = f"{TITLES[way]}: {seconds[way][-1]:.3f} s a question"
            print(line, file=sys.stderr)
    first = args.ways[0]
    fewest = median(seconds[first]), median(cpu[first])
    print("| way | s a question | spread | slower | CPU s | slower | same answers |")
    print("|---|---|---|---|---|---|---|")
    report = {"screens": args.screens, "questions": args.questions, "ways": {}}
    for way, times in seconds.items():
        same = sum(answers[way][k] == answers[first][k] for k in answers[way])
        found = {
            "seconds": round(median(times), 4),
            "slower": round(median(times) / fewest[0], 2),
            "cpu_seconds": round(median(cpu[way]), 4),
            "cpu_slower": round(median(cpu[way]) / fewest[1], 2),
            "same_answers": same,
        }
        report["ways"][way] = found
        print(
            f"| {TITLES[way]} | {found['seconds']:.3f} | "
            f"{min(times):.3f}–{max(times):.3f} | "
            f"{found['slower']:.1f} × | {found['cpu_seconds']:.3f} | "
            f"{found['cpu_slower']:.1f} × | {same} of {len(rows)} |"
        )
    print(f"\n{json.dumps(report)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
