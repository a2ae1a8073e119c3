"""Features of moves of large groups, kept until something that they depend on has changed.

Drawn moves are as often of ten large groups as of thousands of small ones, and features of a group
take as long as it has ops: nearly all of the time went into reading the same few off the same plan.
They depend on the trace that was read, on where the group's ops are, and on where their neighbours
are.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from placement.annealing.hierarchy import Hierarchy
from placement.annealing.move_features import MOVE_COLUMNS, Evidence, move_features
from placement.annealing.walk import Walk
from simulator.compiled import inlined
from simulator.kernel_checks import check_indices, check_record

#: Groups with fewer ops than this are read anew each time.
_LEAST_MEMBERS = 8

#: Places in `FeatureMemo.stamps`.
_NOW, _READ = range(2)


class FeatureMemo(NamedTuple):
    """What is remembered, and since when."""

    kept_of_group: Int32[np.ndarray, " groups"]
    """The place of a large group, or -1."""
    rows: Float32[np.ndarray, "kept devices columns"]
    changes: UInt8[np.ndarray, "kept devices"]
    """Whether a move changes anything."""
    noted: Int64[np.ndarray, "kept devices"]
    """When a row was filled."""
    touched: Int64[np.ndarray, " kept"]
    """When an op of a group, or beside it, moved last."""
    stamps: Int64[np.ndarray, " 2"]
    """The present, which each change moves on, and when the trace was read last."""


def make_memo(hierarchy: Hierarchy, least_members: int = _LEAST_MEMBERS) -> FeatureMemo:
    """Room for features of the groups of a hierarchy that have at least so many ops; nothing yet is
    remembered."""
    groups, devices = hierarchy.allowed.shape
    kept = np.full(groups, -1, np.int32)
    large = np.flatnonzero(np.diff(hierarchy.member_offsets) >= least_members)
    kept[large] = np.arange(len(large), dtype=np.int32)
    memo = FeatureMemo(
        kept_of_group=kept,
        rows=np.zeros((len(large), devices, len(MOVE_COLUMNS)), np.float32),
        changes=np.zeros((len(large), devices), np.uint8),
        noted=np.full((len(large), devices), -1, np.int64),
        touched=np.zeros(len(large), np.int64),
        stamps=np.zeros(2, np.int64),
    )
    check_record(memo, groups=groups, devices=devices, columns=len(MOVE_COLUMNS))
    check_indices("kept_of_group", kept, len(large), -1)
    return memo


@inlined
def recall_features(
    memo: FeatureMemo,
    evidence: Evidence,
    walk: Walk,
    level: int,
    group: int,
    device: int,
    row: Float32[np.ndarray, " columns"],
) -> bool:
    """As `move_features`, from memory where nothing has changed since they were read."""
    place = memo.kept_of_group[group]
    if place < 0:
        return move_features(evidence, walk.devices, level, group, device, row)
    if memo.noted[place, device] < max(memo.touched[place], memo.stamps[_READ]):
        memo.changes[place, device] = move_features(
            evidence, walk.devices, level, group, device, row
        )
        memo.noted[place, device] = memo.stamps[_NOW]
        for column in range(row.size):
            memo.rows[place, device, column] = row[column]
    else:
        for column in range(row.size):
            row[column] = memo.rows[place, device, column]
    return memo.changes[place, device] != 0


@inlined
def forget_all(memo: FeatureMemo) -> None:
    """A trace was read, or the plan is another one."""
    memo.stamps[_NOW] += 1
    memo.stamps[_READ] = memo.stamps[_NOW]


@inlined
def forget_around(memo: FeatureMemo, evidence: Evidence, walk: Walk, group: int) -> None:
    """A group was moved just now: features of all groups are stale that hold its ops or neighbours
    of them."""
    p = evidence.program
    memo.stamps[_NOW] += 1
    first = evidence.groups.member_offsets[group]
    for index in range(first, evidence.groups.member_offsets[group + 1]):
        op = evidence.groups.members[index]
        if walk.undo[index - first] == walk.devices[op]:
            continue
        _forget_op(memo, evidence, op)
        for position in range(p.input_offsets[op], p.input_offsets[op + 1]):
            _forget_op(memo, evidence, p.tensor_producers[p.edge_tensors[p.input_edges[position]]])
        for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
            for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
                _forget_op(memo, evidence, p.consumers[edge])


@inlined
def _forget_op(memo: FeatureMemo, evidence: Evidence, op: int) -> None:
    for level in range(evidence.labels.shape[0]):
        place = memo.kept_of_group[evidence.labels[level, op]]
        if place >= 0:
            memo.touched[place] = memo.stamps[_NOW]
