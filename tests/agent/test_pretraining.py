"""Runs: interrupted and not, they end equal; what they leave; where weights come from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_samples import largest_difference, tiny_config, write_models

from agent.config import AgentConfig, TrainConfig
from agent.learning.config import PpoConfig
from agent.policy.config import PolicyConfig
from agent.policy.network import Policy
from agent.runs.checkpoint import load_checkpoint
from agent.runs.policy_file import CheckpointError
from agent.runs.tracking.jsonl import JsonLines, read_lines
from agent.runs.tracking.tracker import Silent
from agent.training.best import Best
from agent.training.loop import Pretraining, pretrain
from agent.training.phases import Phase, PhaseName, phase_of
from agent.training.starts import Starts
from agent.training.validation import PROPOSALS, SEARCH, Validation, _pairs, propose
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


@pytest.mark.slow
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
    assert [line["step"] for line in looks] == [0, 2, 4, 5]
    assert all(np.isfinite(list(line["figures"].values())).all() for line in rounds)
    tables = [line for line in lines if line.get("table") == "validation/graphs"]
    assert [line["step"] for line in tables] == [0, 2, 4, 5]
    for look, table in zip(looks, tables, strict=True):
        assert look["figures"]["validation/ratio"] == pytest.approx(table["rows"][0]["ratio"])
    assert {line["picture"] for line in lines if "picture" in line} == {
        "plan/gantt", "plan/placement",
    }  # fmt: skip
    figures = [look["figures"] for look in looks]
    for one in figures:  # a line to read each curve against
        for name in ("ratio", "search_ratio", "proposals_ratio"):
            assert one[f"validation/untrained_{name}"] == figures[0][f"validation/{name}"]
        better = min(one["validation/search_ratio"], one["validation/proposals_ratio"])
        assert one["validation/ratio"] == pytest.approx(better)  # of the one graph
    kept = load_checkpoint(whole / "best").about["best"]
    # The first rounds are the small network's, so that the large one had learned from the third on.
    assert kept["small"] == min(one["validation/search_ratio"] for one in figures[1:])
    assert kept["large"] == min(one["validation/proposals_ratio"] for one in figures[1:])


def test_the_best_policy_has_each_network_as_it_did_best_by_its_own_measure() -> None:
    agent = AgentConfig(policy=PolicyConfig(width=16, heads=2, pair_width=8))
    policies = []
    for seed in range(5):
        torch.manual_seed(seed)
        policies.append(Policy(agent.policy))
    best = Best(agent)

    def holds(small: int, large: int) -> bool:
        assert best.policy is not None
        return all(
            torch.equal(
                value, policies[small if name.startswith("moves.") else large].state_dict()[name]
            )
            for name, value in best.policy.state_dict().items()
        )

    def offer(number: int, search: float, proposals: float, *learned: str) -> bool:
        figures = {"validation/search_ratio": search, "validation/proposals_ratio": proposals}
        return best.offer(policies[number], figures, learned)

    assert best.policy is None
    assert not best.offer(policies[0], {}, ("small",))
    assert best.policy is None
    offer(0, 0.9, 0.8)  # nothing has learned: there to compare with
    assert holds(0, 0)
    assert offer(1, 0.95, 0.8, "small")  # worse than untrained, but it has learned
    assert holds(1, 1)
    assert offer(2, 0.85, 0.99, "small", "large")
    assert holds(2, 2)
    assert not offer(3, 0.85, 0.99, "small", "large")  # as good: the later one
    assert holds(3, 3)
    assert offer(4, 0.86, 0.97, "small", "large")
    assert holds(3, 4)
    assert best.ratios == {"small": 0.85, "large": 0.97}


def test_the_large_network_of_the_best_policy_has_learned(models: Path, tmp_path: Path) -> None:
    short = tiny_config(models, rounds=4)
    pretrain(replace(short, move_share=0.25, outcome_share=0.75), tmp_path, Silent())
    torch.manual_seed(short.seed)
    begun = Policy(short.agent.policy).state_dict()
    kept = load_checkpoint(tmp_path / "best").policy.state_dict()
    assert any(
        not torch.equal(value, begun[name])
        for name, value in kept.items()
        if not name.startswith("moves.")
    )


def test_a_change_of_either_network_is_seen_by_its_own_measure_alone(config: TrainConfig) -> None:
    episode = replace(config.agent.episode, from_scratch=True)  # proposals are plans of their own
    changed = replace(config, agent=replace(config.agent, episode=episode))
    validation = Validation(changed, Workers())
    torch.manual_seed(0)
    policy = Policy(config.agent.policy)
    first = validation.look(policy)
    with torch.no_grad():
        for name, value in policy.named_parameters():
            if not name.startswith("moves."):
                value.mul_(-3.0)
    second = validation.look(policy)
    assert second.by_measure[SEARCH] is first.by_measure[SEARCH]
    assert second.by_measure[PROPOSALS] is not first.by_measure[PROPOSALS]
    assert second.by_measure[PROPOSALS][0].plan != first.by_measure[PROPOSALS][0].plan


def test_workers_share_the_graphs_of_a_validation(config: TrainConfig) -> None:
    several = replace(config, validation_graphs=2)
    torch.manual_seed(0)
    policy = Policy(config.agent.policy)
    alone = Validation(several, Workers()).look(policy)
    looked: list[int] = []

    class Half(Workers):
        def gather_items(self, items: Sequence[Any]) -> list[Any]:
            looked.extend(number for number, _ in items)
            return list(items)

    for rank in (0, 1):
        half = Validation(several, Half(rank, 2))
        half.pairs = alone.pairs
        found = half._measured(policy, PROPOSALS, propose)
        assert found[0].log == alone.by_measure[PROPOSALS][rank].log
    assert looked == [0, 1]


def test_each_phase_begins_at_its_full_learning_rate_and_ends_low(config: TrainConfig) -> None:
    long = replace(config, rounds=100, move_share=0.5, outcome_share=0.4)
    phases = [phase_of(long, number) for number in range(100)]
    assert [str(phases[number].name) for number in (0, 49, 50, 89, 90, 99)] == [
        "moves", "moves", "outcomes", "outcomes", "policy", "policy",
    ]  # fmt: skip
    assert [phases[number].progress for number in (0, 50, 90)] == pytest.approx([0, 0, 0])
    assert [phases[number].progress for number in (49, 89, 99)] == pytest.approx([0.98, 0.975, 0.9])
    tasks = replace(config.agent.policy, tasks=("placement", "scheduling"))
    other = replace(long, agent=replace(config.agent, policy=tasks))
    assert phase_of(other, 10) == Phase(PhaseName.POLICY, 0.1)
    run = Pretraining(long, Workers())
    assert run._rate(phases[90]) == config.agent.ppo.lr
    assert run._rate(phases[99]) < 0.2 * config.agent.ppo.lr


def test_more_rounds_do_not_raise_the_learning_rate_again(
    config: TrainConfig, whole: Path, tmp_path: Path
) -> None:
    rates = [
        line["figures"]["lr"] for line in told(whole) if "loss" in line.get("figures", {})
    ]  # of policy gradients
    longer = JsonLines(tmp_path)
    pretrain(replace(config, rounds=8), tmp_path, longer, resume=whole / "checkpoint")
    longer.close()
    after = [line["figures"] for line in told(tmp_path) if "lr" in line.get("figures", {})]
    assert len(after) == 3
    lasting = {"loss": rates[-1]}
    for figures in after:
        for name, least in lasting.items():
            if name in figures:
                assert figures["lr"] <= least


@pytest.mark.slow
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


def test_a_batch_of_single_devices_does_not_drift_by_the_moments_of_earlier_ones(
    config: TrainConfig,
) -> None:
    run = Pretraining(replace(config, move_share=0.0, outcome_share=1.0), Workers())
    start = {name: value.clone() for name, value in run.policy.state_dict().items()}
    run.run_round()
    before = {name: value.clone() for name, value in run.policy.state_dict().items()}
    assert any(not torch.equal(value, start[name]) for name, value in before.items())
    run.starts = Starts(replace(config, clusters=("1xa100-pcie@16GiB",)))
    run.run_round()
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
