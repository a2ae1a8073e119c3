"""Nested groups of units: about 10, 32, 128 and 512, then single units."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from placement.partition import UnitGraph, cut, subgraph, unit_graph
from placement.problem import Problem

LEVEL_SIZES = (10, 32, 128, 512)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """All groups of all levels, each with the ops that it moves as a whole.

    Level `l` holds the groups `level_offsets[l]:level_offsets[l + 1]`, which part all ops among
    them. Of the levels that `build_hierarchy` makes each group lies inside a single one of the
    level before; those that plans suggest (`placement.annealing.overlay`) cut across.
    """

    level_offsets: Int64[np.ndarray, " level_bounds"]
    member_offsets: Int64[np.ndarray, " {len(allowed)}+1"]
    members: Int32[np.ndarray, " members"]
    """Ops, ascending within a group."""
    allowed: Bool[np.ndarray, "groups devices"]
    depths: Float64[np.ndarray, " levels"]
    """How fine each level is: 0 for the coarsest, one more for each finer one."""

    @property
    def level_count(self) -> int:
        return len(self.level_offsets) - 1

    @cached_property
    def labels(self) -> Int32[np.ndarray, "levels ops"]:
        """Group of each op at each level, numbered through all levels."""
        labels = np.empty((self.level_count, len(self.members) // self.level_count), np.int32)
        for level in range(self.level_count):
            first, last = self.level_offsets[level : level + 2]
            counts = np.diff(self.member_offsets[first : last + 1])
            inside = slice(self.member_offsets[first], self.member_offsets[last])
            groups = np.arange(first, last, dtype=np.int32)
            labels[level, self.members[inside]] = np.repeat(groups, counts)
        return labels


def build_hierarchy(
    problem: Problem, seed: int, level_sizes: tuple[int, ...] = LEVEL_SIZES
) -> Hierarchy:
    """Cut the unit graph recursively with METIS; levels no finer than the units are left out."""
    units = unit_graph(problem)
    labels: list[np.ndarray] = []
    for size in level_sizes:
        if size >= problem.unit_count:
            break
        labels.append(_refine(units, labels[-1] if labels else None, size, seed))
    labels.append(np.arange(problem.unit_count, dtype=np.int32))
    return collect_groups(problem, labels, np.arange(len(labels), dtype=np.float64))


def _refine(
    units: UnitGraph, parents: Int32[np.ndarray, " units"] | None, size: int, seed: int
) -> Int32[np.ndarray, " units"]:
    """Split each parent group in proportion to its number of units, to `size` groups in all."""
    count = len(units.work_seconds)
    if parents is None:
        return cut(units, size, seed)
    labels = np.empty(count, np.int32)
    following = 0
    for parent in range(int(parents.max()) + 1):
        inside = np.flatnonzero(parents == parent).astype(np.int32)
        if not inside.size:
            continue
        pieces = int(np.clip(round(size * len(inside) / count), 1, len(inside)))
        part = cut(subgraph(units, inside), pieces, seed)
        labels[inside] = following + part
        following += pieces
    return labels


def collect_groups(
    problem: Problem,
    labels: Sequence[Int32[np.ndarray, " units"]],
    depths: Float64[np.ndarray, " levels"],
) -> Hierarchy:
    """Groups from the label of each unit at each level."""
    level_offsets, counts, members, allowed = [0], [], [], []
    for unit_label in labels:
        _, unit_label = np.unique(unit_label, return_inverse=True)
        groups = int(unit_label.max()) + 1
        of_op = unit_label[problem.unit_of]
        members.append(np.argsort(of_op, kind="stable").astype(np.int32))
        counts.append(np.bincount(of_op, minlength=groups))
        refused = np.zeros((groups, problem.cluster.device_count), np.int64)
        np.add.at(refused, unit_label, (~problem.unit_allowed).astype(np.int64))
        allowed.append(refused == 0)
        level_offsets.append(level_offsets[-1] + groups)
    return Hierarchy(
        np.array(level_offsets, np.int64),
        np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64),
        np.concatenate(members),
        np.concatenate(allowed),
        depths,
    )
