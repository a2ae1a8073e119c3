"""`graphwright compare --objective throughput`: plans side by side by steps per second."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.import_text import check_models, import_values, print_import
from agent.cli.output import prepare, print_json, print_table, print_text, progress

if TYPE_CHECKING:
    from agent.evaluation.periods import PeriodRow, PeriodTable
    from placement.problem import Problem
    from placement.suites import Suite
    from placement.throughput import Throughput

#: Splits that are columns of a suite's table; not every one is found for every pair.
_SPLITS = ("one device", "equal layers", "equal bytes", "equal flops", "balanced DP", "contiguous")
_CHOSEN = "place"
#: Plans for one step's time that are set beside the splits, unless others are named.
_LATENCY = ("single", "human-expert", "metis", "heft", "portfolio", "search")


def compare_periods(
    problem: "Problem",
    request: "Throughput",
    placers: Sequence[str],
    budget_seconds: float,
    seed: int,
    *,
    as_json: bool,
) -> int:
    """Compare plans of one model; 3 if none fits.

    Raises:
        GraphwrightError: an unknown placer, or steps that cannot overlap.
    """
    from agent.evaluation.periods import compare_periods as compare
    from agent.placing.registry import get_placer
    from envs.overlapping import check_request

    check_request(problem, request)
    chosen = {name: get_placer(name) for name in placers or _LATENCY}
    prepare(quiet=as_json, overlaps=True)
    with progress(f"a pipeline and {len(chosen)} placers", quiet=as_json) as on_progress:
        table = compare(problem, request, chosen, budget_seconds, seed, on_progress)
    if as_json:
        head = {
            "graph": problem.graph.name,
            "digest": problem.graph.digest,
            "ops": problem.graph.op_count,
            "import": import_values(problem.graph),
            "cluster": problem.given_cluster.name,
            "seed": seed,
        }
        print_json({**head, **table.as_dict()})
    else:
        _show(table)
    return DONE if any(row.feasible for row in table.rows) else INFEASIBLE


def _show(table: "PeriodTable") -> None:
    from simulator.units import format_bytes, format_seconds

    problem, best = table.problem, table.best_seconds
    rows = [
        [
            f"{row.name} *" if _is_chosen(table, row) else row.name,
            row.made_for,
            format_seconds(row.period_seconds),
            f"{1 / row.period_seconds:.4g}",
            f"{row.period_seconds / best:.2f}",
            f"{row.period_seconds / table.bound_seconds:.2f}" if table.bound_seconds else "",
            format_seconds(row.steps.latency_seconds),
            format_seconds(row.makespan_seconds),
            str(row.steps.schedule.most_in_flight),
            format_bytes(max(row.steps.peak_bytes)),
            "yes" if row.feasible else "OOM",
            str(row.devices_used),
            str(row.crossings),
        ]
        for row in table.rows
    ]
    bound = "" if not table.bound_seconds else f", bound {format_seconds(table.bound_seconds)}"
    many = table.request.micro_batches
    parts = f", {many} micro-batches" if many > 1 else ""
    columns = ["plan", "made for", "period", "steps/s", "x best", "x bound", "latency", "alone"]
    print_table(
        f"{problem.graph.name}, {problem.graph.op_count} ops, on {problem.given_cluster.name}: "
        f"steps that overlap{parts}, simulated, {problem.costs.name} costs{bound}",
        [*columns, "in flight", "fullest device", "fits", "devices", "crossings"],
        rows,
        left=2,
    )
    if table.chosen is not None:
        print_text("* what `place` takes: the fewest crossings of the splits about as good")
    print_import(problem.graph)


def _is_chosen(table: "PeriodTable", row: "PeriodRow") -> bool:
    return row.made_for == "throughput" and row.name == table.chosen


def compare_suite_periods(
    suite: "Suite",
    in_flight: int | None,
    micro_batches: int,
    placers: Sequence[str],
    budget_seconds: float,
    seed: int,
    *,
    as_json: bool,
    allow_unknown: bool = False,
) -> int:
    """Compare plans of every pair; 3 if some pair has no plan that fits.

    Args:
        micro_batches: of training steps; other graphs serve requests.
    """
    from agent.evaluation.periods import compare_periods as compare
    from agent.placing.registry import get_placer
    from envs.overlapping import request_of

    chosen = {name: get_placer(name) for name in placers or ("portfolio",)}
    imports = check_models(suite.pairs, allow_unknown, quiet=as_json)
    prepare(quiet=as_json, overlaps=True)
    tables = []
    with progress(f"{len(suite.pairs)} pairs of {suite.label}", quiet=as_json) as on_progress:
        for index, pair in enumerate(suite.pairs):
            problem = pair.problem()
            request = request_of(problem, in_flight, micro_batches)
            tables.append(compare(problem, request, chosen, budget_seconds, seed))
            on_progress((index + 1) / len(suite.pairs))
    if as_json:
        rows = [
            {**pair.as_dict(), **table.as_dict()}
            for pair, table in zip(suite.pairs, tables, strict=True)
        ]
        print_json({"suite": suite.label, "imports": imports, "rows": rows})
    else:
        _show_suite(suite, tables, tuple(chosen))
    solved = all(any(row.feasible for row in table.rows) for table in tables)
    return DONE if solved else INFEASIBLE


def _show_suite(suite: "Suite", tables: "Sequence[PeriodTable]", placers: Sequence[str]) -> None:
    from placement.suites.ratios import ratio
    from simulator.units import format_seconds

    columns = [
        *((name, "throughput") for name in _SPLITS),
        *((name, "latency") for name in placers),
    ]
    titles = [name if kind == "throughput" else f"{name} (latency)" for name, kind in columns]
    cells = []
    for pair, table in zip(suite.pairs, tables, strict=True):
        times = [*(table.period_of(*column) for column in columns), _chosen(table)]
        cells.append(
            [
                Path(pair.graph_ref).name,
                pair.cluster_ref,
                str(table.problem.cluster.device_count),
                *("OOM" if time is None else format_seconds(time) for time in times),
                format_seconds(table.bound_seconds) if table.bound_seconds else "",
            ]
        )
    head = ["workload", "cluster", "devices", *titles, _CHOSEN, "bound"]
    print_table(f"{suite.label}: simulated period of steps that overlap", head, cells, left=2)
    ours = _by_number([_chosen(table) for table in tables])
    for title, column in zip(titles, columns, strict=True):
        theirs = _by_number([table.period_of(*column) for table in tables])
        found = ratio(_CHOSEN, title, ours, theirs)
        mean = f"geometric mean {found.geometric_mean:.3f}, " if found.pairs else ""
        print_text(
            f"{_CHOSEN} / {title}: {mean}{found.pairs} of {len(tables)} pairs where both fit"
        )


def _chosen(table: "PeriodTable") -> float | None:
    return None if table.chosen is None else table.period_of(table.chosen, "throughput")


def _by_number(periods: Sequence[float | None]) -> dict[int, dict[int, float]]:
    return {number: {0: time} if time else {} for number, time in enumerate(periods)}
