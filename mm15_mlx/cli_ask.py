"""The verbs `generate`, `ground`, `widgets` and `chat`; see cli.py.

What this file is: their flags, and which of them go together. What it is not: their
work (answers.py, rows.py), which is imported when the verb runs.
"""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

ModelOption = Annotated[
    str, typer.Option("--model", help="Bundled name, folder, or hub id.")
]
Images = Annotated[
    list[str] | None, typer.Option("--image", help="Pictures; several may follow.")
]
Video = Annotated[
    Path | None, typer.Option("--video", help="Its frames, one view each.")
]
Frames = Annotated[
    int | None, typer.Option("--frames", help="How many; else the model's number.")
]
Start = Annotated[
    float | None, typer.Option("--start", help="Of the part to look at: seconds.")
]
End = Annotated[float | None, typer.Option("--end", help="Of the part: seconds.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Draw = Annotated[Path | None, typer.Option(help="Write the picture with its boxes.")]
Picture = Annotated[list[str], typer.Option("--image", help="The picture.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Scale = Annotated[
    float | None,
    typer.Option(min=0.1, help="Pixels per point: adds `pt` to the JSON."),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-m", help="Longest answer.")]
Temp = Annotated[float, typer.Option("--temp", help="0 is greedy.")]
TopP = Annotated[float, typer.Option("--top-p")]
MinP = Annotated[float, typer.Option("--min-p")]
TopK = Annotated[int, typer.Option("--top-k")]
Seed = Annotated[int | None, typer.Option("--seed")]
KvBits = Annotated[int | None, typer.Option("--kv-bits", help="Quantise the KV cache.")]
KvGroup = Annotated[int, typer.Option("--kv-group-size")]
KvStart = Annotated[int, typer.Option("--quantized-kv-start")]
CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", help="Keep pictures' visual tokens here.")
]
CacheGb = Annotated[float, typer.Option("--cache-gb", help="And at most so much.")]
Adapters = Annotated[
    Path | None, typer.Option("--adapter-path", help="What `train` wrote.")
]
PrefillStep = Annotated[int, typer.Option("--prefill-step-size")]


def generate(
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", help="`-` reads stdin; <image> is a picture's place."
        ),
    ] = None,
    model: ModelOption = "nano-ui",
    image: Images = None,
    video: Video = None,
    frames: Frames = None,
    start: Start = None,
    end: End = None,
    input: Annotated[
        Path | None, typer.Option(help="Instead of a prompt, rows: JSON lines.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where the rows' answers go, not stdout.")
    ] = None,
    shot: Annotated[
        list[str] | None,
        typer.Option(help="IMG::QUESTION::ANSWER, an example before the question."),
    ] = None,
    shots: Annotated[
        Path | None, typer.Option(help="A file of examples: JSON lines.")
    ] = None,
    split_last: Annotated[
        int | None,
        typer.Option(min=0, help="Split only so many pictures, the last ones."),
    ] = None,
    system_prompt: Annotated[str | None, typer.Option("--system-prompt")] = None,
    draw: Draw = None,
    scale: Scale = None,
    json: Json = False,
    force: Force = False,
    max_tokens: MaxTokens = 256,
    temp: Temp = 0.0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    top_k: TopK = 0,
    seed: Seed = None,
    kv_bits: KvBits = None,
    kv_group_size: KvGroup = 64,
    quantized_kv_start: KvStart = 5000,
    prefill_step_size: PrefillStep = 2048,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """Ask about pictures or a video."""
    from mm15_mlx import answers, documents
    from mm15_mlx import shots as examples

    if (prompt is None) == (input is None):
        raise typer.BadParameter("give it, or --input", param_hint="'--prompt'")
    if prompt == "-":
        prompt = sys.stdin.read()
    options = {
        "max_tokens": max_tokens, "temp": temp, "top_p": top_p, "min_p": min_p,
        "top_k": top_k, "seed": seed, "prefill_step_size": prefill_step_size,
        **kv_options(kv_bits, kv_group_size, quantized_kv_start),
    }  # fmt: skip
    if prompt is not None:  # before a model is looked for
        answers.ask(prompt, image or [], [video] if video else [])
    given = [examples.shot_of(s) for s in shot or []]
    given += examples.read_shots(shots) if shots else []
    store = answers.feature_store(cache_dir, cache_gb)
    session = answers.Session(model, started(), options, store, adapter_path)
    examples.check(given, session.processor)
    if split_last is None and given:
        split_last = session.processor.config.tiling.split_last
    if input:
        from mm15_mlx import rows

        rows.only({
            "--image": image, "--video": video, "--draw": draw,
            "--frames": frames, "--start": start, "--end": end,
        })  # fmt: skip
        frame = rows.Frame(given, system_prompt, split_last)
        return rows.run(session, input, output, frame, force, scale)
    if output:
        raise typer.BadParameter("is for --input", param_hint="'--output'")
    targets = documents.drawing_targets(draw, force, int(bool(image or video)))
    clip = _clip(session, video, frames, start, end)
    asked = answers.ask(prompt, image or [], [clip] if clip else [])
    before, question = examples.framed(given, system_prompt, asked, split_last)
    result = session.answer([*before, question], [], stream=not json)
    answers.finish(result, session, json=json, targets=targets, scale=scale)


def ground(
    query: Annotated[list[str], typer.Option("--query", help="What to find.")],
    image: Images = None,
    video: Video = None,
    at: Annotated[
        float | None,
        typer.Option(help="Look at the video's frame of this second alone."),
    ] = None,
    frames: Frames = None,
    start: Start = None,
    end: End = None,
    model: ModelOption = "nano-ui",
    draw: Draw = None,
    scale: Scale = None,
    json: Json = False,
    force: Force = False,
    kv_bits: KvBits = None,
    kv_group_size: KvGroup = 64,
    quantized_kv_start: KvStart = 5000,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """Find things: phrases → boxes, on each picture or frame by itself."""
    from mm15_mlx import answers, documents

    if not image and not video:
        raise typer.BadParameter("give it, or --video", param_hint="'--image'")
    store = answers.feature_store(cache_dir, cache_gb)
    kv = kv_options(kv_bits, kv_group_size, quantized_kv_start)
    options = {"max_tokens": 64, **kv}
    session = answers.Session(model, started(), options, store, adapter_path)
    if at is None:
        clip = _clip(session, video, frames, start, end, together=False)
    else:
        clip = _frame(video, at, [frames, start, end])
    split = False if at is None else None
    pictures, videos = answers.searched(image or [], clip, split)
    targets = documents.drawing_targets(draw, force, len(pictures))
    answers.ground(
        session, pictures, videos, query, json=json, targets=targets, scale=scale
    )


def widgets(
    image: Picture,
    model: ModelOption = "nano-ui",
    draw: Draw = None,
    scale: Scale = None,
    json: Json = False,
    force: Force = False,
    max_tokens: MaxTokens = 1500,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """List every UI element with type, text and box."""
    from mm15_mlx import answers, documents

    picture = one(image)
    store = answers.feature_store(cache_dir, cache_gb)
    options = {"max_tokens": max_tokens}
    session = answers.Session(model, started(), options, store, adapter_path)
    targets = documents.drawing_targets(draw, force, 1)
    answers.widgets(session, picture, json=json, targets=targets, scale=scale)


def chat(
    model: ModelOption = "nano-ui",
    image: Images = None,
    video: Video = None,
    frames: Frames = None,
    start: Start = None,
    end: End = None,
    max_tokens: MaxTokens = 256,
    temp: Temp = 0.0,
    seed: Seed = None,
    kv_bits: KvBits = None,
    kv_group_size: KvGroup = 64,
    quantized_kv_start: KvStart = 5000,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """Several turns about the same pictures; an empty line or Ctrl-D ends."""
    from mm15_mlx import answers

    options = {
        "max_tokens": max_tokens, "temp": temp, "seed": seed,
        **kv_options(kv_bits, kv_group_size, quantized_kv_start),
    }  # fmt: skip
    store = answers.feature_store(cache_dir, cache_gb)
    session = answers.Session(model, started(), options, store, adapter_path)
    clip = _clip(session, video, frames, start, end)
    answers.chat(session, image or [], clip)


def _clip(
    session: Any,
    video: Path | None,
    frames: int | None,
    start: float | None,
    end: float | None,
    together: bool = True,
) -> Any:
    """The frames that the flags name, or None."""
    from mm15_mlx.config import UserError

    flags = {"--frames": frames, "--start": start, "--end": end}
    given = [name for name, value in flags.items() if value is not None]
    if video is None and given:
        raise UserError(f"{given[0]} goes with --video; name one")
    if video is None:
        return None
    return session.processor.open_video(video, frames, start, end, together)


def _frame(video: Path | None, at: float, others: list[Any]) -> Any:
    from mm15_mlx.config import UserError
    from mm15_mlx.video import frame_at

    if video is None:
        raise UserError("--at goes with --video; name one")
    if any(v is not None for v in others):
        raise UserError(
            "--at names one frame; leave --frames, --start and --end out, or leave it "
            "out"
        )
    return frame_at(video, at)


def kv_options(bits: int | None, group_size: int, start: int) -> dict[str, Any]:
    return {
        "kv_bits": bits, "kv_group_size": group_size, "quantized_kv_start": start,
    }  # fmt: skip


def one(images: list[str]) -> str:
    from mm15_mlx.config import UserError

    if len(images) != 1:
        raise UserError(f"--image names {len(images)} pictures; this verb takes one")
    return images[0]


def started() -> float:
    """When the process began, so that a first token's time counts from there."""
    return _PROCESS_START


_PROCESS_START = time.perf_counter() - time.process_time()
