"""UI tasks as text: the prompts (after Ferret-UI) and the list of a screen's widgets.

Coordinates in the prompts are pixel markup; `grounding` puts them into model form.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mm15_mlx.config import CoordinateConfig, PromptConfig
from mm15_mlx.grounding import Box, Size, iou, places

ELEMENT_TYPES = (
    "button", "link", "text", "input", "checkbox", "radio", "switch", "select", "icon",
    "image", "tab", "slider", "menuitem",
)  # fmt: skip

REPEATED = 0.7  # IoU with one of its type: not published, our choice

WIDGETS_PROMPT = PromptConfig.widgets
READ_PROMPT = "Read the text of this screen."
SUMMARY_PROMPT = "Provide a summary of this screenshot."


def find_text_prompt(text: str) -> str:
    return find_prompt(f'text "{text}"')


def find_prompt(query: str) -> str:
    """Of an icon or a widget, by what a person would call it: `Wi-Fi switch`."""
    return PromptConfig.ground.format(query=query)


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


_HEAD = re.compile(r'\s*(\w+)(?: "(.*)")?[\s:]*')


def element_line(kind: str, text: str) -> str:
    """How an element reads before its box: `switch "Wi-Fi"`."""
    return f'{kind} "{text}"' if text else kind


def parse_elements(
    answer: str, size: Size, coordinates: CoordinateConfig | int
) -> list[Element]:
    """The elements in a model's list, in its own form of boxes: lines as `element_line`
    writes them, or tags as ScreenVLM does, whose names are the types. What has another
    form is left out, and so is what repeats an element before it."""
    elements: list[Element] = []
    for element in _listed(answer, size, coordinates):
        same = (e for e in elements if e.type == element.type)
        if all(iou(e.px, element.px) <= REPEATED for e in same):
            elements.append(element)
    return elements


def _listed(
    answer: str, size: Size, coordinates: CoordinateConfig | int
) -> Iterator[Element]:
    if isinstance(coordinates, CoordinateConfig) and coordinates.box.startswith("<"):
        for place in places(answer, [size], coordinates, 0):
            if place.tag and isinstance(place.region, Box):
                yield Element(*place.tag, place.region.px, place.region.norm)
        return
    for line in answer.splitlines():
        for place in list(places(line, [size], coordinates, 0))[-1:]:
            match = _HEAD.fullmatch(line[: place.start])
            known = match and match[1] in ELEMENT_TYPES and not place.after.strip()
            if match and known and isinstance(place.region, Box):
                px, norm = place.region.px, place.region.norm
                yield Element(match[1], match[2] or "", px, norm)
