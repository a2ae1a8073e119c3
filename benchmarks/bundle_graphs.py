"""Builds the workloads with TensorFlow and writes the weight-stripped copies that ship.

    python benchmarks/bundle_graphs.py              # all of them: some minutes
    python benchmarks/bundle_graphs.py rnnlm-2 ...  # only these
    python benchmarks/bundle_graphs.py --check ...  # build, compare digests, write nothing

The list in `graphs/bundled/README.md` is written anew from the files that are there.
"""

import argparse
import sys
from pathlib import Path

from graphs.catalogue import bundled_names, load_bundled
from graphs.graph_file import SUFFIX, write_graph
from graphs.workloads.registry import WORKLOADS, build

FOLDER = Path(__file__).parent.parent / "graphs" / "bundled"
HEADER = """# Bundled graphs

Training steps (forward, backward, optimizer) of the workloads in `graphs/workloads/`, built with
TensorFlow and stored without weights. This file and the graphs are written by
`python benchmarks/bundle_graphs.py [name ...]`; `--check` compares digests instead.

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
    for name in [] if arguments.list else arguments.names or WORKLOADS:
        graph = build(name)
        if not arguments.check:
            write_graph(graph, FOLDER / f"{name}{SUFFIX}")
            print(f"wrote {name}: {graph.op_count:,} ops, digest {graph.digest}", flush=True)
        elif graph == load_bundled(name):
            print(f"{name}: digest {graph.digest}, as bundled", flush=True)
        else:
            differing += 1
            print(f"{name}: digest {graph.digest}, bundled {load_bundled(name).digest}", flush=True)
    if not arguments.check:
        (FOLDER / "README.md").write_text(HEADER + "".join(row(name) for name in bundled_names()))
    return int(differing > 0)


def row(name: str) -> str:
    """One line of the list."""
    graph = load_bundled(name)
    kilobytes = (FOLDER / f"{name}{SUFFIX}").stat().st_size / 1e3
    return (
        f"| {name} | {graph.op_count:,} | {graph.edge_count:,} | {graph.flops.sum() / 1e9:,.0f} | "
        f"{kilobytes:,.0f} | `{graph.digest}` | `graphwright graphs build {name} --out "
        f"{name}{SUFFIX}` |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
