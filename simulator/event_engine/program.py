"""A graph, a cluster and op costs as the flat arrays that the event engine runs on."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt8

from graphs.graph import Graph
from graphs.kinds import Storage
from simulator.clusters.cluster import Cluster
from simulator.clusters.host_costs import CONTENTION, runs_alone
from simulator.errors import KernelInputError
from simulator.event_engine.phases import step_phases
from simulator.kernel_checks import check_indices, check_offsets, check_record


class ProgramArrays(NamedTuple):
    """What the kernel reads; weights are not edges here, for they never wait nor travel.

    All arrays are writable and lie row by row, whatever they were made of: numba compiles a kernel
    anew for any other kind.
    """

    seconds: Float64[np.ndarray, "ops devices"]
    output_offsets: Int32[np.ndarray, " ops+1"]
    consumer_offsets: Int32[np.ndarray, " tensors+1"]
    consumers: Int32[np.ndarray, " edges"]
    edge_tensors: Int32[np.ndarray, " edges"]
    input_offsets: Int32[np.ndarray, " ops+1"]
    input_edges: Int32[np.ndarray, " edges"]
    tensor_producers: Int32[np.ndarray, " tensors"]
    tensor_bytes: Int64[np.ndarray, " tensors"]
    local_bytes: Int64[np.ndarray, " tensors"]
    """Charged on the producer's device."""
    remote_bytes: Int64[np.ndarray, " tensors"]
    """Charged on each device that a tensor is sent to."""
    alias_edges: Int32[np.ndarray, " tensors"]
    resident_bytes: Int64[np.ndarray, " ops"]
    workspace_bytes: Int64[np.ndarray, " ops"]
    weight_bytes: Int64[np.ndarray, " weights"]
    weight_offsets: Int32[np.ndarray, " weights+1"]
    weight_consumers: Int32[np.ndarray, " weight_edges"]
    link_bytes_per_second: Float64[np.ndarray, "devices devices"]
    """For planners: what a transfer takes altogether, as `link_latency_seconds`."""
    link_latency_seconds: Float64[np.ndarray, "devices devices"]
    wire_bytes_per_second: Float64[np.ndarray, "devices devices"]
    wire_latency_seconds: Float64[np.ndarray, "devices devices"]
    receive_seconds_per_byte: Float64[np.ndarray, "devices devices"]
    host: Float64[np.ndarray, "hosts costs"]
    """A one and `HostCosts` of each device, zeros for those without; no rows where none has any."""
    alone: UInt8[np.ndarray, " ops"]
    """Ops that are a run of their own."""
    link_channels: Int32[np.ndarray, "devices devices width"]
    channel_count: int


@dataclass(frozen=True, eq=False)
class Program:
    """Arrays for the kernel, and the way back from its tensors and edges to the graph's."""

    arrays: ProgramArrays
    graph: Graph
    cluster: Cluster
    graph_tensors: Int32[np.ndarray, " tensors"]
    """The graph's tensor behind each of the program's."""

    @cached_property
    def step_phases(self) -> UInt8[np.ndarray, " ops"]:
        """The phase of each op in steps that overlap."""
        return step_phases(self.graph)

    @property
    def edge_count(self) -> int:
        return len(self.arrays.consumers)

    @property
    def tensor_count(self) -> int:
        return len(self.arrays.tensor_bytes)


def make_program(
    graph: Graph,
    cluster: Cluster,
    seconds: Float64[np.ndarray, "ops devices"],
    alone: Bool[np.ndarray, " ops"] | None = None,
) -> Program:
    """Lay out a graph for the kernel; `alone` are ops that are runs of their own anyway."""
    is_weight = graph.tensor_storage == Storage.WEIGHT
    kept = np.flatnonzero(~is_weight).astype(np.int32)
    edge_kept = ~is_weight[graph.edge_tensors]
    renumber = np.cumsum(~is_weight, dtype=np.int32) - 1
    renumber_edges = np.cumsum(edge_kept, dtype=np.int32) - 1
    consumers = graph.consumers[edge_kept]
    edge_tensors = renumber[graph.edge_tensors[edge_kept]]
    storage = graph.tensor_storage[kept]
    sizes = graph.tensor_bytes[kept]
    alias_edges = graph.alias_edges[kept]
    weights = np.flatnonzero(is_weight)
    weight_counts = np.diff(graph.consumer_offsets)[weights]
    links = cluster.link_arrays
    host = _host_rows(cluster)
    single = np.zeros(graph.op_count, bool) if alone is None else alone
    if len(host):
        single = single | runs_alone(graph)
    arrays = ProgramArrays(
        seconds=np.array(seconds, order="C"),
        output_offsets=_offsets(
            np.bincount(graph.tensor_producers[kept], minlength=graph.op_count)
        ),
        consumer_offsets=_offsets(np.diff(graph.consumer_offsets)[kept]),
        consumers=consumers,
        edge_tensors=edge_tensors,
        input_offsets=_offsets(np.bincount(consumers, minlength=graph.op_count)),
        input_edges=np.argsort(consumers, kind="stable").astype(np.int32),
        tensor_producers=graph.tensor_producers[kept],
        tensor_bytes=sizes,
        local_bytes=np.where(storage == Storage.BUFFER, sizes, 0),
        remote_bytes=np.where(storage == Storage.UNCOUNTED, 0, sizes),
        # A view of a weight shares memory that is resident anyway: nothing to hold.
        alias_edges=np.append(np.where(edge_kept, renumber_edges, np.int32(-1)), np.int32(-1))[
            alias_edges
        ],
        resident_bytes=np.array(graph.resident_bytes),
        workspace_bytes=np.array(graph.workspace_bytes),
        weight_bytes=graph.tensor_bytes[weights],
        weight_offsets=_offsets(weight_counts),
        weight_consumers=graph.consumers[~edge_kept],
        link_bytes_per_second=links.bytes_per_second,
        link_latency_seconds=links.latency_seconds,
        wire_bytes_per_second=links.wire_bytes_per_second,
        wire_latency_seconds=links.wire_latency_seconds,
        receive_seconds_per_byte=links.receive_seconds_per_byte,
        host=host,
        alone=single.astype(np.uint8),
        link_channels=links.channels,
        channel_count=len(links.channel_names),
    )
    check_program(arrays)
    return Program(arrays, graph, cluster, kept)


def check_program(p: ProgramArrays) -> None:
    """Raise `KernelInputError` unless all indices of a program lead somewhere; O(edges)."""
    sizes = check_record(p)
    ops, tensors, edges = sizes["ops"], sizes["tensors"], sizes["edges"]
    for name, last in (
        ("output_offsets", tensors),
        ("consumer_offsets", edges),
        ("input_offsets", edges),
        ("weight_offsets", sizes["weight_edges"]),
    ):
        check_offsets(f"ProgramArrays.{name}", getattr(p, name), last)
    for name, limit, least in (
        ("consumers", ops, 0),
        ("edge_tensors", tensors, 0),
        ("input_edges", edges, 0),
        ("tensor_producers", ops, 0),
        ("alias_edges", edges, -1),
        ("weight_consumers", ops, 0),
        ("link_channels", p.channel_count, -1),
    ):
        check_indices(f"ProgramArrays.{name}", getattr(p, name), limit, least)
    if len(p.host) not in (0, sizes["devices"]):
        raise KernelInputError(
            f"ProgramArrays.host has {len(p.host)} rows; it must have one for each of the "
            f"{sizes['devices']} devices, or none"
        )


def _offsets(counts: Int64[np.ndarray, " n"]) -> Int32[np.ndarray, " n+1"]:
    return np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])


def _host_rows(cluster: Cluster) -> Float64[np.ndarray, "hosts costs"]:
    hosts = [device.host for device in cluster.devices]
    rows = np.zeros((len(hosts) if any(hosts) else 0, CONTENTION + 1))
    for row, host in zip(rows, hosts, strict=False):
        if host is not None:
            row[:] = 1.0, *asdict(host).values()
    return rows
