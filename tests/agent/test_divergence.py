"""A training whose loss is not finite ends, and never writes what came of it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from agent.cli.app import run
from agent.learning.gradients import DivergedError, clip_gradients
from agent.runs.stored_policy import require_finite
from graphs.errors import GraphwrightError


def test_gradients_are_scaled_down_and_their_norm_is_told() -> None:
    layer = nn.Linear(1, 1)
    layer.weight.grad, layer.bias.grad = torch.full((1, 1), 3.0), torch.full((1,), 4.0)
    assert clip_gradients(layer.parameters(), 1.0) == pytest.approx(5.0)
    assert layer.bias.grad is not None
    assert float(layer.bias.grad) == pytest.approx(0.8, rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_end_a_training(value: float) -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[1.0, value]])
    with pytest.raises(DivergedError, match="lower learning rate"):
        clip_gradients(layer.parameters(), 1.0)


def test_weights_of_whole_numbers_may_be_anything() -> None:
    require_finite({"count": torch.tensor([1 << 40]), "weight": torch.ones(2)})
    with pytest.raises(GraphwrightError, match="weights of weight are not finite"):
        require_finite({"count": torch.ones(1), "weight": torch.tensor([float("nan")])})


def test_a_run_that_diverges_says_so_and_keeps_no_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--rounds", "3", "--max-ops", "800", "--validate-every", "9", "--validation-graphs", "1",
        "--graphs-per-batch", "1", "--track", "none", "--moves.lr", "1e30",
    ]  # fmt: skip
    assert run(["train", *flags, "--out", str(tmp_path / "run")]) == 2
    assert "training diverged" in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*.safetensors"))
