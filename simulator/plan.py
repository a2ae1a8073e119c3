"""A plan: per op a device, a scheduling priority and a fusion group."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int32

from graphs.graph import Graph
from simulator.clusters.cluster import Cluster
from simulator.errors import PlanError

#: The holds of a plan that holds nothing back.
NO_HOLDS = np.zeros(0, np.int32)


@dataclass(frozen=True, eq=False)
class Plan:
    """What the simulator executes and what every placer returns; equal by content."""

    devices: Int32[np.ndarray, " ops"]
    """Index of each op's device in the cluster."""
    priorities: Float64[np.ndarray, " ops"]
    """Among ready ops on a device the highest runs first; ties go to the lower op index."""
    fusion: Int32[np.ndarray, " ops"]
    """Ops with the same non-negative group are one kernel; -1 is a kernel of its own."""
    holds: Int32[np.ndarray, " _"] = field(default_factory=lambda: NO_HOLDS)
    """Per op another op that must have ended before it may start, or -1: what an op makes early
    fills memory. No such array, of length 0, holds nothing back. The signal takes no time."""

    def __post_init__(self) -> None:
        for values in (self.devices, self.priorities, self.fusion, self.holds):
            values.setflags(write=False)
        if len(self.holds) not in (0, len(self.devices)):
            raise PlanError("holds must name one op, or -1, for each op")
        if not len(self.devices) == len(self.priorities) == len(self.fusion):
            raise PlanError("devices, priorities and fusion differ in length")
        if not np.isfinite(self.priorities).all():
            raise PlanError("priorities must be finite")

    @staticmethod
    def of(
        devices: np.ndarray,
        priorities: np.ndarray | None = None,
        fusion: np.ndarray | None = None,
    ) -> "Plan":
        """A plan from devices alone: unfused, and in the graph's order unless told otherwise."""
        count = len(devices)
        if priorities is None:
            priorities = -np.arange(count, dtype=np.float64)
        if fusion is None:
            fusion = np.full(count, -1, np.int32)
        return Plan(
            np.array(devices, np.int32),
            np.array(priorities, np.float64),
            np.array(fusion, np.int32),
        )

    @cached_property
    def ranks(self) -> Int32[np.ndarray, " ops"]:
        """Position of each op when sorted by priority, highest first."""
        return priority_ranks(self.priorities)

    @property
    def is_fused(self) -> bool:
        return bool((self.fusion >= 0).any())

    @property
    def is_held(self) -> bool:
        """Whether some op is held back."""
        return bool((self.holds >= 0).any())

    def moved_to(self, devices: np.ndarray) -> "Plan":
        """The plan on other devices; ops that were held for the sake of memory are so no more."""
        return Plan(np.array(devices, np.int32), self.priorities, self.fusion)

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the content."""
        state = hashlib.blake2b(digest_size=8)
        for values, dtype in (
            (self.devices, "<i4"),
            (self.priorities, "<f8"),
            (self.fusion, "<i4"),
        ):
            state.update(np.ascontiguousarray(values, dtype).tobytes())
        if self.is_held:
            state.update(np.ascontiguousarray(self.holds, "<i4").tobytes())
        return state.hexdigest()

    def check(self, graph: Graph, cluster: Cluster) -> None:
        """Raise `PlanError` unless the plan fits the graph and the cluster.

        Fusion groups are checked by `simulator.fusion.check_fusion`.
        """
        if len(self.devices) != graph.op_count:
            raise PlanError(
                f"the plan has {len(self.devices)} ops, graph {graph.name!r} has {graph.op_count}: "
                "it belongs to another graph"
            )
        if self.devices.min() < 0 or self.devices.max() >= cluster.device_count:
            op = int(np.argmax((self.devices < 0) | (self.devices >= cluster.device_count)))
            raise PlanError(
                f"op {graph.op_names[op]!r} is on device {self.devices[op]}; cluster "
                f"{cluster.name!r} has devices 0 to {cluster.device_count - 1}"
            )
        if self.is_held:
            _check_holds(graph, self)
        grouped = graph.colocation >= 0
        if grouped.any():
            groups, devices = graph.colocation[grouped], self.devices[grouped]
            first = np.zeros(groups.max() + 1, np.int32)
            first[groups[::-1]] = devices[::-1]
            torn = np.flatnonzero(first[groups] != devices)
            if torn.size:
                op = int(np.flatnonzero(grouped)[torn[0]])
                raise PlanError(
                    f"op {graph.op_names[op]!r} is on another device than the rest of its "
                    "colocation group; the whole group must share one"
                )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def priority_ranks(priorities: Float64[np.ndarray, " ops"]) -> Int32[np.ndarray, " ops"]:
    """Rank 0 for the highest priority; ties by op index."""
    order = np.argsort(-priorities, kind="stable")
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks


def _check_holds(graph: Graph, plan: Plan) -> None:
    """Raise `PlanError` where ops would wait for each other, or for ops that do not exist."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if plan.is_fused:
        raise PlanError("a plan cannot hold ops back and fuse others: kernels start as a whole")
    if plan.holds.min() < -1 or plan.holds.max() >= graph.op_count:
        raise PlanError(f"holds name ops from 0 to {graph.op_count - 1}, or -1")
    held = np.flatnonzero(plan.holds >= 0)
    sources = np.concatenate([graph.tensor_producers[graph.edge_tensors], plan.holds[held]])
    targets = np.concatenate([graph.consumers, held])
    arcs = coo_array((np.ones(len(sources), np.int8), (sources, targets)), (graph.op_count,) * 2)
    count, labels = connected_components(arcs, directed=True, connection="strong")
    selfish = held[plan.holds[held] == held]
    if count < graph.op_count or selfish.size:
        knot = np.flatnonzero(np.bincount(labels)[labels] > 1)
        op = int(selfish[0] if selfish.size else knot[np.isin(knot, held)][0])
        raise PlanError(
            f"op {graph.op_names[op]!r} is held until {graph.op_names[plan.holds[op]]!r} has "
            "ended, which waits for it"
        )
