"""Changes that may make a plan simpler: islands and borders that move to a neighbour's device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from graphs.kinds import Storage
from placement.annealing.hierarchy import build_hierarchy
from placement.problem import Problem
from placement.simplicity.crossings import Moves, crossings_saved, tally
from simulator.plan import Plan

#: At most so many blocks at borders are looked at in one round, the lightest first.
_BORDER_BLOCKS = 1000


@dataclass(frozen=True, eq=False)
class Change:
    """Some ops that move to another device together."""

    ops: Int64[np.ndarray, " moved"]
    device: int
    crossings_saved: int
    seconds: float
    """Work that moves; the less, the less can be lost."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """What moves together: units, and ops that are one kernel."""

    block_of: Int32[np.ndarray, " ops"]
    allowed: Bool[np.ndarray, "blocks devices"]
    seconds: Float64[np.ndarray, " blocks"]
    """Mean over the devices."""

    @property
    def count(self) -> int:
        return len(self.allowed)


def blocks_of(problem: Problem, plan: Plan) -> Blocks:
    """Join the units of a problem whose ops a plan fuses."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    units = problem.unit_of
    fused = np.flatnonzero(plan.fusion >= 0)
    first = np.full(int(plan.fusion.max(initial=-1)) + 1, -1, np.int64)
    first[plan.fusion[fused][::-1]] = units[fused][::-1]
    ties = (np.ones(len(fused), np.int8), (first[plan.fusion[fused]], units[fused]))
    _, labels = connected_components(
        coo_array(ties, shape=(problem.unit_count,) * 2), directed=False
    )
    block_of = labels[units].astype(np.int32)
    count = int(labels.max()) + 1
    refused = np.zeros((count, problem.cluster.device_count), np.int64)
    np.add.at(refused, labels, (~problem.unit_allowed).astype(np.int64))
    finite = np.where(np.isfinite(problem.seconds), problem.seconds, 0.0)
    work = np.bincount(block_of, finite.mean(axis=1), count)
    return Blocks(block_of, refused == 0, work)


def regions_of(problem: Problem, blocks: Blocks, seed: int) -> list[Int32[np.ndarray, " _"]]:
    """Parts of the graph with little traffic between them, of several sizes."""
    labels = build_hierarchy(problem, seed).labels[:-1]
    regions: list[Int32[np.ndarray, " _"]] = []
    for level in labels:
        order = np.argsort(level, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(level[order])) + 1)
        regions.extend(np.unique(blocks.block_of[ops]) for ops in parts)
    return regions


def _ranges(
    offsets: Int64[np.ndarray, " bounds"], rows: np.ndarray
) -> Int64[np.ndarray, " positions"]:
    """All positions of the CSR rows."""
    starts, counts = offsets[rows], offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def changes_of(
    problem: Problem,
    blocks: Blocks,
    regions: Sequence[Int32[np.ndarray, " _"]],
    devices: Int32[np.ndarray, " ops"],
) -> list[Change]:
    """Islands, regions and border blocks whose move saves crossings, the most for their work first.

    No two of them touch, so that together they save what each saves alone.
    """
    pairs = _block_pairs(problem, blocks)
    home = np.empty(blocks.count, np.int32)
    home[blocks.block_of] = devices
    proposals = [
        (group, device)
        for group, device in (
            *_islands(blocks, pairs, home),
            *_gathered(regions, home),
            *_borders(blocks, pairs, home),
        )
        if blocks.allowed[group, device].all()
    ]
    if not proposals:
        return []
    moves = _moves(blocks, proposals)
    saved = crossings_saved(problem, tally(problem, devices), moves).tolist()
    found = []
    for number, (group, device) in enumerate(proposals):
        if saved[number] > 0:
            ops = moves.ops[moves.offsets[number] : moves.offsets[number + 1]]
            seconds = float(blocks.seconds[group].sum())
            found.append((group, Change(ops, device, saved[number], seconds)))
    found.sort(key=lambda item: item[1].seconds / item[1].crossings_saved)
    return _apart(found, pairs, blocks.count)


def _moves(blocks: Blocks, proposals: list[tuple[np.ndarray, int]]) -> Moves:
    """The ops of the blocks that move."""
    members = np.argsort(blocks.block_of, kind="stable")
    starts = np.searchsorted(blocks.block_of[members], np.arange(blocks.count + 1))
    ops = [members[_ranges(starts, group)] for group, _ in proposals]
    return Moves(
        np.concatenate([[0], np.cumsum([len(each) for each in ops])]).astype(np.int64),
        np.concatenate(ops).astype(np.int64),
        np.array([device for _, device in proposals], np.int32),
    )


def _apart(
    found: list[tuple[np.ndarray, Change]],
    pairs: Int64[np.ndarray, "2 pairs"],
    count: int,
) -> list[Change]:
    """The changes in their order, without those that touch an earlier one."""
    ends = np.concatenate([pairs, pairs[::-1]], axis=1)
    order = np.argsort(ends[0], kind="stable")
    starts = np.searchsorted(ends[0][order], np.arange(count + 1))
    neighbours = ends[1][order]
    taken = np.zeros(count, bool)
    kept = []
    for group, change in found:
        around = neighbours[_ranges(starts, group)]
        if not taken[group].any() and not taken[around].any():
            taken[group] = True
            kept.append(change)
    return kept


def _block_pairs(problem: Problem, blocks: Blocks) -> Int64[np.ndarray, "2 pairs"]:
    """Blocks that exchange a tensor, each pair once."""
    graph = problem.graph
    kept = graph.tensor_storage[graph.edge_tensors] != Storage.WEIGHT
    sources = blocks.block_of[graph.tensor_producers[graph.edge_tensors[kept]]]
    targets = blocks.block_of[graph.consumers[kept]]
    pairs = np.stack([np.minimum(sources, targets), np.maximum(sources, targets)]).astype(np.int64)
    return np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)


def _islands(
    blocks: Blocks, pairs: Int64[np.ndarray, "2 pairs"], home: Int32[np.ndarray, " blocks"]
) -> Iterator[tuple[np.ndarray, int]]:
    """Connected blocks of one device, each with the devices that it borders on."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    inside = home[pairs[0]] == home[pairs[1]]
    arcs = coo_array(
        (np.ones(inside.sum(), np.int8), tuple(pairs[:, inside])), shape=(blocks.count,) * 2
    )
    _, island = connected_components(arcs, directed=False)
    order = np.argsort(island, kind="stable")
    bounds = np.searchsorted(island[order], np.arange(int(island.max()) + 2))
    border = np.concatenate([pairs[:, ~inside], pairs[::-1, ~inside]], axis=1)
    around = np.unique(np.stack([island[border[0]], home[border[1]]]), axis=1)
    for number, device in around.T.tolist():
        yield order[bounds[number] : bounds[number + 1]], device


def _gathered(
    regions: Sequence[Int32[np.ndarray, " _"]], home: Int32[np.ndarray, " blocks"]
) -> Iterator[tuple[np.ndarray, int]]:
    """What a region has on other devices moves to one of those that it is on already."""
    for region in regions:
        there = home[region]
        for device in np.unique(there).tolist():
            outside = region[there != device]
            if outside.size:
                yield outside, device


def _borders(
    blocks: Blocks, pairs: Int64[np.ndarray, "2 pairs"], home: Int32[np.ndarray, " blocks"]
) -> Iterator[tuple[np.ndarray, int]]:
    """Single blocks beside another device."""
    apart = pairs[:, home[pairs[0]] != home[pairs[1]]]
    border = np.concatenate([apart, apart[::-1]], axis=1)
    around = np.unique(np.stack([border[0], home[border[1]]]), axis=1)
    lightest = np.argsort(blocks.seconds[around[0]], kind="stable")[:_BORDER_BLOCKS]
    for block, device in around[:, lightest].T.tolist():
        yield np.array([block]), device
