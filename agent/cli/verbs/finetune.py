"""`graphwright finetune`: a policy that learns on one model."""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.options import (
    ConstraintFlags,
    Target,
    TrackFlags,
    read_cluster,
    read_model,
    read_rules,
    read_seconds,
)
from agent.cli.output import prepare, print_json, print_table, print_text, progress
from agent.cli.placement_text import write_outputs
from agent.cli.throughput_flags import Objective
from agent.cli.verbs.measured import measure_candidates, show_measured
from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from agent.placing.finetuning import FineTuneConfig, FineTuned
    from agent.runs.tracking.tracker import Tracker
    from placement.problem import Problem


def finetune(
    model: str,
    *,
    target: Target = Target(),
    rules: ConstraintFlags = ConstraintFlags(),
    policy: Path | None = None,
    objective: Objective = "latency",
    updates: int = 50,
    budget: str = "120s",
    lr: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    measure: Annotated[bool, Parameter(negative=())] = False,
    cache: Path | None = None,
    out: Path | None = None,
    tracking: TrackFlags = TrackFlags(),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Let a policy learn on one model, and find a plan for it.

    What the same policy finds without learning in the same CPU time is told beside.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    policy
        Checkpoint or run's folder to start from, trained for the objective.
    objective
        latency: the time of one step. throughput: the period of steps that overlap, as many and in
        as many micro-batches as the policy was trained for; it learns from its own samples then.
    updates
        Learning steps at most.
    budget
        CPU time, for placing without learning and for learning each; both go on until it is spent.
    lr
        Learning rate; the policy's own where none is given.
    seed
        Same seed, same decisions.
    device
        Torch's device for the network, such as cuda.
    measure
        Run the best plans on this machine afterwards, climb from the fastest by measurements, and
        keep it; the cluster must be one that `graphwright calibrate` made here.
    cache
        Folder in which measurements are kept from one run to the next; by default `graphwright`
        in the user's cache folder.
    out
        New folder for plan.json, trace.json, cluster.yaml, the policy as a checkpoint and
        metrics.jsonl.
    json
        Print one JSON object instead of tables.
    """
    from agent.placing.finetuning import FineTuneConfig, fine_tune, summary_of
    from agent.placing.registry import load_policy

    config = FineTuneConfig(updates, read_seconds(budget, "--budget"), lr, seed, device)
    if updates < 1:
        raise GraphwrightError(f"--updates {updates}: at least 1; without any it is `place`")
    if out is None and tracking.track != "none":
        raise GraphwrightError(f"--track {tracking.track} needs a folder; give one with --out")
    if measure and objective == "throughput":
        raise GraphwrightError(
            "--measure runs one step at a time: leave it out with --objective throughput; "
            "`graphwright measure --steps 32` runs steps that overlap"
        )
    checkpoint = load_policy(policy, objective)
    problem_ = _problem(model, target, rules)
    tracker = _tracker(problem_, config, policy, out, tracking)
    prepare(quiet=json)
    try:
        with progress(f"fine-tuning on {problem_.given_cluster.name}", quiet=json) as on_progress:
            result = fine_tune(problem_, checkpoint, config, tracker, on_progress)
        ran = None
        if measure:
            learned = (result.zero_shot, result.fine_tuned)
            ran = measure_candidates(
                result.placement,
                result.portfolio,
                learned,
                Path(model),
                target.sizes,
                seed,
                cache,
            )
            result = replace(result, placement=ran.placement)
        best = result.placement.placed.best.evaluation
        promise: dict[str, Any] = {"objective": objective}
        if objective == "throughput":
            promise |= {"period_seconds": best.makespan_seconds, "feasible": best.feasible}
        written = {}
        if out is not None:
            written = write_outputs(result.placement, out, target, overlap=promise)
        if out is not None:
            from agent.runs.checkpoint import save_checkpoint
            from agent.runs.run_folder import RunFolder

            saved = save_checkpoint(RunFolder(out).checkpoint, result.checkpoint)
            written["policy"] = str(saved)
            tracker.artifact(f"policy-{out.resolve().name}", "policy", saved, summary_of(result))
            tracker.artifact(f"plan-{out.resolve().name}", "plan", out / "plan.json")
    finally:
        tracker.close()
    feasible = best.feasible if objective == "throughput" else result.placement.feasible
    if json:
        more = {} if ran is None else ran.summary()
        summary = {**result.placement.summary(), **summary_of(result), **promise, **more}
        print_json({**summary, "files": written})
        return DONE if feasible else INFEASIBLE
    _show(result)
    if ran is not None:
        show_measured(ran)
    for name, path in written.items():
        print_text(f"{name}: {path}")
    return DONE if feasible else INFEASIBLE


def _show(result: "FineTuned") -> None:
    """The portfolio's plan, the policy's before learning, and after."""
    from agent.evaluation.period_columns import bound_of_period
    from simulator.units import format_seconds

    named = (
        ("portfolio", result.portfolio),
        (f"policy, no learning, {result.zero_shot_cpu_seconds:.1f} CPU s", result.zero_shot),
        (
            f"fine-tuned, {result.updates} updates, {result.fine_tuned_cpu_seconds:.1f} CPU s",
            result.fine_tuned,
        ),
    )
    problem_ = result.placement.problem
    bound, overlap = problem_.bounds.seconds, result.checkpoint.config.overlap
    if overlap is not None:
        bound = bound_of_period(problem_, overlap)
    base = result.portfolio.evaluation.makespan_seconds
    rows = [
        [
            name,
            format_seconds(item.evaluation.makespan_seconds),
            f"{item.evaluation.makespan_seconds / base:.3f}",
            f"{item.evaluation.makespan_seconds / bound:.2f}" if bound else "",
            "yes" if item.evaluation.feasible else "OOM",
        ]
        for name, item in named
    ]
    print_table(
        f"{problem_.graph.name}, {problem_.graph.op_count} ops, on {problem_.given_cluster.name}: "
        f"simulated, {problem_.costs.name} costs, {result.placement.search_seconds:.1f} CPU s",
        ["plan", "step" if overlap is None else "period", "x portfolio", "x bound", "fits"],
        rows,
    )


def _problem(model: str, target: Target, rules: ConstraintFlags) -> "Problem":
    from placement.problem import Problem

    return Problem(read_model(model, target), read_cluster(model, target), read_rules(rules))


def _tracker(
    problem: "Problem",
    config: "FineTuneConfig",
    policy: Path | None,
    out: Path | None,
    tracking: TrackFlags,
) -> "Tracker":
    """A run's folder with its tracker, or silence where nothing is to be kept."""
    from agent.runs.run_folder import begin_run
    from agent.runs.tracking.open_tracker import check_choice, open_tracker
    from agent.runs.tracking.tracker import Silent

    check_choice(tracking.track)
    if out is None:
        return Silent()
    settings = asdict(config)
    facts = {
        "graph": {"name": problem.graph.name, "digest": problem.graph.digest},
        "cluster": {"name": problem.given_cluster.name, "digest": problem.given_cluster.digest},
        "policy": None if policy is None else str(policy),
    }
    run = begin_run(out, "finetune", settings, facts, sys.argv)
    described = {**settings, "facts": facts, "versions": run.config()["versions"]}
    return open_tracker(run.folder, described, replace(tracking, job_type="finetune"))
