"""Steps that overlap: who works on which step when, how busy devices are, and what they hold."""

import json
from typing import Any

import numpy as np

from placement.report.blocks import DEVICE_COLOURS, Chart, Section, Table, Text, milliseconds
from placement.report.reported_plan import ReportedPlan
from simulator.traces.steps_trace import StepsTrace
from simulator.units import format_bytes, format_seconds

#: More slices than that are joined: neighbours of one step on one device.
_MOST_SLICES = 4000


def steps_section(reported: ReportedPlan) -> Section | None:
    """A lane for each device, a colour for each step; None where steps do not overlap."""
    trace = reported.steps
    if trace is None:
        return None
    found = trace.evaluation
    span = found.makespan_seconds or 1.0
    words = (
        f"{found.schedule.steps} steps, at most {found.schedule.most_in_flight} on the way, "
        f"{found.schedule.order}: a step every {format_seconds(found.period_seconds)} once the "
        f"pipeline is full, {format_seconds(found.latency_seconds)} from its release to its end. "
        f"Devices that work stand still for {found.bubble:.0%} of the time."
    )
    devices = trace.cluster.devices
    rows = [
        [
            device.name,
            f"{found.busy_seconds[index] / span:.0%}",
            format_bytes(float(found.peak_bytes[index])),
            f"{found.peak_bytes[index] / device.memory_bytes:.0%}",
        ]
        for index, device in enumerate(devices)
    ]
    blocks: list[Text | Table | Chart] = [
        Text(words),
        Chart("steps", _spec(trace), words),
        Table("Devices", ("device", "busy", "peak memory", "of its memory"), rows),
    ]
    return Section("steps", "Steps that overlap", blocks)


def _runs(trace: StepsTrace) -> list[tuple[int, int, float, float]]:
    """Device, row, begin and end of what is drawn: neighbours of one step are one slice."""
    rows, ops = np.nonzero(trace.ran & (trace.end > trace.start))
    tasks = sorted(
        zip(
            trace.devices[ops].tolist(),
            trace.start[rows, ops].tolist(),
            trace.end[rows, ops].tolist(),
            rows.tolist(),
            strict=True,
        )
    )
    gap = 0.0
    while True:
        runs: list[tuple[int, int, float, float]] = []
        for device, begin, end, row in tasks:
            last = runs[-1] if runs else None
            if last and last[:2] == (device, row) and begin - last[3] <= gap:
                runs[-1] = (device, row, last[2], end)
            else:
                runs.append((device, row, begin, end))
        if len(runs) <= _MOST_SLICES:
            return runs
        gap = max(2 * gap, trace.evaluation.makespan_seconds / 4000)
        if gap > trace.evaluation.makespan_seconds:
            return runs


def _spec(trace: StepsTrace) -> dict[str, Any]:
    names = list(trace.cluster.device_names)
    values = [
        {"l": device, "a": milliseconds(begin), "b": milliseconds(end), "s": trace.row_name(row),
         "k": "update" if row >= trace.evaluation.schedule.steps else str(row % 8)}
        for device, row, begin, end in _runs(trace)
    ]  # fmt: skip
    return {
        "height": 30 * len(names),
        "data": {"values": values},
        "mark": {"type": "bar", "height": {"band": 0.7}},
        "encoding": {
            "x": {
                "field": "a", "type": "quantitative", "title": "ms", "scale": {"nice": False},
            },
            "x2": {"field": "b"},
            "y": {
                "field": "l", "type": "ordinal", "title": None,
                "scale": {"domain": list(range(len(names)))},
                "axis": {"labelLimit": 130, "labelExpr": f"{json.dumps(names)}[datum.value]"},
            },
            "color": {
                "field": "k", "type": "nominal", "legend": None,
                "scale": {
                    "domain": [*map(str, range(8)), "update"],
                    "range": [*DEVICE_COLOURS[:8], "#9aa5b8"],
                },
            },
            "tooltip": [
                {"field": "s", "title": "step"},
                {"field": "a", "title": "begins, ms"}, {"field": "b", "title": "ends, ms"},
            ],
        },
    }  # fmt: skip
