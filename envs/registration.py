"""Gymnasium ids."""

from collections.abc import Mapping
from typing import Any

import gymnasium

from envs.tasks import Task

#: Each id with its settings; see `GraphEnv`.
IDS: Mapping[str, Mapping[str, Any]] = {
    "graphwright/Placement-v0": {"tasks": (Task.PLACEMENT,)},
    "graphwright/Scheduling-v0": {"tasks": (Task.SCHEDULING,)},
    "graphwright/Fusion-v0": {"tasks": (Task.FUSION,)},
    "graphwright/Joint-v0": {"tasks": tuple(Task), "staged": True},
}

#: Ids of small problems whose best plan is known, each with the problem's name in `KNOWN_OPTIMA`.
KNOWN_IDS: Mapping[str, str] = {
    f"graphwright/{name}-v0": name
    for name in ("TwoChains", "ForkJoin", "ForcedSplit", "OneRightOrder", "ElementwiseChain")
}


def register() -> None:
    """Make the ids known to Gymnasium; again is as good as once.

    Gymnasium's checker is off: looking at every op of a graph of thousands takes seconds.
    """
    for name, settings in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="envs.environment:GraphEnv",
                vector_entry_point="envs.vector:BatchedEnv",
                kwargs=dict(settings),
                disable_env_checker=True,
            )
    for name, known in KNOWN_IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="envs.known_optima:make_known",
                vector_entry_point="envs.known_optima:make_known_batch",
                kwargs={"known": known},
                disable_env_checker=True,
            )
