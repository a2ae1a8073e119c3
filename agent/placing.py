"""A trained policy as a placer: the portfolio first, then passes of the policy on the best plan."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from agent.config import AgentConfig
from agent.guided_search import Guided, guided_search
from agent.improving import draw_pass, learn
from agent.policy.network import Policy
from agent.policy.view import make_subject
from agent.ppo import Update
from agent.state import State, begin, decided_plan
from envs.instance import Instance
from placement.placer import Budget, Candidate, Placed, Report
from placement.problem import Problem
from simulator.evaluation import Evaluation
from simulator.plan import Plan

#: So many passes are no limit.
_ENDLESS = 1_000_000

#: Evaluations that follow each pass where passes are limited rather than the budget.
_EVALUATIONS_PER_PASS = 200

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

    max_passes: int = _ENDLESS
    """Passes at most, also where the budget allows more."""
    max_updates: int = 0
    """PPO updates on this graph: none is zero-shot."""
    lr: float | None = None
    """Of these updates; None takes the policy's own."""


class _Found:
    """The best plan of a run so far; the only thing in this module that changes."""

    def __init__(self, start: Candidate, budget: Budget, state: State) -> None:
        self.best = start
        self.budget = budget
        self.state = state
        self.progress = [(budget.spent_seconds, _seconds(start))]
        self.evaluations = 0

    def offer(self, plan: Plan, evaluation: Evaluation, name: str) -> None:
        """Keep a plan if it is better than the best."""
        candidate = Candidate(plan, evaluation, name)
        if candidate.rank_key < self.best.rank_key:
            self.best = candidate
            self.progress.append((self.budget.spent_seconds, _seconds(candidate)))


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
        found = _Found(start, budget, state)
        guided = self.config.guides_search
        passes = min(self.effort.max_passes, self.effort.max_updates) if guided else None
        self._by_passes(policy, optimizer, found, seed, report, passes)
        if guided and self.effort.max_passes > self.effort.max_updates:
            self._by_search(policy, found, seed, report)
        self.hand_over(policy)
        evaluations = len(instance.heuristic_plans) + found.evaluations
        compared = (*instance.heuristic_plans, found.best)
        return Placed(found.best, compared, tuple(found.progress), evaluations)

    def _by_passes(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        found: "_Found",
        seed: int,
        report: Report,
        passes: int | None,
    ) -> None:
        """Samples of whole plans or moves, the best of each pass kept; learning from them first."""
        limit = self.effort.max_passes if passes is None else passes
        for number in range(limit):
            if found.budget.is_spent:
                return
            rng = np.random.default_rng([seed, number])
            passed = draw_pass(policy, self.config, [found.state], [rng], self.device)
            update = None
            if number < self.effort.max_updates:
                share = number / self.effort.max_updates
                update = learn(policy, optimizer, self.config, passed, share)
            found.evaluations += self.config.sample.samples
            found.state = passed.best[0]
            found.offer(found.state.plan, found.state.evaluation, self.name)
            self.watch(number + 1, found.state, update)
            report(max(found.budget.spent_seconds / found.budget.cpu_seconds, number / limit))

    def _by_search(self, policy: Policy, found: "_Found", seed: int, report: Report) -> None:
        """Search that the policy guides, with what is left of the budget."""
        before = found.evaluations
        state = found.state
        limit = self.effort.max_passes
        left = None if limit >= _ENDLESS else limit - self.effort.max_updates

        def on_pass(guided: Guided) -> None:
            found.evaluations = before + guided.chain.evaluations
            reached = decided_plan(state, guided.best_plan)
            found.offer(reached.plan, reached.evaluation, self.name)
            self.watch(self.effort.max_updates + guided.passes, reached, None)
            report(min(found.budget.spent_seconds / found.budget.cpu_seconds, 1.0))

        guided_search(
            policy, state, found.budget, seed, self.config, on_pass, left, _EVALUATIONS_PER_PASS
        )

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
