"""A conversation without any model, for the tests of the app."""

from pathlib import Path
from typing import Any

from mm15_mlx.apps.state import Conversation, Turn
from mm15_mlx.grounding import Box

BOX = Box("download icon", 0, (12.0, 40.0, 72.0, 140.0), (100, 200, 600, 700))
ANSWER = "[100, 200, 600, 700]"


def document(text: str, reason: str = "stop") -> dict[str, Any]:
    return {
        "text": text,
        "finish_reason": reason,
        "usage": {"prompt_tokens": 9, "image_tokens": 5, "generated_tokens": 7},
        "timings": {
            "load_s": 0.1, "encode_s": 0.0, "prefill_s": 0.2, "first_token_s": 0.25,
            "decode_tokens_per_s": 70.4,
        },
        "peak_memory_bytes": 121_000_000,
    }  # fmt: skip


def turn(question: str = "Where is the download icon?", **changes: Any) -> Turn:
    made: dict[str, Any] = {
        "question": question, "scope": (0,), "model": "nano-ui", "answer": ANSWER,
        "marked": "<box>12,40,72,140</box>", "boxes": (BOX,),
        "document": document(ANSWER),
    }  # fmt: skip
    return Turn(**made | changes)


def talk(screen: Path, *turns: Turn, pictures: int = 1) -> Conversation:
    """`screen`, 120 × 200 pixels, opened so many times."""
    conversation = Conversation()
    for k in range(pictures):
        conversation.add(screen, f"screen{k or ''}.png")
    conversation.turns += turns
    conversation.show(0)
    return conversation
