"""Step time beside the baselines and the lower bound; how the search came down."""

import math
from typing import Any

from placement.report.blocks import Chart, Section, Table, Text, milliseconds
from placement.report.reported_plan import ReportedPlan
from simulator.units import format_seconds

_THIS = "this plan"
_MOST_STEPS = 400


def times_section(reported: ReportedPlan) -> Section:
    """A bar per family of placers; where a family has variants, a line from best to worst."""
    bound = reported.problem.bounds.seconds
    step = reported.trace.makespan_seconds
    families: dict[str, list[tuple[float, bool]]] = {}
    for item in reported.candidates:
        if math.isfinite(item.evaluation.makespan_seconds):
            families.setdefault(item.origin.split(":")[0], []).append(
                (item.evaluation.makespan_seconds, item.evaluation.feasible)
            )
    rows = [_row(_THIS, [(step, reported.trace.evaluation.feasible)], bound)]
    calibration = reported.problem.given_cluster.calibration
    error = None if calibration is None else calibration.error
    if error is not None:
        rows[0] |= {
            "low": milliseconds(step * (1 - error.mape)),
            "high": milliseconds(step * (1 + error.mape)),
        }
    rows += sorted((_row(n, s, bound) for n, s in families.items()), key=lambda row: row["ms"])
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
    if len(rows) > 1:
        blocks.append(Chart("times", _bars(rows, bound), _label(rows)))
        blocks.append(
            Table(
                "Step times, simulated. Ranges are over the variants of a placer.",
                ["placer", "step", "range", "x bound", "memory"],
                [
                    [
                        row["name"],
                        format_seconds(row["ms"] / 1e3),
                        _range(row),
                        f"{row['ms'] / 1e3 / bound:.2f}" if bound else "",
                        "fits" if row["fits"] else "out of memory",
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
                    "scale": {"zero": False},
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


def _row(name: str, scores: list[tuple[float, bool]], bound: float) -> dict[str, Any]:
    seconds, fits = min(scores, key=lambda score: (not score[1], score[0]))
    return {
        "name": name,
        "ms": milliseconds(seconds),
        "low": milliseconds(min(score[0] for score in scores)),
        "high": milliseconds(max(score[0] for score in scores)),
        "fits": fits,
        "kind": "this plan" if name == _THIS else "fits" if fits else "out of memory",
    }


def _range(row: dict[str, Any]) -> str:
    if row["low"] == row["high"]:
        return ""
    return f"{format_seconds(row['low'] / 1e3)} to {format_seconds(row['high'] / 1e3)}"


def _bars(rows: list[dict[str, Any]], bound: float) -> dict[str, Any]:
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    kinds = {
        "domain": ["this plan", "fits", "out of memory"],
        "range": ["#4e79d8", "#9aa5b8", "#d9534f"],
    }
    tip = [
        {"field": "name", "title": "placer"},
        {"field": "ms", "title": "step, ms"},
        {"field": "low", "title": "best variant, ms"},
        {"field": "high", "title": "worst variant, ms"},
        {"field": "kind", "title": "memory"},
    ]
    ranged = [row for row in rows if row["low"] != row["high"]]
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.7}},
            "encoding": {
                "y": y,
                "x": {"field": "ms", "type": "quantitative", "title": "step, ms"},
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
            "data": {"values": ranged},
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {
                "y": y,
                "x": {"field": "low", "type": "quantitative"},
                "x2": {"field": "high"},
            },
        },
        {
            "data": {"values": [{"ms": milliseconds(bound)}]},
            "mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 2},
            "encoding": {"x": {"field": "ms", "type": "quantitative"}},
        },
    ]
    return {"height": 22 * len(rows), "data": {"values": rows}, "layer": layers}


def _label(rows: list[dict[str, Any]]) -> str:
    parts = [f"{row['name']} {format_seconds(row['ms'] / 1e3)}" for row in rows]
    return f"Step times: {', '.join(parts)}. A dashed line marks the lower bound."
