"""Clusters side by side, as a page."""

from collections.abc import Sequence

from placement.report.blocks import Chart, Section, Table, Text, milliseconds
from placement.report.page import escape, page_html
from placement.report.sweep import SweepPoint, efficient
from simulator.units import format_bytes, format_seconds

_WIDE = 8.0


def sweep_html(points: Sequence[SweepPoint], unit: str) -> str:
    """Step time against cost per step, and a table; `unit` is what a cost is counted in."""
    graph = points[0].placement.problem.graph
    best = efficient(points)
    values = [
        {
            "cluster": point.cluster.name,
            "ms": milliseconds(point.seconds),
            "cost": float(f"{point.cost:.6g}"),
            "what": "out of memory"
            if not point.placement.feasible
            else "nothing is faster and cheaper"
            if good
            else "another is faster and cheaper",
        }
        for point, good in zip(points, best, strict=True)
    ]
    domain = ["nothing is faster and cheaper", "another is faster and cheaper", "out of memory"]
    x = {
        "field": "cost", "type": "quantitative", "title": unit,
        "scale": _scale([point.cost for point in points]),
    }  # fmt: skip
    y = {
        "field": "ms", "type": "quantitative", "title": "step, ms",
        "scale": _scale([point.seconds for point in points]),
    }  # fmt: skip
    spec = {
        "height": 360,
        "data": {"values": values},
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 110},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": {
                        "field": "what",
                        "title": None,
                        "scale": {"domain": domain, "range": ["#3aa36b", "#9aa5b8", "#d9534f"]},
                        "legend": {"orient": "top", "columns": 3},
                    },
                    "tooltip": [
                        {"field": "cluster"},
                        {"field": "ms", "title": "step, ms"},
                        {"field": "cost", "title": unit},
                        {"field": "what", "title": " "},
                    ],
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 9, "dy": -5},
                "encoding": {"x": x, "y": y, "text": {"field": "cluster"}},
            },
        ],
    }
    words = "; ".join(
        f"{v['cluster']} {v['ms']:g} ms, {v['cost']:g} {unit}, {v['what']}" for v in values
    )
    table = Table(
        "Simulated; the same placer, budget and seed for each.",
        ["cluster", "devices", "used", "step", "x first", "x bound", unit, "fullest", "memory"],
        sweep_rows(points),
    )
    lead = Text("Green clusters are worth having: none that was tried is both faster and cheaper.")
    section = Section("sweep", "Clusters", [lead, Chart("sweep", spec, words), table])
    made = points[0].placement
    head = f"<p>Placed by {escape(made.placer)}, {made.budget_seconds:g} CPU seconds each.</p>"
    return page_html(f"{graph.name} on {len(points)} clusters", head, [section])


def _scale(values: Sequence[float]) -> dict[str, str]:
    """Logarithmic where one value would squash the others."""
    wide = min(values) > 0 and max(values) > _WIDE * min(values)
    return {"type": "log"} if wide else {}


def sweep_rows(points: Sequence[SweepPoint]) -> list[list[str]]:
    """A row per cluster: sizes, times relative to the first, cost."""
    first = points[0].seconds
    return [
        [
            point.cluster.name,
            str(point.cluster.device_count),
            str(point.used_devices),
            format_seconds(point.seconds),
            f"{point.seconds / first:.3f}",
            f"{point.seconds / point.placement.problem.bounds.seconds:.2f}",
            f"{point.cost:.4g}",
            format_bytes(float(max(point.placement.trace.peak_bytes))),
            "fits" if point.placement.feasible else "out of memory",
        ]
        for point in points
    ]
