"""`graphwright simulate`: run a plan through the simulator."""

from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from agent.cli.calibrated import calibrated_prediction, calibrated_text
from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.import_text import import_values, print_import
from agent.cli.options import Target, of_plan, read_cluster, read_model
from agent.cli.output import prepare, print_json, print_lines, print_text
from agent.cli.step_flags import StepFlags, steps_text, steps_values
from graphs.errors import GraphwrightError
from graphs.whole_files import write_whole

if TYPE_CHECKING:
    from placement.plan_file import PlanDocument
    from simulator.evaluation import Evaluation
    from simulator.simulator import Simulator
    from simulator.steps import StepSchedule


def simulate(
    model: str,
    *,
    plan: Path,
    target: Target = Target(),
    overlap: StepFlags = StepFlags(),
    trace: Path | None = None,
    beside: Path | None = None,
    costs: str = "auto",
    change: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Predict the step time of a plan, and what each device does; with --steps, how steps overlap.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    plan
        A plan.json; it is applied by op name, also to a re-exported model.
    trace
        Write a Perfetto trace here.
    beside
        Another trace, such as `measure --trace` writes: both go into the file of --trace, in the
        same layout, one below the other.
    costs
        What ops take: roofline, profiled, calibrated, learned (for CPU cores), or a file of learned
        costs. auto: measured times where the graph or the cluster has them, else roofline.
    change
        What if: WHAT.PROPERTY=VALUE, such as device.memory=24GiB, v100.flops=1.5x,
        link.bandwidth=2x or v100:0->v100:1.latency=5us; several, or repeated.
    json
        Print one JSON object instead of text.
    """
    from placement.plan_file import read_plan
    from simulator.bounds import lower_bounds
    from simulator.clusters.what_if import apply_change
    from simulator.costs.registry import cost_model
    from simulator.simulator import Simulator
    from simulator.traces.perfetto import perfetto_json
    from simulator.traces.steps_perfetto import steps_perfetto_json
    from simulator.traces.trace_merge import merged_traces
    from simulator.traces.trace_text import trace_text
    from simulator.units import format_seconds

    target = of_plan(plan, target)
    graph, cluster = read_model(model, target), read_cluster(model, target)
    document = read_plan(plan, graph, cluster)
    schedule = overlap.schedule
    other = _other_trace(beside, trace, schedule)
    prepare(quiet=json)
    model_of_costs = cost_model(costs, graph, cluster)
    before = None
    if change:
        before = Simulator(graph, cluster, model_of_costs).evaluate(document.plan)
        cluster = apply_change(cluster, change)
        model_of_costs = cost_model(costs, graph, cluster)
    simulator = Simulator(graph, cluster, model_of_costs)
    result = simulator.trace(document.plan)
    evaluation = result.evaluation
    bound = lower_bounds(graph, cluster, simulator.seconds).seconds
    calibrated = calibrated_prediction(simulator, document.plan)
    steps = None if schedule is None else simulator.trace_steps(document.plan, schedule)
    if trace is not None:
        text = perfetto_json(result) if steps is None else steps_perfetto_json(steps)
        if other is not None:
            text = merged_traces([("simulated", text), (_source(other), other)])
        write_whole(trace, text)
    if json:
        print_json(
            {
                **_document(simulator, document, evaluation, bound),
                **calibrated,
                **({"before_seconds": before.makespan_seconds} if before else {}),
                **({"overlap": steps_values(steps.evaluation, cluster)} if steps else {}),
            }
        )
    else:
        print_text(
            f"{graph.name} on {cluster.name}: step {format_seconds(evaluation.makespan_seconds)}, "
            f"lower bound {format_seconds(bound)}, simulated with {simulator.costs.name} costs"
        )
        print_import(graph)
        if calibrated:
            print_text(calibrated_text(calibrated))
        if before is not None:
            ratio = evaluation.makespan_seconds / before.makespan_seconds
            print_text(
                f"unchanged, the same plan takes {format_seconds(before.makespan_seconds)}: "
                f"{ratio:.3f} of it; placing anew may gain more"
            )
        print_lines(trace_text(result))
        if steps is not None:
            print_text(steps_text(steps.evaluation))
        for failure in (evaluation.failure, steps and steps.evaluation.failure):
            if failure is not None:
                print_text(f"NOT FEASIBLE: {failure}")
    fits = evaluation.feasible and (steps is None or steps.evaluation.feasible)
    return DONE if fits else INFEASIBLE


def _other_trace(
    beside: Path | None, trace: Path | None, schedule: "StepSchedule | None"
) -> str | None:
    """What --beside names, if it can stand beside what is written."""
    from simulator.traces.trace_merge import read_trace

    if beside is None:
        return None
    if trace is None:
        raise GraphwrightError("--beside needs --trace, the file that both are written to")
    if schedule is not None:
        raise GraphwrightError("--beside sets traces of one step side by side: leave out --steps")
    return read_trace(beside)


def _document(
    simulator: "Simulator", document: "PlanDocument", evaluation: "Evaluation", bound: float
) -> dict[str, Any]:
    """What every command reports of a plan, as plain values."""
    graph, cluster = simulator.graph, simulator.cluster
    return {
        "graph": graph.name,
        "digest": graph.digest,
        "ops": graph.op_count,
        "import": import_values(graph),
        "cluster": cluster.name,
        "placer": document.provenance.get("placer"),
        "feasible": evaluation.feasible,
        "failure": str(evaluation.failure) if evaluation.failure else None,
        "makespan_seconds": evaluation.makespan_seconds,
        "lower_bound_seconds": bound,
        "peak_bytes": dict(zip(cluster.device_names, evaluation.peak_bytes, strict=True)),
        "search_seconds": 0.0,
        "costs": simulator.costs.name,
        "source": evaluation.source,
        "seed": document.provenance.get("seed"),
    }


def _source(text: str) -> str:
    """What a trace says that it is: measured, or simulated by another plan."""
    source = str(loads(text).get("otherData", {}).get("source", "other"))
    return "simulated before" if source == "simulated" else source
