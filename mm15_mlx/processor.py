"""Questions and pictures → what the model is called with.

Pictures may be paths, PIL images or uint8 arrays; a prompt is a string or a list of
`{"role", "content"}` whose content is a string or parts `{"type": "text" | "image"}`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from mm15_mlx.config import ModelConfig
from mm15_mlx.grounding import split_regions
from mm15_mlx.images import ImageLike, Picture, load_picture
from mm15_mlx.memory import Memory
from mm15_mlx.prompt import Content, ImageSlot, PromptEncoder, PromptError, Turn
from mm15_mlx.tiling import NEWLINE, Tiling, cut, plan
from mm15_mlx.tokenizer import Tokenizer

Message = dict[str, Any]
Prompt = str | Sequence[Message]


@dataclass(frozen=True)
class TiledPicture:
    """A picture with its tiling; its views are cut when they are first needed."""

    picture: Picture
    tiling: Tiling
    config: ModelConfig

    @cached_property
    def views(self) -> np.ndarray:
        """uint8 (V, S, S, 3)."""
        return cut(self.picture.image, self.tiling, self.config.tiling)

    @cached_property
    def key(self) -> str:
        """A hash of the pixels and of the tiling: same key, same visual tokens."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.picture.size, self.tiling.indices)).encode())
        digest.update(self.picture.image.tobytes())
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
class Prepared:
    """A conversation as ids, and its pictures.

    `subject`: which of them the last question is about, and so the boxes in its answer:
    the first of the last message that has any.
    """

    ids: list[int]
    images: list[TiledPicture]
    subject: int = 0

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [v.picture.size for v in self.images]


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
        messages = _messages(prompt)
        if isinstance(images, str | Path | Image.Image | Picture):
            raise PromptError("images is one picture, not a list; put it in brackets")
        sources = _sources(messages, images)
        pictures = [load_picture(s) for s in sources]
        tiling = self.config.tiling
        tiled = [
            TiledPicture(p, plan(*p.size, tiling, len(pictures)), self.config)
            for p in pictures
        ]
        turns, subject = self._turns(messages, [p.size for p in pictures])
        ids = self.encoder.encode(turns, [t.tiling for t in tiled])
        limit = self.config.text_config.max_position_embeddings
        if len(ids) >= limit:
            visual = sum(t.tokens for t in tiled)
            raise PromptError(
                f"the prompt has {len(ids)} tokens, {visual} of them for pictures; the "
                f"model's context is {limit}: use fewer pictures or a shorter text"
            )
        return Prepared(ids, tiled, subject)

    def pixels(self, picture: TiledPicture) -> mx.array:
        """Normalised views (V, S, S, 3), float32."""
        vision = self.config.vision_config
        x = picture.views.astype(np.float32) / 255
        x = (x - np.float32(vision.image_mean)) / np.float32(vision.image_std)
        return mx.array(x)

    def _turns(
        self, messages: list[Message], sizes: list[tuple[int, int]]
    ) -> tuple[list[Turn], int]:
        """The turns, and the picture that the last of them is about.

        Markup without a number is about the first picture of its own message, or of the
        last message before it that has any.
        """
        coordinates = self.config.coordinates
        turns: list[Turn] = []
        index = subject = 0
        for message in messages:
            content: Content = []
            parts = _parts(message)
            if any(p["type"] == "image" for p in parts):
                subject = index
            for part in parts:
                if part["type"] == "image":
                    content.append(ImageSlot(index))
                    index += 1
                else:
                    content += split_regions(part["text"], sizes, coordinates, subject)
            turns.append(Turn(message["role"], content))
        if index == 0 and sizes:  # no placeholders: pictures come first
            first = next((t for t in turns if t.role == "user"), None)
            if first is None:
                raise PromptError("pictures need a message of the role user")
            first.content[:0] = [ImageSlot(k) for k in range(len(sizes))]
        return turns, subject


def _messages(prompt: Prompt) -> list[Message]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise PromptError("the prompt is empty; ask something")
        return [{"role": "user", "content": prompt}]
    messages = list(prompt)
    if not messages:
        raise PromptError("the conversation is empty; give at least one message")
    for m in messages:
        if not isinstance(m, dict) or "role" not in m or "content" not in m:
            raise PromptError(f"{m!r} is not a message: it needs role and content")
    return messages


def _parts(message: Message) -> list[dict[str, Any]]:
    content = message["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list | tuple):
        raise PromptError(f"{content!r} is not the content of a message: text or parts")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "video":
            raise PromptError("this version reads no video; give frames as images")
        if kind not in ("text", "image"):
            raise PromptError(
                f"{part!r} is not a content part: type must be text or image"
            )
        if kind == "text" and not isinstance(part.get("text"), str):
            raise PromptError(f"{part!r} is a text part without its text")
    return list(content)


def _sources(messages: list[Message], images: Sequence[ImageLike]) -> list[ImageLike]:
    """The pictures in the order of their placeholders.

    A part may name its own, `{"type": "image", "image": "a.png"}`; the others take
    theirs from `images`. Without any part, `images` are all there is.
    """
    parts = [p for m in messages for p in _parts(m) if p["type"] == "image"]
    if not parts:
        return list(images)
    unnamed = sum("image" not in p for p in parts)
    if unnamed != len(images):
        raise PromptError(
            f"the conversation has {unnamed} image placeholders "
            f"for {len(images)} pictures"
        )
    rest = iter(images)
    return [p["image"] if "image" in p else next(rest) for p in parts]
