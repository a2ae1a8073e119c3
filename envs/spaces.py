"""Observations as samples of a Gymnasium space, and back."""

from typing import Any

import numpy as np
from gymnasium import spaces

from envs.features.observation import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    LINK_COLUMNS,
    OP_COLUMNS,
    PAIR_COLUMNS,
    Observation,
)
from envs.tasks import LEVELS, Task
from graphs.kinds import OpKind
from placement.problem import Problem

#: No column comes near it: all are shares, or logarithms of shares.
_LARGEST = 100.0
_MOST_UNITS = int(np.iinfo(np.int32).max)


def observation_space(problem: Problem | None, devices: int) -> spaces.Dict:
    """The space of observations.

    Args:
        problem: the only problem there is, for arrays of fixed size; None where sizes differ:
            then there are as many rows as the graph has ops.
        devices: of the largest cluster; rows of `legal` and `pairs` are padded to it.
    """
    ops = None if problem is None else problem.graph.op_count
    shape = (devices, len(PAIR_COLUMNS))
    return spaces.Dict(
        {
            "graph": spaces.Graph(_features(len(OP_COLUMNS)), _features(len(EDGE_COLUMNS))),
            "cluster": spaces.Graph(_features(len(DEVICE_COLUMNS)), _features(len(LINK_COLUMNS))),
            "global": _features(len(GRAPH_COLUMNS)),
            "kinds": _indices(max(OpKind) + 1, ops),
            "units": _indices(_MOST_UNITS, ops),
            "legal": _rows(spaces.MultiBinary(devices), ops),
            "pairs": _rows(spaces.Box(-_LARGEST, _LARGEST, shape, np.float32), ops),
            "previous": _rows(_choices_before(devices), ops),
        }
    )


def _choices_before(devices: int) -> spaces.Box:
    """A column per task; -1 where nothing was decided."""
    return spaces.Box(-1, max(devices, LEVELS) - 1, (len(Task),), np.int32)


def _features(columns: int) -> spaces.Box:
    return spaces.Box(-_LARGEST, _LARGEST, (columns,), np.float32)


def _indices(below: int, count: int | None) -> spaces.Space[Any]:
    """That many numbers; any number of them for None."""
    if count is None:
        return spaces.Sequence(spaces.Discrete(below), stack=True)
    return spaces.Box(0, below - 1, (count,), np.int32)


def _rows(row: spaces.Space[Any], count: int | None) -> spaces.Space[Any]:
    """That many rows; any number for None."""
    if count is None:
        return spaces.Sequence(row, stack=True)
    if isinstance(row, spaces.MultiBinary):
        return spaces.MultiBinary((count, *row.shape))
    assert isinstance(row, spaces.Box)
    low, high = float(row.low.min()), float(row.high.max())
    if row.dtype == np.int32:
        return spaces.Box(int(low), int(high), (count, *row.shape), np.int32)
    return spaces.Box(low, high, (count, *row.shape), np.float32)


def as_space_sample(observation: Observation, devices: int | None = None) -> dict[str, Any]:
    """The observation as the space has it; nothing is shared with the observation.

    Args:
        observation: what an agent sees.
        devices: of the largest cluster, to pad to; those of this cluster when left out.
    """
    count = observation.device_count
    missing = max((devices or count) - count, 0)
    source, target = _device_pairs(count)
    return {
        "graph": spaces.GraphInstance(
            observation.ops.copy(), observation.edges.copy(), observation.edge_ops.T.copy()
        ),
        "cluster": spaces.GraphInstance(
            observation.devices.copy(),
            observation.links[source, target],
            np.stack([source, target], axis=1).astype(np.int32),
        ),
        "global": observation.graph.copy(),
        "kinds": observation.kinds.copy(),
        "units": observation.units.copy(),
        "legal": np.pad(observation.legal, ((0, 0), (0, missing))).astype(np.int8),
        "pairs": np.pad(observation.pairs, ((0, 0), (0, missing), (0, 0))),
        "previous": observation.previous.copy(),
    }


def from_sample(sample: dict[str, Any]) -> Observation:
    """The observation that a sample was made of."""
    graph, cluster = sample["graph"], sample["cluster"]
    count = len(cluster.nodes)
    links = np.zeros((count, count, len(LINK_COLUMNS)), np.float32)
    links[cluster.edge_links[:, 0], cluster.edge_links[:, 1]] = cluster.edges
    return Observation(
        kinds=sample["kinds"],
        ops=graph.nodes,
        edge_ops=np.ascontiguousarray(graph.edge_links.T),
        edges=graph.edges,
        units=sample["units"],
        legal=sample["legal"][:, :count].astype(bool),
        pairs=sample["pairs"][:, :count],
        devices=cluster.nodes,
        links=links,
        graph=sample["global"],
        previous=sample["previous"],
    )


def _device_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets of all links."""
    source, target = np.nonzero(~np.eye(count, dtype=bool))
    return source, target
