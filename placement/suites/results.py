"""Placers judged by a suite: one row per pair, and the geometric mean of ratios."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from placement.place import place_problem
from placement.placer import Placer, Report, silent
from placement.placers.registry import get_placer
from placement.suites.pair import Pair

#: The columns of GO's table, and ours beside them.
COLUMNS = ("single", "human-expert", "metis", "heft", "portfolio", "search")


@dataclass(frozen=True)
class SuiteRow:
    """What the placers made of one pair."""

    pair: Pair
    digest: str
    ops: int
    devices: int
    makespan_seconds: Mapping[str, float | None]
    """Simulated seconds by placer; None where no plan of the placer fits in memory."""
    cpu_seconds: Mapping[str, float]
    lower_bound_seconds: float
    budget_seconds: float
    seed: int
    costs: str

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values."""
        return {
            **self.pair.as_dict(),
            "digest": self.digest,
            "ops": self.ops,
            "devices": self.devices,
            "makespan_seconds": dict(self.makespan_seconds),
            "cpu_seconds": dict(self.cpu_seconds),
            "lower_bound_seconds": self.lower_bound_seconds,
            "budget_seconds": self.budget_seconds,
            "seed": self.seed,
            "costs": self.costs,
        }


def measure_pair(
    pair: Pair,
    placers: Sequence[str] | Mapping[str, Placer] = COLUMNS,
    budget_seconds: float = 30.0,
    seed: int = 0,
    report: Report = silent,
) -> SuiteRow:
    """Run every placer on a pair; the budget holds for each any-time placer.

    Args:
        placers: names, or placers by the names of their columns.

    Raises:
        GraphwrightError: an unknown placer, or a pair that cannot be built.
    """
    decide = (
        placers if isinstance(placers, Mapping) else {name: get_placer(name) for name in placers}
    )
    problem = pair.problem()
    makespans: dict[str, float | None] = {}
    spent: dict[str, float] = {}
    for index, (name, placer) in enumerate(decide.items()):
        placement = place_problem(problem, placer, name, budget_seconds, seed)
        seconds = placement.trace.evaluation.makespan_seconds
        makespans[name] = seconds if placement.feasible else None
        spent[name] = placement.search_seconds
        report((index + 1) / len(decide))
    return SuiteRow(
        pair=pair,
        digest=problem.graph.digest,
        ops=problem.graph.op_count,
        devices=problem.cluster.device_count,
        makespan_seconds=makespans,
        cpu_seconds=spent,
        lower_bound_seconds=problem.bounds.seconds,
        budget_seconds=budget_seconds,
        seed=seed,
        costs=problem.costs.name,
    )


@dataclass(frozen=True)
class SuiteRatio:
    """One placer against another, over the pairs on which both have a plan that fits."""

    geometric_mean: float
    """Below 1 where the first is faster; nan where no pair has both."""
    pairs: int


def ratio(rows: Sequence[SuiteRow], placer: str, against: str) -> SuiteRatio:
    """The geometric mean of step times of a placer over those of another."""
    logs = [
        math.log(mine / theirs)
        for row in rows
        if (mine := row.makespan_seconds[placer]) and (theirs := row.makespan_seconds[against])
    ]
    if not logs:
        return SuiteRatio(math.nan, 0)
    return SuiteRatio(math.exp(sum(logs) / len(logs)), len(logs))
