"""Where an episode of the environment stands, and the groups in which the policy decides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int32

from agent.policy.view import GroupedInstance, View, look
from envs.instance import Instance
from envs.rewards import Reward
from envs.rules import Progress, Rules, advance, previous_of, standing
from envs.rules import begin as begin_episode
from envs.scoring import Scores
from placement.placer import Candidate
from simulator.evaluation import Evaluation
from simulator.plan import Plan


@dataclass(frozen=True, eq=False)
class EpisodeState:
    """One step of an episode; all that happens to it is what `envs.rules` says."""

    subject: GroupedInstance
    rules: Rules
    progress: Progress

    @property
    def instance(self) -> Instance:
        return self.subject.instance

    @property
    def fresh(self) -> bool:
        """No plan has run: the policy sees none and decides for every op."""
        return self.progress.plan is None

    @property
    def plan(self) -> Plan:
        """The plan that ran last; before one has, the one that stands for what is not decided."""
        return self.progress.base if self.progress.plan is None else self.progress.plan

    @property
    def evaluation(self) -> Evaluation:
        """What came of the plan that ran last."""
        assert self.progress.evaluation is not None, "asked for what came of a plan before any ran"
        return self.progress.evaluation

    @property
    def energy(self) -> float:
        """Energy of the plan that ran last, or of the reference plan before one has run."""
        return self.instance.reference_energy if self.fresh else self.progress.energy

    @cached_property
    def standing(self) -> dict[str, Int32[np.ndarray, " ops"]]:
        """Device or level of each op, by task: what an action repeats that changes nothing."""
        return standing(self.progress, self.rules.tasks)

    def view(self, reads_trace: bool) -> View:
        """What the policy sees of it."""
        previous = previous_of(self.subject.prepared, self.progress)
        return look(self.subject, previous, reads_trace)

    def step(self, actions: Sequence[np.ndarray], reward: Reward) -> tuple[list[Progress], Scores]:
        """Take a step of the environment from here, once with each action.

        Raises:
            ActionError: an action that is not in the action space of this graph.
        """
        episodes = [self.progress] * len(actions)
        return advance(self.subject.prepared, self.rules, episodes, actions, reward)

    def at(self, progress: Progress) -> "EpisodeState":
        """The same episode elsewhere."""
        return replace(self, progress=progress)

    def candidate(self, origin: str) -> Candidate:
        """The plan that ran last, as placers return it."""
        return Candidate(self.plan, self.evaluation, origin)


def begin(subject: GroupedInstance, rules: Rules, start: str | Plan | None = None) -> EpisodeState:
    """The first state of an episode; see `envs.rules.begin` for where that is.

    Raises:
        EpisodeError: a start plan that has a unit where it may not be.
    """
    return EpisodeState(subject, rules, begin_episode(subject.prepared, rules, start))
