"""`graphwright compare --suite`: placers on every pair of a suite, as a table like GO's."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.import_text import check_models
from agent.cli.output import prepare, print_json, print_table, print_text, progress
from agent.cli.task_flags import TaskFlags

if TYPE_CHECKING:
    from placement.suites import Suite
    from placement.suites.results import SuiteRow


def compare_suite(
    suite: "Suite",
    placers: Sequence[str],
    budget_seconds: float,
    seed: int,
    as_json: bool,
    policy: Path | None = None,
    allow_unknown: bool = False,
    tasks: TaskFlags = TaskFlags(),
) -> int:
    """Measure all pairs and print the table; 3 if some pair has no plan that fits.

    Args:
        suite: the pairs.
        placers: names; the columns of GO's table where empty.
        policy: a checkpoint, for the placer policy.
        allow_unknown: take models of which little is known.
        tasks: where placers run, and where their results are kept.
    """
    from agent.evaluation.suite_job import SuiteJob, compared
    from placement.suites.results import COLUMNS

    columns = tuple(dict.fromkeys(placers)) or COLUMNS
    job = SuiteJob(columns, budget_seconds, seed, policy)
    _ = job.placers  # a placer that does not exist is a mistake at once
    imports = check_models(suite.pairs, allow_unknown, quiet=as_json)
    with ExitStack() as opened:
        store = tasks.open_store(opened)
        prepare(quiet=as_json)
        label = f"{len(suite.pairs)} pairs of {suite.label}"
        on_progress = opened.enter_context(progress(label, quiet=as_json))
        runner = tasks.open_runner(opened)
        rows = compared(job, suite.pairs, runner, store, on_progress)
    if as_json:
        print_json(
            {"suite": suite.label, "imports": imports, "rows": [row.as_dict() for row in rows]}
        )
    else:
        _print(suite.label, rows, columns)
    solved = all(any(row.makespan_seconds.values()) for row in rows)
    return 0 if solved else 3


def _print(suite: str, rows: Sequence["SuiteRow"], columns: Sequence[str]) -> None:
    from placement.suites.results import ratio
    from simulator.units import format_seconds

    cells = []
    for row in rows:
        times = [row.makespan_seconds[name] for name in columns]
        cells.append(
            [
                Path(row.pair.graph_ref).name,
                row.pair.cluster_ref,
                str(row.devices),
                f"{row.ops:,}",
                *("OOM" if time is None else format_seconds(time) for time in times),
                format_seconds(row.lower_bound_seconds),
            ]
        )
    head = ["workload", "cluster", "devices", "ops", *columns, "lower bound"]
    title = f"{suite}: simulated step time, {rows[0].costs} costs" if rows else suite
    print_table(title, head, cells, left=2)
    best = columns[-1]
    for other in columns[:-1]:
        found = ratio(rows, best, other)
        mean = f"geometric mean {found.geometric_mean:.3f}, " if found.pairs else ""
        print_text(f"{best} / {other}: {mean}{found.pairs} of {len(rows)} pairs where both fit")
