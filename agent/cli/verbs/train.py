"""`graphwright train`: pretrain a policy on a suite."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from agent.cli.experience_flags import ExperienceFlags
from agent.cli.import_text import check_models
from agent.cli.layered import TrainFlags, layers
from agent.cli.options import TrackFlags, TrainTrackFlags
from agent.cli.output import prepare, print_json, print_text
from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from agent.config import TrainConfig
    from agent.runs.run_folder import Resumable, RunFolder
    from agent.runs.tracking.tracker import Tracker
    from agent.training.loop import Pretrained
    from agent.training.workers import Workers


#: There are no positional arguments, so that flags of several values may be given them all at once.
train_app = App(name="train", config=layers, default_parameter=Parameter(consume_multiple=True))


@train_app.default
def train(
    *,
    config: Path | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    init: Path | None = None,
    tracking: TrainTrackFlags = TrainTrackFlags(),
    experience: ExperienceFlags = ExperienceFlags(),
    allow_unknown: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    settings: TrainFlags = TrainFlags(),
) -> int:
    """Pretrain a policy on the graphs of a suite.

    With --objective throughput plans are worth the period of steps that overlap, --in-flight of
    them, training steps cut into --micro-batches. All rounds are then policy gradients: the lessons
    of guided search are of one step's time.

    Ctrl-C stops after the round, with a checkpoint. On several processes:
    `torchrun --nproc-per-node 2 -m agent train ...`. With --jobs or --ray one process learns, and
    others search and try moves, which takes most of a round; the run ends the same.

    Parameters
    ----------
    config
        YAML file with settings; flags win.
    out
        The run's folder; a new one in runs/ where none is given.
    resume
        Run's folder or checkpoint to go on from, with its settings where no flag says otherwise.
    init
        Checkpoint or run's folder whose network and weights a new run starts from.
    allow_unknown
        Learn from models of which more than a tenth of the tensors have no known shape.
    json
        Print one JSON object instead of text.
    """
    from agent.cli.stopping import StopAtSignal
    from agent.placing.registry import policy_folder
    from agent.runs.tracking.open_tracker import check_choice
    from agent.training.loop import pretrain
    from agent.training.starts import training_episodes
    from agent.training.workers import join_workers, leave_workers
    from placement.suites import Pair

    wanted = settings.settings()
    check_choice(tracking.track)
    experience.check(wanted)
    before = _check(wanted, resume, init)
    workers = join_workers(wanted.device)
    with ExitStack() as opened:
        opened.callback(leave_workers)
        workers.check_shares(wanted.graphs_per_batch)
        pairs = [item for item in training_episodes(wanted).sources if isinstance(item, Pair)]
        imports = check_models(pairs, allow_unknown, quiet=json or not workers.is_first)
        runner = experience.open_runner(opened, workers)
        run, tracker = _begin(wanted, out, before, tracking, workers, quiet=json)
        opened.callback(tracker.close)
        prepare(quiet=json or not workers.is_first)
        with StopAtSignal("round") as stop:
            ended = pretrain(
                wanted,
                run.folder,
                tracker,
                before.checkpoint if before is not None else None,
                workers=workers,
                init=policy_folder(init) if init is not None else None,
                stop=stop,
                runner=runner,
            )
        if workers.is_first:
            _tell_end(tracker, run, ended)
    if workers.is_first:
        _show(run, ended, wanted, imports, as_json=json)
    return 0 if ended.rounds == wanted.rounds else stop.exit_code


def _check(wanted: "TrainConfig", resume: Path | None, init: Path | None) -> "Resumable | None":
    """Find mistakes before anything is written; returns what to go on from."""
    from agent.runs.checkpoint import load_checkpoint
    from agent.runs.run_folder import find_resume
    from agent.training.starts import training_episodes

    if resume is not None and init is not None:
        raise GraphwrightError(
            "--resume goes on with a run, --init starts another from its weights; give one of them"
        )
    training_episodes(wanted)
    if resume is None:
        return None
    before = find_resume(resume)
    stored = load_checkpoint(before.checkpoint).config
    if stored.objective != wanted.agent.objective:
        raise GraphwrightError(
            f"{resume} is trained for {stored.objective}; leave out --objective, or start a new "
            f"run from its weights with --init {resume}"
        )
    if stored.policy != wanted.agent.policy:
        raise GraphwrightError(
            f"{resume} cannot go on with another network; leave out flags and settings that begin "
            "with policy, or start a new run"
        )
    if before.round() >= wanted.rounds:
        raise GraphwrightError(
            f"{resume} has had {before.round()} rounds already; give more with --rounds"
        )
    return before


def _begin(
    wanted: "TrainConfig",
    out: Path | None,
    before: "Resumable | None",
    tracking: TrackFlags,
    workers: "Workers",
    quiet: bool,
) -> "tuple[RunFolder, Tracker]":
    """The run's folder and its tracker; workers but the first have neither."""
    from agent.cli.training_progress import TrainingProgress
    from agent.runs.plain_values import to_plain
    from agent.runs.run_folder import RunFolder, begin_run, plain_settings, suite_facts
    from agent.runs.tracking.open_tracker import open_tracker
    from agent.runs.tracking.several import Several
    from agent.runs.tracking.tracker import Silent
    from placement.suites import check_pins, get_suite

    folder = out if out is not None or before is None else before.folder
    if not workers.is_first:
        return RunFolder(folder or Path()), Silent()
    for suite in (wanted.suite, wanted.validation_suite):
        check_pins(get_suite(suite, wanted.clusters).pairs)
    facts = {
        "suite": suite_facts(wanted.suite, wanted.clusters),
        "validation_suite": suite_facts(wanted.validation_suite, wanted.clusters),
        "workers": workers.count,
    }
    run = begin_run(folder, "train", to_plain(wanted), facts, sys.argv, before is not None)
    resumed_at = before.round() if before is not None else None
    described = {**plain_settings(wanted), "facts": facts, "versions": run.config()["versions"]}
    tracker = open_tracker(run.folder, described, tracking, resumed_at)
    if quiet:
        return run, tracker
    return run, Several([tracker, TrainingProgress(wanted.rounds, resumed_at or 0)])


def _tell_end(tracker: "Tracker", run: "RunFolder", ended: "Pretrained") -> None:
    about = {"rounds": ended.rounds, **ended.validation}
    tracker.summary({f"final/{name}": value for name, value in about.items()})
    policy = run.best if run.best.is_dir() else run.checkpoint
    tracker.artifact(f"policy-{run.folder.resolve().name}", "policy", policy, about)


def _show(
    run: "RunFolder",
    ended: "Pretrained",
    wanted: "TrainConfig",
    imports: Mapping[str, Mapping[str, Any]],
    as_json: bool,
) -> None:
    stopped = ended.rounds < wanted.rounds
    if as_json:
        print_json(
            {
                "folder": str(run.folder),
                "rounds": ended.rounds,
                "objective": wanted.agent.objective,
                "interrupted": stopped,
                "imports": imports,
                "validation_ratio": ended.validation.get("validation/ratio"),
                "untrained_ratio": ended.validation.get("validation/untrained_ratio"),
                "checkpoint": str(run.checkpoint),
                "best": str(run.best) if run.best.is_dir() else None,
            }
        )
        return
    if stopped:
        print_text(
            f"stopped after round {ended.rounds} of {wanted.rounds}; go on with "
            f"`graphwright train --resume {run.folder}`"
        )
        return
    ratio = ended.validation.get("validation/ratio")
    overlaps = wanted.agent.objective == "throughput"
    times = "periods" if overlaps else "step times"
    judged = ""
    if ratio is not None:
        untrained = ended.validation["validation/untrained_ratio"]
        judged = (
            f", {times} {ratio:.4f} of the portfolio's on validation, untrained {untrained:.4f}"
        )
    print_text(f"{ended.rounds} rounds{judged}")
    how = "--objective throughput" if overlaps else "--placer policy"
    print_text(f"use it with `graphwright place MODEL {how} --policy {run.folder}`")
    if overlaps:
        print_text(
            "guided search was not taught: it knows the time of one step only; this policy decides "
            "by its samples"
        )
