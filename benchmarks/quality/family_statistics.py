"""Generated graphs against real ones: structure, costs, kinds of ops.

    python benchmarks/quality/family_statistics.py [--seeds 10]

The table is written to results/family_statistics.md.

Only training steps are compared, as the real graphs are training steps. Each cell shows the
least, the median and the greatest figure. Real graphs of families that suites hold out are shown
for comparison; no constant of a family was tuned to them.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.rows import commit
from graphs.bundled_graphs import load_bundled
from graphs.families.registry import FAMILIES, generate
from graphs.graph import Graph
from graphs.kinds import OpKind, Phase, Storage
from graphs.summary import op_depths
from simulator.clusters.presets import preset
from simulator.costs.cost_model import RooflineCosts

OUT = Path(__file__).parents[1] / "results" / "family_statistics.md"
PCIE_BYTES_PER_SECOND = 12e9

#: The real graphs that a family stands for; the others have none.
REAL: Mapping[str, Sequence[str]] = {
    "rnnlm": ("rnnlm-2", "rnnlm-4", "rnnlm-8"),
    "gnmt": ("gnmt-2", "gnmt-4", "gnmt-8-35k"),
    "convnet": ("resnet-50", "resnet-152"),
    "inception": ("inception-v3", "inception-v3-64"),
    "transformer": ("transformer-xl-2", "transformer-xl-4", "transformer-xl-8"),
    "wavenet": ("wavenet-2x18", "wavenet-4x36"),
    "cells": ("nasnet-large", "amoebanet-d"),
}


def depth_share(graph: Graph) -> float:
    """Ops on the longest path for each hundred ops."""
    return 100.0 * (int(op_depths(graph).max()) + 1) / graph.op_count


def width_share(graph: Graph) -> float:
    """Most ops at one depth (sources apart), for each hundred ops."""
    return 100.0 * int(np.bincount(op_depths(graph))[1:].max()) / graph.op_count


def edges_per_op(graph: Graph) -> float:
    """Edges for each op."""
    return graph.edge_count / graph.op_count


def largest_fan_out(graph: Graph) -> float:
    """Readers of the most popular tensor."""
    return float(np.diff(graph.consumer_offsets).max())


def kilobytes(graph: Graph) -> float:
    """Median size of tensors of at least 256 bytes, in kB."""
    sizes = graph.tensor_bytes[graph.tensor_storage == Storage.BUFFER]
    return float(np.median(sizes[sizes >= 256])) / 1e3


def launch_bound(graph: Graph) -> float:
    """Percent of kernels that take less than twice a launch on a V100."""
    cluster = preset("1xv100-pcie")
    seconds = RooflineCosts().seconds(graph, cluster)[:, 0]
    kernels = seconds[seconds > 0]
    return 100.0 * float(np.mean(kernels < 2 * cluster.devices[0].launch_seconds))


def communication(graph: Graph) -> float:
    """Seconds to send every activation once over PCIe, for each second of compute on a V100."""
    seconds = RooflineCosts().seconds(graph, preset("1xv100-pcie"))[:, 0].sum()
    sent = graph.tensor_bytes[graph.tensor_storage == Storage.BUFFER].sum()
    return float(sent / PCIE_BYTES_PER_SECOND / seconds)


def backward_share(graph: Graph) -> float:
    """Flops of the backward pass for each flop of the forward pass."""
    flops = [graph.flops[graph.phases == phase].sum() for phase in Phase]
    return float(flops[Phase.BACKWARD] / flops[Phase.FORWARD])


def grouped(graph: Graph) -> float:
    """Percent of ops in a colocation group."""
    return 100.0 * float(np.mean(graph.colocation >= 0))


FIGURES: Mapping[str, Callable[[Graph], float]] = {
    "ops": lambda graph: float(graph.op_count),
    "depth per 100 ops": depth_share,
    "width per 100 ops": width_share,
    "edges per op": edges_per_op,
    "largest fan-out": largest_fan_out,
    "median tensor, kB": kilobytes,
    "short kernels, %": launch_bound,
    "communication / compute": communication,
    "backward / forward flops": backward_share,
    "colocated, %": grouped,
}


def histogram(graphs: Sequence[Graph]) -> np.ndarray:
    """Shares of op kinds, averaged over graphs."""
    counts = [np.bincount(g.kinds, minlength=len(OpKind)) / g.op_count for g in graphs]
    return np.mean(counts, axis=0)


def training_graphs(family: str, count: int) -> tuple[list[Graph], float]:
    """The first training steps of a family, and CPU milliseconds per 1,000 ops to make them."""
    graphs: list[Graph] = []
    seed, begun, ops = 0, time.process_time(), 0
    while len(graphs) < count:
        graph = generate(family, seed)
        ops += graph.op_count
        seed += 1
        if (graph.phases == Phase.UPDATE).any():
            graphs.append(graph)
    return graphs, (time.process_time() - begun) * 1e6 / ops


def cell(figure: Callable[[Graph], float], graphs: Sequence[Graph]) -> str:
    """Least, median, greatest."""
    values = [figure(graph) for graph in graphs]
    return " / ".join(number(value) for value in (min(values), np.median(values), max(values)))


def number(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(seeds: int) -> str:
    """Markdown."""
    columns = [*FIGURES, "kinds: distance", "kinds: most frequent (%)", "ms per 1,000 ops"]
    lines = ["| family | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    everything = [load_bundled(name) for names in REAL.values() for name in names]
    overall = histogram(everything)
    for family in FAMILIES:
        real = [load_bundled(name) for name in REAL.get(family, ())]
        made, speed = training_graphs(family, seeds)
        kinds = histogram(made)
        reference = histogram(real) if real else overall
        distance = 0.5 * np.abs(kinds - reference).sum()
        against = "" if real else " (to all)"
        cells = [cell(figure, made) for figure in FIGURES.values()]
        cells += [f"{distance:.2f}{against}", most_frequent(kinds), f"{speed:.1f}"]
        lines.append(f"| {family}, {len(made)} generated | " + " | ".join(cells) + " |")
        if real:
            cells = [cell(figure, real) for figure in FIGURES.values()]
            cells += ["", most_frequent(reference), ""]
            lines.append(f"| {family}, {len(real)} real | " + " | ".join(cells) + " |")
    cells = [cell(figure, everything) for figure in FIGURES.values()]
    lines.append(f"| all {len(everything)} real | " + " | ".join([*cells, "", "", ""]) + " |")
    return "\n".join(lines)


def most_frequent(shares: np.ndarray) -> str:
    """The six most frequent kinds."""
    order = np.argsort(-shares)[:6]
    return ", ".join(f"{OpKind(kind).name.lower()} {100 * shares[kind]:.0f}" for kind in order)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30, help="graphs of each family")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    at = commit()
    text = (
        "# Generated graphs against real ones\n\n"
        f"`python benchmarks/quality/family_statistics.py --seeds {arguments.seeds}`, "
        f"commit {at}. Least / median / greatest; training steps only. "
        "Distance of kinds: half the sum of absolute differences of the mean histograms "
        "(0 equal, 1 disjoint). Communication: "
        "seconds to send every activation once over PCIe for each second of compute on a V100.\n\n"
    )
    body = table(arguments.seeds)
    arguments.out.write_text(f"{text}{body}\n")
    print(body)


if __name__ == "__main__":
    main()
