"""`graphwright explain`: why a plan is as it is."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from agent.cli.options import ConstraintFlags, Target, of_plan, read_cluster, read_model, read_rules
from agent.cli.output import prepare, print_json, print_table, print_text

if TYPE_CHECKING:
    from placement.report.explain import OpExplanation, PlanExplanation


def explain(
    model: str,
    *,
    plan: Path,
    op: str | None = None,
    target: Target = Target(),
    rules: ConstraintFlags = ConstraintFlags(),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Say what a plan's step time is made of and what limits it, or why an op is where it is.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    plan
        A plan.json.
    op
        Name of one op: it is moved to each other device and the step simulated.
    json
        Print one JSON object instead of text.
    """
    from placement.plan_file import read_plan
    from placement.problem import Problem
    from placement.report.explain import explain_op, explain_plan

    target = of_plan(plan, target)
    graph, cluster = read_model(model, target), read_cluster(model, target)
    document = read_plan(plan, graph, cluster)
    prepare(quiet=json)
    problem = Problem(graph, cluster, read_rules(rules))
    trace = problem.simulator.trace(document.plan)
    made_by = str(document.provenance.get("placer", "unknown"))
    if op is not None:
        place = explain_op(problem, document.plan, trace, op)
        if json:
            print_json({"graph": graph.name, "placer": made_by, **asdict(place)})
        else:
            _show_op(place, made_by)
        return 0
    whole = explain_plan(problem, document.plan, trace)
    if json:
        print_json({"graph": graph.name, "placer": made_by, **asdict(whole)})
    else:
        _show_plan(whole, made_by)
    return 0


def _show_op(place: "OpExplanation", made_by: str) -> None:
    from simulator.units import format_bytes, format_seconds

    print_text(
        f"{place.op} ({place.op_type}) is on {place.device}: {place.reason}. Placed by {made_by}."
    )
    unit = "It" if place.unit_size == 1 else f"Its unit of {place.unit_size} ops"
    path = "is on the critical path" if place.critical else "is not on the critical path"
    print_text(f"{unit} {path}.")
    for word, sizes in (("reads", place.reads), ("is read", place.feeds)):
        if sizes:
            way = "from" if word == "reads" else "on"
            listed = ", ".join(f"{format_bytes(float(n))} {way} {d}" for d, n in sizes.items())
            print_text(f"{unit} {word}: {listed}.")
    rows = [[place.device, format_seconds(place.seconds[place.device]), "here", ""]]
    for move in place.moves:
        if move.evaluation is None:
            rows.append([move.device, "", "not allowed", ""])
            continue
        sign = "+" if move.change_seconds >= 0 else "-"
        fits = "" if move.evaluation.feasible else "out of memory"
        change = f"{sign}{format_seconds(abs(move.change_seconds))}"
        rows.append([move.device, format_seconds(place.seconds[move.device]), change, fits])
    print_table("", ["device", "computes", "step time", "memory"], rows)


def _show_plan(whole: "PlanExplanation", made_by: str) -> None:
    from simulator.units import format_seconds

    step = whole.makespan_seconds or 1.0
    print_text(f"Placed by {made_by}; a step takes {format_seconds(whole.makespan_seconds)}.")
    parts = ", ".join(f"{name} {s / step:.0%}" for name, s in whole.critical_seconds.items())
    print_text(f"Critical path: {parts}.")
    for argument, seconds in whole.bounds.items():
        if seconds > 0:
            print_text(f"No plan beats {format_seconds(seconds)} ({argument}).")
    for sentence in whole.binding:
        print_text(sentence)
    causes = list(next(iter(whole.devices.values())))
    rows = [
        [name, *(f"{seconds / step:.0%}" for seconds in parts.values())]
        for name, parts in whole.devices.items()
    ]
    print_table("", ["device", *causes], rows)
    rows = [[name, device, format_seconds(s)] for name, device, s in whole.critical_ops]
    print_table("longest ops of the critical path", ["op", "device", "takes"], rows, left=2)
    print_text("Why one of them is where it is: add --op NAME.")
