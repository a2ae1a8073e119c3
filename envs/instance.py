"""A problem as environments see it: with a plan as the mark to measure by, the portfolio's.

Where steps overlap, the portfolio is the best of the heuristics' plans and of the cuts that need no
search, by the period.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32

from envs.evaluator import MakeEvaluator, TracedEvaluator, simulated
from envs.overlapping import OverlapEvaluator, request_of
from placement.annealing.energy import energy_of_evaluation
from placement.placer import Budget, Candidate, silent
from placement.placers.portfolio import portfolio
from placement.problem import Problem
from placement.throughput import Pipeline, Throughput, pipeline_plan, plan_pipeline
from simulator.errors import InfeasibleError
from simulator.evaluation import Evaluation
from simulator.plan import Plan

#: Of a graph in which nothing takes time.
_SHORTEST_SECONDS = 1e-12


@dataclass(frozen=True, eq=False)
class Instance:
    """One graph on one cluster."""

    name: str
    problem: Problem
    make_evaluator: MakeEvaluator = simulated
    seed: int = 0
    """Seed of the heuristics that draw."""
    budget: Budget | None = None
    """In which the heuristics' plans are repaired, where none of them fits; by default one of their
    own."""
    given_mark: Plan | None = None
    """What times are relative to instead of the portfolio's plan, for agents that are not to profit
    from any heuristic."""
    overlap: Throughput | None = None
    """Steps that overlap, where plans are scored by their period: then all times here are periods,
    and bytes those of all steps on the way. None scores the time of one step."""
    optimum_seconds: float | None = None
    """Step time of the best plan, where it is known (`envs.known_optima`)."""

    @cached_property
    def evaluator(self) -> TracedEvaluator:
        """Who scores plans.

        Raises:
            EpisodeError: steps are to overlap of a training step without micro-batches.
        """
        if self.overlap is None:
            return self.make_evaluator(self.problem)
        asked = self.overlap
        request = request_of(self.problem, asked.in_flight, asked.micro_batches)
        return OverlapEvaluator(self.problem, request)

    @cached_property
    def portfolio(self) -> Candidate:
        """The best plan of all heuristics; its evaluation is the simulator's."""
        return self.heuristic_plans[0]

    @cached_property
    def bound_seconds(self) -> float:
        """No plan without fusion is faster; where steps overlap, no period is shorter. 0 where no
        split fits, so that no bound of the period is known."""
        if self.overlap is None:
            return float(self.problem.bounds.seconds)
        return 0.0 if self._pipeline is None else self._pipeline.bound_seconds

    @cached_property
    def heuristic_plans(self) -> tuple[Candidate, ...]:
        """The best plan of each heuristic of the portfolio, best first."""
        placed = portfolio(self.problem, self.budget or Budget(), self.seed, silent)
        candidates, best = placed.candidates, placed.best
        if self.overlap is not None:
            candidates = self._by_period(candidates or (best,))
            best = min(candidates, key=lambda item: item.rank_key)
        by_kind: dict[str, Candidate] = {}
        for candidate in sorted(candidates, key=lambda item: item.rank_key):
            by_kind.setdefault(candidate.origin.partition(":")[0], candidate)
        others = [item for item in by_kind.values() if item.plan != best.plan]
        return (best, *others)

    @cached_property
    def mark(self) -> Plan:
        """The plan that others are measured by, and that has what nobody decides."""
        return self.portfolio.plan if self.given_mark is None else self.given_mark

    @cached_property
    def reference_seconds(self) -> float:
        """The mark's step time, by the injected evaluator where it gives one; above zero."""
        return max(float(self._reference.makespan_seconds), _SHORTEST_SECONDS)

    @cached_property
    def reference_energy(self) -> float:
        """The mark's energy; its step time alone counts where it fails, but not of memory."""
        energy = energy_of_evaluation(self._reference)
        return energy if np.isfinite(energy) else float(np.log(self.reference_seconds))

    @cached_property
    def _reference(self) -> Evaluation:
        own = self.evaluator.evaluate(self.mark)
        if np.isfinite(own.makespan_seconds):
            return own
        return self.problem.simulator.evaluate(self.mark)

    def _by_period(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The same plans and those of cuts, each once, scored by the steps that overlap."""
        origins = {candidate.plan: candidate.origin for candidate in reversed(candidates)}
        if (pipeline := self._pipeline) is not None:
            for split in (pipeline.best, *pipeline.others):
                # What the search finds depends on the clock; an instance does not.
                if split.name != "search":
                    origins.setdefault(pipeline_plan(self.problem, split), split.name)
        return tuple(
            Candidate(plan, self.evaluator.evaluate(plan), origin)
            for plan, origin in origins.items()
        )

    @cached_property
    def _pipeline(self) -> Pipeline | None:
        """Cuts of the graph into stages; None where none fits."""
        evaluator = self.evaluator
        if not isinstance(evaluator, OverlapEvaluator):
            return None
        try:
            return plan_pipeline(self.problem, Budget(0.0), self.seed, evaluator.request)
        except InfeasibleError:
            return None

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
