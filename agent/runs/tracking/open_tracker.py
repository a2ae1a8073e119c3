"""From a choice to a tracker."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.runs.tracking.jsonl import JsonLines
from agent.runs.tracking.options import TrackOptions
from agent.runs.tracking.several import Several
from agent.runs.tracking.tensorboard_tracker import TensorBoardTracker, check_installed
from agent.runs.tracking.tracker import Tracker
from agent.runs.tracking.wandb_tracker import WandbTracker
from graphs.errors import GraphwrightError

_Open = Callable[[Path, Mapping[str, Any], TrackOptions, int | None], Tracker | None]

TRACKERS: dict[str, _Open] = {
    "wandb": lambda folder, config, options, _: WandbTracker(folder, config, options),
    "tensorboard": lambda folder, _config, _options, at: TensorBoardTracker(folder, at),
    "none": lambda *_: None,
}


def check_choice(track: str) -> None:
    """Before anything is written.

    Raises:
        GraphwrightError: no tracker of that name, or one that is not installed.
    """
    if track not in TRACKERS:
        raise GraphwrightError(f"unknown tracker {track!r}; there are {', '.join(TRACKERS)}")
    if track == "tensorboard":
        check_installed()


def open_tracker(
    folder: Path,
    config: Mapping[str, Any],
    options: TrackOptions,
    resumed_at: int | None = None,
) -> Tracker:
    """A tracker that writes `metrics.jsonl` and tells whom `options` names.

    Args:
        folder: of the run.
        config: plain values that describe the run.
        resumed_at: the step of the checkpoint that the run goes on from.

    Raises:
        GraphwrightError: an unknown choice, or one that is not installed.
    """
    check_choice(options.track)
    named = replace(options, name=options.name or folder.resolve().name)
    chosen = TRACKERS[options.track](folder, config, named, resumed_at)
    local = JsonLines(folder, resumed_at)
    return Several([local] if chosen is None else [local, chosen])
