"""Observations of several graphs as one batch of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent.policy.view import View
from envs.features.observation import Observation

#: Graphs alone, or with groups.
Input = TypeVar("Input", bound="GraphInput")


@dataclass(frozen=True, eq=False)
class GraphInput:
    """Graphs laid end to end; devices are padded to the largest cluster of the batch.

    What an encoder of your own reads: see `docs/examples/own_encoder.py`. Columns are those of
    `envs.OP_COLUMNS` and its like.
    """

    kinds: Int[Tensor, " ops"]
    """`graphs.kinds.OpKind` of each op."""
    ops: Float[Tensor, "ops columns"]
    graph_of_op: Int[Tensor, " ops"]
    """Which graph of the batch an op belongs to."""
    previous: Int[Tensor, "ops tasks"]
    """What was decided before, a column per `envs.Task`; -1 where nothing was."""
    producers: Int[Tensor, " edges"]
    """Per edge, sorted by consumer: the op that makes the tensor."""
    consumer_offsets: Int[Tensor, " ops_1"]
    """Where the edges that end at each op begin and end."""
    outward: Int[Tensor, " edges"]
    """The same edges sorted by producer, as positions."""
    consumers: Int[Tensor, " edges"]
    """Per edge, in the order of `outward`."""
    producer_offsets: Int[Tensor, " ops_1"]
    edges: Float[Tensor, "edges edge_columns"]
    segments: Int[Tensor, "segments segment_ops"]
    """Ops by segment, -1 where a graph's last one is not full."""
    follows: Bool[Tensor, " segments"]
    """Whether the segment before belongs to the same graph."""
    devices: Float[Tensor, "graphs devices device_columns"]
    device_exists: Bool[Tensor, "graphs devices"]
    links: Float[Tensor, "graphs devices devices link_columns"]
    graphs: Float[Tensor, "graphs graph_columns"]

    @property
    def graph_count(self) -> int:
        return len(self.graphs)

    def to(self: Input, device: str | torch.device) -> Input:
        """The same on another torch device."""
        return type(self)(
            **{item.name: getattr(self, item.name).to(device) for item in fields(self)}
        )


@dataclass(frozen=True, eq=False)
class PolicyInput(GraphInput):
    """The same with the groups in which a policy of groups decides."""

    members: Int[Tensor, " members"]
    """Ops of each group, groups laid end to end."""
    member_offsets: Int[Tensor, " groups_1"]
    graph_of_group: Int[Tensor, " groups"]
    level_of_group: Int[Tensor, " groups"]
    """Numbered through all graphs."""
    unit_group: Int[Tensor, " ops"]
    """Each op's group of the finest level."""
    groups: Float[Tensor, "groups group_columns"]
    group_pairs: Float[Tensor, "groups devices group_pair_columns"]
    allowed: Bool[Tensor, "groups devices"]


def collate_graphs(seen: Sequence[Observation], segment_ops: int) -> GraphInput:
    """Lay graphs end to end, as float32 and int64 tensors on the CPU.

    Args:
        seen: observations of any graphs and clusters, one at least.
        segment_ops: ops of a segment, for encoders that attend within segments (`segments` and
            `follows`); others may give any number.

    Example:
        >>> collate_graphs([env.unwrapped.observation], segment_ops=128).ops.shape[0]
        12
    """
    ops = np.array([item.op_count for item in seen])
    first_op = np.concatenate([[0], np.cumsum(ops)])
    width = max(item.device_count for item in seen)
    edge_ops = np.concatenate(
        [item.edge_ops + first for item, first in zip(seen, first_op[:-1], strict=True)], axis=1
    )
    inward = np.argsort(edge_ops[1], kind="stable")
    producers, consumers = edge_ops[0][inward], edge_ops[1][inward]
    outward = np.argsort(producers, kind="stable")
    segments, follows = _segments(ops, segment_ops)
    total = int(ops.sum())
    return GraphInput(
        kinds=_long(np.concatenate([item.kinds for item in seen])),
        ops=_float(np.concatenate([item.ops for item in seen])),
        graph_of_op=_long(np.repeat(np.arange(len(seen)), ops)),
        previous=_long(np.concatenate([item.previous for item in seen])),
        producers=_long(producers),
        consumer_offsets=_long(_offsets(consumers, total)),
        outward=_long(outward),
        consumers=_long(consumers[outward]),
        producer_offsets=_long(_offsets(producers, total)),
        edges=_float(np.concatenate([item.edges for item in seen])[inward]),
        segments=_long(segments),
        follows=torch.from_numpy(follows),
        devices=_float(np.stack([_pad(item.devices, width, 1) for item in seen])),
        device_exists=torch.from_numpy(
            np.stack([np.arange(width) < item.device_count for item in seen])
        ),
        links=_float(np.stack([_pad(item.links, width, 2) for item in seen])),
        graphs=_float(np.stack([item.graph for item in seen])),
    )


def collate(views: Sequence[View], segment_ops: int) -> PolicyInput:
    """Lay graphs and their groups end to end."""
    graphs = collate_graphs([view.observation for view in views], segment_ops)
    width = graphs.devices.shape[1]
    first_op = np.concatenate([[0], np.cumsum([view.observation.op_count for view in views])])
    group_counts = np.array([view.groups.group_count for view in views])
    first_group = np.concatenate([[0], np.cumsum(group_counts)])
    member_counts = np.concatenate([np.diff(v.groups.hierarchy.member_offsets) for v in views])
    return PolicyInput(
        **{item.name: getattr(graphs, item.name) for item in fields(graphs)},
        members=_long(
            np.concatenate(
                [v.groups.hierarchy.members + f for v, f in zip(views, first_op[:-1], strict=True)]
            )
        ),
        member_offsets=_long(np.concatenate([[0], np.cumsum(member_counts)])),
        graph_of_group=_long(np.repeat(np.arange(len(views)), group_counts)),
        level_of_group=_long(_levels(views)),
        unit_group=_long(
            np.concatenate(
                [v.groups.labels[-1] + f for v, f in zip(views, first_group[:-1], strict=True)]
            )
        ),
        groups=_float(np.concatenate([view.features.groups for view in views])),
        group_pairs=_float(
            np.concatenate([_padded_columns(view.features.pairs, width) for view in views])
        ),
        allowed=torch.from_numpy(
            np.concatenate([_padded_columns(view.groups.allowed, width) for view in views])
        ),
    )


def _segments(ops: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    rows, follows = [], []
    first = 0
    for count in ops.tolist():
        number = -(-count // size)
        row = np.full(number * size, -1, np.int64)
        row[:count] = np.arange(first, first + count)
        rows.append(row.reshape(number, size))
        follows.append(np.arange(number) > 0)
        first += count
    return np.concatenate(rows), np.concatenate(follows)


def _levels(views: Sequence[View]) -> np.ndarray:
    first, parts = 0, []
    for view in views:
        sizes = np.diff(view.groups.level_offsets)
        parts.append(np.repeat(np.arange(first, first + len(sizes)), sizes))
        first += len(sizes)
    return np.concatenate(parts)


def _offsets(sorted_ops: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(sorted_ops, minlength=count))])


def _pad(values: np.ndarray, width: int, axes: int) -> np.ndarray:
    missing = width - values.shape[0]
    return np.pad(values, [(0, missing)] * axes + [(0, 0)] * (values.ndim - axes))


def _padded_columns(values: np.ndarray, width: int) -> np.ndarray:
    missing = width - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])


def _long(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.int64))


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
