"""Ideals of an order of units: sets that hold everything before each of their members.

A contiguous stage is the difference of two ideals, so that all splits into contiguous stages are
chains of ideals (Tarnawski et al., NeurIPS 2020, section 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from placement.throughput.load_problem import LoadProblem


@dataclass(frozen=True, eq=False)
class Nodes:
    """Units that share a stage in some best split, as nodes of an acyclic order."""

    node_of: Int32[np.ndarray, " units"]
    before: tuple[int, ...]
    """Bit mask of the nodes directly before each."""

    @property
    def count(self) -> int:
        return len(self.before)


@dataclass(frozen=True, eq=False)
class Ideals:
    """All ideals, smaller ones first, and what each is without one of its last nodes."""

    masks: tuple[int, ...]
    lower_offsets: Int64[np.ndarray, " {len(masks)}+1"]
    lower: Int32[np.ndarray, " covers"]
    """The ideal that is left."""
    lower_node: Int32[np.ndarray, " covers"]
    """The node that is taken away."""


def nodes_of(problem: LoadProblem) -> Nodes:
    """Contract circles of the order, and units that cost nothing to the only unit that they touch.

    The second loses no split worth having unless memory is so tight that what such a unit holds
    has to lie elsewhere.
    """
    label = _circles(problem.before)
    count = int(label.max()) + 1
    p = problem.arrays
    free = np.ones(count, bool)
    np.logical_and.at(free, label, (p.seconds == 0).all(axis=1))
    beside: list[set[int]] = [set() for _ in range(count)]
    for tensor, maker in enumerate(p.makers.tolist()):
        for reader in p.readers[p.reader_offsets[tensor] : p.reader_offsets[tensor + 1]].tolist():
            first, second = int(label[maker]), int(label[reader])
            if first != second:
                beside[first].add(second)
                beside[second].add(first)
    root = _merge_free(free, beside)
    kept = {node: number for number, node in enumerate(sorted(set(root)))}
    node_of = np.array([kept[root[at]] for at in label.tolist()], np.int32)
    # What joined its only neighbour may wait for others by control edges: circles anew.
    between: list[set[int]] = [set() for _ in kept]
    for unit, earlier in enumerate(problem.before):
        between[node_of[unit]].update(node_of[list(earlier)].tolist())
    joined = _circles([frozenset(nodes - {at}) for at, nodes in enumerate(between)])
    node_of = joined[node_of]
    masks = [0] * (int(joined.max()) + 1)
    for unit, earlier in enumerate(problem.before):
        for other in earlier:
            if node_of[other] != node_of[unit]:
                masks[node_of[unit]] |= 1 << int(node_of[other])
    return Nodes(node_of, tuple(masks))


def _circles(before: Sequence[frozenset[int]]) -> Int32[np.ndarray, " units"]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [(other, unit) for unit, earlier in enumerate(before) for other in earlier]
    ends = np.array(pairs, np.int64).reshape(-1, 2).T
    arcs = coo_array((np.ones(len(pairs), np.int8), tuple(ends)), shape=(len(before),) * 2)
    _, label = connected_components(arcs, directed=True, connection="strong")
    return label.astype(np.int32)


def _merge_free(free: np.ndarray, beside: list[set[int]]) -> list[int]:
    """The node that each joins: itself, or its only neighbour where it costs nothing."""
    root = list(range(len(beside)))

    def find(node: int) -> int:
        while root[node] != node:
            node = root[node]
        return node

    changed = True
    while changed:
        changed = False
        for node in np.flatnonzero(free).tolist():
            if root[node] != node:
                continue
            others = {find(other) for other in beside[node]} - {node}
            if len(others) == 1:
                (into,) = others
                root[node] = into
                beside[into] = {find(other) for other in beside[into] | beside[node]} - {into}
                changed = True
    return [find(node) for node in range(len(root))]


def ideals_of(nodes: Nodes, most: int) -> Ideals | None:
    """List the ideals; None where there are more than `most`."""
    after = nodes_after(nodes)
    found = {0: 0}
    masks = [0]
    # What may be added to each ideal, ascending.
    ready = [[node for node in range(nodes.count) if not nodes.before[node]]]
    covers: list[list[tuple[int, int]]] = [[]]
    at = 0
    while at < len(masks):
        mask = masks[at]
        for node in ready[at]:
            larger = mask | 1 << node
            if larger not in found:
                if len(masks) >= most:
                    return None
                found[larger] = len(masks)
                masks.append(larger)
                more = [other for other in after[node] if not nodes.before[other] & ~larger]
                ready.append(sorted([other for other in ready[at] if other != node] + more))
                covers.append([])
            covers[found[larger]].append((node, at))
        ready[at] = []
        at += 1
    lower = [cover for of_ideal in covers for cover in sorted(of_ideal)]
    return Ideals(
        tuple(masks),
        np.cumsum([0, *map(len, covers)], dtype=np.int64),
        np.array([ideal for _, ideal in lower], np.int32),
        np.array([node for node, _ in lower], np.int32),
    )


def nodes_after(nodes: Nodes) -> list[list[int]]:
    """Nodes directly after each, ascending."""
    after: list[list[int]] = [[] for _ in range(nodes.count)]
    for node, mask in enumerate(nodes.before):
        rest = mask
        while rest:
            low = rest & -rest
            after[low.bit_length() - 1].append(node)
            rest ^= low
    return after
