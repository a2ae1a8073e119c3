"""`graphwright sweep-clusters --objective throughput`: steps per second of each cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.import_text import import_values, print_import
from agent.cli.output import prepare, print_json, print_table, print_text, progress

if TYPE_CHECKING:
    from agent.evaluation.periods import PeriodRow
    from graphs.graph import Graph
    from placement.throughput import Throughput
    from simulator.clusters.cluster import Cluster


@dataclass(frozen=True, eq=False)
class _Point:
    """The plan of one cluster, and how its steps overlap."""

    cluster: "Cluster"
    row: "PeriodRow"
    split: str
    bound_seconds: float | None
    cost: float
    """Device-seconds of a step; where prices are given, money for a thousand steps."""


def sweep_periods(
    graph: "Graph",
    clusters: "Sequence[Cluster]",
    request: "Throughput",
    budget_seconds: float,
    seed: int,
    prices: Mapping[str, float] | None,
    *,
    as_json: bool,
) -> int:
    """Plan a pipeline on every cluster; 3 if nothing fits on any.

    Raises:
        GraphwrightError: steps that cannot overlap.
    """
    prepare(quiet=as_json, overlaps=True)
    points = []
    with progress(f"{len(clusters)} clusters", quiet=as_json) as on_progress:
        for cluster in clusters:
            points.append(_point(graph, cluster, request, budget_seconds, seed, prices))
            on_progress(len(points) / len(clusters))
    good = _worth_having(points)
    unit = "device-seconds" if prices is None else "cost of 1000 steps"
    if as_json:
        print_json(
            {
                "graph": graph.name,
                "digest": graph.digest,
                "import": import_values(graph),
                "objective": "throughput",
                "micro_batches": request.micro_batches,
                "unit": unit,
                "clusters": [
                    _values(point, worth) for point, worth in zip(points, good, strict=True)
                ],
            }
        )
    else:
        _show(graph, points, good, unit)
    return DONE if any(point.row.feasible for point in points) else INFEASIBLE


def _point(
    graph: "Graph",
    cluster: "Cluster",
    request: "Throughput",
    budget_seconds: float,
    seed: int,
    prices: Mapping[str, float] | None,
) -> _Point:
    from agent.evaluation.periods import pipeline_that_fits, row_of
    from envs.overlapping import OverlapEvaluator, check_request
    from placement.heuristics.registry import HEURISTICS
    from placement.placer import Budget, silent
    from placement.problem import Problem
    from placement.throughput import pipeline_plan

    problem, budget = Problem(graph, cluster), Budget(budget_seconds)
    check_request(problem, request)
    pipeline = None
    if cluster.device_count > 1:
        pipeline = pipeline_that_fits(problem, budget, seed, request)
    if pipeline is None:
        # One device, or nothing fits: what the fastest device alone comes to.
        name, plan = "one device", HEURISTICS["single"](problem, budget, seed, silent).best.plan
    else:
        name, plan = pipeline.best.name, pipeline_plan(problem, pipeline.best)
    evaluator = OverlapEvaluator(problem, request)
    row = row_of(evaluator, name, "throughput", plan, budget.spent_seconds)
    rate = float(cluster.device_count)
    if prices is not None:
        rate = sum(prices.get(device.kind, 0.0) for device in cluster.devices) / 3.6
    bound = None if pipeline is None else pipeline.bound_seconds
    return _Point(cluster, row, name, bound, row.period_seconds * rate)


def _worth_having(points: Sequence[_Point]) -> list[bool]:
    """Whether a cluster fits, and no other has more steps per second or is cheaper and no worse in
    either."""

    def key(point: _Point) -> tuple[float, float]:
        return point.row.period_seconds, point.cost

    def beaten(one: _Point) -> bool:
        return any(
            other.row.feasible
            and all(a <= b for a, b in zip(key(other), key(one), strict=True))
            and key(other) != key(one)
            for other in points
        )

    return [point.row.feasible and not beaten(point) for point in points]


def _values(point: _Point, worth_having: bool) -> Mapping[str, Any]:
    return {
        "cluster": point.cluster.name,
        "devices": point.cluster.device_count,
        "used_devices": point.row.devices_used,
        "split": point.split,
        "period_bound_seconds": point.bound_seconds,
        "cost": point.cost,
        "worth_having": worth_having,
        **{
            key: value
            for key, value in point.row.as_dict(point.cluster.device_names).items()
            if key not in ("plan", "made_for", "devices_used")
        },
    }


def _show(graph: "Graph", points: Sequence[_Point], good: Sequence[bool], unit: str) -> None:
    from simulator.units import format_bytes, format_seconds

    first = points[0].row.period_seconds
    rows = [
        [
            point.cluster.name,
            str(point.cluster.device_count),
            str(point.row.devices_used),
            point.split,
            format_seconds(point.row.period_seconds),
            f"{1 / point.row.period_seconds:.4g}",
            f"{point.row.period_seconds / first:.2f}",
            f"{point.cost:.4g}",
            str(point.row.steps.schedule.most_in_flight),
            format_bytes(max(point.row.steps.peak_bytes)),
            "" if point.row.feasible else "OOM",
            "*" if worth else "",
        ]
        for point, worth in zip(points, good, strict=True)
    ]
    columns = ["cluster", "devices", "used", "split", "period", "steps/s", "x first", unit]
    title = f"{graph.name}, {graph.op_count} ops: simulated steps that overlap"
    print_table(title, [*columns, "in flight", "fullest", "memory", "worth"], rows)
    print_import(graph)
    print_text("* no other cluster of the table has more steps per second and is cheaper")
