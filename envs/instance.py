"""A problem as environments see it: with the portfolio's plan as the mark to measure by."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32

from envs.evaluator import MakeEvaluator, TracedEvaluator, simulated
from placement.placer import Budget, Candidate, silent
from placement.placers.portfolio import portfolio
from placement.problem import Problem

#: Of a graph in which nothing takes time.
_SHORTEST_SECONDS = 1e-12


@dataclass(frozen=True, eq=False)
class Instance:
    """One graph on one cluster."""

    name: str
    problem: Problem
    make_evaluator: MakeEvaluator = simulated
    seed: int = 0
    """Of the heuristics that draw."""
    budget: Budget | None = None
    """In which the heuristics' plans are repaired, where none of them fits; by default one of their
    own."""

    @cached_property
    def evaluator(self) -> TracedEvaluator:
        return self.make_evaluator(self.problem)

    @cached_property
    def portfolio(self) -> Candidate:
        """The best plan of all heuristics; its evaluation is the simulator's."""
        return self.heuristic_plans[0]

    @cached_property
    def heuristic_plans(self) -> tuple[Candidate, ...]:
        """The best plan of each heuristic of the portfolio, best first."""
        placed = portfolio(self.problem, self.budget or Budget(), self.seed, silent)
        by_kind: dict[str, Candidate] = {}
        for candidate in sorted(placed.candidates, key=lambda item: item.rank_key):
            by_kind.setdefault(candidate.origin.partition(":")[0], candidate)
        others = [item for item in by_kind.values() if item.plan != placed.best.plan]
        return (placed.best, *others)

    @cached_property
    def reference_seconds(self) -> float:
        """The portfolio's step time, by the injected evaluator where it gives one; above zero."""
        own = float(self.evaluator.evaluate(self.portfolio.plan).makespan_seconds)
        seconds = own if np.isfinite(own) else self.portfolio.evaluation.makespan_seconds
        return max(float(seconds), _SHORTEST_SECONDS)

    @cached_property
    def slots(self) -> Int32[np.ndarray, " devices"]:
        """A position for each device that does not depend on how devices are numbered.

        The fastest device is first; then always the one best connected to those before it, the
        faster first among equals. Devices that are alike in all this keep their order, and only
        a symmetry of the cluster tells them apart. Policies that treat alike devices alike need
        such a mark to send two halves of a chain to two of them.
        """
        return device_slots(self.problem)


def device_slots(problem: Problem) -> Int32[np.ndarray, " devices"]:
    """See `Instance.slots`."""
    count = problem.cluster.device_count
    links = problem.cluster.link_arrays
    seconds = problem.seconds
    finite = np.isfinite(seconds)
    slowest = float(seconds[finite].max(initial=0.0))
    total = np.where(finite, seconds, slowest).sum(axis=0)
    pace = np.log2(np.maximum(total, 1e-300) / max(float(total.min()), 1e-300))
    slots = np.zeros(count, np.int32)
    taken = np.zeros(count, bool)
    for slot in range(count):
        affinity = np.zeros(count)
        if slot:
            affinity = np.round(np.log2(links.bytes_per_second[taken].max(axis=0)), 3)
        affinity[taken] = -np.inf
        best = np.lexsort((np.arange(count), np.round(pace, 6), -affinity))[0]
        slots[best] = slot
        taken[best] = True
    return slots
