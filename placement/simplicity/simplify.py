"""The last pass of a placement: undo what gains less than it complicates.

Begins from the fastest plan and from the simplest that is about as fast, drops devices, then moves
islands and borders between devices to where fewer tensors cross. Every step is simulated, and kept
while the step time stays within what the simulator can tell apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from placement.heuristics.layers import contiguous, unit_layers
from placement.placer import Budget, Candidate
from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.simplicity.changes import Blocks, Change, blocks_of, changes_of, regions_of
from placement.simplicity.complexity import Complexity, is_contiguous
from placement.simplicity.judge import Judge, SimulatorJudge
from placement.simplicity.rules import WITHIN_ERROR, Simplicity
from simulator.errors import InfeasibleError
from simulator.plan import Plan

#: Simulations of one pass: so many on a graph of a thousand ops, fewer on larger ones.
_EVALUATIONS, _FEWEST_EVALUATIONS, _EVALUATED_OPS = 800, 80, 3_200_000
#: Shares of what may be given up, one after the other: devices that are dropped at a small price
#: leave something for crossings.
_SHARES = (0.3, 1.0)
#: Where a limit on crossings forces it, ever more of the step time is given up.
_RELAXED = (0.03, 0.1, 0.3, 1.0, 3.0, float("inf"))
#: A device is emptied into one of so many others, the busiest.
_TARGETS = 3
#: So many of the plans that were compared are scored by another judge, the fastest first.
_JUDGED_ANEW = 24
#: Cuts that are tried for contiguous stages, for each number of devices.
_CUTS = 40


@dataclass(frozen=True, eq=False)
class Simplified:
    """The plan to deploy, and what simplicity cost."""

    best: Candidate
    complexity: Complexity
    before: Candidate
    """The fastest plan that was found."""
    before_complexity: Complexity
    tolerance: float
    """The share of the step by which plans must differ to be told apart."""
    evaluations: int

    @property
    def cost(self) -> float:
        """Share by which the step takes longer than that of the fastest plan."""
        fastest = self.before.evaluation.makespan_seconds
        return self.best.evaluation.makespan_seconds / max(fastest, 1e-300) - 1.0

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        return {
            "tolerance": self.tolerance,
            "judged_seconds": self.best.evaluation.makespan_seconds,
            "parts": self.complexity.parts or None,
            "cost": self.cost,
            "fastest_seconds": self.before.evaluation.makespan_seconds,
            "fastest_devices_used": self.before_complexity.devices,
            "fastest_crossings": self.before_complexity.crossings,
        }

    @property
    def changed(self) -> bool:
        """Whether another plan was chosen than the fastest."""
        return self.best.plan.digest != self.before.plan.digest


def simplify(
    problem: Problem,
    best: Candidate,
    candidates: Sequence[Candidate] = (),
    rules: Simplicity = WITHIN_ERROR,
    seed: int = 0,
    judge: Judge | None = None,
    until: Budget | None = None,
) -> Simplified:
    """Choose the simplest plan that is about as fast as the best.

    Args:
        best: the fastest plan that was found.
        candidates: other plans that may be simpler.
        seed: of regions, and of the cuts that are tried for contiguous stages.
        judge: what plans are scored and counted by; the simulator where none is given. Given plans
            are scored by it anew.
        until: once it is spent nothing further is tried, but for what a limit on crossings asks
            for; None leaves it to the number of simulations alone.

    Raises:
        InfeasibleError: no plan within the rules was found that fits in memory.
    """
    if judge is None:
        return _Pass(problem, rules, seed, SimulatorJudge(problem), until).run(best, candidates)
    closest = sorted({item.plan: item for item in candidates}.values(), key=lambda c: c.rank_key)
    best, *others = (
        Candidate(item.plan, judge.evaluate(item.plan), item.origin)
        for item in (best, *closest[:_JUDGED_ANEW])
    )
    return _Pass(problem, rules, seed, judge, until).run(best, others)


class _Pass:
    """One run; what changes is the number of simulations that are left."""

    def __init__(
        self, problem: Problem, rules: Simplicity, seed: int, judge: Judge, until: Budget | None
    ) -> None:
        self.until = until
        self.seed = seed
        self.judge = judge
        self.problem = problem
        self.rules = rules
        self.tolerance = rules.tolerance(problem.given_cluster)
        ops = problem.graph.op_count
        self.quota = int(np.clip(_EVALUATED_OPS / ops, _FEWEST_EVALUATIONS, _EVALUATIONS))
        self.evaluations = 0
        self.limit = 0.0
        self.left = self.quota

    def run(self, best: Candidate, candidates: Sequence[Candidate]) -> Simplified:
        """The whole pass."""
        before = self.judge.complexity(best.plan)
        if self.problem.cluster.device_count == 1:
            return Simplified(best, before, best, before, self.tolerance, 0)
        pool = [best, *candidates, *self._single_devices()]
        if self.rules.contiguous:
            pool = [*self._stages(), *pool]
        pool = [item for item in pool if item.evaluation.feasible]
        if not pool:
            return Simplified(best, before, best, before, self.tolerance, self.evaluations)
        pool = [item for item in pool if self._is_stagewise(item)]
        if not pool:
            raise InfeasibleError(
                "no plan of contiguous stages was found that fits in memory; allow others (leave "
                "out --contiguous), or give the devices more memory"
            )
        fastest = min(self._score(item) for item in pool)
        chosen = self._simplest(pool, fastest, self.tolerance)
        self.until = None
        for tolerance in _RELAXED:
            if self._is_allowed(chosen):
                break
            chosen = self._simplest([*pool, chosen], fastest, max(tolerance, self.tolerance))
        if not self._is_allowed(chosen):
            least = self.judge.complexity(chosen.plan)
            raise InfeasibleError(
                f"no plan of at most {self.rules.max_crossings} crossings was found that fits in "
                f"memory; the simplest takes {least}"
            )
        after = self.judge.complexity(chosen.plan)
        return Simplified(chosen, after, best, before, self.tolerance, self.evaluations)

    def _simplest(self, pool: list[Candidate], fastest: float, tolerance: float) -> Candidate:
        """The simplest plan within the tolerance: one of the pool, or reached from it."""
        reached: list[Candidate] = []
        for share in _SHARES:
            self.limit = fastest * (1.0 + share * tolerance)
            self.left = self.quota // len(_SHARES)
            near = [item for item in (*pool, *reached) if self._score(item) <= self.limit]
            starts = [min(near, key=self._score), min(near, key=self._key)]
            reached += [self._reduce(item) for item in dict.fromkeys(starts)]
        return min([*near, *reached], key=self._key)

    def _key(self, item: Candidate) -> tuple[Complexity, float]:
        complexity = self.judge.complexity(item.plan)
        return complexity, item.evaluation.makespan_seconds

    def _score(self, item: Candidate) -> float:
        price = self.rules.seconds_per_crossing
        seconds = item.evaluation.makespan_seconds
        if not price:
            return seconds
        crossings = self.judge.complexity(item.plan).crossings
        return seconds + price * crossings

    def _is_allowed(self, item: Candidate) -> bool:
        most = self.rules.max_crossings
        return most is None or (self.judge.complexity(item.plan).crossings <= most)

    def _is_stagewise(self, item: Candidate) -> bool:
        return not self.rules.contiguous or is_contiguous(self.problem.graph, item.plan.devices)

    def _reduce(self, item: Candidate) -> Candidate:
        """Drop devices, then crossings, for as long as the step stays within the limit."""
        blocks = blocks_of(self.problem, item.plan)
        regions = regions_of(self.problem, blocks, self.seed)
        item = self._drop_devices(item, blocks)
        while self.left > 0:
            changes = changes_of(self.problem, blocks, regions, item.plan.devices)
            simpler = self._apply(item, changes)
            if simpler is item:
                break
            item = self._drop_devices(simpler, blocks)
        return self._reordered(item)

    def _drop_devices(self, item: Candidate, blocks: Blocks) -> Candidate:
        """Empty one device after the other into another, the least busy first."""
        while self.left > 0:
            found = next(self._emptied(item, blocks), None)
            if found is None:
                return item
            item = found
        return item

    def _emptied(self, item: Candidate, blocks: Blocks) -> Iterator[Candidate]:
        """Plans that do without one of the devices."""
        devices, seconds = item.plan.devices, self.problem.seconds
        work = np.bincount(devices, blocks.seconds[blocks.block_of])
        used = [d for d in np.argsort(work, kind="stable").tolist() if (devices == d).any()]
        for source in used:
            ops = np.flatnonzero(devices == source)
            targets = [d for d in used[::-1] if d != source][:_TARGETS]
            for target in targets:
                own = np.flatnonzero(devices == target)
                load = seconds[ops, target].sum() + seconds[own, target].sum()
                if self.left > 0 and (item.plan.is_fused or load <= self.limit):
                    found = self._tried(item, [Change(ops, target, 0, 0.0)])
                    if found is not None:
                        yield found

    def _apply(self, item: Candidate, changes: list[Change]) -> Candidate:
        """As many of the changes as can be had: all, or else each half on its own."""
        if not changes or self.left <= 0:
            return item
        found = self._tried(item, changes)
        if found is not None:
            return found
        if len(changes) == 1:
            return item
        half = len(changes) // 2
        return self._apply(self._apply(item, changes[:half]), changes[half:])

    def _tried(self, item: Candidate, changes: Sequence[Change]) -> Candidate | None:
        """The plan after the changes; None where it is no simpler, or too slow, or does not fit."""
        devices = item.plan.devices.copy()
        for change in changes:
            devices[change.ops] = change.device
        plan = item.plan.moved_to(devices)
        if self.judge.complexity(plan) >= self.judge.complexity(item.plan):
            return None
        found = self._candidate(plan, item.origin)
        fits = found.evaluation.feasible and self._is_stagewise(found)
        return found if fits and self._score(found) <= self.limit else None

    def _candidate(self, plan: Plan, origin: str) -> Candidate:
        is_late = self.until is not None and self.until.is_spent
        self.left = 0 if is_late else self.left - 1
        self.evaluations += 1
        return Candidate(plan, self.judge.evaluate(plan), origin)

    def _reordered(self, item: Candidate) -> Candidate:
        """The same devices in the order of upward ranks, where that is faster."""
        plan = item.plan
        priorities = upward_ranks(self.problem, plan.devices)
        other = self._candidate(replace(plan, priorities=priorities), item.origin)
        return min(item, other, key=lambda one: one.rank_key)

    def _single_devices(self) -> list[Candidate]:
        """Everything on one device, for each that may run everything."""
        problem = self.problem
        found = []
        for device in np.flatnonzero(problem.unit_allowed.all(axis=0)).tolist():
            devices = np.full(problem.graph.op_count, device, np.int32)
            found.append(self._candidate(Plan.of(devices), "single"))
        return found

    def _stages(self) -> list[Candidate]:
        """Plans of contiguous stages: layers cut evenly, then cuts that are moved at random."""
        problem = self.problem
        rng = np.random.default_rng(self.seed)
        layers = unit_layers(problem)
        finite = np.where(np.isfinite(problem.seconds), problem.seconds, 0.0).mean(axis=1)
        weights = np.bincount(problem.unit_of, finite, problem.unit_count)
        found: list[Candidate] = []
        for count in range(2, problem.cluster.device_count + 1):
            order = np.arange(count, dtype=np.int32)
            best, shares = None, np.full(count, 1.0 / count)
            for number in range(_CUTS):
                tried = shares * np.exp(rng.normal(0, 0.3, count)) if number else shares
                devices = contiguous(problem, layers, weights, order, tried)
                item = self._candidate(Plan.of(devices, upward_ranks(problem, devices)), "stages")
                if is_contiguous(problem.graph, devices) and (
                    best is None or item.rank_key < best.rank_key
                ):
                    best, shares = item, tried
            found.extend([] if best is None else [best])
        return found
