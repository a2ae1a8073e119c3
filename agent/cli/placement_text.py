"""A placement for people and for files: what `place`, `compare` and `finetune` show and write."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.calibrated import calibrated_prediction, calibrated_text
from agent.cli.import_text import print_import
from agent.cli.output import print_lines, print_table, print_text
from graphs.whole_files import write_whole

if TYPE_CHECKING:
    from agent.cli.options import Target
    from placement.place import Placement
    from placement.placer import Stage
    from placement.report import ReportedPlan
    from placement.simplicity import Simplified
    from simulator.traces.steps_trace import StepsTrace


def write_outputs(
    placement: "Placement",
    out: Path,
    target: "Target | None" = None,
    steps: "StepsTrace | None" = None,
    overlap: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Write plan, report, trace and cluster; returns what was written where.

    Args:
        target: the flags with which the model was read, for those who read it again.
        steps: how steps overlap, of a plan for throughput: trace and report show them.
        overlap: what such a plan promises, for the plan file.
    """
    from placement.plan_file import PlanDocument, write_plan
    from simulator.cluster_file import dump_cluster
    from simulator.traces.perfetto import perfetto_json
    from simulator.traces.steps_perfetto import steps_perfetto_json

    out.mkdir(parents=True, exist_ok=True)
    summary = dict(placement.summary())
    predicted = ("makespan_seconds", "lower_bound_seconds", "peak_bytes", "feasible", "costs")
    made = {key: summary[key] for key in ("placer", "origin", "seed", "budget_seconds")}
    if len(placement.placed.progress) > 1:
        made["progress"] = _thin(placement.placed.progress)
    if target is not None:
        made |= {"precision": target.precision, "signature": target.signature}
    if dims := placement.problem.graph.report.bound_dims:
        made["dims"] = dict(dims)
    document = PlanDocument(
        placement.plan,
        provenance=made,
        predicted={key: summary[key] for key in predicted} | dict(overlap or {}),
    )
    problem = placement.problem
    files = {
        name: out / name for name in ("plan.json", "trace.json", "cluster.yaml", "report.html")
    }
    write_plan(document, problem.graph, problem.given_cluster, files["plan.json"])
    trace = perfetto_json(placement.trace) if steps is None else steps_perfetto_json(steps)
    write_whole(files["trace.json"], trace)
    write_whole(files["cluster.yaml"], dump_cluster(problem.given_cluster))
    write_report(replace(placement.reported, steps=steps), files["report.html"])
    return {name: str(path) for name, path in files.items()}


def write_report(reported: "ReportedPlan", out: Path) -> None:
    """Write the page of a plan."""
    from placement.report import report_html

    write_whole(out, report_html(reported))


def _thin(progress: tuple[tuple[float, float], ...]) -> list[list[float]]:
    """The course of a search, small enough for a plan file."""
    every = max(1, len(progress) // 200)
    kept = [*progress[:-1:every], progress[-1]]
    return [[round(spent, 4), best] for spent, best in kept if math.isfinite(best)]


def stages_text(stages: "tuple[Stage, ...]") -> str:
    """What each stage of an any-time placer brought; nothing where there was but one."""
    from simulator.units import format_seconds

    if len(stages) < 2:
        return ""
    parts = [f"{stages[0].name} {format_seconds(stages[0].makespan_seconds)}"]
    for before, stage in itertools.pairwise(stages):
        gain = 1 - stage.makespan_seconds / before.makespan_seconds
        parts.append(
            f"{stage.name} {format_seconds(stage.makespan_seconds)} "
            f"({-gain:+.1%} in {stage.cpu_seconds:.1f} CPU s)"
        )
    return "stages: " + ", ".join(parts)


def simplicity_text(simplified: "Simplified") -> str:
    """What simplicity cost, or that the fastest plan was kept."""
    from simulator.units import format_seconds

    kept = f"{simplified.complexity}"
    within = f"plans within {simplified.tolerance:.1%} are taken for alike (--min-gain)"
    if not simplified.changed:
        return f"simplicity: {kept}, none simpler found; {within}"
    fastest = format_seconds(simplified.before.evaluation.makespan_seconds)
    return (
        f"simplicity: {kept} instead of {simplified.before_complexity}, "
        f"{simplified.cost:+.1%} of {fastest}; {within}"
    )


def rival_lines(placement: "Placement") -> list[str]:
    """What a step would take without placing any op; first what would be faster than the plan."""
    from simulator.units import format_bytes, format_seconds

    plan = placement.trace.makespan_seconds
    lines = []
    for rival in sorted(placement.rivals, key=lambda item: item.makespan_seconds):
        wins = rival.feasible and (not placement.feasible or rival.makespan_seconds < plan)
        memory = "" if rival.feasible else f", but {format_bytes(rival.peak_bytes)} do not fit"
        lines.append(
            f"{'FASTER THAN THIS PLAN: ' if wins else 'instead: '}{rival.name} on "
            f"{rival.devices} devices, about {format_seconds(rival.makespan_seconds)} a step"
            f"{memory} (an estimate: {rival.how})"
        )
    return sorted(lines, key=lambda line: not line.startswith("FASTER"))


def show(placement: "Placement") -> None:
    """Summary, baselines and the trace as text."""
    from graphs.precision import computed_types
    from simulator.traces.trace_text import trace_text
    from simulator.units import format_seconds

    problem = placement.problem
    bound = problem.bounds.seconds
    print_text(
        f"{problem.graph.name}: {problem.graph.op_count} ops on {problem.given_cluster.name}, "
        f"{problem.costs.name} costs, simulated"
    )
    print_import(problem.graph)
    shares = computed_types(problem.graph)
    print_text(f"computed in {', '.join(f'{name} ({s:.0%})' for name, s in shares.items())}")
    best: dict[str, tuple[float, bool]] = {}
    for item in placement.placed.candidates:
        family = item.origin.split(":")[0]
        score = (item.evaluation.makespan_seconds, item.evaluation.feasible)
        if family not in best or (not score[1], score[0]) < (not best[family][1], best[family][0]):
            best[family] = score
    rows = [
        [name, format_seconds(seconds), f"{seconds / bound:.2f}", "" if fits else "out of memory"]
        for name, (seconds, fits) in sorted(best.items(), key=lambda item: item[1])
    ]
    if len(rows) > 1:
        print_table("baselines", ["placer", "step", "x bound", "memory"], rows)
    step = format_seconds(placement.trace.makespan_seconds)
    for line in rival_lines(placement):
        print_text(line)
    print_text(
        f"plan by {placement.placed.best.origin}: step {step}, "
        f"lower bound {format_seconds(bound)}{' unless fused' if placement.plan.is_fused else ''}, "
        f"{placement.search_seconds:.1f} CPU s{_by_the_clock(placement)}, "
        f"{placement.placed.evaluations} plans tried, seed {placement.seed}"
    )
    if text := stages_text(placement.placed.stages):
        print_text(text)
    if placement.simplified is not None:
        print_text(simplicity_text(placement.simplified))
    if placement.form is not None and placement.simplified is not None:
        as_form = format_seconds(placement.simplified.best.evaluation.makespan_seconds)
        parts = placement.simplified.complexity.parts
        print_text(f"as {placement.form}: about {as_form} in {parts} parts, through the host")
    if calibrated := calibrated_prediction(problem.simulator, placement.plan):
        print_text(calibrated_text(calibrated))
    if placement.failure is not None:
        print_text(f"NOT FEASIBLE: {placement.failure}")
    print_lines(trace_text(placement.trace))


def _by_the_clock(placement: "Placement") -> str:
    """How long it took, where that is not about the CPU seconds."""
    if not placement.by_the_clock and not placement.placed.elsewhere_cpu_seconds:
        return ""
    return f" in {placement.search_wall_seconds:.1f} s by the clock"
