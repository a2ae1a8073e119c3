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
from placement.report.subject import Subject
from placement.report.times import progress_section, times_section
from simulator.units import format_bytes, format_seconds


def report_html(subject: Subject) -> str:
    """One HTML file that shows what a plan does, and why."""
    title = f"{subject.problem.graph.name} on {subject.problem.given_cluster.name}"
    present = [section for section in sections_of(subject) if section is not None]
    return page_html(title, _head(subject), present)


def sections_of(subject: Subject) -> Iterator[Section | None]:
    yield times_section(subject)
    yield gantt_section(subject)
    yield idle_section(subject)
    yield memory_section(subject)
    yield map_section(subject)
    yield costly_section(subject)
    yield fusion_section(subject)
    yield difference_section(subject)
    yield progress_section(subject)
    yield assumptions_section(subject)


def _head(subject: Subject) -> str:
    trace, bound = subject.trace, subject.problem.bounds.seconds
    evaluation = trace.evaluation
    fullest = max(
        zip(trace.peak_bytes.tolist(), subject.problem.cluster.devices, strict=True),
        key=lambda pair: pair[0] / pair[1].memory_bytes,
    )
    figures = [
        ("step, " + evaluation.source, format_seconds(trace.makespan_seconds)),
        (
            "of the bound without fusion" if subject.plan.is_fused else "of the lower bound",
            f"{trace.makespan_seconds / bound:.2f}x" if bound else "-",
        ),
        (f"fullest: {fullest[1].name}", f"{fullest[0] / fullest[1].memory_bytes:.0%}"),
        ("sent between devices", format_bytes(float(trace.transfers_between().sum()))),
        ("ops", f"{subject.problem.graph.op_count:,}"),
    ]
    warning = ""
    if evaluation.failure is not None:
        warning = f'<p class="warning">Not feasible: {escape(str(evaluation.failure))}</p>'
    made = f"<p>Plan by {escape(subject.made_by)}.</p>"
    return f"{made}{key_figures(figures)}{warning}"
