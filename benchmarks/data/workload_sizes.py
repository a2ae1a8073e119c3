"""Sizes of the bundled graphs beside published ones: parameters, ops, edges, flops.

    python benchmarks/data/workload_sizes.py            # all: builds the workloads, three minutes
    python benchmarks/data/workload_sizes.py NAME ...   # only print these

Without names, `results/workload_sizes.md` is written. Ops, edges and flops are of the bundled
graphs; parameters are counted in the models that they come from.
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.data.published_sizes import PUBLISHED, SAME_MODEL, WITHOUT, Published
from benchmarks.data.torch_models.catalogue import MODELS
from benchmarks.data.torch_models.graphs import TRAINING
from graphs.bundled_graphs import bundled_names, load_bundled
from graphs.graph import Graph
from graphs.kinds import OpKind, Phase
from graphs.workloads.registry import WORKLOADS, build_workload

OUT = Path(__file__).parents[1] / "results" / "workload_sizes.md"
_PRODUCTS = (
    OpKind.MATMUL, OpKind.CONV, OpKind.DEPTHWISE_CONV, OpKind.RECURRENT, OpKind.ATTENTION,
)  # fmt: skip
#: Samples in a batch of the TensorFlow workloads, by the beginning of their names.
_BATCHES = {
    "inception-v3-64": 64, "inception-v3": 32, "resnet": 32, "nasnet": 8, "amoebanet": 8,
    "rnnlm": 64, "gnmt": 128, "transformer-xl": 16, "wavenet": 4,
}  # fmt: skip
HEADER = """# Sizes of the bundled graphs

Written by `python benchmarks/data/workload_sizes.py`. A multiply-add is two flops in "GFLOP", which
counts every op of the graph (of a training step: forward, backward and update), and one in "GMAC",
which counts matrix products, convolutions and attention of the forward pass, for one sample: a
sentence, an image, a clip. "Off" is ours against the published figure.

| graph | samples | ops | edges | GFLOP | parameters | published | off | GMAC | published | off |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def main() -> None:
    """Print the rows of the graphs named, or write the table of all."""
    names = sys.argv[1:] or bundled_names()
    rows = []
    for name in names:
        rows.append(row(name))
        print(rows[-1], flush=True)
    if not sys.argv[1:]:
        OUT.write_text(HEADER + "\n".join(rows) + "\n\n" + notes() + "\n")


def row(name: str) -> str:
    """One line of the table."""
    graph = load_bundled(name)
    samples, parameters = samples_of(name), parameters_of(name)
    found = published(name)
    gmacs = forward_gmacs(graph) / samples
    return (
        f"| {name} | {samples} | {graph.op_count:,} | {graph.edge_count:,} | "
        f"{graph.flops.sum() / 1e9:,.0f} | {parameters:,} | "
        f"{beside(parameters / 1e6, found.parameters_millions, ' M')} | "
        f"{gmacs:,.2f} | {beside(gmacs, found.forward_gmacs, '')} |"
    )


def published(name: str) -> Published:
    """What is published of the model behind a graph."""
    model = name.removesuffix(TRAINING)
    return PUBLISHED.get(SAME_MODEL.get(model, model), Published())


def beside(ours: float, theirs: float | None, unit: str) -> str:
    """The published figure and how far ours is from it."""
    return "- | -" if theirs is None else f"{theirs:,g}{unit} | {100 * (ours / theirs - 1):+.1f}%"


def samples_of(name: str) -> int:
    """Samples in the batch of a bundled graph."""
    model = name.removesuffix(TRAINING)
    if model in MODELS:
        return MODELS[model].batch if model == name else MODELS[model].training_batch
    return next(batch for start, batch in _BATCHES.items() if name.startswith(start))


@cache
def parameters_of(name: str) -> int:
    """Trained numbers of the model; neither batch nor length changes them."""
    if name in SAME_MODEL:
        return parameters_of(SAME_MODEL[name])
    if name in WORKLOADS:
        return build_workload(name).parameters
    with torch.device("meta"):
        model = MODELS[name.removesuffix(TRAINING)].build()
    return sum(weight.numel() for weight in model.parameters())


def forward_gmacs(graph: Graph) -> float:
    """Multiply-adds of the forward pass, in billions."""
    counted = np.isin(graph.kinds, _PRODUCTS) & (graph.phases == Phase.FORWARD)
    return float(graph.flops[counted].sum() / 2e9)


def notes() -> str:
    """Sources, and reasons for what differs."""
    lines = ["## Sources, and reasons for differences over 5%", ""]
    for name, found in PUBLISHED.items():
        lines.append(f"- {name}: {found.source}{'; ' if found.reason else ''}{found.reason}.")
    lines += ["", "Nothing published to compare with:", ""]
    lines += [f"- {family}: {reason}." for family, reason in WITHOUT.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
