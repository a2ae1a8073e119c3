"""Cost models: how long each op takes on each device."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, DType, OpKind
from simulator.clusters.cluster import Cluster, Device
from simulator.errors import ClusterError

if TYPE_CHECKING:
    from simulator.fusion import FusedGraph

Seconds = Float64[np.ndarray, "ops devices"]


@runtime_checkable
class CostModel(Protocol):
    """Predicts compute seconds; `inf` means that the device cannot run the op."""

    @property
    def name(self) -> str:
        """Shown beside every figure that rests on the model."""
        ...

    def seconds(self, graph: Graph, cluster: Cluster) -> Seconds:
        """Seconds of each op on each device, launch included; zero for ops without a kernel."""
        ...


@runtime_checkable
class KernelCostModel(CostModel, Protocol):
    """A cost model that looks at what a fused kernel is made of."""

    def fused_seconds(self, graph: Graph, fused: "FusedGraph", cluster: Cluster) -> Seconds:
        """Seconds of each op of `fused.graph`; `graph` is the one before fusion."""
        ...


def kernel_costs(costs: CostModel, graph: Graph, fused: "FusedGraph", cluster: Cluster) -> Seconds:
    """Seconds of the kernels of a fused graph; to most models a kernel is an op like others."""
    if isinstance(costs, KernelCostModel):
        return costs.fused_seconds(graph, fused, cluster)
    return costs.seconds(fused.graph, cluster)


class RooflineCosts:
    """The larger of compute and memory time, over a kind's efficiency, plus the launches.

    Williams et al., "Roofline" (CACM 2009).
    """

    name = "roofline"

    def seconds(self, graph: Graph, cluster: Cluster) -> Seconds:
        return _by_device_kind(cluster, lambda device: self._on_device(graph, device))

    def _on_device(self, graph: Graph, device: Device) -> Float64[np.ndarray, " ops"]:
        peaks = np.array([device.peak_flops_per_second(dtype) for dtype in DType])
        efficiency = np.array([device.efficiency.get(kind.name.lower(), 1.0) for kind in OpKind])
        compute = graph.flops / peaks[graph.dtypes]
        memory = (graph.bytes_read + graph.bytes_written) / device.memory_bytes_per_second
        seconds = np.maximum(compute, memory) / efficiency[graph.kinds]
        seconds += graph.launches * device.launch_seconds
        idle = (graph.flops == 0) & (graph.bytes_read + graph.bytes_written == 0)
        free = np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS]) | (
            idle & (graph.kinds == OpKind.CONTROL_FLOW)
        )
        return _without_unsupported(graph, device, np.where(free, 0.0, seconds))


class ProfiledCosts:
    """Times that the graph's source measured, looked up by device kind."""

    name = "profiled"

    def seconds(self, graph: Graph, cluster: Cluster) -> Seconds:
        """Raises ClusterError where the graph has no times for a device kind."""
        for device in cluster.devices:
            if device.kind not in graph.profiled_seconds:
                known = ", ".join(sorted(graph.profiled_seconds)) or "none"
                raise ClusterError(
                    f"graph {graph.name!r} has no profiled times for device kind "
                    f"{device.kind!r}; it has {known}"
                )
        return _by_device_kind(
            cluster,
            lambda device: _without_unsupported(graph, device, graph.profiled_seconds[device.kind]),
        )


def _without_unsupported(
    graph: Graph, device: Device, seconds: Float64[np.ndarray, " ops"]
) -> Float64[np.ndarray, " ops"]:
    refused = [int(kind) for kind in OpKind if kind.name.lower() in device.unsupported]
    return np.where(np.isin(graph.kinds, refused), np.inf, seconds)


def _by_device_kind(cluster: Cluster, column: Callable[[Device], np.ndarray]) -> Seconds:
    """Compute one column per distinct device, so that equal devices cost nothing extra."""
    columns: dict[str, np.ndarray] = {}
    for device in cluster.devices:
        key = repr(replace(device, name="-", memory_bytes=1))
        if key not in columns:
            columns[key] = column(device)
        columns[device.name] = columns[key]
    return np.stack([columns[device.name] for device in cluster.devices], axis=1)
