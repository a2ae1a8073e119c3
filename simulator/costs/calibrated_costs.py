"""Measured kernel times as a cost model: exact where an op was measured, scaled where not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, OpKind
from simulator.clusters.cluster import Cluster, Device
from simulator.clusters.kernel_times import KernelSignature, KernelTimes, signatures
from simulator.costs.cost_model import RooflineCosts, Seconds

#: Measured ops that are looked at for one that was not.
_NEIGHBOURS = 8


@dataclass(frozen=True, eq=False)
class CalibratedCosts:
    """A `CostModel` of measured kernels for one kind of device; others get the roofline.

    An op of a graph that was measured takes what it took there. Any other takes what an op of the
    same signature took. Else it is slower than the roofline as measured ops of its kind are:
    between the nearest smaller and the nearest larger one in proportion, or as the nearest where
    all are on one side. A kind that was never measured takes the roofline.
    """

    times: KernelTimes

    name = "calibrated"

    def seconds(self, graph: Graph, cluster: Cluster) -> Seconds:
        """See `CostModel`."""
        roofline = RooflineCosts().seconds(graph, cluster)
        known = self.times.graph_seconds.get(graph.digest)
        result = roofline.copy()
        for index, device in enumerate(cluster.devices):
            if device.kind == self.times.device_kind:
                column = roofline[:, index]
                result[:, index] = column if known is None else known
                if known is None:
                    result[:, index] = self._looked_up(graph, column, cluster, index)
                result[np.isinf(column), index] = np.inf
        return result

    @cached_property
    def _by_kind(self) -> Mapping[int, tuple[Float64[np.ndarray, "_ 2"], list[KernelSignature]]]:
        """Work of the samples of each kind, in logarithms."""
        groups: dict[int, list[KernelSignature]] = {}
        for key in self.times.samples:
            groups.setdefault(key.kind, []).append(key)
        return {
            kind: (np.array([_log_work(key) for key in keys]).reshape(-1, 2), keys)
            for kind, keys in groups.items()
        }

    def _looked_up(
        self, graph: Graph, roofline: np.ndarray, cluster: Cluster, index: int
    ) -> Float64[np.ndarray, " ops"]:
        free = np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS])
        result = roofline.copy()
        device = cluster.devices[index]
        for op, key in enumerate(signatures(graph)):
            if key in self.times.samples:
                result[op] = self.times.samples[key]
            elif not free[op] and key.kind in self._by_kind:
                result[op] = roofline[op] * self._slowness(key, float(roofline[op]), device)
        return result

    def _slowness(self, key: KernelSignature, seconds: float, device: Device) -> float:
        """Measured over roofline time for an op that was not measured."""
        work, keys = self._by_kind[key.kind]
        distance = np.abs(work - _log_work(key)).sum(axis=1)
        distance += [0.0 if other.op_type == key.op_type else 1.0 for other in keys]
        around = np.argsort(distance, kind="stable")[:_NEIGHBOURS].tolist()
        base = {at: max(_roofline_seconds(keys[at], device), 1e-12) for at in around}
        smaller = next((at for at in around if base[at] <= seconds), around[0])
        larger = next((at for at in around if base[at] > seconds), around[0])
        low, high = math.log(base[smaller]), math.log(base[larger])
        share = 0.0 if low >= high else (math.log(max(seconds, 1e-12)) - low) / (high - low)
        ratios = [math.log(self.times.samples[keys[at]] / base[at]) for at in (smaller, larger)]
        return math.exp(ratios[0] + min(max(share, 0.0), 1.0) * (ratios[1] - ratios[0]))


def _roofline_seconds(key: KernelSignature, device: Device) -> float:
    """As the roofline would have it for a measured op."""
    moved = key.bytes_read + key.bytes_written
    work = max(
        key.flops / device.flops_per_second["float32"], moved / device.memory_bytes_per_second
    )
    efficiency = device.efficiency.get(OpKind(key.kind).name.lower(), 1.0)
    return work / efficiency + device.launch_seconds


def _log_work(key: KernelSignature) -> list[float]:
    return [math.log2(1 + key.flops), math.log2(1 + key.bytes_read + key.bytes_written)]
