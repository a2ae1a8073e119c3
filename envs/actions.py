"""Actions: one choice per op, for one task or for several."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Int32

from envs.decision import Decision
from envs.errors import ActionError
from envs.instance_actions import InstanceActions
from envs.tasks import LEVELS, Task


def action_space(tasks: Sequence[Task], ops: int | None, devices: int) -> spaces.Space[Any]:
    """The space of whole-graph actions: choices per op, in columns where there are several tasks.

    Args:
        tasks: what is decided, in the order of the columns.
        ops: how many ops every graph has; None where graphs differ.
        devices: how many devices the largest cluster has.
    """
    if ops is None:
        return InstanceActions(tasks, devices)
    widths = [devices if task is Task.PLACEMENT else LEVELS for task in tasks]
    if len(widths) == 1:
        return spaces.MultiDiscrete(np.full(ops, widths[0]))
    return spaces.MultiDiscrete(np.tile(widths, (ops, 1)))


def decision_of(action: Any, tasks: Sequence[Task], decided: Sequence[Task], ops: int) -> Decision:
    """The columns of an action that are decided in this step.

    Raises:
        ActionError: another shape than one choice per op and task, or no integers.
    """
    choices = np.asarray(action)
    expected = (ops,) if len(tasks) == 1 else (ops, len(tasks))
    if choices.shape != expected:
        raise ActionError(
            f"an action of shape {choices.shape}; the graph has {ops} ops and the action decides "
            f"{' and '.join(tasks)}: give shape {expected}"
        )
    if not np.issubdtype(choices.dtype, np.integer):
        raise ActionError(f"an action of {choices.dtype}; give integers, one choice per op")
    limits = np.iinfo(np.int32)
    table = np.clip(choices, limits.min, limits.max).astype(np.int32).reshape(ops, len(tasks))
    column = {task: table[:, tasks.index(task)].copy() for task in decided}
    return Decision.of(column)


def action_of(
    choices: Mapping[str, Int32[np.ndarray, " ops"]], tasks: Sequence[Task]
) -> Int32[np.ndarray, "ops *tasks"]:
    """The action that makes these choices, the reverse of `decision_of`; zeros for other tasks."""
    ops = len(next(iter(choices.values())))
    columns = [choices.get(task, np.zeros(ops, np.int32)) for task in tasks]
    return columns[0] if len(tasks) == 1 else np.stack(columns, axis=1)


def merge_decisions(before: Decision, now: Decision) -> Decision:
    """What is decided now, and of the rest what was decided before."""
    return Decision.of({**before.by_task, **now.by_task})
