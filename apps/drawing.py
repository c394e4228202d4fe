"""What the page shows, as HTML that Gradio only places, and the annotated PNG.

Everything that a user or a model wrote is escaped. Boxes are SVG in the picture's own
pixels, so that they lie right at every size; each has a number, because colours alone
do not reach everybody.
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.apps import marks
from mm15_mlx.apps.correcting import Place
from mm15_mlx.apps.linking import linked
from mm15_mlx.apps.marks import MANY, Mark, colour, places
from mm15_mlx.apps.pictures import Shot
from mm15_mlx.apps.state import Conversation, Turn
from mm15_mlx.grounding import Box
from mm15_mlx.tiling import OVERVIEW, Tiling

_KEYS = "Arrow keys aim, Shift draws a box, Enter takes the place, Escape ends."

# --- the picture -----------------------------------------------------------------


def view(
    conversation: Conversation,
    tiling: Tiling | None = None,
    editing: Sequence[Place] | None = None,
    side: int = 0,
) -> str:
    """The shown picture with what was found, the place asked about, and the tiling;
    with `editing`, places that can be put right instead of the first two.

    side: of a view's grid of visual tokens, which the tiling's captions count.
    """
    if not conversation.shots:
        return (
            '<div class="mm-empty"><b>No picture yet.</b> Drop a screenshot above, '
            "paste one, or take an example.</div>"
        )
    shot = conversation.shots[conversation.shown]
    width, height = shot.size
    found = conversation.found() if editing is None else []
    parts = [
        f'<image href="{shot.preview}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
    ]
    many = len(found) > MANY
    whole = max(width, height) / 500
    unit = whole * 5 / 8 if many else whole
    if tiling:
        parts.append(marks.tiles(tiling, shot.size, whole, side))
    parts += [marks.mark(k, m, unit, shot.size) for k, m in enumerate(found)]
    mine = [
        (k, p)
        for k, p in enumerate(editing or ())
        if p.region.picture == conversation.shown
    ]
    parts += [marks.edited(k, p.region.px, unit) for k, p in mine]
    if editing is None and conversation.corner:
        parts.append(marks.corner(conversation.corner, unit))
    elif editing is None and conversation.region:
        parts.append(marks.pointed(conversation.region.px, unit))
    edits = "" if editing is None else f'data-edits="{len(editing)}" '
    label = f"{shot.name}, {width} × {height} pixels, "
    label += f"{len(found) or len(mine)} places {'to correct' if mine else 'marked'}"
    hint = "" if edits else f'<p class="mm-hint">{_KEYS}</p>'
    return (
        f'<div class="mm-zoom" role="group" aria-label="Zoom">{hint}'
        '<button type="button" data-zoom="-1" aria-label="Smaller">−</button>'
        '<button type="button" data-zoom="1" aria-label="Larger">+</button></div>'
        '<div class="mm-frame" role="region" aria-label="The picture; scrolls">'
        f'<svg class="mm-canvas{" mm-many" * many}" viewBox="0 0 {width} {height}" '
        'role="application" tabindex="0" '
        f'data-width="{width}" data-height="{height}" '
        f"{edits}"
        f'aria-label="{escape(label)}{"" if edits else f". {_KEYS}"}">'
        f"{''.join(parts)}</svg></div>"
        f"{_table(found)}"
    )


def _table(found: Sequence[Mark]) -> str:
    """What was found, in words: rows and marks show each other."""
    if not found:
        return ""
    kinds = sorted({_kind(m.label) for m in found})
    options = "".join(f"<option>{escape(k)}</option>" for k in kinds)
    chooser = (
        '<label class="mm-filter">Show '
        '<select data-filter="" aria-label="Filter by type">'
        f'<option value="">all {len(found)}</option>{options}</select></label>'
        if len(kinds) > 1 and len(found) > 3
        else ""
    )
    rows = []
    for k, mark in enumerate(found):
        paint, ink = colour(k)
        kind, text = _kind(mark.label), _words(mark.label)
        rows.append(
            f'<tr data-k="{k}" data-kind="{escape(kind)}"><td><button type="button" '
            f'data-pick="{k}" style="background:{paint};color:{ink}" '
            f'aria-label="Ask about {k + 1}">{k + 1}</button></td>'
            f"<td>{escape(kind)}</td><td>{escape(text)}</td>"
            f"<td><code>{places(mark.px)}</code></td></tr>"
        )
    return (
        f'{chooser}<div class="mm-scroll" role="region" tabindex="0" '
        'aria-label="What was found">'
        '<table class="mm-found"><thead><tr><th>#</th><th>What</th><th>Text</th>'
        f"<th>Pixels</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


_ELEMENT = re.compile(r'(\w+)(?: "(.*)")?')


def _kind(label: str) -> str:
    match = _ELEMENT.fullmatch(label)
    return match[1] if match else label or "place"


def _words(label: str) -> str:
    match = _ELEMENT.fullmatch(label)
    return (match[2] or "") if match else ""


# --- the pictures to choose from, and the conversation ------------------------------


def strip(conversation: Conversation, examples: Sequence[Shot]) -> str:
    """Thumbnails: the user's pictures, or the examples while there are none."""
    mine = "".join(
        f'<button type="button" data-show="{k}" aria-pressed="'
        f'{"true" if k == conversation.shown else "false"}">'
        f'<img src="{s.thumbnail}" alt=""/><span>{k + 1}. {escape(s.name)}</span>'
        "</button>"
        for k, s in enumerate(conversation.shots)
    )
    more = "".join(
        f'<button type="button" data-example="{k}"><img src="{s.thumbnail}" alt="">'
        f"<span>Example: {escape(s.name)}</span></button>"
        for k, s in enumerate(() if conversation.shots else examples)
    )
    return (
        f'<div class="mm-strip" role="group" aria-label="Pictures">{mine}{more}</div>'
    )


def talk(
    conversation: Conversation, question: str = "", text: str = "", note: str = ""
) -> str:
    """The turns, and the one that is being answered: `text` is what there is of it."""
    turns = [_turn(k, t, conversation) for k, t in enumerate(conversation.turns)]
    if question:
        turns.append(
            f'<article><p class="mm-q">{escape(question)}</p><p class="mm-a" '
            f'aria-busy="true">{escape(text)}<span class="mm-caret"></span></p>'
            f"<small>{escape(note)}</small></article>"
        )
    if not turns:
        turns = ['<p class="mm-empty">Answers appear here.</p>']
    return f'<div class="mm-talk">{"".join(turns)}</div>'


def _turn(k: int, turn: Turn, conversation: Conversation) -> str:
    about = ""
    if len(conversation.shots) > 1 and turn.scope:
        numbers = ", ".join(str(k + 1) for k in turn.scope)
        about = f" · picture {numbers}"
    answer = escape(turn.answer) or "(no answer)"
    shown = turn is conversation.marking()
    if shown:
        answer = linked(turn, k, conversation.shown) or answer
    found = len(turn.boxes) + len(turn.points)
    back = ""
    if found and conversation.shots:
        places_ = f"{found} place{'s' * (found > 1)}"
        back = (
            f'<button type="button" class="mm-back" data-turn="{k}" '
            f'aria-pressed="{"true" if shown else "false"}" '
            f'aria-label="Show {places_} of answer {k + 1} on the picture">'
            f"Show {places_}</button> "
        )
    return (
        f'<article><p class="mm-q">{escape(turn.question)}</p>'
        f'<p class="mm-a">{answer}</p>'
        f"<small>{back}{escape(turn.timings + about)}</small></article>"
    )


def status(text: str, wrong: bool = False) -> str:
    """The line under the question; read out when it changes."""
    role = "alert" if wrong else "status"
    return f'<p class="mm-status" role="{role}">{escape(text)}</p>'


def inside(
    facts: dict[str, Any] | None, label: str, shot: Shot | None, tiling: Tiling | None,
    tokens: int, last: Turn | None,
) -> str:  # fmt: skip
    """Model, licence, bits; the picture's views and tokens; speed and memory."""
    rows = [("Model", label)]
    if facts:
        size = f"{facts['parameters']['total'] / 1e6:.1f} M parameters, "
        size += f"{facts['bytes'] / 1e6:.1f} MB"
        bits = 8 * facts["bytes"] / facts["parameters"]["total"]
        rows += [
            ("Size", f"{size}, {bits:.1f} bits each"),
            ("Licence", str(facts["licence"])),
            ("Source", str(facts["source"])),
        ]
    if shot and tiling:
        views = len(tiling.indices)
        whole = "with" if OVERVIEW in tiling.indices else "without"
        rows += [
            ("Picture", f"{shot.name}, {shot.size[0]} × {shot.size[1]} pixels"),
            ("Tiling", f"{tiling.grid[0]} × {tiling.grid[1]} tiles, {whole} overview"),
            ("Tokens", f"{views} views, {tokens / views:.0f} each, {tokens} in all"),
        ]
    if last and last.done:
        times = last.document["timings"]
        rows += [
            ("Encode", f"{times['encode_s']:.2f} s (0: remembered)"),
            ("Prefill", f"{times['prefill_s']:.2f} s"),
            ("Decode", f"{times['decode_tokens_per_s']:.0f} tokens/s"),
            ("Peak memory", f"{last.document['peak_memory_bytes'] / 1e6:.0f} MB"),
        ]
    cells = "".join(f"<dt>{a}</dt><dd>{escape(b)}</dd>" for a, b in rows)
    return f'<dl class="mm-facts">{cells}</dl>'


# --- the annotated PNG -------------------------------------------------------------


def annotate(picture: Image.Image, found: Sequence[Mark]) -> Image.Image:
    """A copy of the picture with numbered marks and their labels, as the page has
    them; lines lie on the very pixels of the boxes, with a white edge."""
    image = picture.convert("RGB")
    pen = ImageDraw.Draw(image)
    unit = max(1, round(max(image.size) / 500))
    font = ImageFont.load_default(size=max(10, 9 * unit))
    for k, mark in enumerate(found):
        paint, ink = colour(k)
        if isinstance(mark, Box):
            x1, y1, x2, y2 = mark.px
            edge = (x1 - unit, y1 - unit, x2 + unit, y2 + unit)
            pen.rectangle(edge, outline="white", width=3 * unit)
            pen.rectangle(mark.px, outline=paint, width=unit)
        else:
            x1, y1 = mark.px
            r = 4 * unit
            dot = (x1 - r, y1 - r, x1 + r, y1 + r)
            pen.ellipse(dot, fill=paint, outline="white", width=unit)
        text = f"{k + 1} {mark.label}".strip()
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        wide, tall = right - left + 4 * unit, bottom - top + 4 * unit
        x = max(0.0, min(x1, image.size[0] - wide))
        y = y1 - tall if y1 >= tall else y1
        pen.rectangle((x, y, x + wide, y + tall), fill=paint)
        pen.text((x + 2 * unit - left, y + 2 * unit - top), text, fill=ink, font=font)
    return image
