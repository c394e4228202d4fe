"""The page of `mm15-mlx app`: layout and wiring. What happens is in page.py.

Gradio is imported when the app starts, with its analytics off; nothing is sent
anywhere, and no file of this machine can be read through it but what was uploaded.
"""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mm15_mlx.apps.page import Asking, Choices, Page, Shown
from mm15_mlx.apps.pictures import MAX_BYTES
from mm15_mlx.apps.sessions import USERS
from mm15_mlx.apps.settings import OWN
from mm15_mlx.apps.state import Conversation
from mm15_mlx.apps.tasks import TASKS
from mm15_mlx.apps.worker import Choice, Worker
from mm15_mlx.config import UserError

HERE = Path(__file__).parent
START_S = 60.0  # until the page answers; not published: our choice
# Above this Gradio stops reading, in words of its own; our limit is told in a line.
READ_BYTES = 5 * MAX_BYTES
MISSING = "app needs gradio: pip install 'mm15-mlx[app]'"
TITLE = (
    '<div class="mm-top"><h1>mm15-mlx</h1><p>Drop a screenshot, point at it, ask. '
    "Nothing leaves this machine.</p></div>"
)


def build(page: Page) -> Any:
    """The gr.Blocks. Each handler's result names the components that it changes; whose
    conversation it is about is told by the request."""
    gr = _gradio()
    models = list(page.worker.choices)
    first = page.everything(Conversation(), Asking(model=models[0]))
    made: dict[str, Any] = {}
    with gr.Blocks(title="mm15-mlx", analytics_enabled=False, fill_width=True,
                   delete_cache=(600, 600)) as blocks:  # fmt: skip
        with gr.Column(elem_id="mm-app"):
            gr.HTML(TITLE)
            with gr.Row():
                with gr.Column(scale=5, min_width=320):
                    _pictures(gr, made, first)
                with gr.Column(scale=5, min_width=320):
                    _asking(gr, made, first)
                    _more(gr, made, first, models, page)
        _wire(gr, made, page)

        def left(request: gr.Request) -> None:
            page.sessions.close(request.session_hash)
            # What Gradio keeps of a tab: the HTML of its pictures.
            blocks.state_holder.session_data.pop(request.session_hash, None)

        blocks.unload(left)
    return blocks


def _pictures(gr: Any, made: dict[str, Any], first: Shown) -> None:
    made["drop"] = gr.File(
        label="Drop, paste or pick screenshots", file_count="multiple",
        elem_id="mm-drop", height=140,
    )  # fmt: skip
    made["strip"] = gr.HTML(first["strip"], js_on_load=_text("buttons.js"))
    made["view"] = gr.HTML(
        first["view"], elem_id="mm-view",
        js_on_load=_text("viewer.js") + _text("correct.js"),
    )  # fmt: skip
    with gr.Row():
        made["mode"] = gr.Radio(
            ["Click or drag", "Box by two clicks"], value="Click or drag",
            label="Point at the picture", elem_id="mm-mode", min_width=200, scale=3,
        )  # fmt: skip
        made["unpoint"] = gr.Button(
            "Forget the place", scale=1, min_width=120, elem_id="mm-unpoint"
        )


def _asking(gr: Any, made: dict[str, Any], first: Shown) -> None:
    made["talk"] = gr.HTML(
        first["talk"], elem_id="mm-talk", max_height=420,
        js_on_load=_text("buttons.js"),
    )  # fmt: skip
    made["status"] = gr.HTML(first["status"], elem_id="mm-status")
    made["question"] = gr.Textbox(
        label="Question", placeholder="Where is the Wi-Fi switch?", lines=1,
        max_lines=4, elem_id="mm-question", autofocus=True,
    )  # fmt: skip
    with gr.Row():
        made["ask"] = gr.Button(
            "Ask", variant="primary", elem_id="mm-ask", min_width=90
        )
        made["stop"] = gr.Button("Stop", elem_id="mm-stop", min_width=90)
        made["clear"] = gr.Button("Start over", elem_id="mm-clear", min_width=90)
    gr.HTML('<p class="mm-status">Tasks, with the prompt that each sends:</p>')
    for start in range(0, len(TASKS), 2):
        with gr.Row():
            for k in range(start, min(start + 2, len(TASKS))):
                made[f"task{k}"] = gr.Button(
                    first[f"task{k}"], elem_id=f"mm-task{k}", elem_classes="mm-task",
                    min_width=150,
                )  # fmt: skip


def _more(
    gr: Any, made: dict[str, Any], first: Shown, models: list[str], page: Page
) -> None:
    with gr.Accordion("Settings", open=False, elem_id="mm-settings"):
        made["model"] = gr.Dropdown(models, value=models[0], label="Model")
        made["temp"] = gr.Slider(0, 2, 0, step=0.1, label="Temperature (0: greedy)")
        made["max_tokens"] = gr.Slider(
            1, 2048, 256, step=1, label="Longest answer, in tokens"
        )
        made["split"] = gr.Dropdown(
            page.splittings(models[0]), value=OWN, label="Image splitting",
            info="More tiles show more detail, and take more time and memory. Of its "
            "own accord a model may leave several pictures whole.",
        )  # fmt: skip
        made["tiles"] = gr.Checkbox(False, label="Draw the tiles over the picture")
        made["every"] = gr.Checkbox(False, label="Ask about all pictures at once")
        made["history"] = gr.Checkbox(True, label="Send the questions before along")
    with gr.Accordion("Look inside", open=False, elem_id="mm-inside"):
        made["inside"] = gr.HTML(first["inside"])
    with gr.Accordion("Export", open=False, elem_id="mm-export") as made["export"]:
        made["links"] = gr.HTML()
        for name, label in (("command", "As a command"), ("python", "As Python")):
            made[name] = gr.Textbox(
                label=label, interactive=False, buttons=["copy"], lines=2,
                elem_classes="mm-code",
            )  # fmt: skip
    with gr.Accordion("Save as a training row", open=False, elem_id="mm-row"):
        made["answer"] = gr.Textbox(
            label="The right answer", lines=2, info="Places are pixels: "
            "`<box>x1,y1,x2,y2</box>`, `<point>x,y</point>`.",
        )  # fmt: skip
        made["correct"] = gr.Checkbox(
            False, label="Correct its places on the picture",
            info="Drag a corner, an edge or the whole box; drag elsewhere to draw it "
            "anew. Arrow keys move it, with Shift its lower right corner.",
        )  # fmt: skip
        where = (
            f"Add to {page.rows / 'train.jsonl'}" if page.rows else "Add to a data set"
        )
        made["save"] = gr.Button(where)
        made["saved"] = gr.HTML()


def _wire(gr: Any, made: dict[str, Any], page: Page) -> None:
    sessions = page.sessions
    form = [made[n] for n in _FORM]
    keys = [k for k in made if k in _SHOWN or k.startswith("task")]
    outputs = [made[k] for k in keys]

    def shown(values: Shown) -> list[Any]:
        """Updates, each of them: a plain value after one makes Gradio keep another copy
        of the component, value and all, as long as the session lives."""
        return [updated(values[k]) if k in values else gr.skip() for k in keys]

    def updated(value: Any) -> dict[str, Any]:
        if isinstance(value, Choices):
            return gr.update(choices=value.pairs, value=value.value)
        return gr.update(value=value)

    def on(
        listen: Callable[..., Any], do: Callable[..., Shown], inputs: Sequence[Any] = ()
    ) -> None:
        def handle(request: gr.Request, *values: Any) -> list[Any]:
            return shown(do(sessions.of(request.session_hash), *values))

        # Of keys that come faster than the answers, the last one counts.
        listen(handle, [*form, *inputs], outputs, trigger_mode="always_last", **_QUIET)

    def on_place(listen: Callable[..., Any], do: Callable[..., Shown]) -> None:
        """`do` gets what the page's own scripts sent; anything may have been."""

        def handle(
            request: gr.Request, event: gr.EventData, mode: str, *values: Any
        ) -> list[Any]:
            sent = event._data if isinstance(event._data, dict) else {}
            mine = sessions.of(request.session_hash)
            return shown(do(mine, sent, mode, Asking.of(values)))

        listen(handle, [made["mode"], *form], outputs, **_QUIET)

    def stream(listen: Callable[..., Any], do: Callable[..., Iterator[Shown]]) -> None:
        def handle(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
            mine = sessions.of(request.session_hash)
            for values_ in do(mine, Asking.of(values)):
                yield shown(values_)

        listen(handle, form, outputs, concurrency_limit=None, **_QUIET)

    def stop(request: gr.Request) -> None:
        sessions.of(request.session_hash).stop()

    def uploaded(c: Conversation, *values: Any) -> Shown:
        *asked, files = values
        named = [(Path(f), Path(f).name) for f in files or []]
        result = page.upload(c, named, Asking.of(asked)) | {"drop": None}
        for path, _ in named:  # gradio has checked that they are uploads
            path.unlink(missing_ok=True)
        return result

    on(made["drop"].upload, uploaded, [made["drop"]])
    on_place(made["strip"].show, lambda c, sent, mode, f: page.change(
        c, lambda: c.show(_whole(sent)), f))  # fmt: skip
    on_place(made["strip"].example, lambda c, sent, mode, f: page.example(
        c, max(_whole(sent), 0), f))  # fmt: skip
    on_place(made["view"].region, lambda c, sent, mode, f: page.change(
        c, lambda: c.point(sent.get("px", ()), mode.startswith("Box")), f))  # fmt: skip
    on_place(made["view"].pick, lambda c, sent, mode, f: page.change(
        c, lambda: c.pick(_whole(sent)), f))  # fmt: skip
    on_place(made["view"].correct, lambda c, sent, mode, f: page.correct(c, sent, f))
    on_place(made["talk"].turn, lambda c, sent, mode, f: page.change(
        c, lambda: c.choose(_whole(sent)), f))  # fmt: skip
    on(made["unpoint"].click, lambda c, *v: page.change(c, c.unpoint, Asking.of(v)))
    on(made["clear"].click, lambda c, *v: page.change(c, c.clear, Asking.of(v)))
    on(made["model"].input, lambda c, *v: page.switch(c, Asking.of(v)))
    for name in ("tiles", "split", "every", "correct"):
        on(made[name].input, lambda c, *v: page.change(c, lambda: None, Asking.of(v)))
    stream(made["ask"].click, page.ask)
    stream(made["question"].submit, page.ask)
    for k in range(len(TASKS)):
        stream(made[f"task{k}"].click, lambda c, f, k=k: page.press(c, k, f))
    made["stop"].click(stop, queue=False, **_QUIET)
    on(made["export"].expand, lambda c, *_: page.take(c))
    # Gradio has `input` for keys alone: what was pasted is seen on leaving the field.
    for listen in (made["question"].input, made["question"].blur):
        on(listen, lambda c, *v: page.prompts(c, v[0] or ""))
    for listen in (made["answer"].input, made["answer"].blur):
        on(listen, lambda c, *v: page.write(c, v[-1] or "", Asking.of(v[:-1])),
           [made["answer"]])  # fmt: skip
    on(made["save"].click, lambda c, *v: page.save(c, v[-1] or ""), [made["answer"]])


_FORM = (  # the fields of Asking
    "question", "model", "every", "history", "tiles", "temp", "max_tokens", "split",
    "correct",
)  # fmt: skip
_SHOWN = (
    "drop", "strip", "view", "talk", "status", "question", "inside", "answer", "links",
    "command", "python", "saved", "split",
)  # fmt: skip
_QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def _whole(sent: dict[str, Any]) -> int:
    k = sent.get("k")
    return k if isinstance(k, int) else -1


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
    try:
        import gradio
    except ModuleNotFoundError as e:
        raise UserError(MISSING) from e
    return gradio


def check_port(host: str, port: int) -> None:
    """Raises UserError where nothing can listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((host, port))
    except (OSError, OverflowError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise UserError(
            f"cannot listen on {host} port {port}: {reason}; give another --port"
        ) from e


def launch(page: Page, host: str, port: int) -> Any:
    """Start to serve, in threads; the gr.Blocks, to be closed. Raises UserError where
    the page cannot be reached."""
    blocks = build(page)
    blocks.queue(max_size=256, api_open=False)
    try:
        with _direct():
            blocks.launch(
                server_name=_in_url(host), server_port=port, share=False, quiet=True,
                inbrowser=False, prevent_thread_lock=True, show_error=False,
                allowed_paths=[], footer_links=[], max_file_size=READ_BYTES,
                state_session_capacity=USERS, ssr_mode=False, pwa=False,
                enable_monitoring=False, mcp_server=False, css=_text("page.css"),
                theme=_gradio().themes.Default(primary_hue="blue"),
            )  # fmt: skip
    except BaseException as e:
        # Gradio waits three seconds for its own page; a busy machine is slower.
        slow = isinstance(e, ValueError) and blocks.is_running
        if slow and answers(blocks.local_url):
            return blocks
        blocks.close(verbose=False)
        if not isinstance(e, Exception):
            raise
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise UserError(
            f"the page at {host} port {port} cannot be reached from this machine "
            f"({reason}): look at its proxy and firewall settings, or give another "
            "--host or --port"
        ) from e
    return blocks


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _direct() -> Iterator[None]:
    """Gradio asks its own server whether it is there; no proxy is to be asked that."""
    names = ("no_proxy", "NO_PROXY")
    before = {n: os.environ.get(n) for n in names}
    os.environ.update(dict.fromkeys(names, "*"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def answers(url: str, patience: float = START_S) -> bool:
    """Whether something answers there within so many seconds."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + patience
    while (left := until - time.monotonic()) > 0:
        try:
            with direct.open(url, timeout=left):
                return True
        except (OSError, ValueError):
            time.sleep(min(0.5, left))
    return False


def run(choices: Sequence[Choice], host: str, port: int, rows: Path | None) -> None:
    """`mm15-mlx app`: serves until Ctrl-C."""
    _gradio()
    check_port(host, port)
    if rows and rows.exists() and not rows.is_dir():
        raise UserError(f"--rows {rows} is a file; name a folder")
    worker = Worker(choices)
    with contextlib.ExitStack() as ending:
        ending.callback(worker.close)
        folder = tempfile.TemporaryDirectory(prefix="mm15-mlx-app-")
        # uploads end with the program
        os.environ["GRADIO_TEMP_DIR"] = ending.enter_context(folder)
        blocks = launch(Page(worker, rows), host, port)
        ending.callback(blocks.close, verbose=False)
        print(f"http://{_in_url(host)}:{port}/ (Ctrl-C ends)", file=sys.stderr)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
        threading.Event().wait()
