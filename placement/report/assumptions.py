"""What the figures rest on: the import's assumptions, costs, constraints, the simulator's error."""

import numpy as np

from graphs.import_gaps import import_gaps
from placement.report.blocks import Section, Table, Text
from placement.report.reported_plan import ReportedPlan
from simulator.units import format_bytes

_LONGEST_LIST = 12


def assumptions_section(reported: ReportedPlan) -> Section:
    """Everything that a reader should know before quoting a figure."""
    problem = reported.problem
    report, cluster = problem.graph.report, problem.given_cluster
    rows = [
        ["graph", f"{problem.graph.name}, {problem.graph.op_count:,} ops, {problem.graph.digest}"],
        ["imported from", report.source_format],
        ["cluster", f"{cluster.name}, {cluster.digest}"],
        ["costs", problem.costs.name],
        ["figures", reported.trace.evaluation.source],
        ["plan", f"{reported.made_by}, {reported.plan.digest}"],
        *([name, str(value)] for name, value in reported.facts.items()),
        ["import", import_gaps(problem.graph).sentence().removeprefix("import: ")],
    ]
    for label, sizes in (("assumed", report.assumed_dims), ("bound", report.bound_dims)):
        if sizes:
            rows.append([f"dimensions {label}", ", ".join(f"{k}={v}" for k, v in sizes.items())])
    if report.unknown_shapes:
        rows.append(["unknown shapes", _shorten(list(report.unknown_shapes))])
    for label, counts in (
        ("ops of estimated cost", report.estimated_ops),
        ("ops that hide their work", report.opaque_ops),
        ("control flow as one op", report.composite_ops),
        ("computed once, at load", report.folded_ops),
    ):
        if counts:
            rows.append([label, _shorten([f"{count} {name}" for name, count in counts.items()])])
    if reported.plan.is_held:
        held = int(np.count_nonzero(reported.plan.holds >= 0))
        rows.append(["ops held back", f"{held}, until another has ended, so that memory suffices"])
    rules = problem.constraints
    for label, given in (
        ("pinned", rules.pins),
        ("forbidden", rules.forbidden),
        ("colocated", rules.colocated),
    ):
        if given:
            rows.append([label, str(len(given))])
    if rules.memory_caps:
        caps = [f"{name} {format_bytes(float(size))}" for name, size in rules.memory_caps.items()]
        rows.append(["memory caps", ", ".join(caps)])
    calibration = cluster.calibration
    if calibration is None:
        trust = (
            "This cluster carries no calibration: step times are estimates from data sheets. Use "
            "them to compare plans, not to quote a time."
        )
    elif calibration.error is None:
        trust = f"Calibrated on {calibration.machine}; its prediction error was not measured."
    else:
        trust = (
            f"Calibrated on {calibration.machine} with {calibration.runtime}: {calibration.error}."
        )
    notes = [Text(note) for note in report.notes]
    return Section(
        "assumptions", "Assumptions", [Text(trust), Table("", ["what", "value"], rows, 2), *notes]
    )


def _shorten(items: list[str]) -> str:
    rest = len(items) - _LONGEST_LIST
    return ", ".join(items[:_LONGEST_LIST]) + (f" and {rest} more" if rest > 0 else "")
