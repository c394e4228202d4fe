"""Our models in lmms-eval, which knows hundreds of benchmarks.

    pip install lmms-eval mm15-mlx
    lmms-eval --model mm15_mlx --model_args pretrained=nano-ui --tasks docvqa_val

What this file is: lmms-eval's requests, answered. What it is not: its benchmarks, which
it fetches from the hub itself. It finds `manifest` through the entry points
`lmms_eval.models`, its documented way (0.7); nothing is imported from it before.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import mlx.core as mx
from PIL import Image

from mm15_mlx import drift
from mm15_mlx.config import UserError
from mm15_mlx.generate import generate
from mm15_mlx.load import DEFAULT_MODEL, load
from mm15_mlx.processor import Message
from mm15_mlx.prompt import PromptError, interleaved
from mm15_mlx.readers.several import placed

NAME = "mm15_mlx"
CLASS = "MM15ForLmmsEval"
MAX_TOKENS = 1024  # where a benchmark names none: what lmms-eval's own models do
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def manifest() -> Any:
    """What lmms-eval registers: the name of the model, and where its class is."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=NAME, simple_class_path=f"{__name__}.{CLASS}")


def __getattr__(name: str) -> type:
    """The class, made when lmms-eval asks for it: its base is lmms-eval's."""
    if name != CLASS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lmms_eval.api.model import lmms

    globals()[CLASS] = type(CLASS, (Requests, lmms), {"__module__": __name__})
    return globals()[CLASS]


class Requests:
    """The methods that lmms-eval calls; its base class `lmms` has the rest.

    A request's `args` are (text, options or continuation, pictures of a row, number of
    the row, task, split); the rows are in `self.task_dict[task][split]`.
    """

    is_simple = True  # text and pictures apart, not messages
    task_dict: dict[str, Any]  # lmms-eval's

    def __init__(
        self,
        pretrained: str = DEFAULT_MODEL,
        adapter_path: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        """`--model_args pretrained=…,adapter_path=…`: what `mm15-mlx --model` takes.

        The last three are given by lmms-eval to every model: requests are answered one
        by one, and MLX chooses the device. Raises UserError.
        """
        self.pretrained = pretrained  # names lmms-eval's cache of answers
        super().__init__()
        adapters = Path(adapter_path) if adapter_path else None
        self.model, self.processor = load(pretrained, adapter_path=adapters)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers, cut before any of the texts in `until`.

        A question that cannot be put to the model, as one longer than its context, is
        named on stderr and has the answer `""`, as lmms-eval's own models do: it must
        not end a run of hours. Where that is so of all, it raises UserError.
        """
        answers: list[str] = []
        lost = 0
        for request in requests:
            place = request.args[3:]
            try:
                answers.append(self._answer(request))
            except PromptError as e:
                lost += 1
                if lost == len(requests):
                    raise UserError(_named(place, e)) from e
                print(f"warning: {_named(place, e)}; not answered", file=sys.stderr)
                answers.append("")
            except UserError as e:
                raise UserError(_named(place, e)) from e
        if lost:
            print(
                f"warning: {lost} of {len(requests)} questions were not answered, "
                "which counts as wrong",
                file=sys.stderr,
            )
        return answers

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise UserError(
            f"{NAME} answers one question at a time; leave out tasks of several rounds"
        )

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """(sum of the continuation's token log-probabilities in nats, whether greedy
        decoding would say it), as lmms-eval's base class defines it.

        Of multiple choice lmms-eval takes the smallest value for the best, as its own
        models return a loss: there the sum is negated. Such a request holds its
        continuation as text, any other a function of the row.
        """
        results = []
        # the choices of a question follow one another: its pictures are encoded once
        for _, group in groupby(requests, key=lambda r: r.args[3:6]):
            results += self._likelihoods(list(group))
        return results

    def _likelihoods(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        rows, signs = [], []
        for request in requests:
            text, continuation, to_pictures, *place = request.args
            chosen = isinstance(continuation, str)
            if not chosen:
                continuation = str(continuation(self._row(place)))
            # an answer begins with its word, where lmms-eval has a space before it
            ids = self.processor.tokenizer.encode(continuation.lstrip(), first=False)
            try:
                if not ids:
                    raise UserError("a continuation is empty")
                prepared = self.processor.prepare(self._asked(text, to_pictures, place))
            except UserError as e:  # no number could stand for a likelihood
                raise UserError(_named(place, e)) from e
            rows.append(drift.Row(prepared, ids))
            signs.append(-1.0 if chosen else 1.0)
        found = drift.log_probs(self.model, self.processor, rows, {})
        return [
            (sign * total, greedy)
            for sign, (total, greedy) in zip(signs, _sums(rows, found), strict=True)
        ]

    def _answer(self, request: Any) -> str:
        text, wanted, to_pictures, *place = request.args
        if (wanted.get("num_beams") or 1) > 1:
            raise UserError(
                f"num_beams is {wanted['num_beams']}; it must be 1: no beams are kept"
            )
        result = generate(
            self.model,
            self.processor,
            self._asked(text, to_pictures, place),
            max_tokens=wanted.get("max_new_tokens") or MAX_TOKENS,
            temp=(wanted.get("temperature") or 0.0) if wanted.get("do_sample") else 0.0,
            top_p=wanted.get("top_p") or 1.0,
        )
        until = wanted.get("until") or []
        answer = result.text
        for stop in [until] if isinstance(until, str) else until:
            if stop:
                answer = answer.split(stop)[0]
        return answer.strip()

    def _row(self, place: Sequence[Any]) -> Any:
        number, task, split = place
        return self.task_dict[task][split][number]

    def _asked(
        self, text: str, to_pictures: Callable[[Any], Any], place: Sequence[Any]
    ) -> list[Message]:
        """The question as one message, with its pictures and videos."""
        images: list[Any] = []
        videos: list[str] = []
        for shown in to_pictures(self._row(place)) or []:
            if isinstance(shown, Image.Image):
                images.append(shown)
            elif isinstance(shown, str | Path):
                picture = Path(shown).suffix.casefold() in _PICTURES
                (images if picture else videos).append(str(shown))
            else:
                raise UserError(
                    f"it shows {type(shown).__name__}; {NAME} looks at pictures and "
                    "videos"
                )
        text = placed(text, len(images))
        return [{"role": "user", "content": interleaved(text, images, videos)}]


def _named(place: Sequence[Any], error: UserError) -> str:
    """What is wrong, with the question's task and row."""
    return f"{place[1]}, row {place[0]}: {error}"


def _sums(
    rows: Sequence[drift.Row], found: Sequence[mx.array]
) -> Iterator[tuple[float, bool]]:
    """The sum at each row's tokens of log-probabilities (A, V), and whether they are
    the likeliest."""
    for row, logs in zip(rows, found, strict=True):
        ids = mx.array(row.answer)
        total = mx.take_along_axis(logs, ids[:, None], axis=1).sum()
        yield float(total), bool(mx.all(mx.argmax(logs, axis=1) == ids))
