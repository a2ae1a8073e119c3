"""What lies in a policy's folder, and what its JSON must say before weights are looked at.

Nothing here needs torch: whoever only asks what a folder holds, or reads the settings, does not
wait for it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from agent.config import AgentConfig
from agent.runs.plain_values import from_plain
from envs.features.groups import GROUP_COLUMNS, GROUP_PAIR_COLUMNS
from envs.features.observation import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    LINK_COLUMNS,
    OP_COLUMNS,
)
from envs.tasks import LEVELS
from graphs.errors import GraphwrightError
from graphs.file_presence import is_file, is_folder, is_there
from graphs.kinds import OpKind
from placement.annealing.move_features import MOVE_COLUMNS

#: Raised when the network or what it reads changes so that older numbers mean something else.
FORMAT = 2

WEIGHTS, META, OPTIMIZER = "policy.safetensors", "policy.json", "optimizer.safetensors"
#: The JSON of a one-shot policy (`agent.decoding.checkpoint`).
ONE_SHOT_META = "one-shot.json"

#: What reading a file may raise that is damaged, or that is none.
UNREADABLE = (OSError, ValueError, TypeError, RecursionError, SafetensorError)


class CheckpointError(GraphwrightError):
    """A checkpoint that cannot be read, or that is of another version."""


@dataclass(frozen=True, eq=False)
class PolicySettings:
    """What a policy's JSON says of it."""

    config: AgentConfig
    about: Mapping[str, Any]
    """Where it comes from: suite, rounds, seed, version; plain values."""


def stored_at(folder: Path) -> Path:
    """Where the checkpoint of that folder is: beside it, if writing was interrupted."""
    return old_of(folder) if not is_there(folder) and is_folder(old_of(folder)) else folder


def old_of(folder: Path) -> Path:
    """Where what a folder held lies while another one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def read_settings(path: Path) -> PolicySettings:
    """The settings of the policy in a folder that `stored_at` gave.

    Raises:
        CheckpointError: no policy there, a damaged one, or one of another version.
    """
    if not is_file(path / META):
        raise CheckpointError(
            f"{path}: no policy there; give a folder that holds {META} and {WEIGHTS}, such as "
            "the checkpoint of a run"
        )
    try:
        meta = json.loads((path / META).read_text())
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        version = meta.get("format") if isinstance(meta, dict) else None
        raise CheckpointError(
            f"{path}: a policy of format {version}; this version reads format {FORMAT}: train it "
            "anew, or use the version that wrote it"
        )
    known = meta.get("columns")
    kinds = known.get("kinds") if isinstance(known, dict) else None
    if not isinstance(kinds, int) or kinds > len(OpKind) or known != columns(kinds):
        raise CheckpointError(
            f"{path}: the policy reads other features than this version makes; train it anew"
        )
    try:
        config = from_plain(AgentConfig, stored_settings(meta, "config"))
    except GraphwrightError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return PolicySettings(config, stored_notes(meta))


def unreadable(path: Path, error: BaseException) -> CheckpointError:
    """What is raised of a file that cannot be read."""
    return CheckpointError(f"{path}: the policy cannot be read ({error})")


def columns(kinds: int = len(OpKind)) -> dict[str, Any]:
    """What each number that a policy reads means; `kinds` op kinds were known to it."""
    return {
        "ops": list(OP_COLUMNS),
        "edges": list(EDGE_COLUMNS),
        "devices": list(DEVICE_COLUMNS),
        "links": list(LINK_COLUMNS),
        "graph": list(GRAPH_COLUMNS),
        "groups": list(GROUP_COLUMNS),
        "group_pairs": list(GROUP_PAIR_COLUMNS),
        "moves": list(MOVE_COLUMNS),
        "kinds": kinds,
        "levels": LEVELS,
    }


def stored_settings(meta: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A group of settings in a checkpoint's JSON.

    Raises:
        GraphwrightError: there is none.
    """
    settings = meta.get(key)
    if not isinstance(settings, dict):
        raise GraphwrightError(f"it has no settings: {key!r} is {settings!r:.40}")
    return settings


def stored_notes(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a checkpoint says of where it comes from; nothing where that is no object."""
    about = meta.get("about", {})
    return about if isinstance(about, dict) else {}
