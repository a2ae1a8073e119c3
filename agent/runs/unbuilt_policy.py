"""A policy on disk of which a search needs only the small network: read without torch.

The large network, which is most of the weights, is built when it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32
from safetensors.numpy import load_file

from agent.config import AgentConfig
from agent.runs.policy_file import (
    UNREADABLE,
    WEIGHTS,
    CheckpointError,
    read_settings,
    stored_at,
    unreadable,
)
from placement.annealing.move_features import MOVE_COLUMNS
from placement.annealing.move_scorer import MoveScorer

if TYPE_CHECKING:
    from agent.policy.network import Policy

#: What the small network's weights are called, in the order of `MoveScorer`.
_NAMES = (
    "scale", "shift", "first.weight", "first.bias", "second.weight", "second.bias", "last.weight",
    "last.bias",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class StoredMoves:
    """The weights of a `MoveNetwork`, by name."""

    weights: Mapping[str, Float32[np.ndarray, "..."]]

    def as_scorer(self) -> MoveScorer:
        """What `MoveNetwork.as_scorer` makes of the same weights, to the last bit."""
        of = self.weights
        laid_out = (
            of["scale"], of["shift"], of["first.weight"].T, of["first.bias"],
            of["second.weight"].T, of["second.bias"], of["last.weight"][0], of["last.bias"],
        )  # fmt: skip
        widths = len(of["first.bias"]), len(of["second.bias"])
        return MoveScorer._make(
            [
                *(np.array(value, np.float32, order="C") for value in laid_out),
                *(np.zeros(width, np.float32) for width in widths),
            ]
        )


@dataclass(frozen=True, eq=False)
class UnbuiltPolicy:
    """A policy in a folder."""

    folder: Path
    config: AgentConfig
    moves: StoredMoves

    @cached_property
    def network(self) -> "Policy":
        """All of it.

        Raises:
            CheckpointError: the large network's weights do not fit the settings.
        """
        from agent.runs.checkpoint import load_checkpoint

        return load_checkpoint(self.folder).policy


def find_policy(folder: str | Path) -> UnbuiltPolicy:
    """Read the settings of a policy, and the weights of its small network.

    Raises:
        CheckpointError: no policy there, a damaged one, one of another version, or one whose
            weights are not finite, as a training that diverged leaves them.
    """
    path = stored_at(Path(folder))
    config = read_settings(path).config
    try:
        weights = load_file(path / WEIGHTS)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise CheckpointError(
                f"{path}: weights of {name:.80} are not finite: the training that made them "
                "diverged; take an earlier policy, or train with a lower learning rate"
            )
    first, second = config.policy.move_widths
    count = len(MOVE_COLUMNS)
    shapes = (
        (count,), (count,), (first, count), (first,), (second, first), (second,), (1, second), (1,),
    )  # fmt: skip
    for name, shape in zip(_NAMES, shapes, strict=True):
        if f"moves.{name}" not in weights or weights[f"moves.{name}"].shape != shape:
            raise CheckpointError(f"{path}: weights and configuration disagree about moves.{name}")
    moves = {name: weights[f"moves.{name}"] for name in _NAMES}
    return UnbuiltPolicy(path, config, StoredMoves(moves))
