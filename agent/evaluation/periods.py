"""Plans side by side by their periods: splits of pipelines, and plans made for one step's time.

The event engine runs the overlapping steps of every plan, so that all rows mean the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envs.overlapping import OverlapEvaluator
from placement.place import place_problem
from placement.placer import Budget, OnProgress, Placer, silent
from placement.problem import Problem
from placement.simplicity import complexity_of
from placement.throughput import Pipeline, Throughput, pipeline_plan, plan_pipeline
from simulator.errors import InfeasibleError
from simulator.plan import Plan
from simulator.steps import StepsEvaluation


@dataclass(frozen=True, eq=False)
class PeriodRow:
    """One plan, and how its steps overlap."""

    name: str
    made_for: str
    """`throughput` of splits, `latency` of plans by placers that know of one step alone."""
    plan: Plan
    period_seconds: float
    makespan_seconds: float
    """Of one step on its own."""
    steps: StepsEvaluation
    devices_used: int
    crossings: int
    cpu_seconds: float
    """Of splits, what all of them took together."""

    @property
    def feasible(self) -> bool:
        return self.steps.feasible

    def as_dict(self, device_names: tuple[str, ...]) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        failure = self.steps.failure
        return {
            "plan": self.name,
            "made_for": self.made_for,
            "period_seconds": self.period_seconds,
            "steps_per_second": 1.0 / max(self.period_seconds, 1e-300),
            "latency_seconds": self.steps.latency_seconds,
            "makespan_seconds": self.makespan_seconds,
            "in_flight": self.steps.schedule.most_in_flight,
            "order": str(self.steps.schedule.order),
            "peak_bytes": dict(zip(device_names, self.steps.peak_bytes, strict=True)),
            "feasible": self.feasible,
            "failure": None if failure is None else str(failure),
            "devices_used": self.devices_used,
            "crossings": self.crossings,
            "cpu_seconds": self.cpu_seconds,
        }


@dataclass(frozen=True, eq=False)
class PeriodTable:
    """All rows of one problem."""

    problem: Problem
    request: Throughput
    rows: tuple[PeriodRow, ...]
    bound_seconds: float | None
    """No placement has a shorter period; None where no split was found that fits."""
    chosen: str | None = None
    """The split that `place` takes: the fewest crossings of those about as good."""

    @property
    def best_seconds(self) -> float:
        """The shortest period of all that fits; infinite where nothing does."""
        return min((row.period_seconds for row in self.rows if row.feasible), default=float("inf"))

    def period_of(self, name: str, made_for: str) -> float | None:
        """The period of a plan; None where it does not fit, or was not found."""
        for row in self.rows:
            if (row.name, row.made_for) == (name, made_for) and row.feasible:
                return row.period_seconds
        return None

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        names = self.problem.given_cluster.device_names
        return {
            "objective": "throughput",
            "micro_batches": self.request.micro_batches,
            "period_bound_seconds": self.bound_seconds,
            "chosen": self.chosen,
            "plans": [dict(row.as_dict(names)) for row in self.rows],
        }


def compare_periods(
    problem: Problem,
    request: Throughput,
    placers: Mapping[str, Placer],
    budget_seconds: float,
    seed: int,
    on_progress: OnProgress = silent,
) -> PeriodTable:
    """Plan a pipeline, let placers plan one step, and run the overlapping steps of all plans.

    Args:
        request: steps in flight and micro-batches; as many in flight as fit where left open.
        placers: by name, for the time of one step.
        budget_seconds: CPU seconds for the pipeline and for each any-time placer.
    """
    evaluator = OverlapEvaluator(problem, request)
    budget = Budget(budget_seconds)
    pipeline = pipeline_that_fits(problem, budget, seed, request)
    spent = budget.spent_seconds
    on_progress(1 / (len(placers) + 1))
    rows: list[PeriodRow] = []
    if pipeline is not None:
        for split in (pipeline.best, *pipeline.others):
            plan = pipeline_plan(problem, split)
            rows.append(row_of(evaluator, split.name, "throughput", plan, spent))
    for number, (name, placer) in enumerate(placers.items()):
        placement = place_problem(problem, placer, name, budget_seconds, seed)
        took = placement.search_seconds
        rows.append(row_of(evaluator, name, "latency", placement.plan, took))
        on_progress((number + 2) / (len(placers) + 1))
    rows.sort(key=lambda row: (not row.feasible, row.period_seconds))
    if pipeline is None:
        return PeriodTable(problem, request, tuple(rows), None)
    return PeriodTable(problem, request, tuple(rows), pipeline.bound_seconds, pipeline.best.name)


def pipeline_that_fits(
    problem: Problem, budget: Budget, seed: int, request: Throughput
) -> Pipeline | None:
    """The pipeline, or None where no split was found that fits."""
    try:
        return plan_pipeline(problem, budget, seed, request)
    except InfeasibleError:
        return None


def row_of(
    evaluator: OverlapEvaluator, name: str, made_for: str, plan: Plan, cpu_seconds: float
) -> PeriodRow:
    """Run the overlapping steps of a plan."""
    problem = evaluator.problem
    steps = evaluator.steps(plan)
    complexity = complexity_of(problem.graph, plan.devices)
    return PeriodRow(
        name,
        made_for,
        plan,
        evaluator.period_seconds(plan, steps),
        problem.simulator.evaluate(plan).makespan_seconds,
        steps,
        complexity.devices,
        complexity.crossings,
        cpu_seconds,
    )
