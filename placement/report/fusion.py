"""Fusion groups, and what each saves."""

import numpy as np

from placement.report.blocks import Section, Table, Text
from placement.report.reported_plan import ReportedPlan
from simulator.fusion import fuse
from simulator.plan import Plan
from simulator.units import format_bytes, format_seconds

_ROWS = 40


def fusion_section(reported: ReportedPlan) -> Section | None:
    """Compute seconds and bytes of each group, before and after; None for an unfused plan."""
    plan, problem = reported.plan, reported.problem
    if not plan.is_fused:
        return None
    graph, names = problem.graph, reported.device_names
    fused = fuse(graph, plan.fusion, plan.devices)
    after = problem.costs.seconds(fused.graph, problem.cluster)
    apart = problem.simulator.seconds[np.arange(graph.op_count), plan.devices]
    before = np.bincount(fused.kernel_of, apart, len(fused.root_of))
    sizes = np.bincount(fused.kernel_of, minlength=len(fused.root_of))
    moved = np.bincount(fused.kernel_of, graph.bytes_read + graph.bytes_written, len(fused.root_of))
    taken = after[np.arange(len(fused.root_of)), plan.devices[fused.root_of]]
    saved = before - taken
    groups = np.flatnonzero(sizes > 1)
    best = groups[np.argsort(-saved[groups], kind="stable")]
    rows = [
        [
            fused.graph.op_names[kernel],
            ", ".join(_kinds(graph.op_types, np.flatnonzero(fused.kernel_of == kernel))),
            names[plan.devices[fused.root_of[kernel]]],
            str(sizes[kernel]),
            format_seconds(float(before[kernel])),
            format_seconds(float(taken[kernel])),
            format_bytes(
                float(
                    moved[kernel]
                    - fused.graph.bytes_read[kernel]
                    - fused.graph.bytes_written[kernel]
                )
            ),
        ]
        for kernel in best[:_ROWS].tolist()
    ]
    more = f", of {len(groups)}" if len(groups) > _ROWS else ""
    apart_step = problem.simulator.evaluate(Plan.of(plan.devices, plan.priorities))
    gain = apart_step.makespan_seconds - reported.trace.makespan_seconds
    return Section(
        "fusion",
        "Fusion",
        [
            Text(
                f"{len(groups)} groups of {int(sizes[groups].sum())} ops save "
                f"{format_seconds(float(saved[groups].sum()))} of compute time. The same plan "
                f"without fusion takes {format_seconds(apart_step.makespan_seconds)}: "
                f"{format_seconds(abs(gain))} {'more' if gain >= 0 else 'less'}."
            ),
            Table(
                f"The groups that save most{more}.",
                ["kernel", "ops", "device", "count", "apart", "fused", "traffic saved"],
                rows,
                3,
            ),
        ],
    )


def _kinds(types: tuple[str, ...], members: np.ndarray) -> list[str]:
    counts: dict[str, int] = {}
    for op in members.tolist():
        counts[types[op]] = counts.get(types[op], 0) + 1
    return [name if count == 1 else f"{count} {name}" for name, count in counts.items()]
