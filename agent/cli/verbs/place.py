"""`graphwright place`: find a plan for a model."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from agent.cli.calibrated import calibrated_prediction
from agent.cli.carried_state import state_between_steps
from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.options import (
    ConstraintFlags,
    SimplicityFlags,
    Target,
    read_cluster,
    read_model,
    read_rules,
    read_simplicity,
)
from agent.cli.output import compile_first, prepare, print_json, print_text, progress
from agent.cli.placed_pipeline import PlacedPipeline
from agent.cli.placement_text import show, write_outputs
from agent.cli.search_time import SearchTime
from agent.cli.spent import Spent
from agent.cli.throughput_flags import NOT_ASKED, Objective, ThroughputFlags, WholeBatch
from graphs.errors import GraphwrightError
from graphs.file_presence import is_there

#: Forms of plans whose steps overlap.
_PIPELINE_FORMS = ("onnx-split", "pipeline")

if TYPE_CHECKING:
    from placement.place import Placement
    from placement.placer import Placer
    from placement.throughput import Throughput


def place(
    model: str,
    *,
    target: Target = Target(),
    rules: ConstraintFlags = ConstraintFlags(),
    simplicity: SimplicityFlags = SimplicityFlags(),
    objective: Objective = "latency",
    overlap: ThroughputFlags = NOT_ASKED,
    batch: int | None = None,
    placer: str | None = None,
    policy: Path | None = None,
    time: SearchTime = SearchTime(),
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
        at work on another.
    batch
        Samples of one whole batch, for samples per second; the model is one of --micro-batches
        equal parts of it.
    placer
        search, portfolio, genetic, policy, policy-untrained, or one heuristic; `graphwright
        compare` runs all that need no policy. Where none is named: the policy, if one comes
        with this version, else search.
    policy
        Checkpoint or run's folder, for the placer policy. With --objective throughput one that was
        trained for it: its samples compete with the splits.
    seed
        Same seed, same decisions.
    costs
        What ops take: roofline, profiled, calibrated, learned (for CPU cores), or a file of learned
        costs. auto: measured times where the graph or the cluster has them, else roofline.
    fuse
        Decide fusion as well: ops that may be one kernel are fused, then kernels are placed. The
        one-shot policy decides devices, priorities and kernels in one look.
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

    seconds = time.seconds
    request, whole = _request(objective, overlap, batch, form, simplicity.contiguous)
    if request is None:
        name, decide = _placer(placer, policy, fuse)
    else:
        time.refuse_for_throughput()
        name, decide = _pipeline_placer(request, placer, policy, fuse, form, simplicity)
    searches = name not in HEURISTICS or form is not None
    wanted = None if request is not None else read_simplicity(simplicity, searches=searches)
    with ExitStack() as opened:
        if request is None and time.jobs != 1:
            compile_first(quiet=json)
            decide = time.at_once(name, decide, opened)
        spent.lap("start-up")
        graph = read_model(model, target)
        spent.lap("import", with_ended=True)
        cluster = apply_change(read_cluster(model, target), change)
        problem = Problem(graph, cluster, read_rules(rules), cost_model(costs, graph, cluster))
        if form is not None:
            get_exporter(form)  # a form that does not exist is a mistake at once
        form = None if request is not None else form
        prepare(quiet=json, overlaps=request is not None)
        label = f"{name} on {problem.given_cluster.name}"
        on_progress = opened.enter_context(progress(label, quiet=json))
        placement = place_problem(
            problem, decide, name, seconds, seed, on_progress, wanted, form, time.by_the_clock
        )
    elsewhere = placement.placed.elsewhere_cpu_seconds
    own = placement.search_seconds - elsewhere
    search = {"search": own, "simplifying": placement.simplify_seconds}
    spent.lap("start-up", of_which=search, elsewhere=elsewhere)
    pipeline = None
    if isinstance(decide, PipelinePlacer) and decide.pipeline is not None:
        state = state_between_steps(model)
        pipeline = PlacedPipeline(placement, decide.pipeline, decide.request, whole, state)
    written = _write(placement, pipeline, out, target) if out is not None else {}
    spent.lap("files")
    return _tell(model, placement, pipeline, objective, spent, written, as_json=json)


def _tell(
    model: str,
    placement: "Placement",
    pipeline: PlacedPipeline | None,
    objective: str,
    spent: Spent,
    written: Mapping[str, str],
    *,
    as_json: bool,
) -> int:
    """Print what was found; 3 if it does not fit."""
    if as_json:
        calibrated = calibrated_prediction(placement.problem.simulator, placement.plan)
        overlapped = {"objective": objective} if pipeline is None else pipeline.as_dict()
        more = {**overlapped, **calibrated, "spent": spent.as_dict(), "files": written}
        print_json({**placement.summary(), **more})
    else:
        show(placement)
        if pipeline is not None:
            pipeline.show()
        print_text(str(spent))
        _show_files(model, written)
    feasible = placement.feasible if pipeline is None else pipeline.feasible
    return DONE if feasible else INFEASIBLE


def _write(
    placement: "Placement", pipeline: PlacedPipeline | None, out: Path, target: Target
) -> Mapping[str, str]:
    if pipeline is None:
        return write_outputs(placement, out, target)
    return write_outputs(placement, out, target, pipeline.trace(), pipeline.promises())


def _show_files(model: str, written: Mapping[str, str]) -> None:
    for name, path in written.items():
        print_text(f"{name}: {path}")
    if written and is_there(model):
        print_text(
            f"look: open {written['report.html']}; "
            f"run it elsewhere: graphwright export {model} --plan {written['plan.json']} "
            "--out FOLDER"
        )


def _request(
    objective: Objective,
    flags: ThroughputFlags,
    batch: int | None,
    form: str | None,
    contiguous: bool,
) -> "tuple[Throughput | None, WholeBatch | None]":
    """What is asked for of steps that overlap; None for latency."""
    from placement.throughput import Transfers

    request = flags.request(objective)
    if request is None:
        if batch is not None:
            raise GraphwrightError(
                f"--batch {batch} tells samples per second: it goes with --objective throughput"
            )
        return None, None
    if form == "onnx-split":
        # A split ONNX model runs as sessions that hand tensors on through the host.
        request = replace(request, transfers=Transfers.HOPS)
    request = replace(request, contiguous=contiguous or form == "pipeline")
    return request, None if batch is None else WholeBatch(batch, request.micro_batches)


def _pipeline_placer(
    request: "Throughput",
    name: str | None,
    policy: Path | None,
    fuse: bool,
    form: str | None,
    simplicity: SimplicityFlags,
) -> "tuple[str, Placer]":
    """The search for throughput; flags of latency alone are refused."""
    from placement.throughput import PipelinePlacer

    if name not in (None, "policy") or fuse or form not in (None, *_PIPELINE_FORMS):
        raise GraphwrightError(
            "--objective throughput has a search of its own: leave out --placer, --fuse and forms "
            f"but {' and '.join(_PIPELINE_FORMS)}"
        )
    if replace(simplicity, contiguous=False) != SimplicityFlags():
        raise GraphwrightError(
            "--objective throughput takes the split with the fewest crossings of those within the "
            "simulator's error of the best: leave out --min-gain, --crossing-price and "
            "--max-crossings"
        )
    if policy is None and name is None:
        return "throughput", PipelinePlacer(request)
    if form is not None:
        raise GraphwrightError(
            "a policy decides for the simulator's machine, not for a split model whose tensors hop "
            "through the host: leave out --policy or --for"
        )
    from agent.placing.policy_pipeline import PolicyPipelinePlacer
    from agent.placing.registry import load_policy

    checkpoint = load_policy(policy, "throughput")
    return "throughput-policy", PolicyPipelinePlacer(checkpoint.policy, checkpoint.config, request)


def _placer(name: str | None, policy: Path | None, fuse: bool) -> "tuple[str, Placer]":
    """The placer that the flags name, for the time of one step."""
    from agent.placing.registry import default_placer, get_placer, placer_of

    name = name or (placer_of(policy) if policy is not None else default_placer())
    decide = get_placer(name, policy)
    if fuse and name.startswith("one-shot"):
        from agent.decoding.placer import OneShotPlacer

        if isinstance(decide, OneShotPlacer):
            # It decides kernels itself, and priorities with them.
            return name, replace(decide, all_tasks=True)
    if fuse:
        from placement.placers.fused import FusedPlacer

        decide = FusedPlacer(decide)
    return name, decide
