"""How good a policy is on graphs that it does not learn from, in a fixed number of samples."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from torch import nn

from agent.config import AgentConfig, TrainConfig
from agent.improving import draw_pass
from agent.policy.view import Subject, make_subject
from agent.state import begin
from envs.episodes import episodes_from
from placement.suites import Pair, get_suite


def validate(policy: nn.Module, config: TrainConfig) -> dict[str, float]:
    """The geometric mean of step times over the portfolio's, after a few passes without learning.

    The same graphs, seeds and numbers of samples each time, so that figures compare.
    """
    subjects = _subjects(
        _pairs(config.validation_suite, config.clusters, config.validation_graphs, config.max_ops),
        config.agent.episode.group_sizes,
    )
    logs = [
        improved(policy, config.agent, subject, config.validation_steps, config.device)
        for subject in subjects
    ]
    return {"validation/ratio": float(np.exp(np.mean(logs)))}


def improved(
    policy: nn.Module, config: AgentConfig, subject: Subject, steps: int, device: str = "cpu"
) -> float:
    """Logarithm of the best plan's cost over the portfolio's, after some passes."""
    mark = subject.instance.portfolio
    state = begin(subject, mark.plan, config.policy.tasks, config.episode.from_scratch)
    cost = _first_cost(subject, config)
    best = np.inf
    for step in range(steps):
        rng = np.random.default_rng([1, step])
        state = draw_pass(policy, config, [state], [rng], device).best[0]
        best = min(best, state.cost_seconds)
    return float(np.log(best / cost))


def _first_cost(subject: Subject, config: AgentConfig) -> float:
    return begin(subject, subject.instance.portfolio.plan, ()).cost_seconds


@lru_cache(maxsize=8)
def _pairs(suite: str, clusters: tuple[str, ...], count: int, max_ops: int) -> tuple[Pair, ...]:
    """Evenly spread over the suite, without single devices and large graphs."""
    from agent.pretraining import _size

    fitting = [
        pair
        for pair in get_suite(suite, clusters).pairs
        if _size(pair.graph_ref) <= max_ops and not pair.cluster_ref.startswith("1xv100")
    ]
    at = np.unique(np.linspace(0, len(fitting) - 1, min(count, len(fitting))).round().astype(int))
    return tuple(fitting[index] for index in at)


@lru_cache(maxsize=2)
def _subjects(pairs: Sequence[Pair], sizes: tuple[int, ...]) -> tuple[Subject, ...]:
    episodes = episodes_from(pairs=pairs)
    found = []
    for index in range(len(pairs)):
        prepared = episodes.at(index)
        found.append(make_subject(prepared.instance, sizes, 0, prepared.static))
    return tuple(found)
