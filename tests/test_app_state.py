"""The app's conversation: uploads, pointing, turns, tasks. No Gradio, no model."""

import time
from pathlib import Path

import pytest
from app_data import BOX, talk, turn
from PIL import Image

from mm15_mlx.apps import pictures, state, tasks
from mm15_mlx.apps.pictures import open_upload
from mm15_mlx.apps.sessions import UNUSED_S, Sessions
from mm15_mlx.apps.settings import Settings
from mm15_mlx.apps.state import Conversation, Region, with_region
from mm15_mlx.apps.worker import Choice
from mm15_mlx.config import UserError
from mm15_mlx.grounding import Box
from mm15_mlx.screens.several import CHANGE_PROMPT

NANO = Choice("nano-ui")


def test_pictures_and_scope(screen: Path) -> None:
    conversation = talk(screen, pictures=2)
    assert [s.name for s in conversation.shots] == ["screen.png", "screen1.png"]
    assert conversation.scope(every=False) == (0,)
    conversation.show(1)
    assert conversation.scope(every=False) == (1,)
    assert conversation.scope(every=True) == (0, 1)
    assert conversation.shots[0].preview.startswith("data:image/jpeg;base64,")
    with pytest.raises(UserError, match="there is no picture 3; there are 2"):
        conversation.show(2)
    conversation.clear()
    assert conversation.scope(every=False) == () == conversation.scope(every=True)


def test_upload_limits(
    screen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = talk(screen, pictures=state.MAX_PICTURES)
    with pytest.raises(UserError, match="is one too many: a conversation takes 8"):
        conversation.add(screen, "ninth.png")
    assert len(conversation.shots) == 8
    monkeypatch.setattr(pictures, "MAX_PIXELS", 120 * 200 - 1)
    with pytest.raises(UserError, match="a.png has 0 megapixels .120 × 200.; the lim"):
        open_upload(screen, "a.png")
    monkeypatch.setattr(pictures, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="a.png has 0 MB; the limit is 0 MB: save it"):
        open_upload(screen, "a.png")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "bad.png is an empty file"),
        (b"not a picture", "bad.png is not a picture this program reads; convert"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture this program"),
    ],
)
def test_bad_uploads(tmp_path: Path, data: bytes, message: str) -> None:
    """The message has the user's name for the file, never the folder of uploads."""
    path = tmp_path / "cafebabe.png"
    path.write_bytes(data)
    conversation = Conversation()
    with pytest.raises(UserError, match=message) as caught:
        conversation.add(path, "../../etc/bad.png")
    assert str(tmp_path) not in str(caught.value)
    assert conversation.shots == []


def test_cut_short_upload(screen: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(screen.read_bytes()[:150])
    with pytest.raises(UserError, match="^half.png is damaged or cut short") as caught:
        open_upload(path, "half.png")
    assert str(path) not in str(caught.value)


def test_pointing(screen: Path) -> None:
    conversation = talk(screen)
    conversation.point([60.04, 165])
    assert conversation.region == Region(0, (60.0, 165.0))
    conversation.point([100, 180, 20, 150])  # dragged from the lower right
    assert conversation.region == Region(0, (20.0, 150.0, 100.0, 180.0))
    conversation.point([-5, -5, 500, 500])
    assert conversation.region == Region(0, (0.0, 0.0, 120.0, 200.0))
    conversation.point([20, 150], box=True)
    assert (conversation.corner, conversation.region) == ((20.0, 150.0), None)
    conversation.point([100, 180], box=True)
    assert conversation.region == Region(0, (20.0, 150.0, 100.0, 180.0))
    assert conversation.corner is None
    conversation.unpoint()
    assert conversation.region is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], "is no place: give x, y or x1, y1, x2, y2"),
        (["x", 2], "is no place"),
        ([float("nan"), 2], "is no place"),
        ([10**400, 2], "is no place"),
        ([5, 5, 5, 9], "that box is empty: its corners must differ both ways"),
    ],
)
def test_pointing_at_nothing(screen: Path, values: list, message: str) -> None:
    conversation = talk(screen)
    conversation.point([1, 2])
    with pytest.raises(UserError, match=message):
        conversation.point(values)
    assert conversation.region == Region(0, (1.0, 2.0))
    with pytest.raises(UserError, match="there is no picture yet; drop one"):
        Conversation().point([1, 2])


def test_found_things_can_be_asked_about(screen: Path) -> None:
    small = Box("switch", 0, (20.0, 50.0, 30.0, 60.0), (0, 0, 1, 1))
    conversation = talk(screen, turn(boxes=(BOX, small)), pictures=2)
    assert conversation.found() == [BOX, small]
    conversation.pick(0)
    assert conversation.region == Region(0, BOX.px) == conversation.box()
    with pytest.raises(UserError, match="nothing numbered 3 is marked on this picture"):
        conversation.pick(2)
    conversation.point([25, 55])
    assert conversation.box() == Region(0, small.px)  # the smallest around the point
    conversation.point([1, 1])
    with pytest.raises(UserError, match="no found element lies under that point"):
        conversation.box()
    asks = turn("What is <box>1,2,3,4</box>?", boxes=(), answer="icon")
    conversation.turns.append(asks)
    assert conversation.found() == [BOX, small]  # nothing of its own to show
    conversation.turns.append(turn("Where is no such thing?", boxes=(), answer="no"))
    assert conversation.found() == []
    conversation.show(1)
    with pytest.raises(UserError, match="point at something first: drag a box"):
        conversation.box()


def test_region_in_the_question() -> None:
    point, box = Region(0, (6.0, 7.5)), Region(1, (1.0, 2.0, 3.0, 4.0))
    assert with_region("What is", point, (0,)) == "What is <point>6,7.5</point>"
    asked = with_region("Is <box>1,2,3,4</box> a button?", point, (0,))
    assert asked == "Is <point>6,7.5</point> a button?"
    assert with_region(asked, None, (0,)) == "Is a button?"
    assert with_region("", box, (0, 1)) == "<box image=1>1,2,3,4</box>"


def test_turns_follow_those_about_the_same_picture(screen: Path) -> None:
    alone = turn("List", alone=True)
    empty = turn("Nothing said", answer="")
    conversation = talk(screen, turn("One?"), alone, empty, pictures=2)
    made, asked = conversation.ask("  Two\n?", (0,), NANO, False, Settings(9))
    assert (made.model, made.adapters) == ("nano-ui", None)
    assert made.question == "Two ?" and made.earlier == (
        ("One?", "[100, 200, 600, 700]"),
    )
    assert [m["role"] for m in asked] == ["user", "assistant", "user"]
    first, text = asked[0]["content"]
    assert first == {"type": "image", "image": conversation.shots[0].picture}
    assert text == {"type": "text", "text": "One?"}
    assert asked[2]["content"] == [{"type": "text", "text": "Two ?"}]
    _, asked = conversation.ask("Two?", (1,), NANO, False, Settings(9))
    assert len(asked) == 1  # the other picture's conversation
    _, asked = conversation.ask("Two?", (0, 1), NANO, True, Settings(9))
    assert [p["type"] for p in asked[0]["content"]] == ["image", "image", "text"]
    assert len(conversation.turns) == 3  # a question is no turn before its answer


def test_questions_that_are_none(screen: Path) -> None:
    conversation = talk(screen)
    with pytest.raises(UserError, match="the question is empty; write one, or press"):
        conversation.ask(" \n", (0,), NANO, False, Settings(9))
    with pytest.raises(UserError, match="has 4001 letters; the limit is 4000"):
        conversation.ask("x" * 4001, (0,), NANO, False, Settings(9))


def test_timings_say_what_was_cut() -> None:
    assert turn().timings == (
        "first token 0.25 s (picture remembered) · 7 tokens · 70 tokens/s"
    )
    for reason, words in (("stopped", "stopped by you"), ("length", "max tokens")):
        document = turn().document | {"finish_reason": reason}
        assert words in turn(document=document).timings
    assert turn(document={}).timings == ""


# --- whose conversation it is --------------------------------------------------------


class _Ticket:
    stopped = False

    def stop(self) -> None:
        self.stopped = True


def test_a_closed_tab_keeps_its_pictures_for_a_while(screen: Path) -> None:
    now = 0.0
    sessions = Sessions(grace=100, clock=lambda: now)
    mine, other = sessions.of("mine"), sessions.of("other")
    mine.add(screen, "screen.png")
    assert sessions.of("mine") is mine is not other
    mine.ticket = ticket = _Ticket()  # type: ignore[assignment]
    sessions.close("mine")
    assert ticket.stopped, "nobody reads that answer any more"
    now = 99.0
    sessions.sweep()
    assert sessions.of("mine") is mine and mine.shots  # it came back, and is open
    now = 300.0
    sessions.sweep()
    assert len(sessions) == 2
    sessions.close("mine")
    now = 401.0
    sessions.sweep()
    assert len(sessions) == 1 and mine.shots == []
    assert sessions.of("mine") is not mine and sessions.of("other") is other


def test_a_timer_drops_what_was_closed(screen: Path) -> None:
    sessions = Sessions(grace=0.01)
    sessions.of("mine").add(screen, "screen.png")
    sessions.close("mine")
    until = time.monotonic() + 30
    while len(sessions) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(sessions) == 0


def test_conversations_are_bounded(screen: Path) -> None:
    now = 0.0
    sessions = Sessions(limit=2, clock=lambda: now)
    first, second = sessions.of("1"), sessions.of("2")
    first.add(screen, "screen.png")
    second.add(screen, "screen.png")
    sessions.of("1")
    sessions.of("3")  # the one that was used longest ago goes
    assert len(sessions) == 2 and second.shots == [] != first.shots
    now = UNUSED_S + 1
    sessions.sweep()
    assert len(sessions) == 0 and first.shots == []
    assert sessions.of(None) is not sessions.of(None)  # without a name: not kept
    sessions.close(None)
    sessions.close("nobody")
    assert len(sessions) == 0


# --- tasks -------------------------------------------------------------------------

BY_LABEL = {t.label: t for t in tasks.TASKS}


def test_tasks_show_what_they_send(screen: Path) -> None:
    conversation = talk(screen)
    read = BY_LABEL["Read this"]
    assert "<box>…</box>" in tasks.shown(read, conversation, "")
    conversation.point([20, 150, 100, 180])
    sent = "What text is displayed in the element <box>20,150,100,180</box>?"
    assert tasks.shown(read, conversation, "") == sent == read.prompt(conversation, "")
    assert BY_LABEL["Tappable?"].prompt(conversation, "").endswith("is tappable.")
    assert "List the UI" in BY_LABEL["List widgets"].prompt(conversation, "")


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        ("Wi-Fi switch", "Where is the Wi-Fi switch?"),
        ('"Sign in"', 'Where is the text "Sign in"?'),
        ("Where is the menu?", "Where is the menu?"),
        ("menu <box>1,2,3,4</box>", "Where is the menu?"),
    ],
)
def test_find(screen: Path, words: str, prompt: str) -> None:
    assert BY_LABEL["Find …"].prompt(talk(screen), words) == prompt


def test_tasks_say_what_they_need(screen: Path) -> None:
    conversation = talk(screen)
    for label, message in (
        ("Find …", "write what to find into the question, such as"),
        ("Read this", "point at something first"),
        ("Compare", "comparing needs two pictures; drop another one"),
    ):
        with pytest.raises(UserError, match=message):
            BY_LABEL[label].prompt(conversation, " ")
    with pytest.raises(UserError, match="there is no picture yet"):
        BY_LABEL["Describe"].prompt(Conversation(), "")
    assert BY_LABEL["Compare"].prompt(talk(screen, pictures=2), "") == (
        CHANGE_PROMPT  # as nano-ui was trained with
    )


def test_size_of_a_large_picture_is_read_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 6_000)).save(path)
    with pytest.raises(UserError, match=r"has 60 megapixels .* the limit is 50"):
        open_upload(path, "large.png")
