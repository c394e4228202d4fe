"""Videos in questions: frames as pictures, one view each, and what the verbs say.

A reader of our own stands for PyAV's, except at the end.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mm15_mlx.config import ConfigError, ConnectorConfig, ModelConfig, PromptConfig
from mm15_mlx.images import Picture
from mm15_mlx.load import load_processor
from mm15_mlx.processor import Processor
from mm15_mlx.prompt import PromptError
from mm15_mlx.tokenizer import TOKENIZER_FILE, Tokenizer
from mm15_mlx.video import Clip

Cli = Callable[..., tuple[int, str, str]]
IMAGE = 4
SIZE = (120, 200)


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What a video of ten seconds is asked for: (frames, start, end)."""
    asked: list[tuple] = []

    def read(
        source: Any, frames: int = 24, start: float | None = None, end: Any = None,
        view: Any = None,
    ) -> Clip:  # fmt: skip
        asked.append((frames, start, end))
        return made(str(source), [10 * (k + 0.5) / frames for k in range(frames)])

    def at(source: Any, seconds: float) -> Clip:
        asked.append((seconds,))
        return made(str(source), [seconds])

    monkeypatch.setattr("mm15_mlx.processor.read_clip", read)
    monkeypatch.setattr("mm15_mlx.video.frame_at", at)
    return asked


def made(path: str, times: list[float]) -> Clip:
    """Frames that differ."""
    shades = [int(20 * t) for t in times]
    frames = [Picture(Image.new("RGB", SIZE, (s, 0, 99)), path) for s in shades]
    return Clip(path, frames, times, 10.0)


@pytest.fixture
def processor(ui_folder: Path, ui_config: ModelConfig) -> Processor:
    return Processor(ui_config, Tokenizer(ui_folder / TOKENIZER_FILE))


def asked(text: str = "What?", **video: Any) -> list[dict[str, Any]]:
    part = {"type": "video", "video": "v.mp4", **video}
    parts = [part, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


# --- frames as pictures --------------------------------------------------------------


def test_24_frames_of_144_tokens_and_nothing_between(
    ui_folder: Path, ui_config: ModelConfig
) -> None:
    """MM1.5-Video's numbers: 24 × 144 = 3456 and the text's own ids."""
    vision = dataclasses.replace(ui_config.vision_config, image_size=168)
    tiling = dataclasses.replace(ui_config.tiling, tile_size=168)
    config = dataclasses.replace(
        ui_config, vision_config=vision, tiling=tiling,
        connector_config=ConnectorConfig(num_visual_tokens=144, hidden_size=32),
    )  # fmt: skip
    processor = Processor(config, Tokenizer(ui_folder / TOKENIZER_FILE))
    prepared = processor.prepare(asked())
    plain = processor.prepare("What?").ids
    assert prepared.ids == [plain[0], *[IMAGE] * 3456, *plain[1:]]
    assert [i.tiling.grid for i in prepared.images] == [(1, 1)] * 24
    (video,) = prepared.videos
    assert (video.path, video.duration, video.first) == ("v.mp4", 10.0, 0)
    assert len(video.times) == 24 and video.times[0] == pytest.approx(10 / 48)


def test_a_part_says_which_frames(processor: Processor, reads: list[tuple]) -> None:
    processor.prepare(asked(frames=3, start=1.0, end=2.5))
    processor.prepare(asked())
    assert reads == [(3, 1.0, 2.5), (24, None, None)]


def test_the_configuration_says_how_many(
    ui_folder: Path, ui_config: ModelConfig, reads: list[tuple]
) -> None:
    config = dataclasses.replace(ui_config, prompt=PromptConfig(video_frames=5))
    Processor(config, Tokenizer(ui_folder / TOKENIZER_FILE)).prepare(asked())
    assert reads == [(5, None, None)]
    with pytest.raises(ConfigError, match="prompt.video_frames is 0; it must be 1 to"):
        PromptConfig(video_frames=0)


def test_a_single_frame_is_not_split_and_pictures_are_counted_with_frames(
    processor: Processor, screen: Path
) -> None:
    (frame,) = processor.prepare(asked(frames=1)).images
    assert frame.tiling.grid == (1, 1)
    for frames, grid in ((1, (2, 2)), (2, (1, 1))):
        messages = asked(frames=frames)
        messages[0]["content"].insert(0, {"type": "image", "image": screen})
        prepared = processor.prepare(messages)
        assert prepared.images[0].tiling.grid == grid
        assert prepared.videos[0].first == 1


def test_places_in_frames(processor: Processor) -> None:
    """Markup counts frames as pictures."""
    ids = processor.prepare(asked("<box image=2>0,0,60,200</box>?", frames=3)).ids
    assert ids.count(IMAGE) == 3 * 16
    with pytest.raises(Exception, match="names picture 3, but there are 3"):
        processor.prepare(asked("<box image=3>0,0,60,200</box>?", frames=3))


def test_an_open_clip_is_taken_as_it_is(
    processor: Processor, reads: list[tuple]
) -> None:
    messages = asked()
    messages[0]["content"][0]["video"] = made("w.mp4", [1.0, 2.0])
    assert processor.prepare(messages).videos[0].times == [1.0, 2.0]
    assert reads == []


def test_too_many_frames_are_not_even_read(
    processor: Processor, reads: list[tuple]
) -> None:
    message = (
        r"256 video frames of 16 tokens are 4096 tokens; the model's context is 4096: "
        r"ask for fewer, at most 255 \(--frames\)"
    )
    with pytest.raises(PromptError, match=message):
        processor.prepare(asked(frames=256))
    with pytest.raises(PromptError, match="frames is 0; it must be at least 1"):
        processor.prepare(asked(frames=0))
    assert reads == []


def test_frames_and_pictures_over_the_context(
    processor: Processor, screen: Path
) -> None:
    messages = asked(frames=255)
    message = (
        r"the prompt has 4\d\d\d tokens, 4080 of them for 255 video frames; the "
        r"model's context is 4096: use fewer frames \(--frames\) or a shorter text"
    )
    with pytest.raises(PromptError, match=message):
        processor.prepare(asked("What is on this screen? " * 4, frames=255))
    messages[0]["content"].insert(0, {"type": "image", "image": screen})
    message = r"4096 of them for 1 picture and 255 video frames; .* or fewer pictures"
    with pytest.raises(PromptError, match=message):
        processor.prepare(messages)


# --- the verbs -----------------------------------------------------------------------


def test_generate_names_the_frames(
    cli: Cli, button: Path, screen: Path, reads: list[tuple]
) -> None:
    flags = ["generate", "--model", button, "--video", "v.mp4", "--frames", "2"]
    flags += ["--start", "1", "--end", "9", "-p", "Where is it?", "--json"]
    code, out, err = cli(*flags)
    assert code == 0, err
    document = json.loads(out)
    assert document["videos"] == [
        {"path": "v.mp4", "duration_s": 10.0, "frames": 2, "times_s": [2.5, 7.5]}
    ]
    frame = {
        "path": "v.mp4", "width": 120, "height": 200, "grid": [1, 1], "views": 1,
        "tokens": 16,
    }  # fmt: skip
    assert document["images"] == [{**frame, "time_s": t} for t in (2.5, 7.5)]
    assert document["usage"]["image_tokens"] == 32
    assert document["boxes"][0]["image"] == 0 and reads == [(2, 1.0, 9.0)]
    plain = cli("generate", "--model", button, "--image", screen, "-p", "A", "--json")
    assert "videos" not in json.loads(plain[1])


def test_places_of_video_and_pictures_in_the_prompt(
    cli: Cli, button: Path, screen: Path
) -> None:
    flags = ["generate", "--model", button, "--video", "v.mp4", "--frames", "2"]
    flags += ["--image", screen, "--json", "-p"]
    images = json.loads(cli(*flags, "Is <video> like <image>?")[1])["images"]
    assert [i["path"] for i in images] == ["v.mp4", "v.mp4", str(screen)]
    images = json.loads(cli(*flags, "Like <image>?")[1])["images"]
    assert [i["path"] for i in images] == ["v.mp4", "v.mp4", str(screen)]
    images = json.loads(cli(*flags, "Alike?")[1])["images"]
    assert [i["path"] for i in images] == [str(screen), "v.mp4", "v.mp4"]


def test_rows_about_videos(
    cli: Cli, ui_folder: Path, tmp_path: Path, reads: list[tuple]
) -> None:
    """Rows about the same part are answered together, from one reading."""
    rows = [
        {"prompt": "What?", "video": "v.mp4", "frames": 2, "end": 4},
        {"prompt": "Where?", "video": "v.mp4", "frames": 2, "end": 4},
        {"prompt": "In <video> or <image>?", "video": "v.mp4", "image": "a.png",
         "frames": 1},
    ]  # fmt: skip
    Image.new("RGB", SIZE, "red").save(tmp_path / "a.png")
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    command = ["generate", "--model", ui_folder, "--input", path, "-m", 3]
    status, out, err = cli(*command)
    assert status == 0 and err == "3/3 rows\n"
    first, second, third = map(json.loads, out.splitlines())
    assert reads == [(2, None, 4), (1, None, None)] * 2  # to check, and to answer
    assert first["videos"] == second["videos"]
    assert first["videos"][0]["path"] == str(tmp_path / "v.mp4")
    assert [i["time_s"] for i in first["images"]] == [2.5, 7.5]
    assert [i.get("time_s") for i in third["images"]] == [5.0, None]
    alone = ["generate", "--model", ui_folder, "--video", tmp_path / "v.mp4", "-m", 3,
             "--frames", 2, "--end", 4, "--prompt", "Where?", "--json"]  # fmt: skip
    assert json.loads(cli(*alone)[1])["text"] == second["text"]


def test_ground_asks_about_more_frames_than_one_prompt_holds(
    cli: Cli, button: Path, reads: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a prompt of its own; `generate` has them all in one."""
    shown: list[int] = []

    def noted(session: Any, pictures: Any, *_: Any, **__: Any) -> None:
        shown.append(len(pictures))

    monkeypatch.setattr("mm15_mlx.answers.ground", noted)
    flags = ["--model", button, "--video", "v.mp4", "--frames", "256"]
    assert cli("ground", *flags, "--query", "OK")[0] == 0
    assert shown == [256] and reads == [(256, None, None)]
    code, _, err = cli("generate", *flags, "-p", "x")
    assert code == 2 and err.startswith("error: 256 video frames of 16 tokens")


def test_ground_looks_at_each_frame(cli: Cli, button: Path, tmp_path: Path) -> None:
    flags = ["ground", "--model", button, "--video", "v.mp4", "--frames", "2"]
    flags += ["--query", "OK"]
    code, out, err = cli(*flags, "--draw", tmp_path / "o.png")
    assert code == 0, err
    assert out == (
        "v.mp4 at 2.50 s: OK: [12, 40, 72, 140]\nv.mp4 at 7.50 s: OK: [12, 40, 72, "
        "140]\n"
    )
    colours = [
        Image.open(tmp_path / f"o-{k}.png").convert("RGB").getpixel((60, 190))
        for k in range(2)
    ]
    assert colours == [(50, 0, 99), (150, 0, 99)]
    document = json.loads(cli(*flags, "--json")[1])
    assert [b["image"] for b in document["boxes"]] == [0, 1]
    assert [i["time_s"] for i in document["images"]] == [2.5, 7.5]
    assert [i["views"] for i in document["images"]] == [1, 1]
    assert document["videos"][0]["frames"] == 2


def test_ground_at_one_time_splits_the_frame(
    cli: Cli, button: Path, screen: Path, reads: list[tuple]
) -> None:
    flags = ["ground", "--model", button, "--video", "v.mp4", "--at", "3.5"]
    code, out, err = cli(*flags, "--query", "OK")
    assert (code, out) == (0, "OK: [12, 40, 72, 140]\n"), err
    document = json.loads(cli(*flags, "--query", "OK", "--image", screen, "--json")[1])
    assert [i["views"] for i in document["images"]] == [5, 5]
    assert document["images"][1]["time_s"] == 3.5
    assert document["videos"][0]["times_s"] == [3.5] and reads == [(3.5,)] * 2
    assert [b["image"] for b in document["boxes"]] == [0, 1]


def test_chat_reads_the_video_once(cli: Cli, button: Path, reads: list[tuple]) -> None:
    flags = ["chat", "--model", button, "--video", "v.mp4", "--frames", "3"]
    code, out, _ = cli(*flags, stdin="Where?\nAnd <image> now?\n")
    assert code == 0 and out == "[100, 200, 600, 700]\n" * 2
    assert reads == [(3, None, None)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["generate", "-p", "x", "--frames", "3"], "--frames goes with --video; name"),
        (["chat", "--end", "3"], "--end goes with --video; name one"),
        (
            ["ground", "--query", "x", "--image", "a", "--at", "1"],
            "--at goes with --vi",
        ),
        (
            ["ground", "--query", "x", "--video", "v", "--at", "1", "--frames", "2"],
            "--at names one frame; leave --frames, --start and --end out",
        ),
        (
            ["generate", "-p", "x", "--video", "v", "--frames", "0"],
            "frames is 0; it must be at least 1",
        ),
        (
            ["generate", "-p", "x", "--video", "v", "--frames", "999"],
            "999 video frames of 16 tokens are 15984 tokens; the model's context is",
        ),
        (
            ["generate", "-p", "<video><video>", "--video", "v"],
            "the prompt has 2 placeholders <video> for 1 videos; write one",
        ),
        (["generate", "--input", "r", "--video", "v"], "--video goes with --prompt"),
        (["generate", "--input", "r", "--frames", "4"], "--frames goes with --prompt"),
        (["generate", "--input", "r", "--start", "0"], "--start goes with --prompt"),
        (["generate", "--input", "."], ". is a folder; give a JSONL file of question"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told_before_weights_load(
    cli: Cli, ui_copy: Path, flags: list[str], message: str
) -> None:
    (ui_copy / "model.safetensors").unlink()
    code, out, err = cli(flags[0], "--model", ui_copy, *flags[1:])
    assert (code, out) == (2, "") and err.startswith(f"error: {message}")
    assert err.count("\n") == 1


# --- a real file ---------------------------------------------------------------------


@pytest.mark.skipif(not importlib.util.find_spec("av"), reason="PyAV is an extra")
def test_a_file_through_pyav(
    cli: Cli, button: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av
    import numpy as np

    from mm15_mlx import video

    monkeypatch.setattr("mm15_mlx.processor.read_clip", video.read_clip)
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 128, "yuv420p"
        for k in range(20):
            shade = np.full((128, 64, 3), 12 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    flags = ["generate", "--model", button, "--video", path, "--frames", "4", "--json"]
    code, out, err = cli(*flags, "-p", "Where is it?")
    assert code == 0, err
    (said,) = json.loads(out)["videos"]
    assert said["frames"] == 4 and said["duration_s"] == pytest.approx(2.0, abs=0.1)
    drawing = tmp_path / "a.png"
    flags = ["ground", "--model", button, "--video", path, "--frames", "1"]
    assert cli(*flags, "--query", "OK", "--draw", drawing, "--force")[0] == 0
    assert Image.open(drawing).size == (64, 128), "decoded again, at its own size"

    processor = load_processor(button)
    clip, whole = processor.open_video(path, 4), video.read_clip(path, 4)
    assert all(isinstance(f, video.Frame) for f in clip.frames)
    kept, full = (
        processor.prepare(
            [{"role": "user", "content": [{"type": "video", "video": c}]}]
        )
        for c in (clip, whole)
    )
    assert kept.ids == full.ids and kept.sizes == full.sizes == [(64, 128)] * 4
    with monkeypatch.context() as patched:
        patched.setattr(video, "_Reader", lambda _: pytest.fail("was read again"))
        for a, b in zip(kept.images, full.images, strict=True):
            assert (a.views == b.views).all() and a.views.shape == b.views.shape
        assert len({image.key for image in kept.images}) == 4
    part = {"type": "image", "image": clip.frames[2], "split": True}
    (split,) = processor.prepare([{"role": "user", "content": [part]}]).images
    assert len(split.views) == 3, "split, it is decoded again"
    assert said["times_s"] == pytest.approx([0.25, 0.75, 1.25, 1.75], abs=0.1)
