"""How each device spends the step, and why it is idle when it is."""

import numpy as np

from placement.report.blocks import Chart, Section, Table, Text, milliseconds
from placement.report.reported_plan import ReportedPlan
from simulator.traces.idle import CAUSES, idle_stretches
from simulator.units import format_seconds

_COLOURS = {
    "computing": "#4e79d8",
    "other device": "#e8862e",
    "sending": "#a88a2e",
    "link busy": "#d9534f",
    "nothing left": "#9aa5b8",
}
_LONGEST = 8


def idle_section(reported: ReportedPlan) -> Section:
    """A stacked bar per device, and the longest pauses with what ended them."""
    trace = reported.trace
    names = reported.device_names
    stretches = list(idle_stretches(trace))
    totals = {name: dict.fromkeys(("computing", *CAUSES), 0.0) for name in names}
    for index, name in enumerate(names):
        totals[name]["computing"] = float(trace.busy_seconds[index])
    for item in stretches:
        totals[names[item.device]][item.cause] += item.seconds
    span = trace.makespan_seconds or 1.0
    values = [
        {"d": name, "c": cause, "ms": milliseconds(seconds), "o": order}
        for name, parts in totals.items()
        for order, (cause, seconds) in enumerate(parts.items())
        if seconds > 0
    ]
    rows = [
        [name, *(f"{seconds / span:.0%}" for seconds in parts.values())]
        for name, parts in totals.items()
    ]
    waits = sorted((s for s in stretches if s.op >= 0), key=lambda s: -s.seconds)[:_LONGEST]
    longest = [
        [
            names[item.device],
            _reason(item.cause, item.source, names),
            trace.graph.op_names[item.op],
            format_seconds(item.seconds),
            format_seconds(item.start_seconds),
        ]
        for item in waits
    ]
    busy = float(np.mean([parts["computing"] for parts in totals.values()])) / span
    words = f"Devices compute {busy:.0%} of the step on average."
    causes = ["computing", *CAUSES]
    chart = {
        "height": 28 * len(names),
        "data": {"values": values},
        "mark": {"type": "bar", "height": {"band": 0.7}},
        "encoding": {
            "y": {"field": "d", "type": "nominal", "sort": list(names), "title": None},
            "x": {"field": "ms", "type": "quantitative", "title": "ms"},
            "color": {
                "field": "c", "type": "nominal", "title": None,
                "scale": {"domain": causes, "range": [_COLOURS[cause] for cause in causes]},
                "legend": {"orient": "top", "columns": 3},
            },
            "order": {"field": "o"},
            "tooltip": [{"field": "d", "title": "device"}, {"field": "c", "title": "what"},
                        {"field": "ms", "title": "ms"}],
        },
    }  # fmt: skip
    label = "; ".join(
        f"{name}: " + ", ".join(f"{cause} {s / span:.0%}" for cause, s in parts.items())
        for name, parts in totals.items()
    )
    blocks: list[Text | Table | Chart] = [
        Text(words),
        Chart("idle", chart, label),
        Table(
            "Share of the step. Other device: an input was not made yet; sending: it was under "
            "way; link busy: its link carried something else; nothing left: all ops were done.",
            ["device", "computing", *CAUSES],
            rows,
        ),
    ]
    if longest:
        blocks.append(
            Table(
                "The longest pauses.",
                ["device", "waits for", "then runs", "for", "from"],
                longest,
                left=3,
            )
        )
    return Section("idle", "Devices", blocks)


def _reason(cause: str, source: int, names: tuple[str, ...]) -> str:
    if source < 0:
        return cause
    return (
        f"{names[source]} to compute"
        if cause == "other device"
        else f"{cause} from {names[source]}"
    )
