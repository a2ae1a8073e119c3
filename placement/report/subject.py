"""What a report is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from placement.place import Placement
from placement.placer import Candidate
from placement.problem import Problem
from simulator.plan import Plan
from simulator.traces.trace import Trace


@dataclass(frozen=True, eq=False)
class Subject:
    """A plan with what it was chosen from."""

    problem: Problem
    plan: Plan
    trace: Trace
    made_by: str
    """The placer, and what of it made the plan."""
    candidates: tuple[Candidate, ...] = ()
    """Plans that it was compared with."""
    progress: tuple[tuple[float, float], ...] = ()
    """(CPU seconds, best makespan in seconds) at each improvement."""
    baseline: Plan | None = None
    """The plan that differences are told against."""
    baseline_name: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Seed, budget and the like: shown as they are."""

    @property
    def device_names(self) -> tuple[str, ...]:
        return self.problem.given_cluster.device_names


def subject_of(placement: Placement) -> Subject:
    """The report of a placement; its baseline is the best plan of a heuristic."""
    heuristics = [c for c in placement.placed.candidates if c.plan != placement.plan]
    best = min(heuristics, key=lambda item: item.rank_key, default=None)
    origin = placement.placed.best.origin
    return Subject(
        problem=placement.problem,
        plan=placement.plan,
        trace=placement.trace,
        made_by=placement.placer
        if origin == placement.placer
        else f"{placement.placer} ({origin})",
        candidates=placement.placed.candidates,
        progress=placement.placed.progress,
        baseline=None if best is None else best.plan,
        baseline_name="" if best is None else f"the best heuristic, {best.origin}",
        facts={
            "seed": placement.seed,
            "CPU seconds spent": round(placement.search_seconds, 2),
            "plans simulated": placement.placed.evaluations,
        },
    )
