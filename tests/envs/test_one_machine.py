"""What the policy is trained in is what the environment ids give to anybody."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from training_samples import tiny_config, write_models

import envs
from agent.baselines.doppler import DopplerPlacer
from agent.baselines.gdp import GdpPlacer
from agent.baselines.giph import GiphPlacer
from agent.baselines.hdp import HdpPlacer
from agent.baselines.placeto import PlacetoPlacer
from agent.config import TrainConfig
from agent.learning.config import SampleConfig
from agent.policy.state import EpisodeState
from agent.training.loop import Pretraining
from agent.training.workers import Workers
from envs.episodes import Episodes, Prepared, episodes_from
from envs.features.observation import Observation
from envs.rewards import REWARDS, Reward
from envs.rules import Progress, Rules, advance
from envs.scoring import Scores
from envs.tasks import Task
from placement.placer import Budget, Placer, silent
from placement.suites import get_suite

ROOT = Path(__file__).resolve().parents[2]
#: So tight that some plans fit and some do not.
CLUSTER = "2xa100+2xv100-pcie@55MiB"
IDS = {tuple(settings["tasks"]): name for name, settings in envs.IDS.items()}


@dataclass(frozen=True, eq=False)
class Step:
    """One call of the environment's rules by the agent."""

    state: EpisodeState
    actions: list[np.ndarray]
    reward: Reward
    after: list[Progress]
    scores: Scores
    seen: Observation


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """All steps that the agent takes in a test."""
    taken: list[Step] = []
    step = EpisodeState.step

    def watched(
        state: EpisodeState, actions: list[np.ndarray], reward: Reward
    ) -> tuple[list[Progress], Scores]:
        after, scores = step(state, actions, reward)
        taken.append(Step(state, actions, reward, after, scores, state.view(True).observation))
        return after, scores

    monkeypatch.setattr(EpisodeState, "step", watched)
    return taken


pytestmark = pytest.mark.usefixtures("one_thread")


def training(models: Path, **changes: Any) -> TrainConfig:
    """Three rounds, a graph each, always going on from the best sample."""
    base = tiny_config(models, rounds=3)
    agent = replace(base.agent, sample=SampleConfig(samples=8, merged=1))
    policy: dict[str, Any] = {"tasks": changes.pop("tasks", ("placement",))}
    phase: dict[str, Any] = {"outcome_share": changes.pop("outcome_share", 0.0)}
    agent = replace(
        agent,
        policy=replace(agent.policy, **policy),
        episode=replace(agent.episode, steps=3, portfolio_share=0.3, **changes),
        outcomes=replace(agent.outcomes, moves_per_level=10, max_depth=50),
    )
    return replace(
        base, agent=agent, clusters=(CLUSTER,), graphs_per_batch=1, move_share=0.0, **phase
    )


class Outsider:
    """Knows nothing of our agent but its actions, and decides itself what to go on from."""

    def __init__(self, config: TrainConfig) -> None:
        suite = get_suite(config.suite, config.clusters)
        self.names = [f"{pair.graph_ref} on {pair.cluster_ref}" for pair in suite.pairs]
        self.episodes: Episodes = episodes_from(pairs=suite.pairs, seed=config.seed)
        self.env: envs.BatchedEnv | None = None
        self.config = config

    def follow(self, step: Step) -> None:
        """Take the same step, and compare all that is told."""
        rules = self.config.agent.rules
        if step.state.progress.taken == 0:
            tasks = rules.tasks
            staged: dict[str, Any] = {"staged": False} if len(tasks) > 1 else {}
            made = gymnasium.make_vec(
                IDS[tasks], num_envs=len(step.actions), vectorization_mode="vector_entry_point",
                episodes=self.episodes, steps=rules.steps, start=rules.start,
                reward=step.reward, **staged,
            )  # fmt: skip
            assert isinstance(made.unwrapped, envs.BatchedEnv)
            self.env = made.unwrapped
            options: dict[str, Any] = {"pair": self.names.index(step.state.instance.name)}
            if rules.start != "none":
                options["start"] = step.state.progress.base
            self.env.reset(options=options)
        assert self.env is not None
        before = self.env.progress[0]
        assert before.plan == step.state.progress.plan
        for column in fields(Observation):
            mine = getattr(self.env.observations[0], column.name)
            assert np.array_equal(mine, getattr(step.seen, column.name)), column.name
        _, rewards, ends, _, infos = self.env.step(tuple(step.actions))
        told = infos["final_info"] if ends[0] else infos
        assert rewards.tolist() == step.scores.rewards.tolist()
        for name, mine in (
            ("makespan_seconds", step.scores.makespan_seconds),
            ("peak_bytes", step.scores.peak_bytes),
            ("feasible", step.scores.feasible),
            ("energy", step.scores.energies),
        ):
            assert np.array_equal(np.stack(told[name]), mine), name
        assert tuple(told["plan"]) == step.scores.plans
        assert tuple(told["failure"]) == step.scores.failures
        if not ends[0]:
            best = int(np.argmin(told["energy"]))
            is_better = before.plan is None or told["energy"][best] < before.energy
            self.env.go_on_from(self.env.progress[best] if is_better else before)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"from_scratch": True},
        {"whole": True},
        {"whole": True, "from_scratch": True},
        {"whole": True, "reward": "telescoping"},
        {"reward": "log-speedup"},
        {"tasks": ("placement", "scheduling", "fusion")},
        {"tasks": ("placement", "scheduling", "fusion"), "whole": True, "from_scratch": True},
        {"tasks": ("scheduling",)},
        {"tasks": ("fusion",)},
        {"outcome_share": 1.0},
    ],
    ids=lambda settings: " ".join(str(v) for v in settings.values()) or "moves",
)
def test_training_is_what_an_outsider_meets(
    settings: dict[str, Any], tmp_path: Path, steps: list[Step]
) -> None:
    config = training(write_models(tmp_path / "models"), **settings)
    run = Pretraining(config, Workers())
    for _ in range(config.rounds):
        run.run_round()
    assert len(steps) == config.rounds * config.agent.rules.steps
    outsider = Outsider(config)
    for step in steps:
        outsider.follow(step)
    if Task.PLACEMENT in config.agent.rules.tasks:
        fit = np.concatenate([step.scores.feasible for step in steps])
        assert 0.05 < fit.mean() < 0.95  # what does not fit has the same price, too
    names = [name for name, reward in REWARDS.items() if reward == steps[0].reward]
    usual = "sqrt-time" if settings.get("whole") else "log-improvement"
    assert names == [settings.get("reward", usual)]


@pytest.mark.parametrize(
    "placer",
    [GdpPlacer(), HdpPlacer(), PlacetoPlacer(), GiphPlacer(), DopplerPlacer()],
    ids=["gdp", "hdp", "placeto", "giph", "doppler"],
)
def test_baselines_step_the_rules(
    placer: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[Rules, int]] = []

    def watched(
        prepared: Prepared,
        rules: Rules,
        progress: Sequence[Progress],
        actions: Sequence[np.ndarray],
        reward: Reward,
    ) -> tuple[list[Progress], Scores]:
        taken.append((rules, len(actions)))
        return advance(prepared, rules, progress, actions, reward)

    for module in ("policy.state", "baselines.hdp", "baselines.group_episodes"):
        monkeypatch.setattr(f"agent.{module}.advance", watched)
    pair = get_suite(str(write_models(tmp_path / "models")), (CLUSTER,)).pairs[0]
    placed = placer(pair.problem(), Budget(1e-6), 0, silent)
    assert {rules.tasks for rules, _ in taken} == {(Task.PLACEMENT,)}
    assert sum(count for _, count in taken) == placed.evaluations
    assert not any(rules.staged or rules.start != "none" for rules, _ in taken)


def test_nothing_of_the_agent_scores_plans_beside_the_environment() -> None:
    """Decisions become plans, and plans get scores, in `envs.rules` alone."""
    allowed = {"envs.scoring": {"Scores"}, "envs.decision": {"first_of_units"}}
    paths = [*(ROOT / "agent").rglob("*.py"), ROOT / "benchmarks" / "quality" / "move_ranking.py"]
    assert len(paths) > 50
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in allowed:
                names = {alias.name for alias in node.names}
                assert names <= allowed[node.module], f"{path.name} imports {names}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("evaluator", "evaluate_many"), path.name
