"""Traces as Chrome trace events, which Perfetto and chrome://tracing open."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphs.kinds import OpKind
from simulator.clusters.cluster import Cluster
from simulator.traces.trace import Trace

_NANOSECONDS = 1e9


def perfetto_json(trace: Trace) -> str:
    """One process per device (compute track, memory counter), one track per link and channel use.

    Slices on a track never overlap: ops run one at a time, and transfers of one link occupy it
    one after the other (latency, during which the next may already be under way, is in `args`).
    Perfetto rounds times to nanoseconds, so begins and ends are rounded here, lengths follow.
    """
    links = sorted(
        set(zip(trace.transfer_sources.tolist(), trace.transfer_targets.tolist(), strict=True))
    )
    transfers_pid = trace.cluster.device_count + 1
    events: list[dict[str, Any]] = name_tracks(trace.cluster, links)
    events.extend(_op_slices(trace))
    events.extend(_transfer_slices(trace, {pair: i for i, pair in enumerate(links)}, transfers_pid))
    for index in range(trace.cluster.device_count):
        times, levels = trace.memory_timeline(index)
        for time, level in zip(times.tolist(), levels.tolist(), strict=True):
            events.append(counter_event("memory", index + 1, time, {"bytes": level}))
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "graph": trace.graph.name,
            "digest": trace.graph.digest,
            "cluster": trace.cluster.name,
            "source": "simulated",
        },
    }
    return json.dumps(document)


def name_tracks(cluster: Cluster, links: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Names of the processes and tracks: each device's, then one process with a track per link."""
    events: list[dict[str, Any]] = []
    names = cluster.device_names
    transfers_pid = cluster.device_count + 1
    for index, device in enumerate(cluster.devices):
        events.append(_meta("process_name", index + 1, 0, f"{device.name} ({device.kind})"))
        events.append(_meta("thread_name", index + 1, 0, "compute"))
    events.append(_meta("process_name", transfers_pid, 0, "links"))
    for track, (source, target) in enumerate(links):
        label = f"{names[source]} -> {names[target]}"
        events.append(_meta("thread_name", transfers_pid, track, label))
    return events


def slice_event(
    name: str,
    kind: str,
    process: int,
    track: int,
    begin: float,
    end: float,
    details: dict[str, Any],
) -> dict[str, Any]:
    """Something that lasts from `begin` to `end`, in seconds."""
    where = {"pid": process, "tid": track, **_span(begin, end)}
    return {"ph": "X", "name": name, "cat": kind, **where, "args": details}


def counter_event(name: str, process: int, time: float, values: dict[str, float]) -> dict[str, Any]:
    """What a counter comes to from `time` on, in seconds."""
    return {"ph": "C", "name": name, "pid": process, "tid": 0, **_span(time), "args": values}


def _meta(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _span(begin: float, end: float | None = None) -> dict[str, float]:
    """Whole nanoseconds, in the microseconds that the format wants."""
    first = round(begin * _NANOSECONDS)
    if end is None:
        return {"ts": first / 1000}
    return {"ts": first / 1000, "dur": (round(end * _NANOSECONDS) - first) / 1000}


def _op_slices(trace: Trace) -> list[dict[str, Any]]:
    graph = trace.graph
    lasting = np.flatnonzero(trace.end > trace.start)
    return [
        {
            "ph": "X",
            "name": graph.op_names[op],
            "cat": OpKind(graph.kinds[op]).name.lower(),
            "pid": int(trace.devices[op]) + 1,
            "tid": 0,
            **_span(trace.start[op], trace.end[op]),
            "args": {"type": graph.op_types[op], "flops": graph.flops[op]},
        }
        for op in lasting.tolist()
    ]


def _transfer_slices(
    trace: Trace, tracks: dict[tuple[int, int], int], pid: int
) -> list[dict[str, Any]]:
    bytes_per_second = trace.cluster.link_arrays.bytes_per_second
    slices = []
    for index in range(len(trace.transfer_tensors)):
        source, target = int(trace.transfer_sources[index]), int(trace.transfer_targets[index])
        begin, tensor = trace.transfer_start[index], int(trace.transfer_tensors[index])
        size = int(trace.graph.tensor_bytes[tensor])
        producer = trace.graph.tensor_producers[tensor]
        slices.append(
            {
                "ph": "X",
                "name": trace.graph.op_names[producer],
                "cat": "transfer",
                "pid": pid,
                "tid": tracks[source, target],
                **_span(begin, begin + size / bytes_per_second[source, target]),
                "args": {
                    "bytes": size,
                    "waited_seconds": float(begin - trace.transfer_request[index]),
                    "arrives_seconds": float(trace.transfer_arrival[index]),
                },
            }
        )
    return slices
