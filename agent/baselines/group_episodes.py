"""Episodes of published placers: devices of groups become plans by the environment's rules alone.

All that such a placer sees of its plans goes through here, so that the best of them, how many
there were and when each improvement came are counted in one place.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int32, Int64

from agent.baselines.group_graph import GroupGraph
from agent.baselines.tensorflow_default import first_accelerator
from envs.episodes import Prepared
from envs.instance import Instance
from envs.rewards import Reward
from envs.rules import Progress, Rules, advance, begin
from envs.tasks import Task
from placement.placer import Budget, Candidate, Placed
from placement.problem import Problem
from simulator.plan import Plan


class GroupEpisodes:
    """Steps of the environment, times relative to one device's; no heuristic runs.

    Args:
        problem: what is placed.
        groups: its groups.
        steps: of an episode.
        reward: of a step.
        name: what plans are said to come from.
        budget: told when improvements came.
    """

    def __init__(
        self,
        problem: Problem,
        groups: GroupGraph,
        steps: int,
        reward: Reward,
        name: str,
        budget: Budget,
    ) -> None:
        mark = Plan.of(first_accelerator(problem))
        self._prepared = Prepared(Instance(problem.graph.name, problem, given_mark=mark))
        self._rules = Rules((Task.PLACEMENT,), steps=steps)
        self._groups, self._reward, self._name, self._budget = groups, reward, name, budget
        self._best: Candidate | None = None
        self._progress: list[tuple[float, float]] = []
        self._evaluations = 0

    @property
    def evaluations(self) -> int:
        """Plans simulated so far."""
        return self._evaluations

    def begin(self, count: int) -> list[Progress]:
        """So many episodes in which nothing is decided yet."""
        return [begin(self._prepared, self._rules)] * count

    def step(
        self, progress: Sequence[Progress], devices: Int64[np.ndarray, "episodes groups"]
    ) -> tuple[list[Progress], Float64[np.ndarray, " episodes"]]:
        """Where the episodes stand with these devices of groups, and what that is worth.

        An action that repeats the decision before changes nothing: it is worth nothing, and not
        simulated again.
        """
        actions = [self._action(each) for each in devices]
        new = [
            index
            for index, (before, action) in enumerate(zip(progress, actions, strict=True))
            if before.decided.devices is None or not np.array_equal(before.decided.devices, action)
        ]
        after, rewards = list(progress), np.zeros(len(actions))
        if not new:
            return after, rewards
        moved, scores = advance(
            self._prepared,
            self._rules,
            [progress[index] for index in new],
            [actions[index] for index in new],
            self._reward,
        )
        assert all(plan is not None for plan in scores.plans), "only legal devices are taken"
        for index, now in zip(new, moved, strict=True):
            after[index] = now
        rewards[new] = scores.rewards
        self._evaluations += len(new)
        self._note(moved[int(np.argmin(scores.energies))])
        return after, rewards

    def placed(self) -> Placed:
        """The best plan seen."""
        assert self._best is not None, "asked for the best plan before any ran"
        best = self._best
        return Placed(best, (best,), tuple(self._progress), self._evaluations)

    def _note(self, found: Progress) -> None:
        assert found.plan is not None, "a legal plan runs"
        assert found.evaluation is not None, "a plan that ran was scored"
        candidate = Candidate(found.plan, found.evaluation, f"{self._name}:{self._evaluations}")
        if self._best is None or candidate.rank_key < self._best.rank_key:
            self._best = candidate
            self._progress.append(
                (self._budget.spent_seconds, candidate.evaluation.makespan_seconds)
            )

    def _action(self, devices: Int64[np.ndarray, " groups"]) -> Int32[np.ndarray, " ops"]:
        return devices[self._groups.of_op].astype(np.int32)
