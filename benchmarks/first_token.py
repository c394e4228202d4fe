"""Process start to first token, and the second question about the same picture.

Every trial is a fresh process with a warm disk, as a user's is. The last line of stdout
is one JSON document.

Run: python benchmarks/first_token.py examples/settings.png --trials 5
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

from mm15_mlx import __version__

PROBE = """
import time, sys
from mm15_mlx import load, stream_generate
model, processor = load(sys.argv[1])
def first(question):
    for response in stream_generate(model, processor, question, images=[sys.argv[2]]):
        return time.time()
    raise SystemExit("no token")
one = first("Where is the Wi-Fi switch?")
begin = time.time()
two = first("Where is the Bluetooth switch?")
print(one, two - begin)
"""


def trial(model: str, image: str) -> tuple[float, float]:
    """Seconds from process start to the first token, and of the second question."""
    begin = time.time()  # both processes read the same clock
    command = [sys.executable, "-c", PROBE, model, image]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    first, second = map(float, out.split())
    return first - begin, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--trials", type=int, default=5)
    args = parser.parse_args()
    trial(args.model, args.image)  # warms the disk cache
    runs = [trial(args.model, args.image) for _ in range(args.trials)]
    report = {
        "model": args.model,
        "image": args.image,
        "trials": args.trials,
        "machine": platform.processor() or platform.machine(),
        "mlx": version("mlx"),
        "mm15-mlx": __version__,
    }
    for name, values in zip(
        ("first_token_s", "second_question_s"), zip(*runs, strict=True), strict=True
    ):
        low, high = min(values), max(values)
        report[name] = round(statistics.median(values), 3)
        print(f"{name:18} median {report[name]:.3f}  min {low:.3f}  max {high:.3f}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
