"""`graphwright train-one-shot`: train the policy that decides whole graphs from one look."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from agent.cli.layered import read_settings, spread_list, token_of
from agent.cli.options import TrackFlags, TrainTrackFlags
from agent.cli.output import prepare, print_json, print_text
from agent.decoding.config import OneShotTraining
from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from agent.decoding.training import Trained
    from agent.runs.run_folder import RunFolder
    from agent.runs.tracking.tracker import Tracker
    from agent.training.workers import Workers


@Parameter(name="*")
@dataclass(frozen=True)
class OneShotFlags(OneShotTraining):
    """The settings of a run as flags, such as `--learn.lr`."""

    def settings(self) -> OneShotTraining:
        """The same as the rest of the project knows it."""
        names = [item.name for item in fields(OneShotTraining)]
        return OneShotTraining(**{name: getattr(self, name) for name in names})


def one_shot_layers(app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill in what no flag gave: from --config, then from --resume, then from --init.

    Raises:
        GraphwrightError: a file that cannot be read, or that holds no settings.
    """
    for argument in arguments:
        spread_list(argument)
    sources: list[tuple[str, Mapping[str, Any]]] = []
    if (file := token_of(arguments, "--config")) is not None:
        sources.append((file, read_settings(Path(file))))
    for name in ("--resume", "--init"):
        if (stored := token_of(arguments, name)) is None:
            continue
        from agent.decoding.checkpoint import load_one_shot
        from agent.runs.plain_values import to_plain

        settings = to_plain(load_one_shot(_checkpoint(Path(stored), name)).training)
        kept = settings if name == "--resume" else {"policy": settings["policy"]}
        sources.append((stored, kept))
    for source, values in sources:
        Dict(dict(values), source=source)(app, (), arguments)


#: There are no positional arguments, so that flags of several values may be given them all at once.
train_one_shot_app = App(
    name="train-one-shot",
    config=one_shot_layers,
    default_parameter=Parameter(consume_multiple=True),
)


@train_one_shot_app.default
def train_one_shot_verb(
    *,
    config: Path | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    init: Path | None = None,
    tracking: TrainTrackFlags = TrainTrackFlags(),
    json: Annotated[bool, Parameter(negative=())] = False,
    settings: OneShotFlags = OneShotFlags(),
) -> int:
    """Train the policy that decides a whole graph from one look, by policy gradients.

    It learns on an endless stream of graphs: generated ones, and training steps and inference of
    real models, those of --stream.suite. Ctrl-C stops after the round, with a checkpoint. On
    several processes: `torchrun --nproc-per-node 2 -m agent train-one-shot ...`.

    Parameters
    ----------
    config
        YAML file with settings; flags win.
    out
        The run's folder; a new one in runs/ where none is given.
    resume
        Run's folder to go on from, with its settings where no flag says otherwise.
    init
        Checkpoint or run's folder whose network and weights a new run starts from.
    json
        Print one JSON object instead of text.
    """
    from agent.cli.stopping import StopAtSignal
    from agent.decoding.training import train_one_shot
    from agent.runs.tracking.open_tracker import check_choice
    from agent.training.workers import join_workers, leave_workers

    wanted = settings.settings()
    check_choice(tracking.track)
    going_on = _check(wanted, resume, init)
    workers = join_workers(wanted.device)
    try:
        workers.check_shares(wanted.learn.graphs)
        run, tracker = _begin(wanted, out, resume, going_on, tracking, workers, quiet=json)
        prepare(quiet=json or not workers.is_first)
        try:
            with StopAtSignal("round") as stop:
                ended = train_one_shot(
                    wanted,
                    run.folder,
                    tracker,
                    None if resume is None else _checkpoint(resume, "--resume"),
                    None if init is None else _checkpoint(init, "--init"),
                    workers,
                    stop,
                )
            if workers.is_first:
                about = {"rounds": ended.rounds, **ended.figures}
                tracker.summary({f"final/{name}": value for name, value in about.items()})
                policy = run.best if run.best.is_dir() else run.checkpoint
                name = f"one-shot-{run.folder.resolve().name}"
                tracker.artifact(name, "policy", policy, about)
        finally:
            tracker.close()
    finally:
        leave_workers()
    if workers.is_first:
        _show(run, ended, wanted, as_json=json)
    return 0 if ended.rounds == wanted.rounds else stop.exit_code


def _check(wanted: OneShotTraining, resume: Path | None, init: Path | None) -> int:
    """Find mistakes before anything is written; returns the rounds that are done already."""
    from agent.decoding.checkpoint import load_one_shot
    from agent.decoding.stream import suite_graphs
    from placement.suites import get_suite

    if resume is not None and init is not None:
        raise GraphwrightError(
            "--resume goes on with a run, --init starts another from its weights; give one of them"
        )
    for suite in wanted.validation_suites:
        get_suite(suite)
    if wanted.stream.suite:
        suite_graphs(wanted.stream.suite, wanted.stream.most_ops)
    if resume is None:
        return 0
    stored = load_one_shot(_checkpoint(resume, "--resume"))
    if stored.training.policy != wanted.policy:
        raise GraphwrightError(
            f"{resume} cannot go on with another network; leave out flags and settings that begin "
            "with policy, or start a new run"
        )
    done = int(stored.about.get("round", 0))
    if done >= wanted.rounds:
        raise GraphwrightError(f"{resume} has had {done} rounds already; give more with --rounds")
    return done


def _checkpoint(path: Path, flag: str) -> Path:
    """The state to go on from, or the policy to start from."""
    from agent.decoding.placer import policy_at
    from agent.runs.policy_file import ONE_SHOT_META as META
    from agent.runs.run_folder import RunFolder

    if flag == "--init":
        return policy_at(path)
    run = RunFolder(path)
    return run.checkpoint if (run.checkpoint / META).is_file() else path


def _begin(
    wanted: OneShotTraining,
    out: Path | None,
    resume: Path | None,
    done: int,
    tracking: TrackFlags,
    workers: "Workers",
    quiet: bool,
) -> "tuple[RunFolder, Tracker]":
    """The run's folder and its tracker; workers but the first have neither."""
    from agent.cli.training_progress import TrainingProgress
    from agent.runs.plain_values import to_plain
    from agent.runs.run_folder import RunFolder, begin_run, suite_facts
    from agent.runs.tracking.open_tracker import open_tracker
    from agent.runs.tracking.several import Several
    from agent.runs.tracking.tracker import Silent

    folder = out if out is not None or resume is None else resume
    if not workers.is_first:
        return RunFolder(folder or Path()), Silent()
    facts = {
        "validation_suites": [suite_facts(suite) for suite in wanted.validation_suites],
        "workers": workers.count,
    }
    settings = to_plain(wanted)
    run = begin_run(folder, "train-one-shot", settings, facts, sys.argv, resume is not None)
    described = {**settings, "facts": facts, "versions": run.config()["versions"]}
    tracker = open_tracker(run.folder, described, tracking, done or None)
    if quiet:
        return run, tracker
    return run, Several([tracker, TrainingProgress(wanted.rounds, done)])


def _show(run: "RunFolder", ended: "Trained", wanted: OneShotTraining, as_json: bool) -> None:
    figures = {name.removeprefix("validation/"): value for name, value in ended.figures.items()}
    stopped = ended.rounds < wanted.rounds
    if as_json:
        print_json(
            {
                "folder": str(run.folder),
                "rounds": ended.rounds,
                "interrupted": stopped,
                **figures,
                "checkpoint": str(run.checkpoint),
                "best": str(run.best) if run.best.is_dir() else None,
            }
        )
        return
    said = [f"{ended.rounds} rounds{', stopped' if stopped else ''}: {run.folder}"]
    if figures:
        said.append(
            f"validation, over the portfolio: best of {wanted.draw.plans} plans "
            f"{figures['best_ratio']:.3f} (untaught {figures['untaught_best_ratio']:.3f}), one "
            f"greedy plan {figures['greedy_ratio']:.3f} "
            f"(untaught {figures['untaught_greedy_ratio']:.3f})"
        )
    if stopped:
        said.append(f"go on with: graphwright train-one-shot --resume {run.folder}")
    said.append(
        f"use it with: graphwright place MODEL -c CLUSTER --placer one-shot --policy {run.folder}"
    )
    for line in said:
        print_text(line)
