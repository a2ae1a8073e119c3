"""Policies and training states on disk: safetensors for numbers, JSON for the rest, no pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agent.config import AgentConfig
from agent.policy.network import Policy
from agent.runs.plain_values import from_plain, to_plain
from agent.runs.stored_policy import network_of, stored_notes, stored_settings
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
from graphs.kinds import OpKind
from graphs.whole_files import whole_folder, write_whole
from placement.annealing.move_features import MOVE_COLUMNS

#: Raised when the network or what it reads changes so that older numbers mean something else.
FORMAT = 2
#: The parameter with a row for each op kind.
_KINDS = "encoder.kind.weight"

_WEIGHTS, META, _OPTIMIZER = "policy.safetensors", "policy.json", "optimizer.safetensors"
_OWN = {_WEIGHTS, META, _OPTIMIZER}


class CheckpointError(GraphwrightError):
    """A checkpoint that cannot be read, or that is of another version."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A policy with what it was trained as; and, to go on training, where that stood."""

    policy: Policy
    config: AgentConfig
    about: Mapping[str, Any]
    """Where it comes from: suite, rounds, seed, version; plain values."""
    optimizer: Mapping[str, Tensor] | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a folder, in place of one that was written before.

    Whoever is interrupted leaves the old files or the new ones, never some of both.

    Raises:
        CheckpointError: the folder holds something else.
    """
    if folder.exists() and not (folder.is_dir() and _names(folder) <= _OWN):
        raise CheckpointError(f"{folder} is there already and holds other things than a policy")
    meta = {
        "format": FORMAT,
        "config": to_plain(checkpoint.config),
        "columns": _columns(),
        "about": dict(checkpoint.about),
    }
    with whole_folder(folder, _old(folder)) as part:
        weights = {name: _portable(value) for name, value in checkpoint.policy.state_dict().items()}
        save_file(weights, part / _WEIGHTS)
        if checkpoint.optimizer is not None:
            state = {name: _portable(value) for name, value in checkpoint.optimizer.items()}
            save_file(state, part / _OPTIMIZER)
        write_whole(part / META, json.dumps(meta, indent=1) + "\n")
    return folder


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a folder that `save_checkpoint` wrote.

    Raises:
        CheckpointError: no checkpoint there, a damaged one, or one of another version.
    """
    path = stored_at(Path(folder))
    if not (path / META).is_file():
        raise CheckpointError(
            f"{path}: no policy there; give a folder that holds {META} and {_WEIGHTS}, such as "
            "the checkpoint of a run"
        )
    try:
        meta = json.loads((path / META).read_text())
        weights = load_file(path / _WEIGHTS)
        optimizer = load_file(path / _OPTIMIZER) if (path / _OPTIMIZER).is_file() else None
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the policy cannot be read ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        version = meta.get("format") if isinstance(meta, dict) else None
        raise CheckpointError(
            f"{path}: a policy of format {version}; this version reads format {FORMAT}: train it "
            "anew, or use the version that wrote it"
        )
    columns = meta.get("columns")
    kinds = columns.get("kinds") if isinstance(columns, dict) else None
    if not isinstance(kinds, int) or kinds > len(OpKind) or columns != _columns(kinds):
        raise CheckpointError(
            f"{path}: the policy reads other features than this version makes; train it anew"
        )
    try:
        config = from_plain(AgentConfig, stored_settings(meta, "config"))
        policy = network_of(lambda: Policy(config.policy), _with_new_kinds(weights))
    except GraphwrightError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Checkpoint(policy, config, stored_notes(meta), optimizer)


def stored_at(folder: Path) -> Path:
    """Where the checkpoint of that folder is: beside it, if writing was interrupted."""
    return _old(folder) if not folder.exists() and _old(folder).is_dir() else folder


def optimizer_state(
    network: nn.Module, optimizer: torch.optim.Adam, prefix: str = ""
) -> dict[str, Tensor]:
    """Adam's moments by parameter name, of a network or of a part that `prefix` names."""
    state = {}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            state[f"{key}/{prefix}{name}"] = value
    return state


def restore_optimizer(
    network: nn.Module,
    optimizer: torch.optim.Adam,
    state: Mapping[str, Tensor],
    prefix: str = "",
) -> None:
    """Put moments back so that training goes on as if it had not stopped."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        kind, _, name = key.partition("/")
        by_name.setdefault(name, {})[kind] = value
    held = {id(value) for group in optimizer.param_groups for value in group["params"]}
    for own_name, parameter in network.named_parameters():
        name = f"{prefix}{own_name}"
        if name in by_name and id(parameter) in held:
            optimizer.state[parameter] = {
                kind: value if kind == "step" else value.to(parameter.device)
                for kind, value in by_name[name].items()
            }


def _with_new_kinds(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Op kinds that came after a policy was trained look to it like custom ops."""
    rows = weights.get(_KINDS)
    if rows is None or rows.ndim != 2 or not OpKind.CUSTOM < len(rows) < len(OpKind):
        return weights
    new = rows[int(OpKind.CUSTOM)].expand(len(OpKind) - len(rows), -1)
    return {**weights, _KINDS: torch.cat([rows, new])}


def _columns(kinds: int = len(OpKind)) -> dict[str, Any]:
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


def _portable(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
