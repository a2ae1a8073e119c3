"""Published learned placers beside each other, the portfolio and the one-shot policy.

    python benchmarks/quality/learned_placers.py --budget 60
    python benchmarks/quality/learned_placers.py --graphs cells:30003:656 --columns giph --budget 5
    python benchmarks/quality/learned_placers.py --table   # only writes the table

Placeto, GiPH, Doppler, GDP and HDP learn from scratch on each graph, all in the same CPU seconds.
The portfolio and the one-shot policy end by themselves; they are allowed as much. Graphs are held
out of all training. Each run is a row of `results/learned_placers.jsonl` as soon as it is done;
what the file has is not run again. Writes `results/learned_placers.md`.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from agent.evaluation.columns import (
    DOPPLER,
    GDP,
    GIPH,
    HDP,
    ONE_SHOT,
    PLACETO,
    PORTFOLIO,
    column_of,
)
from agent.evaluation.evaluation_job import Entrants, EvaluationJob, evaluated
from agent.evaluation.ratios import times
from agent.evaluation.runs import EvaluationRow, Origin
from agent.evaluation.tables import cell
from agent.runs.result_store import ResultStore
from agent.tasks.in_process import InProcess
from benchmarks.rows import RESULTS, append_row, commit, read_rows
from placement.placers.warm_up import warm_up
from placement.suites import Pair, get_suite
from placement.suites.ratios import LEAST_DRAWN, MeanRatio, judged, ratio

ROWS = RESULTS / "learned_placers.jsonl"
SUITES = ("test-families", "test-instances", "real-test")
GRAPHS = (
    "wavenet:30004:568", "wavenet:30013:429", "moe:30005:752", "moe:30012:914", "cells:30003:656",
    "cells:30010:774", "rnnlm:20006:1065", "gnmt:20001:606", "gnmt:20005:902",
    "real/googlenet-train",
)  # fmt: skip
LEARNED = (PLACETO, GIPH, DOPPLER, GDP, HDP)
OTHERS = (PORTFOLIO, ONE_SHOT)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=60.0, help="CPU seconds of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), help="of the held-out suites")
    parser.add_argument("--columns", nargs="+", default=[*LEARNED, *OTHERS])
    parser.add_argument("--one-shot", type=Path, help="another policy than the one that ships")
    parser.add_argument("--out", type=Path, default=ROWS)
    parser.add_argument("--store", type=Path, help="results that are not worked out again")
    parser.add_argument("--table", action="store_true", help="run nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.table:
        warm_up()
        for pair in held_out(given.graphs):
            measure(pair, given)
    text = table(read(given.out))
    given.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def held_out(graphs: Sequence[str]) -> list[Pair]:
    """The pairs of these graphs in the held-out suites, in the order of the suites."""
    pairs = [pair for suite in SUITES for pair in get_suite(suite).pairs]
    if unknown := sorted(set(graphs) - {pair.graph_ref for pair in pairs}):
        raise SystemExit(f"{unknown[0]} is in none of {', '.join(SUITES)}; see `suites show`")
    return [pair for pair in pairs if pair.graph_ref in graphs]


def measure(pair: Pair, given: argparse.Namespace) -> None:
    """Rows of a pair that the file lacks, seed by seed."""
    entrants = Entrants(tuple(given.columns), one_shot=given.one_shot)
    job = EvaluationJob(entrants, given.budget, Origin("held out", " ".join(sys.argv), commit()))

    def record(row: EvaluationRow) -> None:
        append_row(given.out, row.as_dict())
        print(row.graph, row.cluster, row.column, row.seed, row.makespan_seconds, flush=True)

    with ExitStack() as opened:
        store = None if given.store is None else opened.enter_context(ResultStore(given.store))
        tasks = job.tasks([pair], given.seeds)
        evaluated(job, tasks, InProcess(), read(given.out), store, record)


def read(path: Path) -> list[EvaluationRow]:
    """Rows so far."""
    return [EvaluationRow.from_dict(row) for row in read_rows(path)]


def table(rows: Sequence[EvaluationRow]) -> str:
    """Markdown; rows of each budget apart."""
    lines = [
        "# Published learned placers",
        "",
        "Simulated step times in milliseconds, the mean over seeds with the range; "
        f"{', '.join(LEARNED)} learn from scratch on each graph until the CPU seconds are spent, "
        f"{' and '.join(OTHERS)} end by themselves. Ratios are geometric means over pairs on which "
        "both have a plan that fits, each by the mean over its seeds, with Student's 95% "
        "intervals; below 1 the first is faster. Verdicts hold for all comparisons of a column "
        f"together (Holm), on at least {LEAST_DRAWN} pairs.",
    ]
    for budget in sorted({row.budget_seconds for row in rows}):
        inside = [row for row in rows if row.budget_seconds == budget]
        lines += ["", f"## {budget:g} CPU seconds", "", *_step_times(inside)]
        lines += ["", *_ratios(inside), "", *_spent(inside)]
    commands = sorted({f"- `python {row.command}`, {row.commit}" for row in rows})
    return "\n".join([*lines, "", "## Commands", "", *commands]) + "\n"


def _columns(rows: Sequence[EvaluationRow]) -> list[str]:
    """Those that have rows, in the order of the table."""
    present = {row.column for row in rows}
    known = [name for name in (*LEARNED, *OTHERS) if name in present]
    return known + sorted(present - set(known))


def _step_times(rows: Sequence[EvaluationRow]) -> list[str]:
    columns, found = _columns(rows), times(rows)
    lines = [
        f"| graph | cluster | ops | {' | '.join(columns)} |",
        "|---|---" + "|---:" * (len(columns) + 1) + "|",
    ]
    for graph, cluster in dict.fromkeys((row.graph, row.cluster) for row in rows):
        mine = [row for row in rows if (row.graph, row.cluster) == (graph, cluster)]
        cells = [
            cell(found[name].get((graph, cluster)), sum(row.column == name for row in mine))
            for name in columns
        ]
        lines.append(f"| {graph} | {cluster} | {mine[0].ops:,} | {' | '.join(cells)} |")
    return lines


def compared(rows: Sequence[EvaluationRow]) -> tuple[MeanRatio, ...]:
    """Every learned placer and the one-shot policy over all that are named after them."""
    columns, found = _columns(rows), times(rows)
    return judged(
        [
            ratio(column, against, found[column], found[against])
            for number, column in enumerate(columns)
            for against in columns[number + 1 :]
        ]
    )


def _ratios(rows: Sequence[EvaluationRow]) -> list[str]:
    lines = [
        "| column | against | ratio | 95% interval | outside the noise | pairs | faster | slower "
        "| fits alone | other fits alone |",
        "|---|---|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    for item in compared(rows):
        if not item.pairs:
            shown = " | | "
        else:
            interval = f"{item.low:.3f}-{item.high:.3f}" if np.isfinite(item.low) else ""
            verdict = "faster" if item.geometric_mean < 1 else "slower"
            shown = f"{item.geometric_mean:.3f} | {interval} | "
            shown += verdict if item.outside_noise else "no"
        lines.append(
            f"| {item.column} | {item.against} | {shown} | {item.pairs} | {item.faster} "
            f"| {item.slower} | {item.only_column} | {item.only_against} |"
        )
    return lines


def _spent(rows: Sequence[EvaluationRow]) -> list[str]:
    """What a run of each column took."""
    lines = []
    for name in _columns(rows):
        mine = [row for row in rows if row.column == name]
        lines.append(
            f"- {name}: {column_of(name).about}; medians: "
            f"{np.median([row.cpu_seconds for row in mine]):.1f} CPU seconds, "
            f"{np.median([row.evaluations for row in mine]):,.0f} plans simulated"
        )
    return lines


if __name__ == "__main__":
    main()
