"""GO's table over a suite: one device, human expert, METIS, HEFT, portfolio, search, lower bound.

    python benchmarks/quality/suite_table.py paper --budget 30
    python benchmarks/quality/suite_table.py paper --table   # only print what is there

The same figures as `graphwright compare --suite paper`, kept as they come: rows are appended to
`results/suite_<name>.jsonl`, pairs that the file has are not measured again, and the table is
written beside it. All times are simulated seconds.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from agent.evaluation.suite_job import SuiteJob, compared
from agent.runs.result_store import ResultStore
from agent.tasks.in_process import InProcess
from benchmarks.rows import append_row, commit, read_rows
from placement.suites import SUITES
from placement.suites.ratios import geometric_mean
from placement.suites.results import COLUMNS, SuiteRow, ratio

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=list(SUITES))
    parser.add_argument("--budget", type=float, default=30.0, help="CPU seconds of search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, help="results that are not worked out again")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    path = RESULTS / f"suite_{arguments.suite}.jsonl"
    job = SuiteJob(COLUMNS, arguments.budget, arguments.seed)
    store = None if arguments.store is None else ResultStore(arguments.store)
    rows = read_rows(path)
    done = {(row["graph"], row["cluster"], row["seed"], row["budget_seconds"]) for row in rows}
    for pair in [] if arguments.table else SUITES[arguments.suite].pairs:
        key = (pair.graph_ref, pair.cluster_ref, arguments.seed, arguments.budget)
        if key in done:
            continue
        (measured,) = compared(job, [pair], InProcess(), store)
        row = {**measured.as_dict(), "commit": commit(), "command": " ".join(sys.argv)}
        rows.append(row)
        append_row(path, row)
        print(pair.graph_ref, pair.cluster_ref, row["makespan_seconds"], flush=True)
    text = table(arguments.suite, rows)
    path.with_suffix(".md").write_text(text)
    print(text)


def table(suite: str, rows: list[dict[str, Any]]) -> str:
    """Markdown, in simulated milliseconds."""
    lines = [
        f"# Placers on the suite `{suite}`",
        "",
        f"Simulated milliseconds of a step, {rows[0]['costs']} costs; OOM: no plan of the placer "
        f"fits. Search: {rows[0]['budget_seconds']:g} CPU seconds, seed {rows[0]['seed']}. "
        f"Command: `python {rows[0]['command']}`, commits "
        f"{', '.join(sorted({row['commit'] for row in rows}))}.",
        "",
        "| workload | cluster | devices | ops | " + " | ".join(COLUMNS) + " | lower bound |",
        "|---|---|---" + "|---:" * (len(COLUMNS) + 2) + "|",
    ]
    for row in rows:
        times = [row["makespan_seconds"][name] for name in COLUMNS]
        cells = ["OOM" if time is None else f"{time * 1e3:,.1f}" for time in times]
        lines.append(
            f"| {row['graph']} | {row['cluster']} | {row['devices']} | {row['ops']:,} | "
            f"{' | '.join(cells)} | {row['lower_bound_seconds'] * 1e3:,.1f} |"
        )
    lines += ["", "Geometric means of search / other, over the pairs where both fit:", ""]
    measured = [SuiteRow.from_dict(row) for row in rows]
    for other in COLUMNS[:-1]:
        found = ratio(measured, "search", other)
        lines.append(f"- {other}: {found.geometric_mean:.3f} over {found.pairs} of {len(rows)}")
    over_bound = [
        seconds / row.lower_bound_seconds
        for row in measured
        if (seconds := row.makespan_seconds["search"])
    ]
    lines.append(f"- lower bound: {geometric_mean(over_bound):.3f} (can be loose)")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
