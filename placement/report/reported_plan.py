"""What a report is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from placement.placer import Candidate
from placement.problem import Problem
from simulator.plan import Plan
from simulator.traces.steps_trace import StepsTrace
from simulator.traces.trace import Trace


@dataclass(frozen=True, eq=False)
class ReportedPlan:
    """A plan with what it was chosen from: what every section of a report reads."""

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
    steps: StepsTrace | None = None
    """How steps of the plan overlap, where it is for throughput."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Seed, budget and the like: shown as they are."""

    @property
    def device_names(self) -> tuple[str, ...]:
        return self.problem.given_cluster.device_names
