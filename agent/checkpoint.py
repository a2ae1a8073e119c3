"""Policies and training states on disk: safetensors for numbers, JSON for the rest, no pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from agent.config import AgentConfig
from agent.plain_values import from_plain, to_plain
from agent.policy.network import Policy
from envs.groups import GROUP_COLUMNS, GROUP_PAIR_COLUMNS
from envs.observation import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    LINK_COLUMNS,
    OP_COLUMNS,
)
from envs.tasks import LEVELS
from graphs.errors import GraphwrightError
from graphs.kinds import OpKind

#: Raised when the network or what it reads changes so that older numbers mean something else.
FORMAT = 1

_WEIGHTS, _META, _OPTIMIZER = "policy.safetensors", "policy.json", "optimizer.safetensors"


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
    """Write a folder; each file is complete or not there, and the description comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: _portable(value) for name, value in checkpoint.policy.state_dict().items()}
    _write(folder / _WEIGHTS, lambda path: save_file(weights, path))
    if checkpoint.optimizer is not None:
        state = {name: _portable(value) for name, value in checkpoint.optimizer.items()}
        _write(folder / _OPTIMIZER, lambda path: save_file(state, path))
    meta = {
        "format": FORMAT,
        "config": to_plain(checkpoint.config),
        "columns": _columns(),
        "about": dict(checkpoint.about),
    }
    _write(folder / _META, lambda path: Path(path).write_text(json.dumps(meta, indent=1) + "\n"))
    return folder


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a folder that `save_checkpoint` wrote.

    Raises:
        CheckpointError: no checkpoint there, a damaged one, or one of another version.
    """
    path = Path(folder)
    if not (path / _META).is_file():
        raise CheckpointError(
            f"{path}: no policy there; give a folder that holds {_META} and {_WEIGHTS}, such as "
            "the checkpoint of a run"
        )
    try:
        meta = json.loads((path / _META).read_text())
        weights = load_file(path / _WEIGHTS)
        optimizer = load_file(path / _OPTIMIZER) if (path / _OPTIMIZER).is_file() else None
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the policy cannot be read ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise CheckpointError(
            f"{path}: a policy of format {found}; this version reads format {FORMAT}: train it "
            "anew, or use the version that wrote it"
        )
    if meta.get("columns") != _columns():
        raise CheckpointError(
            f"{path}: the policy reads other features than this version makes; train it anew"
        )
    config = from_plain(AgentConfig, meta["config"])
    policy = Policy(config.policy)
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights and configuration disagree ({error})") from error
    return Checkpoint(policy, config, meta.get("about", {}), optimizer)


def optimizer_state(policy: Policy, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Adam's moments by parameter name."""
    state = {}
    for name, parameter in policy.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            state[f"{key}/{name}"] = value
    return state


def restore_optimizer(
    policy: Policy, optimizer: torch.optim.Adam, state: Mapping[str, Tensor]
) -> None:
    """Put moments back so that training goes on as if it had not stopped."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        kind, _, name = key.partition("/")
        by_name.setdefault(name, {})[kind] = value
    for name, parameter in policy.named_parameters():
        if name in by_name:
            optimizer.state[parameter] = {
                kind: value if kind == "step" else value.to(parameter.device)
                for kind, value in by_name[name].items()
            }


def _columns() -> dict[str, Any]:
    """What each number that a policy reads means."""
    return {
        "ops": list(OP_COLUMNS),
        "edges": list(EDGE_COLUMNS),
        "devices": list(DEVICE_COLUMNS),
        "links": list(LINK_COLUMNS),
        "graph": list(GRAPH_COLUMNS),
        "groups": list(GROUP_COLUMNS),
        "group_pairs": list(GROUP_PAIR_COLUMNS),
        "kinds": len(OpKind),
        "levels": LEVELS,
    }


def _portable(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


def _write(path: Path, write: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    write(part)
    part.replace(path)
