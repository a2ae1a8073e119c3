"""One-shot policies and their training states on disk: safetensors and JSON, no pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from agent.decoding.config import OneShotTraining
from agent.decoding.network import OneShotPolicy
from agent.policy.large_buffers import keep_large_buffers
from agent.runs.checkpoint import CheckpointError
from agent.runs.plain_values import from_plain, to_plain
from agent.runs.stored_policy import (
    network_of,
    require_finite,
    stored_notes,
    stored_settings,
)
from envs.features.observation import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    LINK_COLUMNS,
    OP_COLUMNS,
)
from graphs.errors import GraphwrightError
from graphs.kinds import OpKind
from graphs.whole_files import whole_folder, write_whole
from placement.decoding.columns import DECISION_COLUMNS

#: Raised when the network or what it reads changes so that older numbers mean something else.
FORMAT = 1

_WEIGHTS, META, _OPTIMIZER = "one-shot.safetensors", "one-shot.json", "optimizer.safetensors"


@dataclass(frozen=True, eq=False)
class OneShotCheckpoint:
    """A policy with what it was trained as; and, to go on training, where that stood."""

    policy: OneShotPolicy
    training: OneShotTraining
    about: Mapping[str, Any]
    """Rounds, validation, version; plain values."""
    optimizer: Mapping[str, Tensor] | None = None


def save_one_shot(folder: Path, checkpoint: OneShotCheckpoint) -> Path:
    """Write a folder, in place of one that was written before; never half of each.

    Raises:
        CheckpointError: the folder holds something else.
        GraphwrightError: weights are not finite.
    """
    own = {_WEIGHTS, META, _OPTIMIZER}
    if folder.exists() and not {path.name for path in folder.iterdir()} <= own:
        raise CheckpointError(f"{folder} is there already and holds other things than a policy")
    meta = {
        "format": FORMAT,
        "training": to_plain(checkpoint.training),
        "columns": _columns(),
        "about": dict(checkpoint.about),
    }
    require_finite(checkpoint.policy.state_dict())
    with whole_folder(folder, folder.with_name(f".{folder.name}.old")) as part:
        save_file(_portable(checkpoint.policy.state_dict()), part / _WEIGHTS)
        if checkpoint.optimizer is not None:
            save_file(_portable(checkpoint.optimizer), part / _OPTIMIZER)
        write_whole(part / META, json.dumps(meta, indent=1) + "\n")
    return folder


def _portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in tensors.items()}


def load_one_shot(folder: str | Path) -> OneShotCheckpoint:
    """Read a folder that `save_one_shot` wrote; its network will use large buffers.

    Raises:
        CheckpointError: no checkpoint there, a damaged one, or one of another version.
    """
    keep_large_buffers()
    path = Path(folder)
    old = path.with_name(f".{path.name}.old")
    if not path.exists() and old.is_dir():
        path = old
    if not (path / META).is_file():
        raise CheckpointError(
            f"{path}: no one-shot policy there; give a folder that holds {META} and {_WEIGHTS}, "
            "such as the best of a run of `graphwright train-one-shot`"
        )
    try:
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        weights = load_file(path / _WEIGHTS)
        optimizer = load_file(path / _OPTIMIZER) if (path / _OPTIMIZER).is_file() else None
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the policy cannot be read ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        version = meta.get("format") if isinstance(meta, dict) else None
        raise CheckpointError(
            f"{path}: a one-shot policy of format {version}; this version reads format {FORMAT}: "
            "train it anew, or use the version that wrote it"
        )
    if meta.get("columns") != _columns():
        raise CheckpointError(
            f"{path}: the policy reads other features than this version makes; train it anew"
        )
    try:
        training = from_plain(OneShotTraining, stored_settings(meta, "training"))
        policy = network_of(lambda: OneShotPolicy(training.policy), weights)
    except GraphwrightError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return OneShotCheckpoint(policy, training, stored_notes(meta), optimizer)


def _columns() -> dict[str, Any]:
    """What each number that a policy reads means."""
    return {
        "ops": list(OP_COLUMNS),
        "edges": list(EDGE_COLUMNS),
        "devices": list(DEVICE_COLUMNS),
        "links": list(LINK_COLUMNS),
        "graph": list(GRAPH_COLUMNS),
        "decisions": list(DECISION_COLUMNS),
        "kinds": len(OpKind),
    }
