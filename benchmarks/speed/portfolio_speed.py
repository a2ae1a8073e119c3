"""CPU seconds of the portfolio on the largest bundled graphs.

    python benchmarks/speed/portfolio_speed.py [--out benchmarks/results/portfolio_speed.md]

The targets are 10 s at 10,000 ops and 60 s at 80,000. Tight memory makes every list scheduler try
several shares of it, which is the slowest case.
"""

import argparse
import sys
from pathlib import Path

from graphs.bundled_graphs import load_bundled
from placement.place import place_problem
from placement.placers.registry import get_placer
from placement.placers.tight_memory import tighten_memory
from placement.problem import Problem
from simulator.clusters.presets import preset

GRAPHS = ("transformer-xl-4", "nasnet-large", "gnmt-8", "gnmt-8-80k")
CLUSTERS = ("4xv100-pcie", "8xp100-pcie", "4xv100-pcie tight 1.2")


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [
        f"`{' '.join(['python', *sys.argv])}`",
        "",
        "| graph | ops | cluster | plans compared | CPU s | fits |",
        "|---|---|---|---|---|---|",
    ]
    for name in GRAPHS:
        for cluster_name in CLUSTERS:
            base, _, factor = cluster_name.partition(" tight ")
            problem = Problem(load_bundled(name), preset(base))
            if factor:
                problem = Problem(problem.graph, tighten_memory(problem, float(factor)))
            done = place_problem(problem, get_placer("portfolio"), "portfolio", 60.0, 0)
            lines.append(
                f"| {name} | {problem.graph.op_count} | {cluster_name} "
                f"| {done.placed.evaluations} | {done.search_seconds:.1f} "
                f"| {'yes' if done.feasible else 'no'} |"
            )
            print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
