"""UI tasks as text: the prompts (after Ferret-UI) and the list of a screen's widgets.

Coordinates in the prompts are pixel markup; `grounding` puts them into model form.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mm15_mlx.config import CoordinateConfig
from mm15_mlx.grounding import Size, parse_answer

ELEMENT_TYPES = (
    "button", "link", "text", "input", "checkbox", "radio", "switch", "select", "icon",
    "image", "tab", "slider", "menuitem",
)  # fmt: skip

WIDGETS_PROMPT = "List the UI elements of this screen."
READ_PROMPT = "Read the text of this screen."
SUMMARY_PROMPT = "Provide a summary of this screenshot."


def find_text_prompt(text: str) -> str:
    return f'Where is the text "{text}"?'


def find_prompt(query: str) -> str:
    """Of an icon or a widget, by what a person would call it: `Wi-Fi switch`."""
    return f"Where is the {query}?"


def box_markup(box: Sequence[float]) -> str:
    return "<box>" + ",".join(f"{v:g}" for v in box) + "</box>"


def ocr_prompt(box: Sequence[float]) -> str:
    return f"What text is displayed in the element {box_markup(box)}?"


def widget_class_prompt(box: Sequence[float]) -> str:
    return f"What's the UI type of the widget {box_markup(box)}?"


def icon_class_prompt(box: Sequence[float]) -> str:
    return f"Identify the icon type of the widget {box_markup(box)}?"


def tappable_prompt(box: Sequence[float]) -> str:
    return f"Predict whether the UI element {box_markup(box)} is tappable."


def widget_caption_prompt(box: Sequence[float]) -> str:
    """In the words of Ferret-UI's base prompt for Widget Captioning."""
    return (
        f"For the interactive element {box_markup(box)}, "
        "provide a phrase that best describes its functionality."
    )


@dataclass(frozen=True)
class Element:
    """One line of the answer to `WIDGETS_PROMPT`."""

    type: str
    text: str
    px: tuple[float, float, float, float]
    norm: tuple[int, int, int, int]


_LINE = re.compile(r'^\s*(\w+)(?: "(.*)")?[\s:]*(\[[^\[\]]*\])\s*$')


def element_line(kind: str, text: str) -> str:
    """How an element reads before its box: `switch "Wi-Fi"`."""
    return f'{kind} "{text}"' if text else kind


def parse_elements(
    answer: str, size: Size, coordinates: CoordinateConfig | int
) -> list[Element]:
    """The elements in a model's list; lines of another form are left out."""
    elements = []
    for line in answer.splitlines():
        match = _LINE.match(line)
        if not match or match[1] not in ELEMENT_TYPES:
            continue
        boxes = parse_answer(match[3], [size], coordinates)[0]
        elements += [Element(match[1], match[2] or "", b.px, b.norm) for b in boxes]
    return elements
