"""Two trainings side by side, whose weights become their mean now and then."""

from pathlib import Path

import pytest
import torch

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch import mates, stages
from mm15_mlx.convert.mm15_torch.sft import Trainer
from tests.parity.test_recipe import Make, make  # noqa: F401

pytestmark = pytest.mark.parity
FLAGS = "--batch 2 --questions 6 --whole --save-every 2".split()


def test_weights_become_the_mean_of_both(tmp_path: Path) -> None:
    own = {"model": {"w": torch.tensor([0.0, 4.0])}, "aids": {"a": torch.ones(1)}}
    theirs = {"model": {"w": torch.tensor([2.0, 0.0])}, "aids": {"a": torch.zeros(1)}}
    torch.save({**theirs, "heads": {}, "step": 40}, tmp_path / "mate.pt")
    mates.meet(own, tmp_path / "mate.pt", 40, 0.0)
    assert own["model"]["w"].tolist() == [1, 2] and own["aids"]["a"].tolist() == [0.5]


def test_a_mate_that_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mates, "POLL", 0.01)
    late = tmp_path / "mate.pt"
    for step in (None, 20):
        if step:
            torch.save({"step": step}, late)
        with pytest.raises(UserError, match="no checkpoint of step 40 there after 0 s"):
            mates.meet({}, late, 40, 0.05)


@torch.enable_grad()
def test_a_training_goes_on_from_the_mean(
    make: Make,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(seed: int, steps: int, mate: int | None = None) -> None:
        more = [] if mate is None else ["--mate", tmp_path / f"{mate}.pt"]
        trainer = make(*FLAGS, "--seed", seed, "--steps", steps, *more)
        trainer.args.out = tmp_path / f"{seed}.pt"
        if mate is not None:  # as one that was stopped
            trainer._load(saved(seed))
            trainer.step = 2
        for _ in stages.train(trainer):
            pass

    def saved(seed: int) -> dict:
        return torch.load(tmp_path / f"{seed}.pt", weights_only=True)

    run(0, 2)
    run(1, 2)
    begun: dict[str, torch.Tensor] = {}
    step = Trainer.train_step

    def watched(self: Trainer) -> dict[str, float]:
        if self.step == 2:
            begun.update({k: v.clone() for k, v in self.model.state_dict().items()})
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", watched)
    both = [saved(seed)["model"] for seed in (0, 1)]
    run(0, 4, mate=1)
    assert max((x - both[1][k]).abs().max() for k, x in both[0].items()) > 1e-4
    for name, weights in begun.items():
        mean = (both[0][name] + both[1][name]) / 2
        torch.testing.assert_close(weights, mean, rtol=0, atol=1e-6)
    assert saved(0)["step"] == 4


def test_running_means_go_on_with_the_training(tmp_path: Path) -> None:
    log = stages.log_of(tmp_path / "one.pt")
    rows = (
        '{"step": 20, "loss": 3.0, "seconds_per_step": 1.0}\n'
        '{"step": 40, "loss": 2.0, "seconds_per_step": 1.0}\n'
        '{"step": 60, "loss": 1.0, "seconds_per_step": 1.0}\n'
    )
    log.write_text(rows)
    assert stages.last_means(log, 50) == {"loss": 2.0}  # stopped after 60, saved at 50
    assert stages.last_means(log, 10) == {}
    assert stages.last_means(log, 0) == {}  # a training that begins
    assert stages.last_means(tmp_path / "none.jsonl", 50) == {}
