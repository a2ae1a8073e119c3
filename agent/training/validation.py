"""How good a policy is on graphs that it does not learn from, in a fixed number of samples.

A policy that guides search is two networks, and neither is seen by what measures the other. The
small one is measured by the search that it guides from the portfolio's plan, the large one by what
its proposals bring from there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent.config import AgentConfig, TrainConfig
from agent.learning.improving import draw_pass
from agent.placing.guided_search import guided_search
from agent.policy.network import Policy
from agent.policy.state import EpisodeState, begin
from agent.policy.view import GroupedInstance, group_instance
from agent.training.workers import Workers
from envs.episodes import Episodes, episodes_from
from envs.instance import Instance
from placement.placer import Budget
from placement.suites import Pair, get_suite
from placement.throughput import Throughput
from simulator.plan import Plan

#: Step times over the portfolio's: of the better plan of both networks, of guided search alone, of
#: the large network's proposals alone.
RATIO, SEARCH, PROPOSALS = (
    "validation/ratio",
    "validation/search_ratio",
    "validation/proposals_ratio",
)

#: What the parameters of the small network begin with.
SMALL_NETWORK = "moves."

#: Of each pass of a validation.
_EVALUATIONS = 200
_NO_LIMIT = 1e9


@dataclass(frozen=True, eq=False)
class Reached:
    """The best plan on one graph."""

    plan: Plan
    seconds: float
    """Step time, or period where steps overlap, as if memory sufficed."""
    fits: bool
    portfolio_seconds: float
    log: float
    """By how much the energy is above the portfolio's."""


@dataclass(frozen=True, eq=False)
class Validated:
    """What was reached on each graph, by measure."""

    pairs: tuple[Pair, ...]
    by_measure: Mapping[str, tuple[Reached, ...]]
    """Of the large network's proposals and, where it guides one, of search."""

    @property
    def reached(self) -> tuple[Reached, ...]:
        """The better plan of each graph."""
        each = zip(*self.by_measure.values(), strict=True)
        return tuple(min(found, key=lambda item: item.log) for found in each)

    @property
    def figures(self) -> dict[str, float]:
        """The geometric means of step times over the portfolio's, what does not fit at its price;
        nothing where there is no graph."""
        if not self.pairs:
            return {}
        found = {RATIO: self.reached, **self.by_measure}
        return {
            name: float(np.exp(np.mean([item.log for item in each])))
            for name, each in found.items()
        }

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """A row per graph; step times are periods where steps overlap."""
        return [
            {
                "graph": pair.graph_ref,
                "cluster": pair.cluster_ref,
                "ratio": float(np.exp(best.log)),
                **{
                    name.rpartition("/")[2]: float(np.exp(each[number].log))
                    for name, each in self.by_measure.items()
                },
                "step_seconds": best.seconds,
                "portfolio_seconds": best.portfolio_seconds,
                "fits": best.fits,
            }
            for number, (pair, best) in enumerate(zip(self.pairs, self.reached, strict=True))
        ]

    @property
    def most_improved(self) -> int | None:
        """The number of the graph on which the policy did best."""
        return int(np.argmin([item.log for item in self.reached])) if self.pairs else None


class Validation:
    """Looks at a policy now and then; workers share the graphs.

    The same graphs, seeds and numbers of samples each time, so that figures compare. A network that
    has not changed since the last look is not measured again: it would do the same.
    """

    def __init__(self, config: TrainConfig, workers: Workers) -> None:
        self.config = config
        self.workers = workers
        self.pairs = _pairs(
            config.validation_suite, config.clusters, config.validation_graphs, config.max_ops
        )
        self._last: dict[str, tuple[dict[str, Tensor], tuple[Reached, ...]]] = {}

    def look(self, policy: Policy) -> Validated:
        """A few passes, and a search of a fixed length, without learning; all workers must ask."""
        found = {PROPOSALS: self._measured(policy, PROPOSALS, propose)}
        if self.config.agent.guides_search:
            found[SEARCH] = self._measured(policy, SEARCH, search)
        return Validated(self.pairs, found)

    def instance(self, number: int) -> Instance:
        """A graph of the suite on its cluster."""
        return self._subject(number).instance

    def _measured(self, policy: Policy, measure: str, improve: "_Improving") -> tuple[Reached, ...]:
        """What a network reaches on each graph; workers take every n-th."""
        small = measure == SEARCH
        state = {
            name: value.detach().clone()
            for name, value in policy.state_dict().items()
            if name.startswith(SMALL_NETWORK) == small
        }
        if measure in self._last:
            before, reached = self._last[measure]
            if all(torch.equal(value, before[name]) for name, value in state.items()):
                return reached
        config = self.config
        mine = range(self.workers.rank, len(self.pairs), self.workers.count)
        own = [
            (number, improve(policy, config.agent, self._subject(number), config.validation_steps,
                             config.device))
            for number in mine
        ]  # fmt: skip
        reached = tuple(item for _, item in sorted(self.workers.gather_items(own), key=_number))
        self._last[measure] = state, reached
        return reached

    def _subject(self, number: int) -> GroupedInstance:
        agent = self.config.agent
        return _subject(self.pairs, number, agent.episode.group_sizes, agent.overlap)


#: Improve the plan of one graph: with a policy, its configuration, in some steps, on a device.
_Improving = Callable[[Policy, AgentConfig, GroupedInstance, int, str], Reached]


def propose(
    policy: Policy, config: AgentConfig, subject: GroupedInstance, steps: int, device: str = "cpu"
) -> Reached:
    """The best plan of some passes of the large network."""
    state = begin(subject, replace(config.rules, steps=max(steps, 1)))
    best: EpisodeState | None = None
    for step in range(steps):
        rng = np.random.default_rng([1, step])
        state = draw_pass(policy, config, [state], [rng], device).best[0]
        if best is None or state.energy < best.energy:
            best = state
    return _reached(best or state, np.inf)


def search(
    policy: Policy, config: AgentConfig, subject: GroupedInstance, steps: int, _device: str = "cpu"
) -> Reached:
    """What search from the portfolio's plan comes to in a fixed number of evaluations."""
    state = begin(subject, replace(config.rules, steps=max(steps, 1)))
    found = guided_search(
        policy, state, Budget(_NO_LIMIT), 1, config, lambda _: None, steps, _EVALUATIONS
    )
    return _reached(begin(state.subject, state.rules, found.best_plan), 0.0)


def _reached(state: EpisodeState, at_most: float) -> Reached:
    instance = state.instance
    return Reached(
        state.plan,
        float(state.evaluation.makespan_seconds),
        state.evaluation.feasible,
        float(instance.reference_seconds),
        min(float(state.energy - instance.reference_energy), at_most),
    )


def _number(item: tuple[int, Reached]) -> int:
    return item[0]


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
def _episodes(pairs: Sequence[Pair], overlap: Throughput | None) -> Episodes:
    return episodes_from(pairs=pairs, overlap=overlap)


@lru_cache(maxsize=128)
def _subject(
    pairs: Sequence[Pair], number: int, sizes: tuple[int, ...], overlap: Throughput | None
) -> GroupedInstance:
    return group_instance(_episodes(pairs, overlap).at(number), sizes, 0)
