"""Builds the workloads and the torch models, and writes the weight-stripped copies that ship.

    python benchmarks/data/bundle_graphs.py              # all of them: ten minutes, 16 GB of memory
    python benchmarks/data/bundle_graphs.py rnnlm-2 ...  # only these
    python benchmarks/data/bundle_graphs.py --check ...  # build, compare digests, write nothing

The list in `graphs/bundled/README.md` is written anew from the files that are there.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.data.torch_models.graphs import TORCH_GRAPHS
from graphs.bundled_graphs import bundled_names, load_bundled
from graphs.graph import Graph
from graphs.graph_file import SUFFIX, write_graph
from graphs.workloads.registry import WORKLOADS, build

FOLDER = Path(__file__).parents[2] / "graphs" / "bundled"
PACKAGES = ("tensorflow", "torch", "onnxscript")
HEADER = """# Bundled graphs

Without weights: training steps (forward, backward, optimizer) of the workloads in
`graphs/workloads/`, built with TensorFlow; models of `benchmarks/data/torch_models/`, exported from
torch to ONNX; and, ending in `-train`, training steps of the same, traced by torch and updated by
Adam. This file and the graphs are written by `python benchmarks/data/bundle_graphs.py [name ...]`;
`--check` compares digests instead. Another version of torch may write other names, and with
them other digests; these are of {versions}.
What the models are, and how their sizes compare to published ones, is in
`benchmarks/results/workload_sizes.md`.

| graph | ops | edges | GFLOP | kB | digest | command |
|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Build, then write or compare; 1 if a digest differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="workloads; all where none is given")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--list", action="store_true", help="only write the list anew")
    arguments = parser.parse_args()
    differing = 0
    for name in [] if arguments.list else arguments.names or [*WORKLOADS, *TORCH_GRAPHS]:
        graph = built(name)
        if not arguments.check:
            write_graph(graph, FOLDER / f"{name}{SUFFIX}")
            print(f"wrote {name}: {graph.op_count:,} ops, digest {graph.digest}", flush=True)
        elif graph == load_bundled(name):
            print(f"{name}: digest {graph.digest}, as bundled", flush=True)
        else:
            differing += 1
            print(f"{name}: digest {graph.digest}, bundled {load_bundled(name).digest}", flush=True)
    if not arguments.check:
        versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in PACKAGES)
        rows = "".join(row(name) for name in bundled_names())
        (FOLDER / "README.md").write_text(HEADER.format(versions=versions) + rows)
    return int(differing > 0)


def built(name: str) -> Graph:
    """A workload, or a torch model."""
    return TORCH_GRAPHS[name]() if name in TORCH_GRAPHS else build(name)


def row(name: str) -> str:
    """One line of the list."""
    graph = load_bundled(name)
    command = (
        f"python benchmarks/data/bundle_graphs.py {name}"
        if name in TORCH_GRAPHS
        else f"graphwright graphs build {name} --out {name}{SUFFIX}"
    )
    kilobytes = (FOLDER / f"{name}{SUFFIX}").stat().st_size / 1e3
    return (
        f"| {name} | {graph.op_count:,} | {graph.edge_count:,} | {graph.flops.sum() / 1e9:,.0f} | "
        f"{kilobytes:,.0f} | `{graph.digest}` | `{command}` |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
