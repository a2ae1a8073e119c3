"""The report of a plan."""

from collections.abc import Iterator
from html import escape

from placement.report.assumptions import assumptions_section
from placement.report.blocks import Section
from placement.report.costly import costly_section
from placement.report.difference import difference_section
from placement.report.fusion import fusion_section
from placement.report.gantt import gantt_section
from placement.report.graph_map import map_section
from placement.report.idle import idle_section
from placement.report.memory import memory_section
from placement.report.page import key_figures, page_html
from placement.report.reported_plan import ReportedPlan
from placement.report.times import progress_section, times_section
from simulator.units import format_bytes, format_seconds


def report_html(reported: ReportedPlan) -> str:
    """One HTML file that shows what a plan does, and why."""
    title = f"{reported.problem.graph.name} on {reported.problem.given_cluster.name}"
    present = [section for section in sections_of(reported) if section is not None]
    return page_html(title, _head(reported), present)


def sections_of(reported: ReportedPlan) -> Iterator[Section | None]:
    yield times_section(reported)
    yield gantt_section(reported)
    yield idle_section(reported)
    yield memory_section(reported)
    yield map_section(reported)
    yield costly_section(reported)
    yield fusion_section(reported)
    yield difference_section(reported)
    yield progress_section(reported)
    yield assumptions_section(reported)


def _head(reported: ReportedPlan) -> str:
    trace, bound = reported.trace, reported.problem.bounds.seconds
    evaluation = trace.evaluation
    fullest = max(
        zip(trace.peak_bytes.tolist(), reported.problem.cluster.devices, strict=True),
        key=lambda pair: pair[0] / pair[1].memory_bytes,
    )
    figures = [
        ("step, " + evaluation.source, format_seconds(trace.makespan_seconds)),
        (
            "of the bound without fusion" if reported.plan.is_fused else "of the lower bound",
            f"{trace.makespan_seconds / bound:.2f}x" if bound else "-",
        ),
        (f"fullest: {fullest[1].name}", f"{fullest[0] / fullest[1].memory_bytes:.0%}"),
        ("sent between devices", format_bytes(float(trace.transfers_between().sum()))),
        ("ops", f"{reported.problem.graph.op_count:,}"),
    ]
    warning = ""
    if evaluation.failure is not None:
        warning = f'<p class="warning">Not feasible: {escape(str(evaluation.failure))}</p>'
    made = f"<p>Plan by {escape(reported.made_by)}.</p>"
    return f"{made}{key_figures(figures)}{warning}"
