"""The transfers and the ops that cost most."""

import numpy as np

from graphs.kinds import OpKind
from placement.report.blocks import Section, Table, Text
from placement.report.reported_plan import ReportedPlan
from simulator.traces.critical_path import critical_path
from simulator.units import format_bytes, format_seconds

_ROWS = 20


def costly_section(reported: ReportedPlan) -> Section:
    """The longest of each, with what is on the critical path."""
    trace = reported.trace
    graph, names = trace.graph, trace.cluster.device_names
    path = critical_path(trace)
    on_path = {(step.what, step.index) for step in path}
    lasting = trace.end - trace.start
    ops = np.argsort(-lasting, kind="stable")[:_ROWS].tolist()
    op_rows = [
        [
            graph.op_names[op],
            graph.op_types[op],
            names[trace.devices[op]],
            format_seconds(float(lasting[op])),
            f"{lasting[op] / (trace.makespan_seconds or 1.0):.1%}",
            "yes" if ("op", op) in on_path else "",
        ]
        for op in ops
        if lasting[op] > 0
    ]
    waits = trace.transfer_arrival - trace.transfer_start
    sent = np.argsort(-waits, kind="stable")[:_ROWS].tolist()
    transfer_rows = [
        [
            graph.op_names[graph.tensor_producers[trace.transfer_tensors[index]]],
            f"{names[trace.transfer_sources[index]]} → {names[trace.transfer_targets[index]]}",
            format_bytes(float(graph.tensor_bytes[trace.transfer_tensors[index]])),
            format_seconds(float(waits[index])),
            format_seconds(float(trace.transfer_start[index] - trace.transfer_request[index])),
            "yes" if ("transfer", index) in on_path else "",
        ]
        for index in sent
    ]
    kinds = np.bincount(graph.kinds, lasting, len(OpKind))
    counts = np.bincount(graph.kinds, minlength=len(OpKind))
    by_kind = [
        [
            OpKind(kind).name.lower(),
            str(counts[kind]),
            format_seconds(float(kinds[kind])),
            f"{kinds[kind] / max(lasting.sum(), 1e-300):.0%}",
        ]
        for kind in np.argsort(-kinds).tolist()
        if kinds[kind] > 0
    ]
    blocks: list[Text | Table] = [
        Table(
            "The longest ops.", ["op", "type", "device", "takes", "of step", "critical"], op_rows, 3
        )
    ]
    if transfer_rows:
        total = format_bytes(float(trace.transfers_between().sum()))
        blocks.append(
            Table(
                f"The longest of {len(waits)} transfers, {total} in all.",
                ["output of", "link", "size", "takes", "waited", "critical"],
                transfer_rows,
                2,
            )
        )
    else:
        blocks.append(Text("Nothing is sent between devices."))
    blocks.append(Table("Compute time by kind of op.", ["kind", "ops", "takes", "share"], by_kind))
    return Section("costly", "Costs", blocks)
