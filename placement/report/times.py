"""Step time beside the baselines and the lower bound; how the search came down."""

import math
from typing import Any

from placement.report.blocks import Chart, Section, Table, Text, milliseconds
from placement.report.candidate_rows import CandidateRow, candidate_rows, cut_off_seconds
from placement.report.reported_plan import ReportedPlan
from simulator.units import format_seconds

_MOST_STEPS = 400
#: From here on a chart's axis is logarithmic.
_WIDE = 3.0


def times_section(reported: ReportedPlan) -> Section:
    """A bar per plan; where the placers behind it have variants, a line from best to worst."""
    bound = reported.problem.bounds.seconds
    step = reported.trace.makespan_seconds
    calibration = reported.problem.given_cluster.calibration
    error = None if calibration is None else calibration.error
    rows = candidate_rows(reported, None if error is None else error.mape)
    words = (
        f"One step is predicted to take {format_seconds(step)}. No plan without fusion can take "
        f"less than {format_seconds(bound)} ({step / bound:.2f} times the bound)."
        if bound > 0
        else f"One step is predicted to take {format_seconds(step)}."
    )
    if error is not None:
        words += (
            f" Its range is the error on this cluster, {error.mape:.1%} on average over plans that "
            "were not used to calibrate it."
        )
    blocks: list[Text | Table | Chart] = [Text(words)]
    if len(rows) > 1 or rows[0].placers:
        blocks.append(Chart("times", _bars(rows, bound), _label(rows)))
        blocks.append(
            Table(
                "Step times, simulated, one row for each plan: placers that found the same one "
                "share it. Ranges are over the variants of a placer.",
                ["placer", "step", "range", "x bound", "memory"],
                [
                    [
                        row.name,
                        format_seconds(row.seconds),
                        _range(row),
                        f"{row.seconds / bound:.2f}" if bound else "",
                        "fits" if row.fits else "out of memory",
                    ]
                    for row in rows
                ],
            )
        )
    return Section("times", "Step time", blocks)


def progress_section(reported: ReportedPlan) -> Section | None:
    """The best step time over CPU seconds; None where there was no search."""
    if len(reported.progress) < 2:
        return None
    points = [point for point in reported.progress if math.isfinite(point[1])]
    every = max(1, len(points) // _MOST_STEPS)
    kept = points[::every] + points[-1:]
    values = [{"s": round(s, 4), "ms": milliseconds(best)} for s, best in kept]
    first, last = points[0][1], points[-1][1]
    layers = [
        {
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
            "encoding": {
                "x": {"field": "s", "type": "quantitative", "title": "CPU seconds"},
                "y": {
                    "field": "ms", "type": "quantitative", "title": "best step, ms",
                    "scale": {"type": "log"} if first > _WIDE * last else {"zero": False},
                },
                "tooltip": [{"field": "s", "title": "CPU s"}, {"field": "ms", "title": "step, ms"}],
            },
        },
    ]  # fmt: skip
    chart = Chart(
        "progress",
        {"height": 220, "data": {"values": values}, "layer": layers},
        f"The best step time falls from {format_seconds(first)} to {format_seconds(last)} in "
        f"{points[-1][0]:.1f} CPU seconds.",
    )
    return Section(
        "progress",
        "Search",
        [
            Text(
                f"From {format_seconds(first)} to {format_seconds(last)} in {len(points) - 1} "
                f"improvements; the last came after {points[-1][0]:.1f} CPU seconds."
            ),
            chart,
        ],
    )


def _range(row: CandidateRow) -> str:
    if row.low == row.high:
        return ""
    return f"{format_seconds(row.low)} to {format_seconds(row.high)}"


def _bars(rows: list[CandidateRow], bound: float) -> dict[str, Any]:
    """Bars to scale; those that would squash the others are cut off and say how long they are."""
    end = cut_off_seconds(rows)
    most = math.inf if end is None else end
    values = [
        {
            "name": row.short_name,
            "full": row.name,
            "ms": milliseconds(row.seconds),
            "shown": milliseconds(min(row.seconds, most)),
            "low": milliseconds(row.low),
            "high": milliseconds(row.high),
            "kind": row.kind,
            **({"cut": f"{format_seconds(row.seconds)} \u25b8"} if row.seconds > most else {}),
        }
        for row in rows
    ]
    scale = {} if end is None else {"scale": {"domain": [0, milliseconds(end)], "nice": False}}
    title = "step, ms" if end is None else "step, ms (longer bars are cut off)"
    x = {"field": "shown", "type": "quantitative", "title": title, **scale}
    y = {
        "field": "name", "type": "nominal", "sort": None, "title": None,
        "axis": {"labelLimit": 200},
    }  # fmt: skip
    tip = [
        {"field": "full", "title": "placer"},
        {"field": "ms", "title": "step, ms"},
        {"field": "low", "title": "best variant, ms"},
        {"field": "high", "title": "worst variant, ms"},
        {"field": "kind", "title": "memory"},
    ]
    kinds = {
        "domain": ["this plan", "fits", "out of memory"],
        "range": ["#4e79d8", "#9aa5b8", "#d9534f"],
    }
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.7}},
            "encoding": {
                "y": y,
                "x": x,
                "color": {
                    "field": "kind",
                    "scale": kinds,
                    "title": None,
                    "legend": {"orient": "top", "columns": 3},
                },
                "tooltip": tip,
            },
        },
        {
            "transform": [{"filter": "datum.low < datum.high"}],
            "mark": {"type": "rule", "strokeWidth": 2, "clip": True},
            "encoding": {
                "y": y,
                "x": {**x, "field": "low"},
                "x2": {"field": "high"},
            },
        },
        {
            "transform": [{"filter": "isValid(datum.cut)"}],
            "mark": {"type": "text", "align": "right", "dx": -6, "color": "#1d2433"},
            "encoding": {"y": y, "x": x, "text": {"field": "cut"}},
        },
        {
            "data": {"values": [{"ms": milliseconds(bound)}]},
            "mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 2},
            "encoding": {"x": {**x, "field": "ms"}},
        },
    ]
    return {"height": 22 * len(rows), "data": {"values": values}, "layer": layers}


def _label(rows: list[CandidateRow]) -> str:
    parts = [f"{row.name} {format_seconds(row.seconds)}" for row in rows]
    return f"Step times: {', '.join(parts)}. A dashed line marks the lower bound."
