"""A plan: per op a device, a scheduling priority and a fusion group."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int32

from graphs.graph import Graph
from simulator.clusters.cluster import Cluster
from simulator.errors import PlanError


@dataclass(frozen=True, eq=False)
class Plan:
    """What the simulator executes and what every placer returns; equal by content."""

    devices: Int32[np.ndarray, " ops"]
    """Index of each op's device in the cluster."""
    priorities: Float64[np.ndarray, " ops"]
    """Among ready ops on a device the highest runs first; ties go to the lower op index."""
    fusion: Int32[np.ndarray, " ops"]
    """Ops with the same non-negative group are one kernel; -1 is a kernel of its own."""

    def __post_init__(self) -> None:
        for values in (self.devices, self.priorities, self.fusion):
            values.setflags(write=False)
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
