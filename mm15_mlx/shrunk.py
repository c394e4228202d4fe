"""What quantising cost, as data and as lines: sizes, bits, drift and metrics.

What this file is: the parts of the report of `quantize`. What it is not: making the
folder that it is about (shrink.py).
"""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mm15_mlx import __version__
from mm15_mlx.checkpoint import CARD, Stored
from mm15_mlx.quantize import PARTS, TEXT_PARTS, Choice, part_of

Tensors = Mapping[str, Stored]
Numbers = Mapping[str, int]  # how many each parameter has, by name


def described(
    before: Tensors, after: Tensors, numbers: Numbers, choice: Choice
) -> dict[str, Any]:
    """Sizes in bytes, bits per weight of parts and of what is quantised, and ways."""
    parts: dict[str, dict[str, float]] = {}
    for part in PARTS:
        count = sum(size for n, size in numbers.items() if part_of(n) == part)
        nbytes = sum(s.nbytes for n, s in after.items() if part_of(n) == part)
        if count:
            bits = round(8 * nbytes / count, 3)
            parts[part] = {"parameters": count, "bytes": nbytes, "bpw": bits}
    layers: dict[str, Counter[str]] = {}
    ways = choice.whole
    for path, way in ways.items():
        label = f"{way.bits} bits, {way.mode}, groups of {way.group_size}"
        layers.setdefault(part_of(path), Counter())[label] += 1
    text = [path for path in ways if part_of(path) in TEXT_PARTS]
    return {
        "bytes_before": sum(s.nbytes for s in before.values()),
        "bytes_after": sum(s.nbytes for s in after.values()),
        "parts": parts,
        "quantized_bpw": mean_bits(numbers, after, ways),
        "text_bpw": mean_bits(numbers, after, text),
        "layers": {part: dict(sorted(c.items())) for part, c in layers.items()},
        "left_floating": list(choice.left),
    }


def mean_bits(numbers: Numbers, after: Tensors, paths: Collection[str]) -> float:
    """Mean bits per weight of some quantised layers, scales included; 0 of none."""
    names = [f"{p}.{kind}" for p in paths for kind in ("weight", "scales", "biases")]
    nbytes = sum(after[name].nbytes for name in names if name in after)
    count = sum(numbers[f"{path}.weight"] for path in paths)
    return round(8 * nbytes / max(count, 1), 3)


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Every metric of every task before and after, and their difference."""
    found: dict[str, Any] = {}
    for task, values in before.items():
        found[task] = {"n": values["n"]}
        for key, value in values.items():
            if key != "n":
                now = after[task][key]
                change = round(now - value, 4)
                found[task][key] = {"before": value, "after": now, "change": change}
    return found


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report as lines of text, for stderr and for the card."""
    before, after = report["bytes_before"] / 1e6, report["bytes_after"] / 1e6
    lines = [f"size        {before:.1f} → {after:.1f} MB"]
    for part, size in report["parts"].items():
        ways = report["layers"].get(part, {})
        shown = "; ".join(f"{n} × {way}" for way, n in ways.items()) or "floating"
        lines.append(
            f"{part:<11} {size['parameters']:,} parameters, {size['bpw']:.2f} bits "
            f"each ({shown})"
        )
    if left := report["left_floating"]:
        lines.append(f"left        no whole groups in a row: {', '.join(left)}")
    if made := report.get("gptq"):
        lines.append(
            f"rounded     {made['layers']} layers for the inputs of {made['answers']} "
            "answers (GPTQ)"
        )
    if learnt := report.get("dwq"):
        lines.append(
            f"taught      {learnt['answers']} answers, {learnt['best_iter']} of "
            f"{learnt['iters']} steps kept: KL {learnt['kl_before']:.2e} → "
            f"{learnt['kl_after']:.2e} nats on {learnt['apart']} kept apart"
        )
    drift = report["drift"]
    lines.append(
        f"drift       KL {drift['kl_mean']:.2e} nats per answer token, at most "
        f"{drift['kl_max']:.2e}; same token {drift['same_token']:.1%}; "
        f"{drift['tokens']} tokens of {drift['rows']} answers"
    )
    for task, values in report.get("metrics", {}).items():
        lines += [
            f"{task:<13} {key} {value['before']:.3f} → {value['after']:.3f} "
            f"({value['change']:+.3f}, n {values['n']})"
            for key, value in values.items()
            if key != "n"
        ]
    return lines


def card(folder: Path, lines: list[str]) -> str:
    """The source's card, and what quantising it cost."""
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {folder.name}\n"
    measured = "\n".join(lines)
    return (
        f"{text.rstrip()}\n\n## Quantised\n\nMade by mm15-mlx {__version__} from the "
        "model above; figures above are of its floating-point weights. Measured along "
        f"the answers that those gave:\n\n```text\n{measured}\n```\n"
    )
