"""A plan's execution as a table of devices, and as a Gantt chart with memory."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from envs.instance import Instance
from envs.pictures import drawn_alike
from graphs.kinds import Phase
from graphs.visible_text import visible_in_picture
from simulator.traces.trace import Trace
from simulator.units import format_bytes, format_seconds

_HEAD = ("device", "ops", "busy", "peak", "of", "sent", "received")
_PHASE_COLOURS = {Phase.FORWARD: "#4c78a8", Phase.BACKWARD: "#f58518", Phase.UPDATE: "#54a24b"}
_TRANSFER_COLOUR = "#b279a2"
_MEMORY_COLOUR = "#72b7b2"
_CAPACITY_COLOUR = "#e45756"


def table(instance: Instance, trace: Trace | None) -> str:
    """A line per device: ops (kernels, where fused), busy share, memory, bytes over links."""
    if trace is None:
        return f"{instance.name}: no plan has run yet"
    ops = np.bincount(trace.devices, minlength=trace.cluster.device_count)
    between = trace.transfers_between()
    span = trace.makespan_seconds or 1.0
    rows = [_HEAD] + [
        (
            device.name,
            str(ops[index]),
            f"{trace.busy_seconds[index] / span:.0%}",
            format_bytes(float(trace.peak_bytes[index])),
            format_bytes(float(device.memory_bytes)),
            format_bytes(float(between[index].sum())),
            format_bytes(float(between[:, index].sum())),
        )
        for index, device in enumerate(trace.cluster.devices)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    failure = trace.evaluation.failure
    mark = "portfolio" if instance.overlap is None else "one step; period of the portfolio"
    return "\n".join(
        [
            f"{instance.name}: {format_seconds(trace.makespan_seconds)}, {mark} "
            f"{format_seconds(instance.reference_seconds)}",
            *lines,
            *([str(failure)] if failure else []),
        ]
    )


@drawn_alike
def gantt(
    instance: Instance, trace: Trace | None, width: int = 960, height: int | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Ops by phase and incoming transfers per device over time, and below them memory.

    The dashed line is a device's capacity. Before a plan has run there are empty axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = instance.problem.cluster.device_count
    high = height if height is not None else 120 + 110 * count
    figure = Figure(figsize=(width / 100, high / 100), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(count + 1, 1, height_ratios=[max(count, 2)] + [1] * count)
    lanes = figure.add_subplot(grid[0])
    names = [visible_in_picture(name) for name in instance.problem.cluster.device_names]
    lanes.set_yticks(range(count), names)
    lanes.set_ylim(count - 0.4, -0.6)
    title = "no plan has run yet" if trace is None else format_seconds(trace.makespan_seconds)
    lanes.set_title(f"{visible_in_picture(instance.name)}: {title}", fontsize=9)
    lanes.tick_params(labelsize=7)
    if trace is not None:
        _draw_lanes(lanes, trace)
    for device in range(count):
        axes = figure.add_subplot(grid[device + 1], sharex=lanes)
        _draw_memory(axes, instance, trace, device)
        axes.set_ylabel(names[device], fontsize=7, rotation=0, ha="right", va="center")
    axes.set_xlabel("seconds", fontsize=7)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_lanes(axes: Any, trace: Trace) -> None:
    lasting = trace.end - trace.start
    for device in range(trace.cluster.device_count):
        for phase, colour in _PHASE_COLOURS.items():
            mine = (trace.devices == device) & (trace.graph.phases == phase) & (lasting > 0)
            spans = np.stack([trace.start[mine], lasting[mine]], axis=1)
            axes.broken_barh(
                spans, (device - 0.4, 0.5), facecolors=colour, edgecolor="white", linewidth=0.3
            )
        mine = trace.transfer_targets == device
        taken = trace.transfer_arrival[mine] - trace.transfer_start[mine]
        spans = np.stack([trace.transfer_start[mine], taken], axis=1)
        axes.broken_barh(spans, (device + 0.15, 0.2), facecolors=_TRANSFER_COLOUR)
    axes.set_xlim(0.0, trace.makespan_seconds or 1.0)


def _draw_memory(axes: Any, instance: Instance, trace: Trace | None, device: int) -> None:
    capacity = int(instance.problem.cluster.memory_bytes[device])
    axes.tick_params(labelsize=6)
    peak = 0
    if trace is not None:
        times, levels = trace.memory_timeline(device)
        times, levels = np.append(times, trace.makespan_seconds), np.append(levels, levels[-1])
        peak = int(levels.max())
        axes.fill_between(times, levels, step="post", color=_MEMORY_COLOUR, linewidth=0)
    axes.axhline(capacity, color=_CAPACITY_COLOUR, linestyle="--", linewidth=1)
    axes.set_ylim(0, 1.1 * max(capacity, peak, 1))
    axes.set_yticks([0, capacity], ["0", format_bytes(float(capacity))])
