"""Moves of nested groups: how one is drawn, made and taken back. Compiled, for both annealers."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64

from placement.annealing.hierarchy import Hierarchy
from placement.annealing.walk import Walk, draw_uniform
from simulator.compiled import inlined
from simulator.event_engine.program import ProgramArrays
from simulator.kernel_checks import check_indices, check_offsets, check_record


class MoveGroups(NamedTuple):
    """The groups of a `Hierarchy`, as kernels read them."""

    level_offsets: Int64[np.ndarray, " levels+1"]
    member_offsets: Int64[np.ndarray, " groups+1"]
    members: Int32[np.ndarray, " members"]
    allowed: Bool[np.ndarray, "groups devices"]


def move_groups(hierarchy: Hierarchy, ops: int, devices: int) -> MoveGroups:
    """The groups of a hierarchy over a graph of `ops` ops and a cluster of `devices`.

    Raises:
        KernelInputError: the hierarchy belongs to another graph or cluster.
    """
    groups = MoveGroups(
        hierarchy.level_offsets, hierarchy.member_offsets, hierarchy.members, hierarchy.allowed
    )
    check_record(groups, devices=devices)
    check_offsets("level_offsets", groups.level_offsets, len(groups.allowed))
    check_offsets("member_offsets", groups.member_offsets, len(groups.members))
    check_indices("groups of each level", np.diff(groups.level_offsets), len(groups.allowed) + 1, 1)
    check_indices("members of each group", np.diff(groups.member_offsets), ops + 1, 1)
    check_indices("members", groups.members, ops)
    return groups


@inlined
def draw_move(
    program: ProgramArrays, groups: MoveGroups, walk: Walk, neighbour_share: float
) -> tuple[int, int, int]:
    """Level, group and device of a random move: each level is as likely, then each of its groups.

    The device is, with the given chance, that of an op beside a random one of the group, and any
    otherwise.
    """
    levels = groups.level_offsets.size - 1
    level = int(draw_uniform(walk.random_state) * levels)
    width = groups.level_offsets[level + 1] - groups.level_offsets[level]
    group = groups.level_offsets[level] + int(draw_uniform(walk.random_state) * width)
    if draw_uniform(walk.random_state) < neighbour_share:
        first, last = groups.member_offsets[group], groups.member_offsets[group + 1]
        op = groups.members[first + int(draw_uniform(walk.random_state) * (last - first))]
        return level, group, neighbour_device(program, walk, op)
    return level, group, int(draw_uniform(walk.random_state) * groups.allowed.shape[1])


@inlined
def neighbour_device(program: ProgramArrays, walk: Walk, op: int) -> int:
    """Device of a random producer or consumer of an op; its own if it has neither."""
    p, devices = program, walk.devices
    inputs = p.input_offsets[op + 1] - p.input_offsets[op]
    first = p.consumer_offsets[p.output_offsets[op]]
    outputs = p.consumer_offsets[p.output_offsets[op + 1]] - first
    if inputs + outputs == 0:
        return devices[op]
    drawn = int(draw_uniform(walk.random_state) * (inputs + outputs))
    if drawn < inputs:
        tensor = p.edge_tensors[p.input_edges[p.input_offsets[op] + drawn]]
        return devices[p.tensor_producers[tensor]]
    return devices[p.consumers[first + drawn - inputs]]


@inlined
def make_move(groups: MoveGroups, walk: Walk, group: int, device: int) -> bool:
    """Move a group and remember where its ops were; False if all of them were there already."""
    first, last = groups.member_offsets[group], groups.member_offsets[group + 1]
    changed = False
    for index in range(first, last):
        op = groups.members[index]
        walk.undo[index - first] = walk.devices[op]
        changed |= walk.devices[op] != device
        walk.devices[op] = device
    return changed


@inlined
def take_back(groups: MoveGroups, walk: Walk, group: int) -> None:
    """Undo the last move, which was the given group's."""
    first, last = groups.member_offsets[group], groups.member_offsets[group + 1]
    for index in range(first, last):
        walk.devices[groups.members[index]] = walk.undo[index - first]
