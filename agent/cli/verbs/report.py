"""`graphwright report`: a plan as a page to look at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.options import ConstraintFlags, Target, of_plan, read_cluster, read_model, read_rules
from agent.cli.output import prepare, print_json, print_text
from agent.cli.placement_text import write_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphs.graph import Graph
    from placement.constraints import Constraints
    from placement.report import ReportedPlan
    from simulator.clusters.cluster import Cluster


def report(
    model: str,
    *,
    plan: Path,
    out: Path = Path("report.html"),
    baseline: Path | None = None,
    baselines: bool = True,
    target: Target = Target(),
    rules: ConstraintFlags = ConstraintFlags(),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write one HTML file that shows what a plan does, and why.

    It needs no network: step time beside baselines and the lower bound, the schedule with its
    critical path, what each device waits for, memory, the graph, what costs most, what changed
    against a baseline.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    plan
        A plan.json.
    out
        The file to write.
    baseline
        Another plan.json: what changed against it. None: against the best heuristic.
    baselines
        Run all heuristics for comparison (seconds, at 80,000 ops ten).
    json
        Print one JSON object instead of text.
    """
    target = of_plan(plan, target)
    graph, cluster = read_model(model, target), read_cluster(model, target)
    reported = _reported_plan(
        graph, cluster, plan, baseline, baselines, read_rules(rules), quiet=json
    )
    write_report(reported, out)
    evaluation = reported.trace.evaluation
    if json:
        print_json(
            {
                "graph": graph.name,
                "cluster": cluster.name,
                "feasible": evaluation.feasible,
                "makespan_seconds": evaluation.makespan_seconds,
                "report": str(out),
                "bytes": out.stat().st_size,
            }
        )
    else:
        print_text(f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB; open it in any browser")
    return DONE if evaluation.feasible else INFEASIBLE


def _reported_plan(
    graph: "Graph",
    cluster: "Cluster",
    path: Path,
    baseline: Path | None,
    baselines: bool,
    rules: "Constraints",
    quiet: bool,
) -> "ReportedPlan":
    from placement.placer import Budget, silent
    from placement.placers.portfolio import portfolio
    from placement.plan_file import read_plan
    from placement.problem import Problem
    from placement.report import ReportedPlan

    document = read_plan(path, graph, cluster)
    other = None if baseline is None else read_plan(baseline, graph, cluster).plan
    prepare(quiet=quiet)
    problem = Problem(graph, cluster, rules)
    trace = problem.simulator.trace(document.plan)
    made = document.provenance
    placed = portfolio(problem, Budget(), 0, silent) if baselines else None
    name = "" if baseline is None else str(baseline)
    if other is None and placed is not None and placed.best.plan != document.plan:
        other, name = placed.best.plan, f"the best heuristic, {placed.best.origin}"
    return ReportedPlan(
        problem=problem,
        plan=document.plan,
        trace=trace,
        made_by=_made_by(made) or str(path),
        candidates=() if placed is None else placed.candidates,
        progress=_progress(made.get("progress")),
        baseline=other,
        baseline_name=name,
        facts={k: v for k, v in made.items() if k not in {"placer", "origin", "progress"}},
    )


def _made_by(made: "Mapping[str, Any]") -> str:
    placer, origin = made.get("placer"), made.get("origin")
    return f"{placer} ({origin})" if origin and origin != placer else str(placer or "")


def _progress(value: object) -> tuple[tuple[float, float], ...]:
    """The search's progress that `place` left in the plan, if it did."""
    if not isinstance(value, list):
        return ()
    pairs = [item for item in value if isinstance(item, list) and len(item) == 2]
    return tuple((float(a), float(b)) for a, b in pairs)
