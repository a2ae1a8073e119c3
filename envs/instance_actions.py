"""The action space where graphs differ in size: samples follow the episode's instance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Int64

from envs.tasks import LEVELS, Task
from placement.problem import Problem


class InstanceActions(spaces.Sequence):
    """Actions of any length, of which `sample` draws one for the graph at hand.

    As a set it does not change: it holds the actions of every graph. Samples have a row for each op
    of the graph that the last `reset` drew, and legal devices alone. Before a reset, with a mask or
    with probabilities they are those of Gymnasium's `Sequence`. A sample is of its episode's graph:
    an environment refuses it after a reset that drew a graph of another size.
    """

    def __init__(self, tasks: Sequence[Task], devices: int) -> None:
        """Make the space.

        Args:
            tasks: what is decided, in the order of the columns.
            devices: how many devices the largest cluster has.
        """
        widths = [devices if task is Task.PLACEMENT else LEVELS for task in tasks]
        row = spaces.Discrete(widths[0]) if len(widths) == 1 else spaces.MultiDiscrete(widths)
        super().__init__(row, stack=True)
        self.tasks = tuple(tasks)
        self._legal: Bool[np.ndarray, "ops devices"] | None = None

    def follow(self, problem: Problem) -> None:
        """Draw for this problem from now on."""
        self._legal = problem.unit_allowed[problem.unit_of]

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        """An action for the graph at hand, all legal choices of an op equally likely."""
        if self._legal is None or mask is not None or probability is not None:
            return super().sample(mask=mask, probability=probability)
        columns = [self._column(task, self._legal) for task in self.tasks]
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)

    def _column(
        self, task: Task, legal: Bool[np.ndarray, "ops devices"]
    ) -> Int64[np.ndarray, " ops"]:
        if task is not Task.PLACEMENT:
            return self.np_random.integers(LEVELS, size=len(legal))
        return np.where(legal, self.np_random.random(legal.shape), -1.0).argmax(axis=1)
