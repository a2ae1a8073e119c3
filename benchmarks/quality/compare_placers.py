"""Every placer on real graphs and unlike clusters; any-time placers at equal CPU, several seeds.

    python benchmarks/quality/compare_placers.py --out benchmarks/results/compare_placers.jsonl
    python benchmarks/quality/compare_placers.py --out ... --table     # only print what is there

Rows are appended as they come; rows that the file already has are not measured again. All
figures are simulated seconds.
"""

import argparse
import json
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import graphs
from benchmarks.rows import commit, read_rows
from placement.place import place_problem
from placement.placers.registry import PLACERS, get_placer
from placement.placers.tight_memory import tighten_memory
from placement.problem import Problem
from simulator.clusters.presets import preset

GRAPHS = ("inception-v3", "rnnlm-4", "transformer-xl-4", "wavenet-2x18", "gnmt-2")
CLUSTERS = ("4xv100-pcie", "4xv100-nvlink", "4xv100-pcie-tight1.3", "2xa100+2xv100-pcie")
ANY_TIME = ("search", "genetic")
HEADER = ("graph", "cluster", "placer", "seed", "budget")


def problem_of(graph_name: str, cluster_name: str) -> Problem:
    """A bundled graph or a model file, on a preset; `<preset>-tight<f>` shrinks its memory."""
    bundled = files("graphs") / "bundled" / f"{graph_name}.gwgraph"
    graph = graphs.load(Path(str(bundled)) if bundled.is_file() else Path(graph_name))
    base, _, factor = cluster_name.partition("-tight")
    cluster = preset(base)
    if factor:
        cluster = tighten_memory(Problem(graph, cluster), float(factor))
    return Problem(graph, cluster)


def measure(graph: str, cluster: str, placer: str, seed: int, budget: float) -> dict[str, Any]:
    """One row."""
    problem = problem_of(graph, cluster)
    placement = place_problem(problem, get_placer(placer), placer, budget, seed)
    row = dict(placement.summary())
    row.update(graph=graph, cluster=cluster, budget=budget)
    row["memory_bytes"] = int(problem.cluster.memory_bytes[0])
    return row


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--graphs", nargs="+", default=GRAPHS)
    parser.add_argument("--clusters", nargs="+", default=CLUSTERS)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    rows = read(arguments.out)
    if not arguments.table:
        done = {tuple(row[key] for key in HEADER) for row in rows}
        jobs = [
            (graph, cluster, placer, seed, arguments.budget if placer in ANY_TIME else 0.0)
            for seed in range(arguments.seeds)
            for graph in arguments.graphs
            for cluster in arguments.clusters
            for placer in PLACERS
            if placer == "search" or seed == 0
        ]
        run([job for job in jobs if job not in done], arguments.jobs, arguments.out)
        rows = read(arguments.out)
    print(table(rows))


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a results file; none where there is no file."""
    return read_rows(path)


def run(jobs: list[tuple[str, str, str, int, float]], processes: int, out: Path) -> None:
    """Measure jobs in worker processes and append each row as it comes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    at = commit()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool, out.open("a") as file:
        for future in as_completed([pool.submit(measure, *job) for job in jobs]):
            row = {**future.result(), "commit": at, "command": " ".join(sys.argv)}
            file.write(json.dumps(row) + "\n")
            file.flush()


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row per graph and cluster, a column per placer, in simulated milliseconds."""
    cells: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    bounds: dict[tuple[str, str], float] = {}
    for row in rows:
        pair = (row["graph"], row["cluster"])
        value = row["makespan_seconds"] * 1e3 if row["feasible"] else float("nan")
        cells[pair][row["placer"]].append(value)
        bounds[pair] = row["lower_bound_seconds"] * 1e3
    names = [name for name in PLACERS if any(name in found for found in cells.values())]
    lines = [
        "| graph | cluster | " + " | ".join(names) + " | search / portfolio | bound |",
        "|---" * (len(names) + 4) + "|",
    ]
    ratios = defaultdict(list)
    for pair, found in cells.items():
        shown = [text(found.get(name, [])) for name in names]
        floor = found.get("portfolio", [np.nan])[0]
        ratio = np.array(found.get("search", [np.nan])) / floor
        ratios[pair[1]].extend(ratio.tolist())
        shown.append(f"{np.mean(ratio):.3f} ({np.min(ratio):.3f}-{np.max(ratio):.3f})")
        lines.append(f"| {pair[0]} | {pair[1]} | {' | '.join(shown)} | {bounds[pair]:.1f} |")
    lines.append("")
    lines.append("Geometric mean of search / portfolio:")
    for cluster, values in ratios.items():
        lines.append(f"- {cluster}: {np.exp(np.nanmean(np.log(values))):.3f}")
    everything = np.concatenate(list(ratios.values()))
    lines.append(f"- all: {np.exp(np.nanmean(np.log(everything))):.3f}")
    return "\n".join(lines)


def text(values: list[float]) -> str:
    """Mean over seeds with the range; OOM where no plan fits."""
    if not values:
        return ""
    if np.isnan(values).any():
        return "OOM"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
