"""Sizes of the workloads: parameters, nodes of the TensorFlow graph, ops and flops of a step.

python benchmarks/workload_sizes.py [name ...]
"""

import sys
import time

from graphs.importers.tensorflow_graph import import_tf_graph
from graphs.kinds import Phase
from graphs.workloads.registry import WORKLOADS, build_workload


def main() -> None:
    """Print one row for each workload named, or for all."""
    print(f"{'workload':18}{'parameters':>13}{'nodes':>8}{'ops':>8}{'edges':>8}"
          f"{'GFLOP':>9}{'forward':>9}{'build s':>9}{'import s':>9}")  # fmt: skip
    for name in sys.argv[1:] or WORKLOADS:
        start = time.perf_counter()
        workload = build_workload(name)
        built = time.perf_counter()
        graph = import_tf_graph(workload.graph, name, workload.fetches)
        done = time.perf_counter()
        forward = graph.flops[graph.phases == Phase.FORWARD].sum()
        print(f"{name:18}{workload.parameters:>13,}{workload.node_count:>8,}{graph.op_count:>8,}"
              f"{graph.edge_count:>8,}{graph.flops.sum() / 1e9:>9,.0f}{forward / 1e9:>9,.0f}"
              f"{built - start:>9.1f}{done - built:>9.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
