"""Throughput on the dnn-partitioning benchmark, in its own semantics: the least largest load.

    python benchmarks/quality/msr_throughput.py FOLDER --budget 10s --json OUT [--out FILE.md]

For every JSON file below FOLDER that is a graph of the benchmark: the best split into contiguous
stages, exactly (null where there are too many ideals), the best placement that a local search finds
in the budget, which begins at that split, and one accelerator, whether or not the model fits into
it. Milliseconds. The search's time is CPU time; the exact split's is not limited.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import graphs
from benchmarks.rows import commit
from graphs.errors import GraphwrightError, ModelError
from graphs.importers.msr_benchmark import NOMINAL_HOP_BYTES_PER_SECOND
from placement.problem import Problem
from placement.throughput import (
    LoadProblem,
    best_contiguous_split,
    device_loads,
    load_problem,
    search_loads,
)
from placement.throughput.loads import fits
from placement.throughput.starts import simple_splits
from simulator.cluster_file import load_cluster
from simulator.errors import InfeasibleError
from simulator.units import SECONDS, parse_quantity

Row = dict[str, float | None]


def row_of(path: Path, budget_seconds: float, seed: int) -> Row:
    """All figures of one file."""
    problem = Problem(graphs.load(path), load_cluster(path))
    loads = load_problem(problem, NOMINAL_HOP_BYTES_PER_SECOND)
    begun = time.process_time()
    try:
        split = best_contiguous_split(loads)
    except InfeasibleError:
        split = None
    exact_seconds = time.process_time() - begun
    starts = [*([] if split is None else [split.devices]), *simple_splits(loads, seed)]
    found = search_loads(loads, starts, budget_seconds, seed)
    return {
        "dp_milliseconds": None if split is None else split.seconds * 1e3,
        "milliseconds": _largest(loads, found) if fits(loads, found) else None,
        "one_device_milliseconds": _one_device(problem),
        "ideals": None if split is None else split.ideals,
        "dp_cpu_seconds": exact_seconds,
    }


def _largest(loads: LoadProblem, devices: np.ndarray) -> float:
    return float(device_loads(loads, devices).max()) * 1e3


def _one_device(problem: Problem) -> float | None:
    """The accelerator's time for everything; None where it cannot run some op."""
    total = float(problem.graph.profiled_seconds["accelerator"].sum()) * 1e3
    return total if np.isfinite(total) else None


def main() -> None:
    """Run every file and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", default="10s")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    budget = parse_quantity(arguments.budget, SECONDS, "--budget")
    rows: dict[str, Row] = {}
    for path in sorted(arguments.folder.rglob("*.json")):
        name = str(path.relative_to(arguments.folder))
        try:
            rows[name] = row_of(path, budget, arguments.seed)
        except ModelError as error:  # other JSON, such as an expert's split
            print(f"{name}: left out, {error}")
            continue
        except GraphwrightError as error:
            print(f"{name}: {error}")
            rows[name] = {"dp_milliseconds": None, "milliseconds": None}
        print(name, rows[name], flush=True)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if arguments.out is not None:
        arguments.out.write_text(page(rows, arguments.budget), encoding="utf-8")


def page(rows: dict[str, Row], budget: str) -> str:
    """The table."""
    head = [
        "graph",
        "one accelerator",
        "best contiguous",
        "search",
        "search / contiguous",
        "ideals",
    ]
    lines = [
        "# Throughput on the dnn-partitioning benchmark\n",
        f"`python benchmarks/quality/msr_throughput.py FOLDER --budget {budget}`, commit "
        f"{commit()}. Milliseconds of the largest load, in the benchmark's semantics.\n",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    for name, row in rows.items():
        exact, found = row.get("dp_milliseconds"), row.get("milliseconds")
        ratio = "" if not exact or not found else f"{found / exact:.3f}"
        cells = [name, _cell(row.get("one_device_milliseconds")), _cell(exact), _cell(found), ratio]
        ideals = row.get("ideals")
        lines.append(f"| {' | '.join([*cells, '' if ideals is None else f'{ideals:.0f}'])} |")
    return "\n".join([*lines, ""])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
