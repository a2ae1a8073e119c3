"""What changed against a baseline plan, and what that brought."""

import numpy as np

from placement.report.blocks import Section, Table, Text
from placement.report.reported_plan import ReportedPlan
from simulator.traces.trace import Trace
from simulator.units import format_seconds

_ROWS = 20


def difference_section(reported: ReportedPlan) -> Section | None:
    """Ops moved from device to device, and times of both plans; None without a baseline."""
    if reported.baseline is None:
        return None
    problem, names = reported.problem, reported.device_names
    before = problem.simulator.trace(reported.baseline)
    after = reported.trace
    graph = problem.graph
    old, new = reported.baseline.devices, reported.plan.devices
    moved = np.flatnonzero(old != new)
    seconds = problem.simulator.seconds[np.arange(graph.op_count), new]
    faster = before.makespan_seconds - after.makespan_seconds
    words = (
        f"Against {reported.baseline_name}: {format_seconds(abs(faster))} "
        f"{'shorter' if faster >= 0 else 'longer'} "
        f"({after.makespan_seconds / (before.makespan_seconds or 1.0):.3f} of its time), "
        f"{len(moved)} of {graph.op_count} ops elsewhere."
    )
    if not before.evaluation.feasible:
        words += " The baseline does not fit into memory."
    count = len(names)
    pairs = np.bincount(
        old[moved].astype(np.int64) * count + new[moved], minlength=count * count
    ).reshape(count, count)
    weights = np.bincount(
        old[moved].astype(np.int64) * count + new[moved], seconds[moved], count * count
    ).reshape(count, count)
    flows = [
        [f"{names[a]} → {names[b]}", str(pairs[a, b]), format_seconds(float(weights[a, b]))]
        for a in range(count)
        for b in range(count)
        if pairs[a, b]
    ]
    devices = [
        [
            names[index],
            format_seconds(float(before.busy_seconds[index])),
            format_seconds(float(after.busy_seconds[index])),
            format_seconds(_sent(before, index)),
            format_seconds(_sent(after, index)),
        ]
        for index in range(count)
    ]
    largest = moved[np.argsort(-seconds[moved], kind="stable")][:_ROWS].tolist()
    rows = [
        [graph.op_names[op], graph.op_types[op], f"{names[old[op]]} → {names[new[op]]}",
         format_seconds(float(seconds[op]))]
        for op in largest
    ]  # fmt: skip
    blocks: list[Text | Table] = [
        Text(words),
        Table(
            "Time per device, before and after.",
            ["device", "computed", "computes", "sent for", "sends for"],
            devices,
        ),
    ]
    if len(moved):
        blocks.append(Table("Ops moved, and their compute time.", ["way", "ops", "takes"], flows))
        blocks.append(Table("The longest ops among them.", ["op", "type", "way", "takes"], rows, 3))
    return Section("difference", "Changes", blocks)


def _sent(trace: Trace, device: int) -> float:
    """Seconds that a device's transfers are under way."""
    mine = trace.transfer_sources == device
    spent = trace.transfer_arrival - trace.transfer_start
    return float(spent[mine].sum())
