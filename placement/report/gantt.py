"""What each device and each link does, over the step, with the critical path marked."""

import json
from typing import Any

import numpy as np

from graphs.kinds import OpKind
from placement.report.blocks import DEVICE_COLOURS, Chart, Section, Text, milliseconds
from placement.report.reported_plan import ReportedPlan
from simulator.traces.critical_path import critical_path, critical_seconds
from simulator.traces.trace import Trace
from simulator.units import format_bytes, format_seconds

#: A chart with more slices than a screen has pixels is slow and shows no more.
MOST_SLICES = 8000
_MOST_LINKS = 16
_KINDS_SHOWN = 8


def gantt_section(reported: ReportedPlan) -> Section:
    """Compute per device, transfers per link; slices too short to see are drawn as runs."""
    trace = reported.trace
    path = critical_path(trace)
    parts = critical_seconds(trace)
    ops = {step.index for step in path if step.what == "op"}
    sent = {step.index for step in path if step.what == "transfer"}
    lanes, slices = _slices(trace, ops, sent)
    joined, resolution = _within(slices, trace.makespan_seconds)
    share = {name: seconds / (trace.makespan_seconds or 1.0) for name, seconds in parts.items()}
    words = (
        f"The critical path takes the whole {format_seconds(trace.makespan_seconds)}: computing "
        f"{share['compute']:.0%}, transfers {share['transfer']:.0%}, in {len(path)} steps. It is "
        "marked in red below each slice. Drag to move, scroll or pinch to zoom."
    )
    blocks: list[Text | Chart] = [
        Text(words),
        Chart("gantt", _spec(lanes, joined, trace.makespan_seconds), words),
    ]
    links = len({*zip(trace.transfer_sources, trace.transfer_targets, strict=True)})
    if links > _MOST_LINKS:
        blocks.append(Text(f"Of {links} links the {_MOST_LINKS} busiest are drawn."))
    if resolution > 0:
        blocks.append(
            Text(
                f"Neighbours closer than {format_seconds(resolution)} are drawn as one slice; "
                "trace.json, which place writes beside the plan, holds every op."
            )
        )
    return Section("gantt", "Schedule", blocks)


_Slice = tuple[int, float, float, str, str, bool, int]
"""Lane, begin, end, name, kind, on the critical path, ops."""


def _slices(trace: Trace, ops: set[int], sent: set[int]) -> tuple[list[str], list[_Slice]]:
    names = trace.cluster.device_names
    lanes = list(names)
    spent: dict[tuple[int, int], float] = {}
    sources, targets = trace.transfer_sources.tolist(), trace.transfer_targets.tolist()
    under_way = (trace.transfer_arrival - trace.transfer_start).tolist()
    for source, target, seconds in zip(sources, targets, under_way, strict=True):
        spent[source, target] = spent.get((source, target), 0.0) + seconds
    pairs = sorted(sorted(spent, key=lambda pair: -spent[pair])[:_MOST_LINKS])
    lane_of = {pair: len(names) + index for index, pair in enumerate(pairs)}
    lanes += [f"{names[a]} → {names[b]}" for a, b in pairs]
    graph = trace.graph
    slices: list[_Slice] = []
    for op in np.flatnonzero(trace.end > trace.start).tolist():
        kind = OpKind(graph.kinds[op]).name.lower()
        begin, end = float(trace.start[op]), float(trace.end[op])
        slices.append((int(trace.devices[op]), begin, end, graph.op_names[op], kind, op in ops, 1))
    for index in range(len(trace.transfer_tensors)):
        tensor = int(trace.transfer_tensors[index])
        pair = int(trace.transfer_sources[index]), int(trace.transfer_targets[index])
        if pair not in lane_of:
            continue
        name = (
            f"{graph.op_names[graph.tensor_producers[tensor]]} "
            f"({format_bytes(float(graph.tensor_bytes[tensor]))})"
        )
        begin, end = float(trace.transfer_start[index]), float(trace.transfer_arrival[index])
        slices.append((lane_of[pair], begin, end, name, "transfer", index in sent, 1))
    slices.sort(key=lambda item: (item[0], item[1], item[2]))
    return lanes, slices


def _within(slices: list[_Slice], makespan: float) -> tuple[list[_Slice], float]:
    """At most `MOST_SLICES`, joined with neighbours at the finest resolution that suffices."""
    joined, resolution = slices, 0.0
    finest = makespan / 4000
    while len(joined) > MOST_SLICES:
        resolution = finest if resolution == 0 else 2 * resolution
        joined = _join(slices, resolution)
    return joined, resolution


def _join(slices: list[_Slice], resolution: float) -> list[_Slice]:
    result: list[_Slice] = []
    for item in slices:
        if result:
            last = result[-1]
            near = last[0] == item[0] and item[1] - last[2] < resolution / 10
            if near and item[2] - last[1] < resolution and last[5] == item[5]:
                name, kind = max(last, item, key=lambda one: one[2] - one[1])[3:5]
                end, count = max(last[2], item[2]), last[6] + item[6]
                result[-1] = (last[0], last[1], end, name, kind, last[5], count)
                continue
        result.append(item)
    return result


def _spec(lanes: list[str], slices: list[_Slice], makespan: float) -> dict[str, Any]:
    weight: dict[str, float] = {}
    for _, begin, end, _, kind, _, _ in slices:
        if kind != "transfer":
            weight[kind] = weight.get(kind, 0.0) + end - begin
    shown = sorted(weight, key=lambda kind: -weight[kind])[:_KINDS_SHOWN]
    values = [
        {
            "l": lane,
            "a": milliseconds(begin),
            "b": milliseconds(end),
            "n": name if count == 1 else f"{count} ops, the longest {name}",
            "k": kind if kind in shown or kind == "transfer" else "other",
            **({"c": 1} if critical else {}),
        }
        for lane, begin, end, name, kind, critical, count in slices
    ]
    x = {"field": "a", "type": "quantitative", "title": "ms", "scale": {"nice": False}}
    y = {
        "field": "l",
        "type": "ordinal",
        "title": None,
        "scale": {"domain": list(range(len(lanes)))},
        "axis": {"labelLimit": 130, "labelExpr": f"{json.dumps(lanes)}[datum.value]"},
    }
    zoom = {"name": "zoom", "select": {"type": "interval", "encodings": ["x"]}, "bind": "scales"}
    return {
        "height": 30 * len(lanes),
        "usermeta": {"span": milliseconds(makespan)},
        "data": {"values": values},
        "layer": [
            {
                "params": [zoom],
                "mark": {"type": "bar", "height": {"band": 0.62}, "clip": True},
                "encoding": {
                    "x": x, "x2": {"field": "b"}, "y": y,
                    "color": {
                        "field": "k", "type": "nominal", "title": None,
                        "scale": {
                            "domain": [*shown, "other", "transfer"],
                            "range": [*DEVICE_COLOURS[: len(shown)], "#9aa5b8", "#7f8c8d"],
                        },
                        "legend": {"orient": "top", "columns": 4},
                    },
                    "tooltip": [
                        {"field": "n", "title": "op"}, {"field": "k", "title": "kind"},
                        {"field": "a", "title": "begins, ms"}, {"field": "b", "title": "ends, ms"},
                    ],
                },
            },
            {
                "transform": [{"filter": "datum.c == 1"}],
                "mark": {
                    "type": "bar", "height": {"band": 0.14}, "yOffset": 12, "color": "#d9534f",
                    "clip": True, "tooltip": False,
                },
                "encoding": {"x": x, "x2": {"field": "b"}, "y": y},
            },
        ],
    }  # fmt: skip
