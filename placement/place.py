"""Placing a graph in one call, with everything that a caller wants to know of the result."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.graph import Graph
from graphs.import_gaps import import_gaps
from graphs.precision import computed_types
from graphs.whole_files import write_whole
from placement.constraints import Constraints
from placement.feasibility import why_nothing_fits
from placement.heuristics.registry import HEURISTICS
from placement.placer import Budget, OnProgress, Placed, Placer, Stage, WallBudget, silent
from placement.placers.registry import get_placer
from placement.placers.warm_up import warm_up
from placement.problem import Problem
from placement.report.reported_plan import ReportedPlan
from placement.rivals import Rival, rivals_of
from placement.simplicity import Simplicity, Simplified, complexity_of, simplify
from placement.simplicity.rules import WITHIN_ERROR
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.plan import Plan
from simulator.traces.trace import Trace

if TYPE_CHECKING:
    from placement.export import Exported

#: Of the budget, what is left for simplifying: a share, and no more seconds than so many.
_LAST_PASS_SHARE, _LAST_PASS_SECONDS = 0.15, 2.0
#: By so much simplifying may go beyond the budget.
_GRACE_SECONDS = 0.5


@dataclass(frozen=True)
class Placement:
    """A plan, its trace, and how it came about."""

    problem: Problem
    placed: Placed
    trace: Trace
    placer: str
    budget_seconds: float
    search_seconds: float
    """CPU seconds that the placer took, of all its processes together."""
    seed: int
    simplified: Simplified | None = None
    """What the last pass made of the fastest plan, where there was one; `placed.best` is its
    result."""
    hopeless: str | None = None
    """Why no plan can fit in memory, where that is plain to see."""
    form: str | None = None
    """The exported form that the plan was chosen for, where it runs otherwise than simulated."""
    simplify_seconds: float = 0.0
    """CPU seconds of the last pass, for which a part of the budget is kept."""
    search_wall_seconds: float = 0.0
    """By the clock, what the placer took."""
    by_the_clock: bool = False
    """Whether the budget was of seconds by the clock, rather than of CPU seconds."""

    @property
    def failure(self) -> str | None:
        """Why the plan cannot run; None where it can."""
        found = self.trace.evaluation.failure
        return None if found is None else self.hopeless or str(found)

    @cached_property
    def rivals(self) -> tuple[Rival, ...]:
        """What a step would take if no op were placed: estimates for training steps."""
        return rivals_of(self.problem)

    @property
    def plan(self) -> Plan:
        return self.placed.best.plan

    @property
    def feasible(self) -> bool:
        return self.trace.evaluation.feasible

    def export(
        self, model: str | Path, out: str | Path, *forms: str, **options: Any
    ) -> "list[Exported]":
        """Write the plan in the forms of other tools.

        Args:
            model: the file or folder that the graph was loaded from.
            out: folder to write into.
            forms: names of `placement.export.FORMS`; none: all that the plan can take.
            options: further fields of `placement.export.ExportRequest`, such as `fusion=True`.

        Raises:
            GraphwrightError: no such form, one that the plan cannot take, or another model.
        """
        from placement.export import ExportRequest, export_all, get_exporter

        request = ExportRequest(
            model=Path(model),
            graph=self.problem.graph,
            cluster=self.problem.given_cluster,
            plan=self.plan,
            out=Path(out),
            costs=self.problem.costs,
            provenance={"placer": self.placer, "seed": self.seed},
            **options,
        )
        if not forms:
            return export_all(request)[0]
        return [get_exporter(form)(request) for form in forms]

    def report(self, out: str | Path) -> Path:
        """Write one HTML file that shows what the plan does; returns where."""
        from placement.report import report_html

        path = Path(out)
        write_whole(path, report_html(self.reported))
        return path

    @property
    def reported(self) -> ReportedPlan:
        """What a report shows of it; the baseline is the best plan of a heuristic."""
        heuristics = [item for item in self.placed.candidates if item.plan != self.plan]
        best = min(heuristics, key=lambda item: item.rank_key, default=None)
        origin = self.placed.best.origin
        return ReportedPlan(
            problem=self.problem,
            plan=self.plan,
            trace=self.trace,
            made_by=self.placer if origin == self.placer else f"{self.placer} ({origin})",
            candidates=self.placed.candidates,
            progress=self.placed.progress,
            baseline=None if best is None else best.plan,
            baseline_name="" if best is None else f"the best heuristic, {best.origin}",
            facts={
                "seed": self.seed,
                "CPU seconds spent": round(self.search_seconds, 2),
                "plans simulated": self.placed.evaluations,
            },
        )

    def summary(self) -> Mapping[str, Any]:
        """The figures that every command reports, as plain values."""
        graph, cluster = self.problem.graph, self.problem.given_cluster
        evaluation = self.trace.evaluation
        complexity = complexity_of(graph, self.plan.devices)
        return {
            "graph": graph.name,
            "digest": graph.digest,
            "ops": graph.op_count,
            "import": dict(import_gaps(graph).as_dict()),
            "cluster": cluster.name,
            "placer": self.placer,
            "origin": self.placed.best.origin,
            "feasible": evaluation.feasible,
            "failure": self.failure,
            "makespan_seconds": evaluation.makespan_seconds,
            "lower_bound_seconds": self.problem.bounds.seconds,
            "precision": dict(computed_types(graph)),
            "devices_used": complexity.devices,
            "crossings": complexity.crossings,
            "form": self.form,
            "simplicity": None if self.simplified is None else dict(self.simplified.as_dict()),
            "rivals": [dict(rival.as_dict()) for rival in self.rivals],
            "peak_bytes": dict(zip(cluster.device_names, evaluation.peak_bytes, strict=True)),
            "search_seconds": self.search_seconds,
            "search_wall_seconds": self.search_wall_seconds,
            "budget_seconds": self.budget_seconds,
            "budget_clock": "wall" if self.by_the_clock else "cpu",
            "evaluations": self.placed.evaluations,
            "stages": [
                {
                    "name": stage.name,
                    "cpu_seconds": stage.cpu_seconds,
                    "makespan_seconds": stage.makespan_seconds,
                }
                for stage in self.placed.stages
            ],
            "costs": self.problem.costs.name,
            "source": evaluation.source,
            "seed": self.seed,
        }


def place(
    graph: Graph,
    cluster: Cluster,
    placer: str | Placer = "portfolio",
    constraints: Constraints | None = None,
    costs: CostModel | None = None,
    budget_seconds: float = 30.0,
    seed: int = 0,
    on_progress: OnProgress = silent,
    simplicity: Simplicity | None = None,
    form: str | None = None,
) -> Placement:
    """Find a plan; look at `feasible` before using it.

    Args:
        placer: a name from the registry, or any placer.
        budget_seconds: CPU seconds for any-time placers; heuristics ignore it.
        simplicity: how simple the plan is to be; None takes what a placer's own plan deserves:
            the simplest within the known error of one that searches, a heuristic's as it is.
        form: a form of `placement.export.FORMS` that the plan is for: it is chosen by how that form
            would run.

    Raises:
        GraphwrightError: an unknown placer, or constraints that cannot be met.
        InfeasibleError: no plan keeps the rules of simplicity that were given.

    Example:
        >>> result = place(graph, cluster, "portfolio")
        >>> result.feasible, result.trace.makespan_seconds >= result.problem.bounds.seconds
        (True, True)
    """
    name = placer if isinstance(placer, str) else getattr(placer, "__name__", "custom")
    decide = get_placer(placer) if isinstance(placer, str) else placer
    problem = Problem(graph, cluster, constraints or Constraints(), costs)
    as_it_is = name in HEURISTICS and form is None
    rules = simplicity or (None if as_it_is else WITHIN_ERROR)
    return place_problem(problem, decide, name, budget_seconds, seed, on_progress, rules, form)


def place_problem(
    problem: Problem,
    placer: Placer,
    name: str,
    budget_seconds: float,
    seed: int,
    on_progress: OnProgress = silent,
    simplicity: Simplicity | None = None,
    form: str | None = None,
    by_the_clock: bool = False,
) -> Placement:
    """Run a placer on a problem that may be shared by several, and simplify its plan if asked to.

    Where one look at the graph shows that nothing fits, no budget is spent on it: the closest of
    the heuristics' plans says by how much.

    Args:
        budget_seconds: for the placer and, where a plan is to be simple, for simplifying it.
        form: a form of `placement.export.FORMS`: the last pass scores plans by how it would run.
        by_the_clock: the budget is of seconds that pass, and not of CPU seconds.

    Example:
        >>> problem = Problem(graph, cluster)
        >>> place_problem(problem, get_placer("single"), "single", 1.0, seed=0).placer
        'single'
    """
    hopeless = why_nothing_fits(problem)
    from placement.export import judge_of

    warm_up()
    allowed = 0.0 if hopeless else budget_seconds
    own, begun = Budget(allowed), time.perf_counter()
    whole = WallBudget(allowed) if by_the_clock else own
    reserve = 0.0 if simplicity is None else min(_LAST_PASS_SHARE * allowed, _LAST_PASS_SECONDS)
    placed = placer(problem, replace(whole, cpu_seconds=allowed - reserve), seed, on_progress)
    spent, passed = own.spent_seconds, time.perf_counter() - begun
    simplified = None
    judge = None if form is None else judge_of(form, problem)
    if simplicity is not None:
        until = replace(whole, cpu_seconds=allowed + _GRACE_SECONDS)
        simplified = simplify(
            problem, placed.best, placed.candidates, simplicity, seed, judge, until
        )
    simplifying = own.spent_seconds - spent
    if simplified is not None:
        placed = _with_simplified(problem, placed, simplified, simplifying)
    trace = problem.simulator.trace(placed.best.plan)
    return Placement(
        problem, placed, trace, name, budget_seconds, spent + placed.elsewhere_cpu_seconds, seed,
        simplified, hopeless, None if judge is None else form, simplifying, passed, by_the_clock,
    )  # fmt: skip


def _with_simplified(
    problem: Problem, placed: Placed, simplified: Simplified, cpu_seconds: float
) -> Placed:
    """The result with the simpler plan as its best; the fastest stays among the candidates."""
    if not simplified.changed:
        return placed
    stages = placed.stages or (Stage("search", 0.0, simplified.before.evaluation.makespan_seconds),)
    best = replace(simplified.best, evaluation=problem.evaluate(simplified.best.plan))
    return replace(
        placed,
        best=best,
        candidates=(*placed.candidates, simplified.before),
        evaluations=placed.evaluations + simplified.evaluations,
        stages=(*stages, Stage("simplifying", cpu_seconds, best.evaluation.makespan_seconds)),
    )
