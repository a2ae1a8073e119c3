"""Traces as Chrome trace events, which Perfetto and chrome://tracing open."""

import json
from typing import Any

import numpy as np

from graphs.kinds import OpKind
from simulator.trace import Trace

_MICROSECONDS = 1e6


def perfetto_json(trace: Trace) -> str:
    """One process per device (compute track, memory counter), one track per link and channel use.

    Slices on a track never overlap: ops run one at a time, and transfers of one link occupy it
    one after the other (latency, during which the next may already be under way, is in `args`).
    """
    events: list[dict[str, Any]] = []
    links = sorted(
        set(zip(trace.transfer_sources.tolist(), trace.transfer_targets.tolist(), strict=True))
    )
    transfers_pid = trace.cluster.device_count + 1
    for index, device in enumerate(trace.cluster.devices):
        events.append(_meta("process_name", index + 1, 0, f"{device.name} ({device.kind})"))
        events.append(_meta("thread_name", index + 1, 0, "compute"))
    events.append(_meta("process_name", transfers_pid, 0, "links"))
    for track, (source, target) in enumerate(links):
        names = trace.cluster.device_names
        events.append(
            _meta("thread_name", transfers_pid, track, f"{names[source]} -> {names[target]}")
        )
    events.extend(_op_slices(trace))
    events.extend(_transfer_slices(trace, {pair: i for i, pair in enumerate(links)}, transfers_pid))
    for index in range(trace.cluster.device_count):
        times, levels = trace.memory_timeline(index)
        for time, level in zip(times.tolist(), levels.tolist(), strict=True):
            events.append(
                {"ph": "C", "name": "memory", "pid": index + 1, "tid": 0,
                 "ts": time * _MICROSECONDS, "args": {"bytes": level}}
            )  # fmt: skip
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


def _meta(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


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
            "ts": trace.start[op] * _MICROSECONDS,
            "dur": (trace.end[op] - trace.start[op]) * _MICROSECONDS,
            "args": {"type": graph.op_types[op], "flops": graph.flops[op]},
        }
        for op in lasting.tolist()
    ]


def _transfer_slices(
    trace: Trace, tracks: dict[tuple[int, int], int], pid: int
) -> list[dict[str, Any]]:
    latency = trace.cluster.link_arrays.latency_seconds
    slices = []
    for index in range(len(trace.transfer_tensors)):
        source, target = int(trace.transfer_sources[index]), int(trace.transfer_targets[index])
        begin, arrival = trace.transfer_start[index], trace.transfer_arrival[index]
        tensor = int(trace.transfer_tensors[index])
        producer = trace.graph.tensor_producers[tensor]
        slices.append(
            {
                "ph": "X",
                "name": trace.graph.op_names[producer],
                "cat": "transfer",
                "pid": pid,
                "tid": tracks[source, target],
                "ts": begin * _MICROSECONDS,
                "dur": max(0.0, arrival - begin - latency[source, target]) * _MICROSECONDS,
                "args": {
                    "bytes": int(trace.graph.tensor_bytes[tensor]),
                    "waited_seconds": float(begin - trace.transfer_request[index]),
                    "arrives_seconds": float(arrival),
                },
            }
        )
    return slices
