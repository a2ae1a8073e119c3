"""As other tools cut: runs of as many layers, bytes or flops, for every device in its turn."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int32

from placement.throughput.load_problem import LoadProblem


def equal_cuts(
    problem: LoadProblem, positions: Int32[np.ndarray, " units"]
) -> Mapping[str, Int32[np.ndarray, " units"]]:
    """Devices of units by what the runs are equal in.

    torch's pipelining, accelerate and Olive cut so.

    Args:
        positions: of units in a linear order; those at one position stay together.
    """
    of_problem = problem.problem
    weights = {
        "equal layers": np.ones(problem.unit_count),
        "equal bytes": problem.arrays.memory_bytes + 1e-9,
        "equal flops": np.bincount(of_problem.unit_of, of_problem.graph.flops, problem.unit_count)
        + 1e-9,
    }
    cuts = {}
    for name, weight in weights.items():
        done = np.cumsum(np.bincount(positions, weight))
        share = done / done[-1] * problem.device_count * (1 - 1e-12)
        stage = np.minimum(share.astype(np.int32), problem.device_count - 1)
        cuts[name] = stage[positions]
    return cuts
