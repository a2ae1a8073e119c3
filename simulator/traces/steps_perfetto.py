"""Traces of several steps as Chrome trace events, each slice with the number of its step."""

import json
from typing import Any

import numpy as np

from graphs.kinds import OpKind
from simulator.traces.perfetto import counter_event, name_tracks, slice_event
from simulator.traces.steps_trace import StepsTrace

#: Colours of chrome://tracing, for steps in turn. Perfetto colours by name, which has the step.
_COLOURS = (
    "thread_state_running", "rail_response", "cq_build_passed", "rail_animation",
    "thread_state_iowait", "startup", "cq_build_attempt_runnig", "rail_load",
)  # fmt: skip


def steps_perfetto_json(trace: StepsTrace) -> str:
    """The layout of `perfetto_json`, with `step N: ` before the name of each slice.

    Slices of different steps never overlap on a device; updates of a training step are called so.
    """
    pairs = zip(trace.transfer_sources.tolist(), trace.transfer_targets.tolist(), strict=True)
    links = sorted(set(pairs))
    events = name_tracks(trace.cluster, links)
    events.extend(_op_slices(trace))
    events.extend(_transfer_slices(trace, {pair: index for index, pair in enumerate(links)}))
    for device in range(trace.cluster.device_count):
        times, levels = trace.memory_timeline(device)
        for time, level in zip(times.tolist(), levels.tolist(), strict=True):
            events.append(counter_event("memory", device + 1, time, {"bytes": level}))
    found = trace.evaluation
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "graph": trace.graph.name,
            "digest": trace.graph.digest,
            "cluster": trace.cluster.name,
            "source": "simulated",
            "steps": found.schedule.steps,
            "in_flight": found.schedule.in_flight,
            "order": str(found.schedule.order),
            "period_seconds": found.period_seconds,
        },
    }
    return json.dumps(document)


def _op_slices(trace: StepsTrace) -> list[dict[str, Any]]:
    graph = trace.graph
    slices = []
    rows, ops = np.nonzero(trace.ran & (trace.end > trace.start))
    for row, op in zip(rows.tolist(), ops.tolist(), strict=True):
        event = slice_event(
            f"{trace.row_name(row)}: {graph.op_names[op]}",
            OpKind(graph.kinds[op]).name.lower(),
            int(trace.devices[op]) + 1,
            0,
            float(trace.start[row, op]),
            float(trace.end[row, op]),
            {"step": row, "type": graph.op_types[op]},
        )
        slices.append({**event, "cname": _COLOURS[row % len(_COLOURS)]})
    return slices


def _transfer_slices(trace: StepsTrace, tracks: dict[tuple[int, int], int]) -> list[dict[str, Any]]:
    bytes_per_second = trace.cluster.link_arrays.bytes_per_second
    slices = []
    for index in range(len(trace.transfer_tensors)):
        source, target = int(trace.transfer_sources[index]), int(trace.transfer_targets[index])
        begin, tensor = float(trace.transfer_start[index]), int(trace.transfer_tensors[index])
        row, size = int(trace.transfer_rows[index]), int(trace.graph.tensor_bytes[tensor])
        name = trace.graph.op_names[trace.graph.tensor_producers[tensor]]
        event = slice_event(
            f"{trace.row_name(row)}: {name}",
            "transfer",
            trace.cluster.device_count + 1,
            tracks[source, target],
            begin,
            begin + size / float(bytes_per_second[source, target]),
            {
                "step": row,
                "bytes": size,
                "waited_seconds": begin - float(trace.transfer_request[index]),
                "arrives_seconds": float(trace.transfer_arrival[index]),
            },
        )
        slices.append({**event, "cname": _COLOURS[row % len(_COLOURS)]})
    return slices
