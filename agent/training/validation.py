"""How good a policy is on graphs that it does not learn from, in a fixed number of samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from agent.config import AgentConfig, TrainConfig
from agent.learning.improving import draw_pass
from agent.placing.guided_search import guided_search
from agent.policy.network import Policy
from agent.policy.state import EpisodeState, begin
from agent.policy.view import GroupedInstance, group_instance
from envs.episodes import episodes_from
from placement.placer import Budget
from placement.suites import Pair, get_suite
from placement.throughput import Throughput


@dataclass(frozen=True, eq=False)
class Validated:
    """Per graph the best state, and by how much its energy is above the portfolio's."""

    pairs: tuple[Pair, ...]
    states: tuple[EpisodeState, ...]
    logs: tuple[float, ...]

    @property
    def figures(self) -> dict[str, float]:
        """The geometric mean of step times over the portfolio's, what does not fit at its price;
        nothing where there is no graph."""
        return {"validation/ratio": float(np.exp(np.mean(self.logs)))} if self.logs else {}

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """A row per graph; step times are periods where steps overlap."""
        return [
            {
                "graph": pair.graph_ref,
                "cluster": pair.cluster_ref,
                "ratio": float(np.exp(log)),
                "step_seconds": float(state.evaluation.makespan_seconds),
                "portfolio_seconds": float(state.instance.reference_seconds),
                "fits": state.evaluation.feasible,
            }
            for pair, state, log in zip(self.pairs, self.states, self.logs, strict=True)
        ]

    @property
    def most_improved(self) -> EpisodeState | None:
        """Where the policy did best."""
        return self.states[int(np.argmin(self.logs))] if self.logs else None


def validate(policy: Policy, config: TrainConfig) -> Validated:
    """A few passes without learning on each graph.

    The same graphs, seeds and numbers of samples each time, so that figures compare.
    """
    pairs = _pairs(
        config.validation_suite, config.clusters, config.validation_graphs, config.max_ops
    )
    subjects = _subjects(pairs, config.agent.episode.group_sizes, config.agent.overlap)
    improved = [
        improve(policy, config.agent, subject, config.validation_steps, config.device)
        for subject in subjects
    ]
    return Validated(
        pairs, tuple(state for state, _ in improved), tuple(log for _, log in improved)
    )


def improve(
    policy: Policy, config: AgentConfig, subject: GroupedInstance, steps: int, device: str = "cpu"
) -> tuple[EpisodeState, float]:
    """The best state after some passes, and by how much its energy is above the portfolio's."""
    state = begin(subject, replace(config.rules, steps=max(steps, 1)))
    if config.guides_search:
        return _search_guided(policy, config, state, steps)
    best: EpisodeState | None = None
    for step in range(steps):
        rng = np.random.default_rng([1, step])
        state = draw_pass(policy, config, [state], [rng], device).best[0]
        if best is None or state.energy < best.energy:
            best = state
    best = best or state
    return best, best.energy - subject.instance.reference_energy


def _search_guided(
    policy: Policy, config: AgentConfig, state: EpisodeState, steps: int
) -> tuple[EpisodeState, float]:
    """Guided search with a fixed number of evaluations."""
    search = guided_search(
        policy, state, Budget(_NO_LIMIT), 1, config, lambda _: None, steps, _EVALUATIONS
    )
    best = begin(state.subject, state.rules, search.best_plan)
    return best, min(best.energy - state.instance.reference_energy, 0.0)


#: Of each pass of a validation.
_EVALUATIONS = 200
_NO_LIMIT = 1e9


@lru_cache(maxsize=8)
def _pairs(suite: str, clusters: tuple[str, ...], count: int, max_ops: int) -> tuple[Pair, ...]:
    """Evenly spread over the suite, without single devices and large graphs."""
    fitting = [
        pair
        for pair in get_suite(suite, clusters).pairs
        if pair.asked_ops <= max_ops and pair.device_count > 1
    ]
    at = np.unique(np.linspace(0, len(fitting) - 1, min(count, len(fitting))).round().astype(int))
    return tuple(fitting[index] for index in at)


@lru_cache(maxsize=2)
def _subjects(
    pairs: Sequence[Pair], sizes: tuple[int, ...], overlap: Throughput | None
) -> tuple[GroupedInstance, ...]:
    episodes = episodes_from(pairs=pairs, overlap=overlap)
    return tuple(group_instance(episodes.at(index), sizes, 0) for index in range(len(pairs)))
