"""Policies and training states on disk: safetensors for numbers, JSON for the rest, no pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agent.config import AgentConfig
from agent.policy.network import Policy
from agent.runs.plain_values import to_plain
from agent.runs.policy_file import (
    FORMAT,
    META,
    OPTIMIZER,
    UNREADABLE,
    WEIGHTS,
    CheckpointError,
    columns,
    old_of,
    read_settings,
    stored_at,
    unreadable,
)
from agent.runs.stored_policy import network_of, require_finite
from graphs.errors import GraphwrightError
from graphs.kinds import OpKind
from graphs.whole_files import whole_folder, write_whole

#: The parameter with a row for each op kind.
_KINDS = "encoder.kind.weight"

_OWN = {WEIGHTS, META, OPTIMIZER}


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
        GraphwrightError: weights are not finite.
    """
    if folder.exists() and not (folder.is_dir() and _names(folder) <= _OWN):
        raise CheckpointError(f"{folder} is there already and holds other things than a policy")
    meta = {
        "format": FORMAT,
        "config": to_plain(checkpoint.config),
        "columns": columns(),
        "about": dict(checkpoint.about),
    }
    require_finite(checkpoint.policy.state_dict())
    with whole_folder(folder, old_of(folder)) as part:
        weights = {name: _portable(value) for name, value in checkpoint.policy.state_dict().items()}
        save_file(weights, part / WEIGHTS)
        if checkpoint.optimizer is not None:
            state = {name: _portable(value) for name, value in checkpoint.optimizer.items()}
            save_file(state, part / OPTIMIZER)
        write_whole(part / META, json.dumps(meta, indent=1) + "\n")
    return folder


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a folder that `save_checkpoint` wrote.

    Raises:
        CheckpointError: no checkpoint there, a damaged one, or one of another version.
    """
    path = stored_at(Path(folder))
    settings = read_settings(path)
    config = settings.config
    try:
        weights = load_file(path / WEIGHTS)
        optimizer = load_file(path / OPTIMIZER) if (path / OPTIMIZER).is_file() else None
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    try:
        policy = network_of(lambda: Policy(config.policy), _with_new_kinds(weights))
    except GraphwrightError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Checkpoint(policy, config, settings.about, optimizer)


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


def _portable(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
