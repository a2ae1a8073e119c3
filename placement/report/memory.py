"""Memory in use over the step, against what each device has."""

from typing import Any

import numpy as np

from placement.report.blocks import Chart, Section, Table, Text, milliseconds
from placement.report.reported_plan import ReportedPlan
from simulator.clusters.cluster import Device
from simulator.units import format_bytes

_POINTS = 240


def memory_section(reported: ReportedPlan) -> Section:
    """A curve per device with its capacity; the highest of each short interval is kept."""
    trace = reported.trace
    charts: list[Chart] = []
    rows = []
    cluster = reported.problem.cluster
    for index, device in enumerate(cluster.devices):
        peak = int(trace.peak_bytes[index])
        rows.append(
            [
                device.name,
                format_bytes(float(trace.resident_bytes[index])),
                format_bytes(float(peak)),
                format_bytes(float(device.memory_bytes)),
                f"{peak / device.memory_bytes:.0%}",
            ]
        )
        scale, unit = _unit(float(peak))
        times, levels = _thin(*trace.memory_timeline(index), trace.makespan_seconds)
        values = [
            {"t": milliseconds(time), "m": float(f"{level / scale:.5g}")}
            for time, level in zip(times, levels, strict=True)
        ]
        label = f"{device.name}: at most {rows[-1][2]} of {rows[-1][3]}"
        charts.append(Chart(f"memory-{index}", _spec(values, device, peak, scale, unit), label))
    failure = trace.evaluation.failure
    words = "Everything fits." if failure is None else f"Does not fit: {failure}."
    table = Table(
        "Peak memory: parameters, optimizer state and weights are resident for the whole step.",
        ["device", "resident", "peak", "capacity", "used"],
        rows,
    )
    return Section("memory", "Memory", [Text(words), table, *charts])


def _spec(
    values: list[dict[str, Any]], device: Device, peak: int, scale: float, unit: str
) -> dict[str, Any]:
    capacity = device.memory_bytes / scale
    name = device.name
    near = peak / scale > 0.4 * capacity
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "area", "interpolate": "step-after", "line": True, "opacity": 0.45},
            "encoding": {
                "x": {
                    "field": "t",
                    "type": "quantitative",
                    "title": "ms",
                    "scale": {"nice": False},
                },
                # Areas are stacked otherwise: two samples at one instant would be added up.
                "y": {"field": "m", "type": "quantitative", "title": unit, "stack": None},
                "tooltip": [{"field": "t", "title": "ms"}, {"field": "m", "title": unit}],
            },
        }
    ]
    if near:  # a line far above would flatten the curve
        layers.append(
            {
                "data": {"values": [{"m": float(f"{capacity:.5g}")}]},
                "mark": {
                    "type": "rule",
                    "color": "#d9534f",
                    "strokeDash": [5, 3],
                    "strokeWidth": 2,
                },
                "encoding": {"y": {"field": "m", "type": "quantitative"}},
            }
        )
    title = f"{name}, capacity {format_bytes(float(capacity * scale))}" + (
        " (dashed)" if near else " (above the chart)"
    )
    return {"title": title, "height": 110, "data": {"values": values}, "layer": layers}


def _thin(times: np.ndarray, levels: np.ndarray, makespan: float) -> tuple[list[float], list[int]]:
    """The highest level of each interval, at its beginning; the last sample is the step's end."""
    if len(times) <= _POINTS:
        held = times < makespan
        return [*times[held].tolist(), makespan], [*levels[held].tolist(), int(levels[-1])]
    edges = np.linspace(0.0, makespan, _POINTS + 1)
    at = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, _POINTS - 1)
    before = levels[np.clip(np.searchsorted(times, edges[:-1], side="right") - 1, 0, None)]
    highest = before.copy()
    np.maximum.at(highest, at, levels)
    return edges.tolist(), [*highest.tolist(), int(levels[-1])]


def _unit(peak: float) -> tuple[float, str]:
    for scale, unit in ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")):
        if peak >= scale:
            return scale, unit
    return 1.0, "B"
