"""Whether a model answers a question as well after others as alone.

Every screen of a task file gets some of its questions in one conversation, each after
the model's own answers to those before it; the first of a conversation is not counted.
The same questions are asked alone. The last line of stdout is one JSON document.

Run: python benchmarks/followups.py benchmarks/data/kits.jsonl
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import mean

from mm15_mlx import MM15, generate, load
from mm15_mlx.generate import Result
from mm15_mlx.images import load_picture
from mm15_mlx.processor import Message, Processor
from mm15_mlx.scores import score
from mm15_mlx.tasks import MAX_TOKENS, Row, pictures, question, read_tasks

LONG = ("widgets", "screen_summary")  # no questions that people go on from
Pair = tuple[Row, Result, Result]  # asked alone, and after others


def conversations(rows: Sequence[Row], turns: int) -> list[list[Row]]:
    """`turns` questions about each picture, drawn anew in each run alike."""
    by_picture: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["task"] not in LONG:
            by_picture[pictures(row)].append(row)
    talks = []
    for paths, mine in sorted(by_picture.items()):
        rng = Random(Path(paths[0]).name)
        talks.append(rng.sample(mine, min(turns, len(mine))))
    return talks


def asked(model: MM15, processor: Processor, talk: Sequence[Row]) -> Iterator[Pair]:
    """All but the first question of a conversation, alone and in turn."""
    images = [load_picture(p) for p in pictures(talk[0])]
    said: list[Message] = []
    for row in talk:
        limit, words = MAX_TOKENS[row["task"]], question(row)
        alone = generate(model, processor, words, images, max_tokens=limit)
        parts = [] if said else [{"type": "image", "image": i} for i in images]
        own = {"role": "user", "content": [*parts, {"type": "text", "text": words}]}
        after = alone
        if said:
            after = generate(model, processor, [*said, own], max_tokens=limit)
            yield row, alone, after
        said += [own, {"role": "assistant", "content": after.text}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--limit", type=int, help="of the conversations")
    args = parser.parse_args()
    model, processor = load(args.model)
    talks = conversations(read_tasks(args.data), args.turns)[: args.limit]
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for talk in talks:
        for row, *results in asked(model, processor, talk):
            alone, after = (score(row, r) for r in results)
            for key in alone:
                found[row["task"], key].append((alone[key], after[key]))
    print("| task | metric | alone | after others | n |\n|---|---|---|---|---|")
    document = {}
    for (task, key), pairs in sorted(found.items()):
        alone, after = (mean(values) for values in zip(*pairs, strict=True))
        print(f"| {task} | {key} | {alone:.3f} | {after:.3f} | {len(pairs)} |")
        document[f"{task}.{key}"] = {"alone": alone, "after": after, "n": len(pairs)}
    print(json.dumps({"model": args.model, "turns": args.turns, "metrics": document}))


if __name__ == "__main__":
    main()
