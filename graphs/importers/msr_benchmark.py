"""Graphs of the dnn-partitioning benchmark (NeurIPS 2020): JSON with profiled latencies.

A node carries milliseconds on an accelerator and on a CPU core; an edge carries the milliseconds
that its source's output takes for one hop between an accelerator and host memory. The IR knows
bytes, so a hop is encoded as the bytes that `NOMINAL_HOP_BYTES_PER_SECOND` moves in that time;
a cluster whose accelerator-host links have that bandwidth, and whose accelerator-accelerator
links have half of it, reproduces the benchmark's transfer times.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import OpKind, Phase, Storage

#: Bytes per second of one accelerator-host hop in a cluster that matches an imported graph.
NOMINAL_HOP_BYTES_PER_SECOND = 1e12

_MILLISECONDS_PER_SECOND = 1000.0
_LARGEST_FIGURE = 1e18


@dataclass(frozen=True)
class _Node:
    identifier: int
    name: str
    cpu_seconds: float
    accelerator_seconds: float
    backward: bool
    color: int | None
    resident_bytes: int


@dataclass(frozen=True)
class _Edge:
    source: int
    target: int
    hop_seconds: float


def import_msr_file(path: Path, dims: Mapping[str, int]) -> Graph:
    """Import a benchmark file, which has no symbolic dimensions.

    Raises:
        ModelError: not JSON, or not a benchmark graph.
    """
    del dims
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: looks like JSON but is not ({error})") from error
    return import_msr_benchmark(document, str(path))


def import_msr_benchmark(document: object, origin: str) -> Graph:
    """Turn a parsed benchmark graph into a `Graph` with profiled seconds.

    Ops keep the benchmark's node names, with `#id` appended where a name repeats. Profiled
    seconds are given for `"accelerator"` (infinite where unsupported) and `"cpu"`.

    Args:
        document: what `json.loads` returned.
        origin: the file's name, for messages and as the graph's name.

    Raises:
        ModelError: a field is missing, of a wrong type, negative or not finite; an id or an
            edge repeats; an edge names an unknown node; the edges hold a cycle.
    """
    top = _object(document, origin, "the document")
    if "nodes" not in top or "edges" not in top:
        raise ModelError(
            f"{origin}: this JSON has no 'nodes' and 'edges'; expected a dnn-partitioning "
            "benchmark graph"
        )
    nodes = _nodes(top["nodes"], origin)
    edges = _edges(top["edges"], origin, {node.identifier for node in nodes})
    return _build(nodes, edges, origin)


def read_msr_expert(document: object, origin: str) -> dict[int, str]:
    """Read a human expert's split of a benchmark graph.

    Returns:
        Node id to device label: `accelerator:0`, `accelerator:1`, ..., `cpu:0`, ...

    Raises:
        ModelError: no such split, a wrong type, or a node on two devices.
    """
    top = _object(document, origin, "the document")
    device_of: dict[int, str] = {}
    for key, label in (("fpgas", "accelerator"), ("cpus", "cpu")):
        for index, entry in enumerate(_list(top.get(key), origin, f"{key!r}")):
            where = f"{key}[{index}]"
            members = _list(_object(entry, origin, where).get("nodes"), origin, f"{where}.nodes")
            for member in members:
                identifier = _integer(member, origin, f"a node id of {where}")
                if identifier in device_of:
                    raise ModelError(
                        f"{origin}: node {identifier} is on {device_of[identifier]} and on "
                        f"{label}:{index}; a split puts each node on one device"
                    )
                device_of[identifier] = f"{label}:{index}"
    return device_of


def _build(nodes: Sequence[_Node], edges: Sequence[_Edge], origin: str) -> Graph:
    repeats = Counter(node.name for node in nodes)
    labels = {
        node.identifier: node.name if repeats[node.name] == 1 else f"{node.name}#{node.identifier}"
        for node in nodes
    }
    sources: dict[int, list[int]] = {node.identifier: [] for node in nodes}
    hops: dict[int, list[float]] = {node.identifier: [] for node in nodes}
    for edge in edges:
        sources[edge.target].append(edge.source)
        hops[edge.source].append(edge.hop_seconds)
    uneven = sum(len(set(seconds)) > 1 for seconds in hops.values())
    builder = GraphBuilder(origin)
    for node in nodes:
        # The benchmark's parameters are nodes that nothing leads to, that take memory but no time.
        takes_time = node.accelerator_seconds > 0 or node.cpu_seconds > 0
        is_parameter = not (sources[node.identifier] or takes_time) and node.resident_bytes > 0
        moved = round(max(hops[node.identifier], default=0.0) * NOMINAL_HOP_BYTES_PER_SECOND)
        builder.add(
            OpRecord(
                name=labels[node.identifier],
                op_type="Profiled",
                kind=OpKind.VARIABLE if is_parameter else OpKind.CUSTOM,
                inputs=[str(source) for source in sources[node.identifier]],
                outputs=[OutputTensor(str(node.identifier), moved, Storage.UNCOUNTED)],
                phase=Phase.BACKWARD if node.backward else Phase.FORWARD,
                resident_bytes=node.resident_bytes,
                colocation=None if node.color is None else f"color{node.color}",
            )
        )
    notes = ["Transfer times are encoded as bytes at 1e12 bytes per second and hop."]
    if uneven:
        notes.append(
            f"{uneven} nodes have outgoing edges of different cost; their output moves at the "
            "largest."
        )
    return builder.build(
        ImportReport(source_format="msr-benchmark", notes=tuple(notes)),
        {
            "accelerator": {labels[n.identifier]: n.accelerator_seconds for n in nodes},
            "cpu": {labels[n.identifier]: n.cpu_seconds for n in nodes},
        },
    )


def _nodes(value: object, origin: str) -> list[_Node]:
    nodes: list[_Node] = []
    seen: set[int] = set()
    for index, item in enumerate(_list(value, origin, "'nodes'")):
        where = f"nodes[{index}]"
        entry = _object(item, origin, where)
        node = _node(entry, origin, where)
        if node.identifier in seen:
            raise ModelError(
                f"{origin}: {where} repeats the id {node.identifier}; node ids must be unique"
            )
        seen.add(node.identifier)
        nodes.append(node)
    return nodes


def _node(entry: Mapping[str, object], origin: str, where: str) -> _Node:
    name = _field(entry, "name", origin, where)
    if not isinstance(name, str) or not name:
        raise ModelError(f"{origin}: {where}.name is {name!r}; expected a non-empty string")
    color = entry.get("colorClass")
    return _Node(
        identifier=_integer(_field(entry, "id", origin, where), origin, f"{where}.id"),
        name=name,
        cpu_seconds=_figure(entry, "cpuLatency", origin, where) / _MILLISECONDS_PER_SECOND,
        accelerator_seconds=(
            _figure(entry, "fpgaLatency", origin, where) / _MILLISECONDS_PER_SECOND
            if _flag(entry, "supportedOnFpga", origin, where)
            else inf
        ),
        backward=_flag(entry, "isBackwardNode", origin, where),
        color=None if color is None else _integer(color, origin, f"{where}.colorClass"),
        resident_bytes=round(_figure(entry, "size", origin, where)),
    )


def _edges(value: object, origin: str, known: set[int]) -> list[_Edge]:
    edges: list[_Edge] = []
    seen: set[tuple[int, int]] = set()
    for index, item in enumerate(_list(value, origin, "'edges'")):
        where = f"edges[{index}]"
        entry = _object(item, origin, where)
        ends = []
        for key in ("sourceId", "destId"):
            identifier = _integer(_field(entry, key, origin, where), origin, f"{where}.{key}")
            if identifier not in known:
                raise ModelError(f"{origin}: {where}.{key} is {identifier}; no node has that id")
            ends.append(identifier)
        pair = (ends[0], ends[1])
        if pair in seen:
            raise ModelError(f"{origin}: {where} repeats the edge {pair[0]} -> {pair[1]}")
        seen.add(pair)
        seconds = _figure(entry, "cost", origin, where) / _MILLISECONDS_PER_SECOND
        edges.append(_Edge(*pair, seconds))
    return edges


def _object(value: object, origin: str, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ModelError(f"{origin}: {where} is {_describe(value)}; expected a JSON object")
    return value


def _list(value: object, origin: str, where: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise ModelError(f"{origin}: {where} is {_describe(value)}; expected a JSON list")
    return value


def _field(entry: Mapping[str, object], key: str, origin: str, where: str) -> object:
    if key not in entry:
        raise ModelError(f"{origin}: {where} lacks {key!r}; it has {sorted(entry)}")
    return entry[key]


def _integer(value: object, origin: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ModelError(f"{origin}: {where} is {_describe(value)}; expected an integer")
    return value


def _flag(entry: Mapping[str, object], key: str, origin: str, where: str) -> bool:
    value = _field(entry, key, origin, where)
    if not isinstance(value, int) or value not in (0, 1):
        raise ModelError(f"{origin}: {where}.{key} is {_describe(value)}; expected true or false")
    return bool(value)


def _figure(entry: Mapping[str, object], key: str, origin: str, where: str) -> float:
    value = _field(entry, key, origin, where)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 <= value <= _LARGEST_FIGURE
        or not isfinite(value)
    ):
        raise ModelError(
            f"{origin}: {where}.{key} is {_describe(value)}; expected a number from 0 to 1e18"
        )
    return float(value)


def _describe(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
