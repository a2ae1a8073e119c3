"""A trained policy as a placer: the portfolio first, then passes of the policy on the best plan."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from agent.config import AgentConfig
from agent.improving import draw_pass, learn
from agent.policy.network import Policy
from agent.policy.view import make_subject
from agent.ppo import Update
from agent.state import State, begin
from envs.instance import Instance
from placement.placer import Budget, Candidate, Placed, Report
from placement.problem import Problem

#: Told after each pass: its number, the best state, and the update if there was one.
Watch = Callable[[int, State, Update | None], None]


def _unwatched(_number: int, _state: State, _update: Update | None) -> None:
    """A `Watch` that does nothing."""


#: Told a policy that nobody else holds.
HandOver = Callable[[Policy], None]


def _kept(_policy: Policy) -> None:
    """A `HandOver` to nobody."""


@dataclass(frozen=True)
class Effort:
    """How a policy is used on one graph."""

    max_passes: int = 1_000_000
    """Passes at most, also where the budget allows more."""
    max_updates: int = 0
    """PPO updates on this graph: none is zero-shot."""
    lr: float | None = None
    """Of these updates; None takes the policy's own."""
    patience: int = 1_000_000
    """Passes without improvement after which to stop."""


@dataclass(frozen=True, eq=False)
class PolicyPlacer:
    """A `Placer` that never ends below the portfolio.

    The policy itself is not changed: fine-tuning works on a copy.
    """

    policy: Policy
    config: AgentConfig
    effort: Effort = Effort()
    name: str = "policy"
    device: str = "cpu"
    watch: Watch = _unwatched
    hand_over: HandOver = _kept
    """Told the policy as it is after the last pass: the fine-tuned one, where it was."""

    def __call__(self, problem: Problem, budget: Budget, seed: int, report: Report) -> Placed:
        """Improve the portfolio's plan until the budget or the passes are spent."""
        instance = Instance(problem.graph.name, problem, seed=seed)
        start = instance.portfolio
        if problem.cluster.device_count == 1 and self.config.policy.tasks == ("placement",):
            return Placed(start, (start,), ((budget.spent_seconds, _seconds(start)),))
        policy = self._own_policy()
        optimizer = torch.optim.Adam(policy.parameters(), lr=self.effort.lr or self.config.ppo.lr)
        subject = make_subject(instance, self.config.episode.group_sizes, seed)
        state = begin(
            subject, start.plan, self.config.policy.tasks, self.config.episode.from_scratch
        )
        best = start
        progress = [(budget.spent_seconds, _seconds(start))]
        evaluations, last_better = len(instance.heuristic_plans), 0
        for number in range(self.effort.max_passes):
            if budget.is_spent or number - last_better >= self.effort.patience:
                break
            rng = np.random.default_rng([seed, number])
            passed = draw_pass(policy, self.config, [state], [rng], self.device)
            update = None
            if number < self.effort.max_updates:
                share = number / self.effort.max_updates
                update = learn(policy, optimizer, self.config, passed, share)
            evaluations += self.config.sample.samples
            state = passed.best[0]
            found = Candidate(state.plan, state.evaluation, f"{self.name}:{number + 1}")
            if found.rank_key < best.rank_key:
                best, last_better = found, number
                progress.append((budget.spent_seconds, _seconds(found)))
            self.watch(number + 1, state, update)
            report(max(budget.spent_seconds / budget.cpu_seconds, number / self.effort.max_passes))
        self.hand_over(policy)
        return Placed(best, (start, best), tuple(progress), evaluations)

    def fine_tuned(self, updates: int, lr: float | None = None) -> "PolicyPlacer":
        """The same policy, learning on the graph that it is given."""
        effort = replace(self.effort, max_updates=updates, lr=lr)
        return replace(self, effort=effort, name=f"{self.name}-fine-tuned")

    def _own_policy(self) -> Policy:
        own = Policy(self.config.policy)
        own.load_state_dict(self.policy.state_dict())
        return own.to(self.device)


def untrained(config: AgentConfig, seed: int, name: str = "untrained") -> PolicyPlacer:
    """The same loop with a network that has learned nothing: the control of every table."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PolicyPlacer(Policy(config.policy), config, name=name)


def _seconds(candidate: Candidate) -> float:
    return candidate.evaluation.makespan_seconds
