"""A trained policy as a placer: the portfolio first, then whole plans, then guided search.

Whole plans come from the list decoder, with nothing learned, which is as good a start as what was
learned; a policy without a starter has passes of the large network instead.

A policy that decides more than devices, or every op anew, or that was trained for throughput, makes
proposals until the end. Evaluations are periods then (`envs.overlapping.OverlapEvaluator`).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from agent.config import AgentConfig
from agent.decoding.placer import UNTAUGHT, OneShotPlacer
from agent.placing.guided_search import Guided, guided_search
from agent.policy.state import EpisodeState, begin
from agent.policy.view import group_instance
from agent.runs.unbuilt_policy import UnbuiltPolicy
from envs.episodes import Prepared
from envs.instance import Instance
from placement.placer import (
    Budget,
    Candidate,
    OnProgress,
    Placed,
    Placer,
    Stage,
    WallBudget,
    silent,
)
from placement.problem import Problem

if TYPE_CHECKING:
    from agent.learning.improving import Pass
    from agent.policy.network import Policy

#: So many passes or steps are no limit.
_ENDLESS = 1_000_000

#: At most so many proposals come before a guided search.
_PROPOSALS = 8

#: At most about this share of the budget goes into plans of the starter.
_STARTER_SHARE = 0.15

#: About what a pass of the large network takes: with less time left it is not begun.
_PASS_SECONDS_PER_OP = 5e-5

#: Steps of a search between updates; fifty updates take most of a search that has a budget.
_STEPS_PER_UPDATE = 4

#: Evaluations of each step where steps are limited rather than the budget.
_EVALUATIONS_PER_STEP = 200

#: Told after each pass: its number, the best state, and figures of the update if there was one.
Watch = Callable[[int, EpisodeState, Mapping[str, float] | None], None]


def _watch_nothing(_number: int, _state: EpisodeState, _update: Mapping[str, float] | None) -> None:
    """A `Watch` that does nothing."""


#: Told a policy that nobody else holds.
HandOver = Callable[["Policy"], None]


def _kept(_policy: "Policy") -> None:
    """A `HandOver` to nobody."""


@dataclass(frozen=True)
class Effort:
    """How a policy is used on one graph."""

    max_passes: int = _ENDLESS
    """Passes of the large network at most, also where the budget allows more."""
    max_steps: int = _ENDLESS
    """Steps of a guided search at most, also where the budget allows more."""
    max_updates: int = 0
    """Updates of the policy on this graph; none is zero-shot."""
    lr: float | None = None
    """Learning rate of these updates; None takes the policy's own, or in a search a tenth."""


class _Found:
    """The best plan of a run so far; the only thing in this module that changes."""

    def __init__(self, start: Candidate, budget: Budget, state: EpisodeState) -> None:
        self.best = start
        self.budget = budget
        self.state = state
        self.progress = [(budget.spent_seconds, _seconds(start))]
        self.evaluations = 0
        self.stages = [Stage("heuristics", budget.spent_seconds, _seconds(start))]

    def end_stage(self, name: str) -> None:
        """What was spent since the last stage belongs to this one."""
        before = sum(stage.cpu_seconds for stage in self.stages)
        spent = self.budget.spent_seconds - before
        self.stages.append(Stage(name, spent, _seconds(self.best)))

    def offer(self, candidate: Candidate) -> None:
        """Keep a plan if it is better than the best."""
        if candidate.rank_key < self.best.rank_key:
            self.best = candidate
            self.progress.append((self.budget.spent_seconds, _seconds(candidate)))


@dataclass(frozen=True, eq=False)
class PolicyPlacer:
    """A `Placer` that never ends below the portfolio.

    The policy itself is not changed: fine-tuning works on a copy.
    """

    policy: "Policy | UnbuiltPolicy"
    """One that is not built yet is built where more than its small network is needed."""
    config: AgentConfig
    effort: Effort = Effort()
    name: str = "policy"
    device: str = "cpu"
    watch: Watch = _watch_nothing
    starter: Placer | None = None
    """Makes a plan that a guided search may begin at, in place of the large network's proposals; in
    a share of the budget."""
    hand_over: HandOver = _kept
    """Told the policy as it is after the last pass: the fine-tuned one, where it was."""

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Improve the portfolio's plan until the budget or the passes are spent."""
        instance = Instance(
            problem.graph.name, problem, seed=seed, budget=budget, overlap=self.config.overlap
        )
        start = instance.portfolio
        if problem.cluster.device_count == 1 and self.config.policy.tasks == ("placement",):
            return Placed(start, (start,), ((budget.spent_seconds, _seconds(start)),))
        subject = group_instance(Prepared(instance), self.config.episode.group_sizes, seed)
        state = begin(subject, replace(self.config.rules, steps=max(self.effort.max_passes, 1)))
        progress = _Found(start, budget, state)
        learns = self.effort.max_updates > 0
        policy = None if self._reads_moves_alone else self._own_policy()
        if self.config.guides_search and not learns and problem.leaves_nothing(start.evaluation):
            return Placed(
                start, tuple(instance.heuristic_plans), tuple(progress.progress),
                len(instance.heuristic_plans), tuple(progress.stages),
            )  # fmt: skip
        if self.config.guides_search:
            if policy is not None and self.starter is None:
                self._propose(policy, progress, seed, on_progress)
                progress.end_stage("proposals")
            else:
                self._start_elsewhere(progress, seed)
                progress.end_stage("decoder's plans")
            self._search(policy or self.policy, progress, seed, on_progress)
            progress.end_stage("guided search")
        else:
            assert policy is not None, "passes are of the large network"
            self._pass(policy, progress, seed, on_progress)
            progress.end_stage("passes")
        if policy is not None:
            self.hand_over(policy)
        return Placed(
            progress.best,
            (*instance.heuristic_plans, progress.best),
            tuple(progress.progress),
            len(instance.heuristic_plans) + progress.evaluations,
            tuple(progress.stages),
        )

    def start_elsewhere(self, problem: Problem, budget: Budget, seed: int) -> Placed | None:
        """The starter's plans, in a share of the budget; None without one, or with nothing left."""
        share = min(_STARTER_SHARE * budget.cpu_seconds, budget.left_seconds)
        if self.starter is None or share <= 0:
            return None
        part = WallBudget(share) if budget.by_the_clock else Budget(share)
        return self.starter(problem, part, seed, silent)

    def _start_elsewhere(self, found: "_Found", seed: int) -> None:
        """The starter's plan, if it is better than the best so far."""
        placed = self.start_elsewhere(found.state.instance.problem, found.budget, seed)
        if placed is not None:
            found.evaluations += placed.evaluations
            found.offer(placed.best)

    def _propose(
        self, policy: "Policy", found: "_Found", seed: int, on_progress: OnProgress
    ) -> None:
        """A few passes of the large network, for as long as they bring something."""
        if self.effort.max_passes < _ENDLESS:
            wanted, until = 1, np.inf
        else:
            share = self.config.guide.proposals_share
            wanted, until = _PROPOSALS, share * found.budget.cpu_seconds
        begun = found.budget.spent_seconds
        ops = found.state.instance.problem.graph.op_count
        if found.budget.left_seconds < ops * _PASS_SECONDS_PER_OP:
            return
        for number in range(wanted):
            before, best = found.budget.spent_seconds, found.best
            self._one_pass(policy, found, seed, number)
            took = found.budget.spent_seconds - before
            on_progress(min(found.budget.spent_seconds / found.budget.cpu_seconds, 1.0))
            if found.best is best or found.budget.spent_seconds + took - begun > until:
                return

    def _pass(self, policy: "Policy", found: "_Found", seed: int, on_progress: OnProgress) -> None:
        """Samples of whole plans or moves, the best of each pass kept; learning from them first."""
        import torch

        from agent.learning.improving import learn

        optimizer = torch.optim.Adam(policy.parameters(), lr=self.effort.lr or self.config.ppo.lr)
        limit = self.effort.max_passes
        for number in range(limit):
            if found.budget.is_spent:
                return
            update = None
            passed = self._one_pass(policy, found, seed, number)
            if number < self.effort.max_updates:
                share = number / self.effort.max_updates
                update = asdict(learn(policy, optimizer, self.config, passed, share))
            self.watch(number + 1, found.state, update)
            on_progress(max(found.budget.spent_seconds / found.budget.cpu_seconds, number / limit))

    def _one_pass(self, policy: "Policy", found: "_Found", seed: int, number: int) -> "Pass":
        from agent.learning.improving import draw_pass

        rng = np.random.default_rng([seed, number])
        passed = draw_pass(policy, self.config, [found.state], [rng], self.device)
        found.evaluations += self.config.sample.samples
        found.state = passed.best[0]
        if not found.state.fresh:
            found.offer(found.state.candidate(self.name))
        return passed

    def _search(
        self,
        policy: "Policy | UnbuiltPolicy",
        found: "_Found",
        seed: int,
        on_progress: OnProgress,
    ) -> None:
        """Search that the policy guides, with what is left of the budget."""
        before, limit = found.evaluations, self.effort.max_steps
        subject, rules = found.state.subject, found.state.rules
        state = begin(subject, rules, found.best.plan)
        updates: list[Mapping[str, float]] = []
        tuner = None
        if self.effort.max_updates:
            from agent.learning.move_tuning import MoveTuner

            assert not isinstance(policy, UnbuiltPolicy), "learning changes a network's own copy"
            lr = self.effort.lr or self.config.moves.lr / 10
            tuner = MoveTuner(
                policy.moves,
                self.config.moves,
                self.effort.max_updates,
                lr,
                seed,
                updates.append,
                every=max(1, min(_STEPS_PER_UPDATE, limit // self.effort.max_updates)),
                device=self.device,
            )
        told = 0

        def on_pass(guided: Guided) -> None:
            nonlocal told
            found.evaluations = before + guided.evaluations
            reached = begin(subject, rules, guided.best_plan)
            found.offer(reached.candidate(self.name))
            self.watch(guided.steps, reached, updates[-1] if len(updates) > told else None)
            told = len(updates)
            on_progress(min(found.budget.spent_seconds / found.budget.cpu_seconds, 1.0))

        guided_search(
            policy,
            state,
            found.budget,
            seed,
            self.config,
            on_pass,
            None if limit >= _ENDLESS else limit,
            _EVALUATIONS_PER_STEP,
            tuner,
        )

    def fine_tuned(self, updates: int, lr: float | None = None) -> "PolicyPlacer":
        """The same policy, learning on the graph that it is given."""
        effort = replace(self.effort, max_updates=updates, lr=lr)
        return replace(self, effort=effort, name=f"{self.name}-fine-tuned")

    @property
    def network(self) -> "Policy":
        """The policy, built.

        Raises:
            CheckpointError: weights of one that was not built yet do not fit its settings.
        """
        return self.policy.network if isinstance(self.policy, UnbuiltPolicy) else self.policy

    @property
    def _reads_moves_alone(self) -> bool:
        """Whether of the policy no more than the small network is read, and nothing is changed."""
        guides = self.config.guides_search and self.starter is not None
        return guides and self.effort.max_updates == 0 and self.hand_over is _kept

    def _own_policy(self) -> "Policy":
        from agent.policy.network import Policy

        own = Policy(self.config.policy)
        own.load_state_dict(self.network.state_dict())
        return own.to(self.device)


def untrained_placer(config: AgentConfig, seed: int, name: str = "untrained") -> PolicyPlacer:
    """The same loop with a network that has learned nothing: the control of every table."""
    import torch

    from agent.policy.network import Policy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return with_starter(PolicyPlacer(Policy(config.policy), config, name=name))


def with_starter(placer: PolicyPlacer) -> PolicyPlacer:
    """The same with the untaught decoder's plans to begin at, in place of proposals.

    The one-shot policy's plans and the large network's proposals are no better starts
    (`benchmarks/results/one_shot_start.md`).
    """
    return replace(placer, starter=OneShotPlacer(None, name=UNTAUGHT))


def _seconds(candidate: Candidate) -> float:
    return candidate.evaluation.makespan_seconds
