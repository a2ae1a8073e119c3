"""What of a plan is worth looking at: its execution, where ops went, what each device does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from agent.runs.tracking.tracker import Tracker
from envs.instance import Instance
from envs.pictures import drawn_alike
from envs.rendering import gantt
from graphs.visible_text import visible_in_picture
from simulator.plan import Plan
from simulator.traces.trace import Trace

_BINS = 200


def track_plan(tracker: Tracker, instance: Instance, plan: Plan, step: int) -> None:
    """A Gantt chart, a picture of the placement and a table of the devices."""
    trace = instance.problem.simulator.trace(plan)
    tracker.image("plan/gantt", gantt(instance, trace), step)
    tracker.image("plan/placement", placement_picture(instance, plan), step)
    tracker.table("plan/devices", device_rows(trace), step)


def device_rows(trace: Trace) -> Sequence[Mapping[str, Any]]:
    """A row per device."""
    ops = np.bincount(trace.devices, minlength=trace.cluster.device_count)
    between = trace.transfers_between()
    span = trace.makespan_seconds or 1.0
    return [
        {
            "device": device.name,
            "ops": int(ops[index]),
            "busy_share": float(trace.busy_seconds[index] / span),
            "peak_bytes": int(trace.peak_bytes[index]),
            "memory_bytes": int(device.memory_bytes),
            "sent_bytes": float(between[index].sum()),
            "received_bytes": float(between[:, index].sum()),
        }
        for index, device in enumerate(trace.cluster.devices)
    ]


@drawn_alike
def placement_picture(
    instance: Instance, plan: Plan, width: int = 960, height: int = 320
) -> UInt8[np.ndarray, "height width 3"]:
    """From the first op to the last, the share of the work that each device has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    problem = instance.problem
    count, ops = problem.cluster.device_count, problem.graph.op_count
    bins = min(_BINS, ops)
    devices = np.asarray(plan.devices)
    seconds = problem.seconds[np.arange(ops), devices]
    work = np.zeros((count, bins))
    np.add.at(work, (devices, np.arange(ops) * bins // ops), np.where(seconds < np.inf, seconds, 0))
    shares = work / np.maximum(work.sum(axis=0), 1e-300)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = [visible_in_picture(name) for name in problem.cluster.device_names]
    axes.stackplot(np.linspace(0, ops, bins), shares, labels=names, step="mid")
    axes.set_xlim(0, ops)
    axes.set_ylim(0, 1)
    axes.set_title(f"{visible_in_picture(instance.name)}: work by device", fontsize=9)
    axes.set_xlabel("ops in topological order", fontsize=7)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, loc="upper right", ncols=4)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
