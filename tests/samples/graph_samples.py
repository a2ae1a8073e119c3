"""Graphs for tests: tiny ones by hand, random ones by seed."""

from dataclasses import replace
from typing import Any

import numpy as np

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import DType, OpKind, Phase, Storage
from simulator.clusters.cluster import Cluster, Device, Link
from simulator.clusters.host_costs import HostCosts


def device(name: str, memory_bytes: int = 1 << 40, flops_per_second: float = 1.0) -> Device:
    """A device on which an op of n flops takes n seconds."""
    return Device(
        name=name,
        kind="toy",
        memory_bytes=memory_bytes,
        flops_per_second={"float32": flops_per_second},
        memory_bytes_per_second=1e30,
        launch_seconds=0.0,
    )


def toy_cluster(
    count: int,
    memory_bytes: int = 1 << 40,
    bytes_per_second: float = 1.0,
    latency_seconds: float = 0.0,
) -> Cluster:
    """Equal devices; each directed pair has a channel of its own."""
    devices = tuple(device(f"d{i}", memory_bytes) for i in range(count))
    links = tuple(
        Link(f"d{i}", f"d{j}", bytes_per_second, latency_seconds)
        for i in range(count)
        for j in range(count)
        if i != j
    )
    return Cluster(f"toy-{count}", devices, links)


def op(
    name: str,
    seconds: float,
    inputs: tuple[str, ...] = (),
    output_bytes: int = 0,
    kind: OpKind = OpKind.MATMUL,
    **fields: Any,
) -> OpRecord:
    """An op that takes `seconds` on a toy device and has one output, named like the op."""
    return OpRecord(
        name=name,
        op_type=kind.name.title(),
        kind=kind,
        inputs=inputs,
        outputs=(OutputTensor(name, output_bytes),),
        flops=seconds,
        **fields,
    )


def graph_of(*records: OpRecord) -> Graph:
    builder = GraphBuilder("sample")
    for record in records:
        builder.add(record)
    return builder.build(ImportReport())


def random_graph(seed: int, ops: int, groups: bool = True) -> Graph:
    """A random DAG with every kind of storage, control edges, free ops and colocation."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(f"random-{seed}")
    tensors: list[str] = []
    weights: list[str] = []
    for index in range(ops):
        name = f"op{index}"
        window = tensors[-30:]
        count = min(len(window), int(rng.integers(0, 4)))
        inputs = [str(t) for t in rng.choice(window, count, replace=False)] if count else []
        if weights and rng.random() < 0.2:
            inputs.append(str(rng.choice(weights)))
        control = [f"op{rng.integers(index)}"] if index and rng.random() < 0.1 else []
        if rng.random() < 0.05:
            kind, flops = OpKind.VARIABLE, 0.0
            outputs = [OutputTensor(f"{name}:0", int(rng.integers(1, 50)), Storage.WEIGHT)]
            inputs, control = [], []
        else:
            free = rng.random() < 0.15
            kind = OpKind.VIEW if free else OpKind(int(rng.integers(0, 15)))
            flops = 0.0 if free else float(rng.integers(0, 6))
            outputs = []
            for slot in range(int(rng.integers(1, 3))):
                storage, alias = Storage.BUFFER, None
                draw = rng.random()
                if draw < 0.25 and inputs:
                    storage, alias = Storage.ALIAS, inputs[int(rng.integers(len(inputs)))]
                elif draw < 0.3:
                    storage = Storage.RESIDENT
                elif draw < 0.33:
                    storage = Storage.UNCOUNTED
                size = int(rng.integers(0, 40))
                outputs.append(OutputTensor(f"{name}:{slot}", size, storage, alias))
        builder.add(
            OpRecord(
                name=name,
                op_type=kind.name,
                kind=kind,
                inputs=inputs,
                outputs=outputs,
                control_inputs=control,
                phase=Phase(int(rng.integers(0, 3))),
                dtype=DType.FLOAT32,
                flops=flops,
                bytes_read=float(rng.integers(0, 50)),
                bytes_written=float(rng.integers(0, 50)),
                resident_bytes=int(rng.integers(0, 20)),
                workspace_bytes=int(rng.integers(0, 5)),
                output_shape=(int(rng.integers(1, 9)), 3),
                colocation=f"g{rng.integers(8)}" if groups and rng.random() < 0.1 else None,
            )
        )
        (weights if outputs[0].storage == Storage.WEIGHT else tensors).extend(
            output.name for output in outputs
        )
    return builder.build(ImportReport())


def random_cluster(seed: int) -> Cluster:
    """Unlike devices, some links with shared channels."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5))
    devices = tuple(
        Device(
            name=f"d{i}",
            kind=f"k{i % 2}",
            memory_bytes=int(rng.integers(100, 2000)),
            flops_per_second={"float32": float(rng.integers(1, 4))},
            memory_bytes_per_second=float(rng.integers(10, 60)),
            launch_seconds=float(rng.integers(0, 2)) / 4,
        )
        for i in range(count)
    )
    links = []
    for i in range(count):
        for j in range(count):
            if i == j:
                continue
            shared = tuple(f"c{c}" for c in range(3) if rng.random() < 0.4)
            latency = float(rng.integers(0, 3)) / 8
            links.append(Link(f"d{i}", f"d{j}", float(rng.integers(5, 50)), latency, shared))
    return Cluster(f"random-{seed}", devices, tuple(links))


def with_hosts(cluster: Cluster, seed: int) -> Cluster:
    """The same devices, of which some or all send and receive themselves."""
    rng = np.random.default_rng(seed)

    def host() -> HostCosts:
        drawn = rng.random(9) * rng.integers(0, 2, 9)
        return HostCosts(*(drawn * [1.0, 0.2, 0.2, 0.02, 0.02, 0.7, 0.03, 0.7, 0.5]).tolist())

    devices = tuple(
        replace(device, host=host()) if seed % 2 or rng.random() < 0.5 else device
        for device in cluster.devices
    )
    return replace(cluster, devices=devices)


def random_devices(graph: Graph, cluster: Cluster, seed: int) -> np.ndarray:
    """A placement that keeps colocation groups together."""
    rng = np.random.default_rng(seed)
    devices = rng.integers(0, cluster.device_count, graph.op_count).astype(np.int32)
    for group in range(graph.colocation.max() + 1):
        members = graph.colocation == group
        devices[members] = devices[members][0]
    return devices
