"""Placers judged by a suite: one row per pair, and what one placer is over another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from graphs.errors import GraphwrightError
from placement.place import place_problem
from placement.placer import OnProgress, Placer, silent
from placement.placers.registry import get_placer
from placement.problem import Problem
from placement.suites import ratios
from placement.suites.pair import Headroom, Pair
from placement.suites.pin import Pin
from placement.suites.ratios import MeanRatio

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

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "SuiteRow":
        """The other way; keys that are not a row's are left out.

        Raises:
            GraphwrightError: a key is missing, or the pair is of no known kind.
        """
        try:
            pair = Pair(
                values["graph"], values["cluster"], Headroom(values["headroom"]), _pin_of(values)
            )
            own = {item.name: values[item.name] for item in fields(SuiteRow) if item.name != "pair"}
        except (KeyError, ValueError) as error:
            raise GraphwrightError(f"not a row of a suite's results: {error}") from error
        return SuiteRow(pair=pair, **own)


def _pin_of(values: Mapping[str, Any]) -> Pin | None:
    """The pin of a row's pair; None of a suite that was not pinned."""
    if "graph_digest" not in values:
        return None
    return Pin(
        "of these rows",
        values["graph_digest"],
        values["cluster_digest"],
        tuple(values["memory_bytes"]),
    )


def measure_pair(
    pair: Pair,
    placers: Sequence[str] | Mapping[str, Placer] = COLUMNS,
    budget_seconds: float = 30.0,
    seed: int = 0,
    on_progress: OnProgress = silent,
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
    rows = []
    for index, (name, placer) in enumerate(decide.items()):
        rows.append(measure_placer(pair, problem, name, placer, budget_seconds, seed))
        on_progress((index + 1) / len(decide))
    return joined(rows)


def measure_placer(
    pair: Pair, problem: Problem, name: str, placer: Placer, budget_seconds: float, seed: int
) -> SuiteRow:
    """Run one placer on a pair; a row of this placer alone.

    Args:
        problem: the pair's, which several placers may share.

    Raises:
        GraphwrightError: constraints leave some op no device.
    """
    placement = place_problem(problem, placer, name, budget_seconds, seed)
    seconds = placement.trace.evaluation.makespan_seconds
    return SuiteRow(
        pair=pair,
        digest=problem.graph.digest,
        ops=problem.graph.op_count,
        devices=problem.cluster.device_count,
        makespan_seconds={name: seconds if placement.feasible else None},
        cpu_seconds={name: placement.search_seconds},
        lower_bound_seconds=problem.bounds.seconds,
        budget_seconds=budget_seconds,
        seed=seed,
        costs=problem.costs.name,
    )


def joined(rows: Sequence[SuiteRow]) -> SuiteRow:
    """One row of several placers' rows of a pair, in their order; at least one."""
    return replace(
        rows[0],
        makespan_seconds={
            name: time for row in rows for name, time in row.makespan_seconds.items()
        },
        cpu_seconds={name: spent for row in rows for name, spent in row.cpu_seconds.items()},
    )


def ratio(rows: Sequence[SuiteRow], placer: str, against: str) -> MeanRatio:
    """Step times of a placer over those of another; every row counts as a pair of its own."""
    return ratios.ratio(placer, against, _times(rows, placer), _times(rows, against))


def _times(rows: Sequence[SuiteRow], placer: str) -> dict[int, dict[int, float]]:
    """Step times that fit by the number of the row and seed."""
    return {
        number: {row.seed: seconds} if (seconds := row.makespan_seconds[placer]) else {}
        for number, row in enumerate(rows)
    }
