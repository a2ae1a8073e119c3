"""What simpler plans cost: the fastest plan of a search beside the simplest that is as fast.

    python benchmarks/quality/simplicity.py [--budget 10s] [--out benchmarks/results/simplicity.md]

One search for each pair; its plan is simplified within 1%, 3% (the default on data sheets) and 10%
of the step. Inference graphs and training steps from torch, and the papers' workloads, each on
three clusters. All times are simulated.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.placing.registry import default_placer, get_placer
from benchmarks.rows import commit
from graphs.bundled_graphs import load_bundled
from placement.place import Placement, place_problem
from placement.problem import Problem
from placement.simplicity import Complexity, Simplicity, Simplified, complexity_of, simplify
from simulator.clusters.presets import preset
from simulator.units import SECONDS, parse_quantity

GRAPHS = ("resnet-50", "inception-v3", "rnnlm-4", "transformer-xl-4", "llama-1b", "t5-base-train",
          "swin-t-train", "granite-moe-1b")  # fmt: skip
CLUSTERS = ("4xv100-pcie", "8xa100-nvlink", "2xa100+2xv100-pcie")
TOLERANCES = (0.01, 0.03, 0.1)


@dataclass(frozen=True)
class Row:
    """One pair: the fastest plan, and the simpler ones by tolerance."""

    graph: str
    cluster: str
    fastest_seconds: float
    fastest: Complexity
    simpler: tuple[Simplified, ...]
    placement: Placement

    def __str__(self) -> str:
        cells = [self.graph, self.cluster, f"{self.fastest_seconds * 1e3:.4g} ms"]
        cells.append(f"{self.fastest.devices} / {self.fastest.crossings}")
        for item in self.simpler:
            used = item.complexity
            cells.append(f"{used.devices} / {used.crossings} ({item.cost:+.1%})")
        cells.append(f"{self.placement.simplify_seconds:.1f}")
        rivals = [r.makespan_seconds for r in self.placement.rivals if r.feasible]
        cells.append(f"{min(rivals) / self.fastest_seconds:.2f}" if rivals else "")
        return f"| {' | '.join(cells)} |"


def rows(budget_seconds: float, seed: int) -> Iterator[Row]:
    name = default_placer()
    for graph_name in GRAPHS:
        graph = load_bundled(graph_name)
        for cluster_name in CLUSTERS:
            problem = Problem(graph, preset(cluster_name))
            found = place_problem(
                problem, get_placer(name), name, budget_seconds, seed, simplicity=Simplicity()
            )
            assert found.simplified is not None
            fastest = found.simplified.before
            simpler = tuple(
                simplify(problem, fastest, found.placed.candidates, Simplicity(gain), seed)
                for gain in TOLERANCES
            )
            used = complexity_of(graph, fastest.plan.devices)
            seconds = fastest.evaluation.makespan_seconds
            yield Row(graph_name, cluster_name, seconds, used, simpler, found)


def page(found: list[Row], at: str, budget: str) -> str:
    """The table, and means over the pairs."""
    head = ["graph", "cluster", "fastest", "devices / crossings"]
    head += [f"within {gain:.0%}" for gain in TOLERANCES]
    head += ["CPU s at 3%", "best rival / fastest"]
    lines = [
        "# What simpler plans cost\n",
        f"`python benchmarks/quality/simplicity.py --budget {budget}`, commit {at}. Simulated; the "
        "placer that ships. Crossings are tensors times devices that receive them. Rivals are "
        "estimates of data parallelism and of a pipeline of equal layers, for training steps.\n",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *map(str, found),
        "",
    ]
    several = [row for row in found if row.fastest.crossings]
    for index, gain in enumerate(TOLERANCES):
        kept = [
            math.log((row.simpler[index].complexity.crossings + 1) / (row.fastest.crossings + 1))
            for row in several
        ]
        fewer = sum(row.simpler[index].complexity.devices < row.fastest.devices for row in several)
        cost = sum(row.simpler[index].cost for row in several) / len(several)
        lines.append(
            f"Within {gain:.0%}: {math.exp(sum(kept) / len(kept)):.2f} of the crossings (geometric "
            f"mean over {len(several)} pairs that cross), fewer devices on {fewer}, the step "
            f"{cost:.1%} longer in the mean.\n"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="10s")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seconds = parse_quantity(arguments.budget, SECONDS, "--budget")
    found = []
    for row in rows(seconds, arguments.seed):
        print(row, flush=True)
        found.append(row)
    text = page(found, commit(), arguments.budget)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
