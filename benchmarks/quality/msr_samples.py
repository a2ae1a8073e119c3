"""The dnn-partitioning samples: profiled costs, memory limits, and the human expert's split.

    python benchmarks/quality/msr_samples.py [--budget 10] [--out benchmarks/results/msr_samples.md]

Step times are simulated for one sample in flight, in milliseconds. One accelerator is reported
whether or not the model fits into it.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import graphs
from graphs.importers.msr_benchmark import read_msr_expert
from placement.heuristics.placements import candidate
from placement.place import place_problem
from placement.placers.registry import get_placer
from placement.problem import Problem
from simulator.cluster_file import load_cluster
from simulator.evaluation import Evaluation

DATA = Path(__file__).parents[2] / "tests" / "data" / "msr"
SAMPLES = (
    "layer_gnmt_training",
    "operator_bert_l-3_training",
    "latency_operator_bert_l-3_inference",
)
EXPERTS = {"layer_gnmt_training": "gnmt_training_expert"}
PLACERS = ("human-expert", "metis", "heft", "m-etf", "m-sct", "portfolio", "search")


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    head = ["sample", "ops", "one accelerator", "published expert split", *PLACERS, "bound"]
    lines = [
        f"`{' '.join(['python', *sys.argv])}`, simulated milliseconds; OOM: over a memory limit.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *(row(name, arguments.budget) for name in SAMPLES),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def row(name: str, budget: float) -> str:
    """One sample under every placer, the published split and one accelerator."""
    path = DATA / f"{name}.json"
    problem = Problem(graphs.load(path), load_cluster(path))
    one = candidate(problem, np.zeros(problem.graph.op_count, np.int32), "one").evaluation
    expert = expert_devices(problem, name)
    cells = [name, str(problem.graph.op_count), shown(one)]
    cells.append("" if expert is None else shown(candidate(problem, expert, "x").evaluation))
    for placer in PLACERS:
        placement = place_problem(problem, get_placer(placer), placer, budget, seed=0)
        cells.append(shown(placement.trace.evaluation))
    cells.append(f"{problem.bounds.seconds * 1e3:.1f}")
    return f"| {' | '.join(cells)} |"


def expert_devices(problem: Problem, name: str) -> np.ndarray | None:
    """The published split as a device per op, where there is one."""
    if name not in EXPERTS:
        return None
    document = json.loads((DATA / f"{EXPERTS[name]}.json").read_text())
    labels = read_msr_expert(document, EXPERTS[name])
    nodes = json.loads((DATA / f"{name}.json").read_text())["nodes"]
    by_name = {node["name"]: labels[node["id"]] for node in nodes}
    return np.array(
        [problem.cluster.device_index(by_name[op]) for op in problem.graph.op_names], np.int32
    )


def shown(evaluation: Evaluation) -> str:
    """Milliseconds, marked where memory does not suffice."""
    return f"{evaluation.makespan_seconds * 1e3:.1f}" + ("" if evaluation.feasible else " OOM")


if __name__ == "__main__":
    main()
