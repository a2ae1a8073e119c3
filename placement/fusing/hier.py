"""Groups for joint moves: those of the kernels, and single units below."""

import numpy as np

from placement.annealing.hierarchy import Hierarchy, build_hierarchy, collect_groups
from placement.placers.fused import FusedProblem
from placement.problem import Problem


def joint_hierarchy(
    problem: Problem, _devices: np.ndarray, fused: FusedProblem | None, seed: int
) -> Hierarchy:
    """Groups of kernels as ops, then single units."""
    if fused is None:
        return build_hierarchy(problem, seed)
    coarse = build_hierarchy(fused.kernels, seed)
    at = fused.kernel_of[problem.first_of_unit]
    labels = [coarse.labels[level][at] for level in range(coarse.level_count)]
    labels.append(np.arange(problem.unit_count, dtype=np.int32))
    return collect_groups(problem, labels, np.arange(len(labels), dtype=np.float64))
