"""`nano-ui` on held-out screens beside the same questions about a grey picture.

The grey picture has the screen's size and shows nothing: what is left is what the model
guesses from the question alone. The last line of stdout is one JSON document.

Run: python benchmarks/evaluate_nano_ui.py benchmarks/data/layouts.jsonl
"""

import argparse
import json
from pathlib import Path

from mm15_mlx import load
from mm15_mlx.evaluate import predictions, read_tasks, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    rows = read_tasks(args.tasks)[: args.limit]
    model, processor = load(args.model)
    seen, blind = (
        summary(args.model, list(predictions(model, processor, rows, blind=b)))
        for b in (False, True)
    )
    print(f"| task | metric | screen | grey picture | n |\n|{'---|' * 5}")
    for task, values in seen["metrics"].items():
        for name, value in values.items():
            if name != "n":
                other = blind["metrics"][task][name]
                print(
                    f"| {task} | {name} | {value:.3f} | {other:.3f} | {values['n']} |"
                )
    print(json.dumps({"screen": seen, "grey": blind}))


if __name__ == "__main__":
    main()
