"""`graphwright place`: find a plan for a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from agent.cli.calibrated import calibrated_prediction
from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.options import (
    ConstraintFlags,
    SimplicityFlags,
    Target,
    read_cluster,
    read_model,
    read_rules,
    read_seconds,
    read_simplicity,
)
from agent.cli.output import prepare, print_json, print_text, progress
from agent.cli.placement_text import show, show_pipeline, write_outputs
from agent.cli.spent import Spent
from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from placement.placer import Placer


def place(
    model: str,
    *,
    target: Target = Target(),
    rules: ConstraintFlags = ConstraintFlags(),
    simplicity: SimplicityFlags = SimplicityFlags(),
    objective: Literal["latency", "throughput"] = "latency",
    placer: str | None = None,
    policy: Path | None = None,
    budget: str = "30s",
    seed: int = 0,
    costs: str = "auto",
    fuse: Annotated[bool, Parameter(negative=())] = False,
    change: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    form: Annotated[str | None, Parameter(name="--for")] = None,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Find a plan: which device runs each op, in which order, and which ops are one kernel.

    Among plans that the simulator cannot tell apart the simplest is taken: fewest devices, then
    fewest tensors sent. A heuristic that is named is shown as it is.

    Parameters
    ----------
    model
        A model file (ONNX, TensorFlow GraphDef or SavedModel, torch.export, dnn-partitioning
        JSON, graphwright graph), or the name of a bundled graph.
    objective
        latency: the time of one step. throughput: the time between steps that overlap, each device
        at work on another; the largest load of any device is least.
    placer
        search, portfolio, genetic, policy, policy-untrained, or one heuristic; `graphwright
        compare` runs all that need no policy. Where none is named: the policy, if one comes
        with this version, else search.
    policy
        Checkpoint or run's folder, for the placer policy.
    budget
        CPU time for search, such as 30s or 5min; what start-up, import, simplifying and files take
        comes on top and is shown.
    seed
        Same seed, same decisions.
    costs
        What ops take: roofline, profiled, calibrated, learned (for CPU cores), or a file of learned
        costs. auto: measured times where the graph or the cluster has them, else roofline.
    fuse
        Decide fusion as well: ops that may be one kernel are fused, then kernels are placed.
    change
        What if: WHAT.PROPERTY=VALUE, such as device.memory=24GiB or link.bandwidth=2x, as for
        simulate; several, or repeated.
    form
        The form that the plan will be exported in, such as onnx-split: the plan is chosen by how
        that form would run, and in few parts.
    out
        Folder for plan.json, report.html, trace.json (Perfetto) and cluster.yaml.
    json
        Print one JSON object instead of tables.
    """
    spent = Spent()
    from placement.export import get_exporter
    from placement.heuristics.registry import HEURISTICS
    from placement.place import place_problem
    from placement.problem import Problem
    from placement.throughput import PipelinePlacer
    from simulator.clusters.what_if import apply_change
    from simulator.costs.registry import cost_model

    seconds = read_seconds(budget, "--budget")
    overlaps = objective == "throughput"
    name, decide = _placer(placer, policy, fuse, form, overlaps=overlaps)
    spent.lap("start-up")
    graph = read_model(model, target)
    spent.lap("import")
    cluster = apply_change(read_cluster(model, target), change)
    problem = Problem(graph, cluster, read_rules(rules), cost_model(costs, graph, cluster))
    if form is not None:
        get_exporter(form)  # a form that does not exist is a mistake at once
    searches = name not in HEURISTICS or form is not None
    wanted = None if overlaps else read_simplicity(simplicity, searches=searches)
    form = None if overlaps else form
    prepare(quiet=json)
    with progress(f"{name} on {problem.given_cluster.name}", quiet=json) as on_progress:
        placement = place_problem(problem, decide, name, seconds, seed, on_progress, wanted, form)
    search = {"search": placement.search_seconds, "simplifying": placement.simplify_seconds}
    spent.lap("start-up", of_which=search)
    written = write_outputs(placement, out, target) if out is not None else {}
    spent.lap("files")
    pipeline = decide.pipeline if isinstance(decide, PipelinePlacer) else None
    if json:
        calibrated = calibrated_prediction(problem.simulator, placement.plan)
        overlap = {"objective": objective} if pipeline is None else pipeline.as_dict()
        more = {**overlap, **calibrated, "spent": spent.as_dict(), "files": written}
        print_json({**placement.summary(), **more})
    else:
        show(placement)
        if pipeline is not None:
            show_pipeline(pipeline)
        print_text(str(spent))
        for name, path in written.items():
            print_text(f"{name}: {path}")
        if written and Path(model).exists():
            print_text(
                f"look: open {written['report.html']}; "
                f"run it elsewhere: graphwright export {model} --plan {written['plan.json']} "
                "--out FOLDER"
            )
    return DONE if placement.feasible else INFEASIBLE


def _placer(
    name: str | None, policy: Path | None, fuse: bool, form: str | None, *, overlaps: bool
) -> "tuple[str, Placer]":
    """The placer that the flags name."""
    from agent.placing.registry import POLICY, default_placer, get_placer

    if overlaps:
        from placement.throughput import PipelinePlacer

        if name is not None or policy is not None or fuse or form not in (None, "onnx-split"):
            raise GraphwrightError(
                "--objective throughput has a search of its own: leave out --placer, --policy, "
                "--fuse and forms but onnx-split"
            )
        return "throughput", PipelinePlacer()
    name = name or (POLICY if policy is not None else default_placer())
    decide = get_placer(name, policy)
    if fuse:
        from placement.placers.fused import FusedPlacer

        decide = FusedPlacer(decide)
    return name, decide
