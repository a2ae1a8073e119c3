"""The report of a plan."""

from collections.abc import Callable

from placement.report.assumptions import assumptions_section
from placement.report.blocks import Section
from placement.report.costly import costly_section
from placement.report.difference import difference_section
from placement.report.fusion import fusion_section
from placement.report.gantt import gantt_section
from placement.report.graph_map import map_section
from placement.report.idle import idle_section
from placement.report.memory import memory_section
from placement.report.page import escape, key_figures, page_html
from placement.report.reported_plan import ReportedPlan
from placement.report.steps import steps_section
from placement.report.times import progress_section, times_section
from simulator.units import format_bytes, format_seconds

#: In the order of the page; each says nothing where there is nothing to say.
SECTIONS: list[Callable[[ReportedPlan], Section | None]] = [
    times_section,
    steps_section,
    gantt_section,
    idle_section,
    memory_section,
    map_section,
    costly_section,
    fusion_section,
    difference_section,
    progress_section,
    assumptions_section,
]


def report_html(reported: ReportedPlan) -> str:
    """One HTML file that shows what a plan does, and why."""
    title = f"{reported.problem.graph.name} on {reported.problem.given_cluster.name}"
    return page_html(title, _head(reported), sections_of(reported))


def sections_of(reported: ReportedPlan) -> list[Section]:
    """The sections that have something to say of a plan, in the order of the page."""
    sections = (write(reported) for write in SECTIONS)
    return [section for section in sections if section is not None]


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
