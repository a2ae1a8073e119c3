"""Runs: interrupted and not, they end equal; what they leave; where weights come from."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_samples import largest_difference, tiny_config, write_models

from agent.config import TrainConfig
from agent.learning.ppo import PpoConfig
from agent.runs.checkpoint import CheckpointError, load_checkpoint
from agent.runs.tracking.jsonl import JsonLines, read_lines
from agent.runs.tracking.tracker import Silent
from agent.training.loop import Pretraining, pretrain
from agent.training.validation import _pairs
from agent.training.workers import Workers
from graphs.errors import GraphwrightError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def config(models: Path) -> TrainConfig:
    return tiny_config(models, rounds=5)


def stop_after(rounds: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= rounds


def told(folder: Path) -> list[dict[str, Any]]:
    """What a run told, but for how long it took."""
    lines = read_lines(folder)
    for line in lines:
        if "figures" in line:
            line["figures"] = {k: v for k, v in line["figures"].items() if "seconds" not in k}
    return lines


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    tracker = JsonLines(folder)
    pretrain(config, folder, tracker)
    tracker.close()
    return folder


def test_an_interrupted_run_ends_like_one_that_was_not(
    config: TrainConfig, whole: Path, tmp_path: Path
) -> None:
    tracker = JsonLines(tmp_path)
    stopped = pretrain(config, tmp_path, tracker, stop=stop_after(3))
    tracker.close()
    assert stopped.rounds == 3
    assert largest_difference(tmp_path / "checkpoint", whole / "checkpoint") > 0
    torch.manual_seed(1234)  # whatever happened to torch's own generator in between
    at = load_checkpoint(tmp_path / "checkpoint").about["round"]
    tracker = JsonLines(tmp_path, resumed_at=at)
    ended = pretrain(config, tmp_path, tracker, resume=tmp_path / "checkpoint")
    tracker.close()
    assert ended.rounds == 5
    assert largest_difference(tmp_path / "checkpoint", whole / "checkpoint") == 0.0
    assert largest_difference(tmp_path / "best", whole / "best") == 0.0
    assert told(tmp_path) == told(whole)


def test_a_killed_run_repeats_what_came_after_its_checkpoint(
    config: TrainConfig, whole: Path, tmp_path: Path
) -> None:
    class Killed(JsonLines):
        def log(self, step: int, figures: Mapping[str, float]) -> None:
            super().log(step, figures)
            if step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path, Killed(tmp_path))
    assert load_checkpoint(tmp_path / "checkpoint").about["round"] == 2
    tracker = JsonLines(tmp_path, resumed_at=2)
    pretrain(config, tmp_path, tracker, resume=tmp_path / "checkpoint")
    tracker.close()
    assert largest_difference(tmp_path / "checkpoint", whole / "checkpoint") == 0.0
    assert told(tmp_path) == told(whole)


def test_a_run_tells_every_round_and_each_look_at_validation(whole: Path) -> None:
    lines = told(whole)
    rounds = [line for line in lines if "lr" in line.get("figures", {})]
    looks = [line for line in lines if "validation/ratio" in line.get("figures", {})]
    assert [line["step"] for line in rounds] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in looks] == [2, 4, 5]
    assert all(np.isfinite(list(line["figures"].values())).all() for line in rounds)
    tables = [line for line in lines if line.get("table") == "validation/graphs"]
    assert [line["step"] for line in tables] == [2, 4, 5]
    for look, table in zip(looks, tables, strict=True):
        assert look["figures"]["validation/ratio"] == pytest.approx(table["rows"][0]["ratio"])
    assert {line["picture"] for line in lines if "picture" in line} == {
        "plan/gantt", "plan/placement",
    }  # fmt: skip
    best = load_checkpoint(whole / "best")
    ratios = [look["figures"]["validation/ratio"] for look in looks]
    assert best.about["best_validation"] == min(ratios)
    assert best.about["round"] == looks[int(np.argmin(ratios))]["step"]


def test_another_seed_ends_elsewhere(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    pretrain(replace(config, seed=1), tmp_path, Silent())
    assert largest_difference(tmp_path / "checkpoint", whole / "checkpoint") > 0


def test_a_run_may_start_from_weights(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    moves = replace(config.agent.moves, lr=0.0)
    agent = replace(config.agent, ppo=_still(config), moves=moves)
    still = replace(config, rounds=1, agent=agent)
    pretrain(still, tmp_path, Silent(), init=whole / "best")
    mine = load_checkpoint(tmp_path / "checkpoint").policy.state_dict()
    theirs = load_checkpoint(whole / "best").policy.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def _still(config: TrainConfig) -> PpoConfig:
    return replace(config.agent.ppo, lr=0.0)


def test_single_devices_are_no_validation_and_teach_nothing(config: TrainConfig) -> None:
    single, several = "1xa100-pcie@16GiB", "1xv100+1xa100-pcie"
    mixed = _pairs(config.validation_suite, (single, several), 9, 4000)
    assert [pair.cluster_ref for pair in mixed] == [several] * 2
    alone = replace(config, clusters=(single,), move_share=0.0, outcome_share=1.0)
    run = Pretraining(alone, Workers())
    before = {name: value.clone() for name, value in run.policy.state_dict().items()}
    figures = run.run_round()
    assert (figures["improving_share"], figures["outcome_loss"]) == (0.0, 0.0)
    assert all(torch.equal(value, before[n]) for n, value in run.policy.state_dict().items())


def test_what_does_not_fit_is_refused(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    policy = replace(config.agent.policy, width=32)
    wider = replace(config, agent=replace(config.agent, policy=policy))
    with pytest.raises(CheckpointError, match="built differently"):
        pretrain(wider, tmp_path, Silent(), resume=whole / "checkpoint")
    with pytest.raises(CheckpointError, match="built differently"):
        pretrain(wider, tmp_path, Silent(), init=whole / "checkpoint")
    with pytest.raises(CheckpointError, match="no state to resume from"):
        pretrain(config, tmp_path, Silent(), resume=whole / "best")
    with pytest.raises(GraphwrightError, match="no suite 'nowhere'"):
        pretrain(replace(config, suite="nowhere"), tmp_path, Silent())
    assert not any(tmp_path.iterdir())
