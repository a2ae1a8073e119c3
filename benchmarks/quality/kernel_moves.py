"""Kernels that change while the search goes on, beside kernels that stay as they were fused.

    python benchmarks/quality/kernel_moves.py --budget 10
    python benchmarks/quality/kernel_moves.py --table

Pairs of the suite `paper`, but for those whose portfolio takes a good part of ten seconds. All
columns have the same CPU seconds, heuristics included: with fixed kernels the placer has all of
them, otherwise the last part goes to moves of kernels (`placement/placers/fused.py`). Rows go to
`results/kernel_moves.jsonl`.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.placing.registry import get_placer
from benchmarks.rows import append_row, commit, read_rows
from placement.placer import Budget, silent
from placement.placers.fused import FusedPlacer
from placement.placers.warm_up import warm_up
from placement.problem import Problem
from placement.suites import SUITES

RESULTS = Path(__file__).parents[1] / "results"
GRAPHS = (
    "rnnlm-2", "transformer-xl-2", "transformer-xl-4", "transformer-xl-8", "inception-v3",
    "amoebanet-d", "wavenet-2x18", "wavenet-4x36",
)  # fmt: skip
PLACERS = ("search", "policy")


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=10.0, help="CPU seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--placers", nargs="+", default=list(PLACERS), choices=PLACERS)
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=GRAPHS)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "kernel_moves.jsonl"
    rows = read_rows(path)
    done = {(row["graph"], row["placer"], row["seed"], row["budget_seconds"]) for row in rows}
    for pair in () if given.table else SUITES["paper"].pairs:
        for placer in given.placers if pair.graph_ref in given.graphs else ():
            if (pair.graph_ref, placer, given.seed, given.budget) in done:
                continue
            warm_up()
            problem = Problem(pair.graph(), pair.cluster())
            fixed, moved = (
                FusedPlacer(get_placer(placer), moves)(
                    problem, Budget(given.budget), given.seed, silent
                ).best.evaluation.makespan_seconds
                for moves in (False, True)
            )
            row = {
                "graph": pair.graph_ref, "cluster": pair.cluster_ref, "placer": placer,
                "seed": given.seed, "budget_seconds": given.budget, "fixed_seconds": fixed,
                "moved_seconds": moved, "commit": commit(), "command": " ".join(sys.argv),
            }  # fmt: skip
            rows.append(row)
            append_row(path, row)
            print(pair.graph_ref, placer, fixed, moved, flush=True)
    text = table(rows)
    path.with_suffix(".md").write_text(text)
    print(text)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, in simulated milliseconds, with geometric means of ratios below."""
    lines = [
        "# Kernels that move and kernels that stay",
        "",
        "Simulated milliseconds (roofline costs), suite `paper`; columns: see "
        "`benchmarks/quality/kernel_moves.py`. Commits "
        + ", ".join(sorted({row["commit"] for row in rows}))
        + ".",
        "",
        "| graph | cluster | placer | CPU s | seed | fixed | moved | ratio |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        fixed, moved = row["fixed_seconds"], row["moved_seconds"]
        lines.append(
            f"| {row['graph']} | {row['cluster']} | {row['placer']} | {row['budget_seconds']:g} | "
            f"{row['seed']} | {fixed * 1e3:.1f} | {moved * 1e3:.1f} | {moved / fixed:.4f} |"
        )
    lines += ["", "| geometric mean | ratio |", "|---|---:|"]
    for key in sorted({(row["placer"], row["budget_seconds"]) for row in rows}):
        mine = [row for row in rows if (row["placer"], row["budget_seconds"]) == key]
        ratio = np.mean([math.log(row["moved_seconds"] / row["fixed_seconds"]) for row in mine])
        lines.append(f"| {key[0]}, {key[1]:g} s ({len(mine)} rows) | {math.exp(ratio):.4f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
