"""Groups that plans suggest: the pieces of a graph in which two plans agree.

Where several searches end in different plans, what they agree on belongs together, and the borders
between the pieces are where they went different ways. Moving a piece as a whole leads from one plan
towards the other, past plans between them that single groups of a fixed hierarchy would have to
pass through. Evolutionary graph partitioners combine two partitions the same way (Sanders and
Schulz 2012, arXiv 1110.0477, section 4).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from placement.annealing.hierarchy import Hierarchy, collect_groups
from placement.partition import UnitGraph, unit_graph
from placement.problem import Problem

#: A level with more groups than this share of the units is left out: single units are one already.
_FINEST_SHARE = 0.9


def overlaid(
    problem: Problem,
    hierarchy: Hierarchy,
    placement: Int32[np.ndarray, " ops"],
    others: Sequence[Int32[np.ndarray, " ops"]],
) -> Hierarchy:
    """The hierarchy with one more level for each other placement.

    Units are in one group of such a level where they are connected by tensors, the placement has
    them on one device, and so has the other (on which devices makes no difference).
    """
    units = unit_graph(problem)
    _, an_op = np.unique(problem.unit_of, return_index=True)
    labels = [_pieces(units, placement[an_op], other[an_op]) for other in others]
    labels = [label for label in labels if label.max() + 1 <= _FINEST_SHARE * problem.unit_count]
    if not labels:
        return hierarchy
    sizes = np.log(np.diff(hierarchy.level_offsets))
    depths = np.interp(np.log([label.max() + 1 for label in labels]), sizes, hierarchy.depths)
    return _together(hierarchy, collect_groups(problem, labels, depths))


def _pieces(
    units: UnitGraph, one: Int32[np.ndarray, " units"], other: Int32[np.ndarray, " units"]
) -> Int32[np.ndarray, " units"]:
    count = len(one)
    ends = np.repeat(np.arange(count), np.diff(units.offsets))
    agree = (one[ends] == one[units.neighbours]) & (other[ends] == other[units.neighbours])
    arcs = (np.ones(int(agree.sum()), np.int8), (ends[agree], units.neighbours[agree]))
    _, labels = connected_components(csr_array(arcs, shape=(count, count)), directed=False)
    return labels.astype(np.int32)


def _together(one: Hierarchy, other: Hierarchy) -> Hierarchy:
    return Hierarchy(
        np.concatenate([one.level_offsets, one.level_offsets[-1] + other.level_offsets[1:]]),
        np.concatenate([one.member_offsets, one.member_offsets[-1] + other.member_offsets[1:]]),
        np.concatenate([one.members, other.members]),
        np.concatenate([one.allowed, other.allowed]),
        np.concatenate([one.depths, other.depths]),
    )
