"""Arrays of fixed size for agents that know nothing of graphs; for small graphs only."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float32

from envs.environment import GraphEnv
from envs.errors import EpisodeError
from envs.features.observation import (
    DEVICE_COLUMNS,
    GRAPH_COLUMNS,
    OP_COLUMNS,
    PAIR_COLUMNS,
    Observation,
)
from envs.tasks import LEVELS, Task

#: No feature comes near it.
_LARGEST = 100.0


class PaddedEnv(gymnasium.Wrapper[dict[str, Any], Any, dict[str, Any], Any]):
    """Observations are a dictionary of flat boxes, actions one `MultiDiscrete`.

    Ops and devices beyond those of the graph and cluster are zeros, and what is decided for them
    is not read. `ops` has a row per op: its columns, per device the pair columns, whether the
    device is legal and whether it was decided before, and last a one. Edges are left out: columns
    of ops hold what they add up to.
    """

    def __init__(
        self, env: gymnasium.Env[dict[str, Any], Any], max_ops: int = 64, max_devices: int = 4
    ) -> None:
        """Wrap an environment.

        Args:
            env: a `GraphEnv`, or wrappers around one.
            max_ops: of the largest graph.
            max_devices: of the largest cluster.

        Raises:
            EpisodeError: the environment has larger clusters, or its only graph is larger.
        """
        super().__init__(env)
        inner = env.unwrapped
        if not isinstance(inner, GraphEnv):
            raise EpisodeError(f"{type(inner).__name__}: give an environment of this package")
        self.graph_env = inner
        self.max_ops, self.max_devices = max_ops, max_devices
        if inner.episodes.max_devices > max_devices:
            raise EpisodeError(
                f"clusters of up to {inner.episodes.max_devices} devices for "
                f"max_devices={max_devices}; raise it"
            )
        if inner.episodes.only is not None:
            self._check_size(inner.episodes.only.graph.op_count)
        row = len(OP_COLUMNS) + max_devices * (len(PAIR_COLUMNS) + 2) + 1
        sizes = {
            "ops": max_ops * row,
            "devices": max_devices * len(DEVICE_COLUMNS),
            "global": len(GRAPH_COLUMNS) + len(Task) + 1,
        }
        self.observation_space = spaces.Dict(
            {
                name: spaces.Box(-_LARGEST, _LARGEST, (size,), np.float32)
                for name, size in sizes.items()
            }
        )
        widths = [max_devices if task is Task.PLACEMENT else LEVELS for task in inner.rules.tasks]
        self.action_space = spaces.MultiDiscrete(np.tile(widths, max_ops))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Raises:
            EpisodeError: a graph of more ops than there is room for.
        """
        sample, info = self.env.reset(seed=seed, options=options)
        return self._pad(sample), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Decide for the ops that there are."""
        ops = self.graph_env.observation.op_count
        tasks = len(self.graph_env.rules.tasks)
        chosen = np.asarray(action).reshape(self.max_ops, tasks)[:ops]
        inner = chosen[:, 0] if tasks == 1 else chosen
        sample, reward, terminated, truncated, info = self.env.step(inner)
        return self._pad(sample), reward, terminated, truncated, info

    def action_masks(self) -> Bool[np.ndarray, " choices"]:
        """Which choices are legal, one after the other, as maskable agents ask for them.

        Of padding only the first choice is.
        """
        seen = self.graph_env.observation
        parts = []
        for op in range(self.max_ops):
            for task in self.graph_env.rules.tasks:
                width = self.max_devices if task is Task.PLACEMENT else LEVELS
                mask = np.zeros(width, bool)
                if op >= seen.op_count:
                    mask[0] = True
                elif task is Task.PLACEMENT:
                    mask[: seen.device_count] = seen.legal[op]
                else:
                    mask[:] = True
                parts.append(mask)
        return np.concatenate(parts)

    def _pad(self, sample: dict[str, Any]) -> dict[str, Any]:
        seen = self.graph_env.observation
        self._check_size(seen.op_count)
        rows = self._rows(seen)
        ops = np.zeros((self.max_ops, rows.shape[1]), np.float32)
        ops[: seen.op_count] = rows
        devices = np.zeros((self.max_devices, len(DEVICE_COLUMNS)), np.float32)
        devices[: seen.device_count] = seen.devices
        left = sample["steps_left"] / self.graph_env.rules.length
        return {
            "ops": ops.ravel(),
            "devices": devices.ravel(),
            "global": np.concatenate([seen.graph, sample["tasks"], [left]]).astype(np.float32),
        }

    def _rows(self, seen: Observation) -> Float32[np.ndarray, "ops columns"]:
        before = seen.previous[:, :1] == np.arange(seen.device_count)
        of_pairs = np.concatenate(
            [seen.pairs, seen.legal[..., None], before[..., None]], axis=2, dtype=np.float32
        )
        missing = self.max_devices - seen.device_count
        of_pairs = np.pad(of_pairs, ((0, 0), (0, missing), (0, 0)))
        flat = of_pairs.reshape(seen.op_count, -1)
        ones = np.ones((seen.op_count, 1), np.float32)
        return np.concatenate([seen.ops, flat, ones], axis=1)

    def _check_size(self, ops: int) -> None:
        if ops > self.max_ops:
            raise EpisodeError(
                f"a graph of {ops} ops for max_ops={self.max_ops}; raise it, or use the "
                "environment as it is"
            )
