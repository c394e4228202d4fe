"""Questions, pictures and videos → what the model is called with.

Pictures may be paths, PIL images or uint8 arrays; a prompt is a string, in which
`<image>` may say where each picture stands, or a list of `{"role", "content"}` whose
content is a string or parts `{"type": "text" | "image" | "video"}`.

A video is what MM1.5-Video makes of it: frames as pictures, one view each, none split.
The paper names no text between frames, so there is none.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from mm15_mlx.config import ModelConfig, TilingConfig
from mm15_mlx.grounding import split_regions
from mm15_mlx.images import ImageLike, Picture, open_pictures
from mm15_mlx.memory import Memory
from mm15_mlx.prompt import (
    PICTURE,
    Content,
    ImageSlot,
    PromptEncoder,
    PromptError,
    Template,
    Turn,
    interleaved,
)
from mm15_mlx.tiling import NEWLINE, Tiling, cut, plan
from mm15_mlx.tokenizer import Tokenizer
from mm15_mlx.video import Clip, Frame, read_clip

Message = dict[str, Any]
Prompt = str | Sequence[Message]
FIRST = "first_picture"  # of a message: which one `image=0` in its markup names


@dataclass(frozen=True)
class OneView:
    """A picture that is not split → its only view, uint8 (S, S, 3)."""

    config: TilingConfig

    def tiling(self, size: tuple[int, int]) -> Tiling:
        return plan(*size, self.config, self.config.max_split_images + 1)

    def __call__(self, image: Image.Image) -> np.ndarray:
        return cut(image, self.tiling(image.size), self.config)[0]


@dataclass(frozen=True)
class TiledPicture:
    """A picture with its tiling. Its views are cut when they are needed, and not kept:
    of many pictures only those of one are in memory at a time."""

    picture: Picture
    tiling: Tiling
    config: ModelConfig

    @property
    def views(self) -> np.ndarray:
        """uint8 (V, S, S, 3), cut anew, or what is kept of a frame."""
        kept = self._kept
        if kept is not None:
            return kept[None]
        return cut(self.picture.image, self.tiling, self.config.tiling)

    @property
    def _kept(self) -> np.ndarray | None:
        """The view of a frame, where that is all that is seen of it."""
        maker = OneView(self.config.tiling)
        frame = self.picture
        if not isinstance(frame, Frame) or frame.maker != maker:
            return None
        return frame.view if self.tiling == maker.tiling(frame.size) else None

    @cached_property
    def key(self) -> str:
        """A hash of the pixels and of the tiling: same key, same visual tokens."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.picture.size, self.tiling.indices)).encode())
        kept = self._kept
        digest.update(self.picture.digest if kept is None else kept.tobytes())
        return digest.hexdigest()

    @cached_property
    def packing(self) -> np.ndarray:
        """Which visual token stands at which of the picture's placeholders: (T,),
        indices into (V · Q), -1 for the newline embedding. See `Tiling.packing`."""
        return self.tiling.packing(self.config.connector_config.pooled_grid)

    @property
    def tokens(self) -> int:
        """Placeholders of the picture."""
        return len(self.packing)


@dataclass(frozen=True)
class Video:
    """Frames of a video among the pictures: `first` and as many as there are `times`,
    in seconds from the file's start."""

    path: str
    duration: float  # seconds
    times: list[float]
    first: int


@dataclass(frozen=True)
class Prepared:
    """A conversation as ids, and its pictures, frames of videos among them.

    `subject`: which of them the last question is about, and so the boxes in its answer:
    the first of the last message that has any.
    """

    ids: list[int]
    images: list[TiledPicture]
    subject: int = 0
    videos: list[Video] = field(default_factory=list)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [v.picture.size for v in self.images]


@dataclass(frozen=True)
class _Shown:
    """The pictures of one part: one, or the frames of a video. `split` as in
    `plan_picture`."""

    pictures: list[Picture]
    split: bool | None
    clip: Clip | None = None


class Processor:
    """Everything between a user's words and pictures and the model's arrays."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.encoder = PromptEncoder(config, tokenizer)
        self.memory = Memory()

    def __call__(
        self, prompt: Prompt, images: Sequence[ImageLike] = ()
    ) -> dict[str, mx.array]:
        """`input_ids` (1, L) and, with pictures, `pixel_values` (V, S, S, 3) and the
        `packing` (M,) of their visual tokens; see `Tiling.packing`."""
        prepared = self.prepare(prompt, images)
        inputs = {"input_ids": mx.array([prepared.ids])}
        if prepared.images:
            inputs["pixel_values"] = mx.concatenate(
                [self.pixels(v) for v in prepared.images]
            )
            per_view = self.config.connector_config.num_visual_tokens
            packings, start = [], 0
            for picture in prepared.images:
                order = picture.packing
                packings.append(np.where(order == NEWLINE, NEWLINE, order + start))
                start += len(picture.tiling.indices) * per_view
            inputs["packing"] = mx.array(np.concatenate(packings))
        return inputs

    def prepare(self, prompt: Prompt, images: Sequence[ImageLike] = ()) -> Prepared:
        """Ids and tiled pictures; raises UserError for what cannot be asked."""
        messages = with_pictures(prompt, images)
        parts = [p for m in messages for p in content_parts(m) if p["type"] != "text"]
        opened = iter(
            open_pictures([p["image"] for p in parts if p["type"] == "image"])
        )
        shown = [
            _Shown([next(opened)], part.get("split"))
            if part["type"] == "image"
            else self._frames(part)
            for part in parts
        ]
        count = sum(len(s.pictures) for s in shown)
        tiled = [
            TiledPicture(p, self.plan_picture(p, count, s.split), self.config)
            for s in shown
            for p in s.pictures
        ]
        turns, subject = self._turns(messages, shown)
        ids = self.encoder.encode(turns, [t.tiling for t in tiled])
        videos, first = [], 0
        for s in shown:
            if s.clip:
                clip = s.clip
                videos.append(Video(clip.path, clip.duration, clip.times, first))
            first += len(s.pictures)
        prepared = Prepared(ids, tiled, subject, videos)
        self._check_length(prepared)
        return prepared

    def plan_picture(
        self, picture: Picture, count: int, split: bool | None = None
    ) -> Tiling:
        """The tiling of one of `count` pictures.

        split: whether it is split whatever their number is; None: MM1.5's rule.
        """
        config = self.config.tiling
        if split is not None:
            count = 1 if split else config.max_split_images + 1
        return plan(*picture.size, config, count)

    def groups(self, picture: TiledPicture, size: int) -> Iterator[mx.array]:
        """Normalised views (size, S, S, 3), float32, group by group; the last group may
        be smaller."""
        views = picture.views
        for start in range(0, len(views), size):
            yield self._normalised(views[start : start + size])

    def pixels(self, picture: TiledPicture) -> mx.array:
        """Normalised views (V, S, S, 3), float32."""
        return self._normalised(picture.views)

    def _normalised(self, views: np.ndarray) -> mx.array:
        vision = self.config.vision_config
        x = views.astype(np.float32) / 255
        x = (x - np.float32(vision.image_mean)) / np.float32(vision.image_std)
        return mx.array(x)

    def _frames(self, part: dict[str, Any]) -> _Shown:
        clip = self.open_video(
            part["video"], part.get("frames"), part.get("start"), part.get("end")
        )
        return _Shown(clip.frames, False, clip)

    def open_video(
        self,
        source: str | Path | Clip,
        frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
        together: bool = True,
    ) -> Clip:
        """`frames` of a video, or as many as the model's configuration says, from
        between `start` and `end`, in seconds. A Clip stays what it is. What the model
        sees of a frame is all that is kept in memory: see `video.Frame`.

        together: all in one prompt. Raises UserError; for more frames than the context
        holds then, before anything is read.
        """
        if isinstance(source, Clip):
            return source
        wanted = self.config.prompt.video_frames if frames is None else frames
        if type(wanted) is not int or wanted < 1:
            raise PromptError(
                f"frames is {wanted!r}; it must be at least 1, a whole number"
            )
        each = self.config.connector_config.num_visual_tokens
        limit = self.config.text_config.max_position_embeddings
        most = (limit - 1) // each
        if together and wanted > most:
            raise PromptError(
                f"{wanted} video frames of {each} tokens are {wanted * each} tokens; "
                f"the model's context is {limit}: ask for fewer, at most {most} "
                "(--frames)"
            )
        return read_clip(source, wanted, start, end, OneView(self.config.tiling))

    def _check_length(self, prepared: Prepared) -> None:
        length = len(prepared.ids)
        limit = self.config.text_config.max_position_embeddings
        if length < limit:
            return
        visual = sum(t.tokens for t in prepared.images)
        frames = sum(len(v.times) for v in prepared.videos)
        pictures = len(prepared.images) - frames
        named = [
            f"{n} {what}{'s' * (n > 1)}"
            for n, what in ((pictures, "picture"), (frames, "video frame"))
            if n
        ]
        less = ["fewer frames (--frames)"] * bool(frames)
        less += ["fewer pictures"] * bool(pictures)
        split = any(len(t.tiling.indices) > 1 for t in prepared.images)
        less += ["less splitting (--split-last, the app's settings)"] * split
        less += ["a shorter text"]
        share = f", {visual} of them for {' and '.join(named)}" if named else ""
        raise PromptError(
            f"the prompt has {length} tokens{share}; the model's context is {limit}: "
            f"use {' or '.join(less)}"
        )

    def _turns(
        self, messages: list[Message], shown: list[_Shown]
    ) -> tuple[list[Turn], int]:
        """The turns, and the picture that the last of them is about.

        Markup without a number is about the first picture of its own message, or of the
        last message before it that has any.
        """
        sizes = [p.size for s in shown for p in s.pictures]
        turns: list[Turn] = []
        index = subject = 0
        rest = iter(shown)
        for message in messages:
            content: Content = []
            parts = content_parts(message)
            if any(p["type"] != "text" for p in parts):
                subject = index
            about = self.config.coordinates, subject, message.get(FIRST, 0)
            for part in parts:
                if isinstance(part.get("text"), Template):
                    content.append(part["text"])
                    continue
                if part["type"] == "text":
                    content += split_regions(part["text"], sizes, *about)
                    continue
                end = index + len(next(rest).pictures)
                content += [ImageSlot(k) for k in range(index, end)]
                index = end
            turns.append(Turn(message["role"], content))
        return turns, subject


def content_parts(message: Message) -> list[dict[str, Any]]:
    """What a message holds, part by part, checked; raises PromptError."""
    content = message["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list | tuple):
        raise PromptError(f"{content!r} is not the content of a message: text or parts")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "image", "video"):
            raise PromptError(
                f"{part!r} is not a content part: type must be text, image or video"
            )
        if kind == "text" and not isinstance(part.get("text"), str | Template):
            raise PromptError(f"{part!r} is a text part without its text")
        if kind == "video" and not isinstance(part.get("video"), str | Path | Clip):
            raise PromptError(f"{part!r} is a video part without its video: a path")
    return list(content)


def _placed(message: Message, images: Sequence[ImageLike]) -> list[dict[str, Any]]:
    """The parts of a message; a user's string has places of `images`, if there are."""
    text = message["content"]
    asked = images and message["role"] == "user" and isinstance(text, str)
    if not asked or PICTURE not in text:
        return content_parts(message)
    parts = interleaved(text, [None] * text.count(PICTURE))
    return [{"type": "image"} if p["type"] == "image" else p for p in parts]


def with_pictures(prompt: Prompt, images: Sequence[ImageLike] = ()) -> list[Message]:
    """A prompt as messages in which every picture stands in its place.

    In a string, `<image>` is the place of one, in a text part mere text. A part may
    name its own picture, `{"type": "image", "image": "a.png"}`; the others take theirs
    from `images`. Without any place, pictures begin the first question. Raises
    PromptError.
    """
    if isinstance(images, str | Path | Image.Image | Picture):
        raise PromptError("images is one picture, not a list; put it in brackets")
    if isinstance(prompt, str):
        if not prompt.strip():
            raise PromptError("the prompt is empty; ask something")
        return [{"role": "user", "content": interleaved(prompt, images)}]
    messages = list(prompt)
    if not messages:
        raise PromptError("the conversation is empty; give at least one message")
    for m in messages:
        if not isinstance(m, dict) or "role" not in m or "content" not in m:
            raise PromptError(f"{m!r} is not a message: it needs role and content")
    found = [_placed(m, images) for m in messages]
    places = [p for parts in found for p in parts if p["type"] == "image"]
    unnamed = sum("image" not in p for p in places)
    if places and unnamed != len(images):
        raise PromptError(
            f"the conversation has {unnamed} image placeholders "
            f"for {len(images)} pictures"
        )
    rest = iter(images)
    if not places and images:
        users = [k for k, m in enumerate(messages) if m["role"] == "user"]
        if not users:
            raise PromptError("pictures need a message of the role user")
        found[users[0]][:0] = [{"type": "image"} for _ in images]
    return [
        {**m, "content": [
            {**p, "image": next(rest)} if p["type"] == "image" and "image" not in p
            else p
            for p in parts
        ]}
        for m, parts in zip(messages, found, strict=True)
    ]  # fmt: skip
