"""The task buttons: each is a prompt of the UI tasks, shown as it is sent."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mm15_mlx import ui
from mm15_mlx.apps.correcting import places
from mm15_mlx.apps.state import Conversation, with_region
from mm15_mlx.config import UserError

COMPARE_PROMPT = "What changed from the first screen to the second?"  # nano-ui knows it


@dataclass(frozen=True)
class Task:
    """`prompt` raises UserError where what it needs is not there yet; `shape` is what
    the button shows then."""

    label: str
    shape: str
    prompt: Callable[[Conversation, str], str]
    max_tokens: int | None = None  # where the setting is too few
    every: bool = False  # about all pictures


def shown(task: Task, conversation: Conversation, question: str) -> str:
    """The prompt that a press would send now, or its shape."""
    try:
        return task.prompt(conversation, question)
    except UserError:
        return task.shape


def _on_screen(prompt: str) -> Callable[[Conversation, str], str]:
    def make(conversation: Conversation, question: str) -> str:
        if not conversation.shots:
            raise UserError("there is no picture yet; drop one, or take an example")
        return prompt

    return make


def _in_box(
    make: Callable[[tuple[float, ...]], str],
) -> Callable[[Conversation, str], str]:
    return lambda conversation, question: make(_box(conversation, question))


def _box(conversation: Conversation, question: str) -> tuple[float, ...]:
    """The last place in the question, which may have been typed; else the one that was
    pointed at. Pixels of the shown picture."""
    numbered = "image=" in question  # among all pictures
    typed = places(question, conversation.scope(every=numbered))
    if not typed:
        return conversation.box().px
    place = typed[-1].region
    if place.picture != conversation.shown:
        raise UserError(
            f"the place in the question is on picture {place.picture + 1}, and picture "
            f"{conversation.shown + 1} is shown; choose the other one first"
        )
    return replace(conversation, region=conversation.place(place.px)).box().px


def _find(conversation: Conversation, question: str) -> str:
    """Quoted words are looked for as text, anything else by what it is called."""
    words = " ".join(with_region(question, None, ()).split())
    if not words:
        raise UserError(
            'write what to find into the question, such as Wi-Fi switch or "Sign in"'
        )
    if words.startswith("Where is the "):
        return words
    if len(words) > 2 and words[0] == words[-1] == '"':
        return ui.find_text_prompt(words[1:-1])
    return ui.find_prompt(words.rstrip("?"))


def _compare(conversation: Conversation, question: str) -> str:
    if len(conversation.shots) < 2:
        raise UserError("comparing needs two pictures; drop another one")
    return COMPARE_PROMPT


_BOX = "<box>…</box>"
TASKS = (
    Task("List widgets", ui.WIDGETS_PROMPT, _on_screen(ui.WIDGETS_PROMPT), 1500),
    Task("Describe", ui.SUMMARY_PROMPT, _on_screen(ui.SUMMARY_PROMPT)),
    Task("Find …", "Where is the …?", _find),
    Task(
        "Read this",
        f"What text is displayed in the element {_BOX}?",
        _in_box(ui.ocr_prompt),
    ),
    Task(
        "What is this?",
        f"What's the UI type of the widget {_BOX}?",
        _in_box(ui.widget_class_prompt),
    ),
    Task(
        "Which icon?",
        f"Identify the icon type of the widget {_BOX}?",
        _in_box(ui.icon_class_prompt),
    ),
    Task(
        "Tappable?",
        f"Predict whether the UI element {_BOX} is tappable.",
        _in_box(ui.tappable_prompt),
    ),
    Task("Compare", COMPARE_PROMPT, _compare, every=True),
)
