"""Requests of lmms-eval, answered; against a stand-in for its base class, and against
the real one where it is installed."""

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

from mm15_mlx import lmms
from mm15_mlx.config import UserError

Answering = Callable[..., Path]


class Base:
    """As much of lmms-eval's `lmms` as a model relies on."""

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}


@pytest.fixture
def lmms_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name with the two modules that are imported."""
    api, registry = (
        types.ModuleType(f"lmms_eval.{name}")
        for name in ("api.model", "models.registry_v2")
    )
    api.lmms = Base
    registry.ModelManifest = SimpleNamespace
    for module in (api, registry):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        parent = module.__name__.rpartition(".")[0]
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, "lmms_eval", types.ModuleType("lmms_eval"))
    monkeypatch.setitem(vars(lmms), lmms.CLASS, None)  # restores what a test makes
    monkeypatch.delitem(vars(lmms), lmms.CLASS)


@pytest.fixture
def make(lmms_eval: None) -> Callable[..., Any]:
    """`make(folder, shown…)`: a model with one task of one row that shows these."""

    def build(folder: Path, *shown: Any) -> Any:
        model = getattr(lmms, lmms.CLASS)(str(folder), batch_size="1", device="cpu")
        model.task_dict["task"] = {"test": [{"shown": shown, "answer": "Yes"}]}
        return model

    return build


def request(text: str, second: Any) -> SimpleNamespace:
    """A request as lmms-eval makes it for a "simple" model."""
    return SimpleNamespace(
        args=(text, second, lambda row: list(row["shown"]), 0, "task", "test")
    )


def test_lmms_eval_finds_the_class(lmms_eval: None) -> None:
    found = lmms.manifest()
    module, _, name = found.simple_class_path.rpartition(".")
    made = getattr(sys.modules[module], name)
    assert found.model_id == "mm15_mlx"
    assert issubclass(made, Base) and made.is_simple
    assert getattr(lmms, name) is made
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        _ = lmms.Other


def test_answers_end_before_a_stop(
    make: Callable[..., Any], answering: Answering, screen: Path
) -> None:
    model = make(answering("Yes no"), Image.open(screen))
    asked = [
        request("Is it?", {"until": ["\n"], "max_new_tokens": 16, "num_beams": 1}),
        request("<image>Is it?", {"until": "no", "temperature": 0}),
        request("Is it?", {"max_new_tokens": 1, "top_p": None}),
    ]
    whole, cut, short = model.generate_until(asked)
    assert whole == "Yes no"
    assert cut == "Yes"
    assert whole.startswith(short) and short != whole


def test_pictures_may_be_paths(
    make: Callable[..., Any], answering: Answering, screen: Path
) -> None:
    model = make(answering("Yes"), str(screen), Image.open(screen))
    assert model.generate_until([request("<image> and <image>?", {})]) == ["Yes"]


def test_likelihoods_are_sums_over_tokens(
    make: Callable[..., Any], ui_folder: Path, screen: Path
) -> None:
    """The same as stepping through the model's own logits."""
    model = make(ui_folder, Image.open(screen))
    ((total, greedy),) = model.loglikelihood([request("Is it?", lambda r: r["answer"])])
    prompt = model.processor("Is it?", [screen])
    ids = model.processor.tokenizer.encode("Yes", first=False)
    assert len(ids) > 1
    expected, best = 0.0, True
    for token in ids:
        logits = model.model(**prompt)[0, -1].astype(mx.float32)
        expected += float(logits[token] - mx.logsumexp(logits))
        best = best and int(mx.argmax(logits)) == token
        prompt["input_ids"] = mx.concatenate(
            [prompt["input_ids"], mx.array([[token]])], axis=1
        )
    assert total == pytest.approx(expected, abs=1e-3)
    assert greedy == best


def test_the_smallest_of_several_choices_is_the_likeliest(
    make: Callable[..., Any], answering: Answering, screen: Path
) -> None:
    model = make(answering("Yes"), Image.open(screen))
    asked = [request("Is it?", choice) for choice in (" no", " Yes")]
    (no, no_greedy), (yes, yes_greedy) = model.loglikelihood(asked)
    assert 0 <= yes < no
    assert (no_greedy, yes_greedy) == (False, True)
    ((total, _),) = model.loglikelihood([request("Is it?", lambda row: "Yes")])
    assert total == pytest.approx(-yes, abs=1e-4)


def test_what_cannot_be_asked(make: Callable[..., Any], answering: Answering) -> None:
    folder = answering("Yes")
    model = make(folder)
    with pytest.raises(UserError, match="task, row 0: num_beams is 3; it must be 1"):
        model.generate_until([request("?", {"num_beams": 3})])
    with pytest.raises(UserError, match="task, row 0: a continuation is empty"):
        model.loglikelihood([request("?", " ")])
    with pytest.raises(
        UserError, match="one question at a time; leave out tasks of se"
    ):
        model.generate_until_multi_round([])
    with pytest.raises(
        UserError, match="task, row 0: it shows dict; mm15_mlx looks at"
    ):
        make(folder, {"array": []}).generate_until([request("?", {})])


def test_a_question_over_the_context_does_not_end_a_run(
    make: Callable[..., Any], answering: Answering, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make(answering("Yes"))
    limit = model.processor.config.text_config.max_position_embeddings
    long = request("yes " * limit, {})
    assert model.generate_until([long, request("Is it?", {})]) == ["", "Yes"]
    out, err = capsys.readouterr()
    first, last = err.splitlines()
    assert not out and re.fullmatch(
        rf"warning: task, row 0: the prompt has \d+ tokens; the model's context is "
        rf"{limit}: use a shorter text; not answered",
        first,
    )
    assert last == (
        "warning: 1 of 2 questions were not answered, which counts as wrong"
    )
    with pytest.raises(UserError, match="task, row 0: the prompt has"):
        model.generate_until([long, long])
    with pytest.raises(UserError, match="task, row 0: the prompt has"):
        model.loglikelihood([request("yes " * limit, " Yes")])


def test_with_the_real_lmms_eval(answering: Answering, screen: Path) -> None:
    """Through its own registry and the string of `--model_args`."""
    pytest.importorskip("lmms_eval")
    from lmms_eval.api.instance import Instance
    from lmms_eval.models.registry_v2 import ModelRegistryV2

    registry = ModelRegistryV2()
    registry.register_manifest(lmms.manifest())
    folder = answering("Yes")
    model = registry.get_model_class("mm15_mlx").create_from_arg_string(
        f"pretrained={folder}", {"batch_size": 1, "max_batch_size": None}
    )
    model.task_dict["task"] = {"test": [{"image": Image.open(screen)}]}
    data = {"task": "task", "doc_id": 0, "repeats": 1}

    def instance(kind: str, second: Any) -> Any:
        args = ("Is it?", second, lambda row: [row["image"]], 0, "task", "test")
        return Instance(kind, args, 0, data)

    assert model.generate_until([instance("generate_until", {})]) == ["Yes"]
    (yes, greedy), (no, _) = model.loglikelihood(
        [instance("loglikelihood", choice) for choice in (" Yes", " no")]
    )
    assert greedy and yes < no
    model.clean()
