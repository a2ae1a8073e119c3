"""The policy as a placer on several cores: as `policy`, with chains that share their best."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.placing.policy_placer import PolicyPlacer
from agent.placing.shared_guided_search import SharedGuidedSearch
from agent.policy.view import group_instance
from envs.episodes import Prepared
from envs.instance import Instance
from graphs.errors import GraphwrightError
from placement.annealing.anneal import Chain
from placement.chains.chain_team import ChainTeam, process_team
from placement.placer import Budget, OnProgress, Placed, Stage
from placement.placers.shared_search import BestOfChains, MakeTeam
from placement.problem import Problem


@dataclass(frozen=True, eq=False)
class SharedPolicyPlacer:
    """A `Placer` that never ends below the portfolio."""

    placer: PolicyPlacer
    """What it does with one chain at a time; no updates on the graph."""
    jobs: int
    """Chains at once, each in a process of its own."""
    max_rounds: int | None = None
    """With a limit the result does not depend on the budget, as long as it lasts."""
    moves: int = 50
    """With a limit, tries of each chain in a round."""
    make_team: MakeTeam = process_team

    def __post_init__(self) -> None:
        if not self.placer.config.guides_search or self.placer.effort.max_updates:
            raise GraphwrightError(
                "--jobs is for policies that guide a search, without updates on the graph; this "
                "one draws whole plans, or learns as it goes on: leave out --jobs"
            )

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """The portfolio, the starter's plans, then guided search by all chains.

        A budget of CPU seconds is for all processes together; starting them does not count.

        Raises:
            InfeasibleError: constraints leave some op no device.
            TeamError: a process was lost.
        """
        if problem.cluster.device_count == 1:
            return self.placer(problem, budget, seed, on_progress)
        with self.make_team(problem, self.jobs) as team:
            return self._place(problem, budget, seed, on_progress, team)

    def _place(
        self,
        problem: Problem,
        budget: Budget,
        seed: int,
        on_progress: OnProgress,
        team: ChainTeam,
    ) -> Placed:
        placer = self.placer
        instance = Instance(problem.graph.name, problem, seed=seed, budget=budget)
        start = instance.portfolio
        heuristics = tuple(instance.heuristic_plans)
        stages = [Stage("heuristics", budget.spent_seconds, start.evaluation.makespan_seconds)]
        progress = [(budget.spent_seconds, start.evaluation.makespan_seconds)]
        evaluations = len(heuristics)
        if problem.leaves_nothing(start.evaluation):
            return Placed(start, heuristics, tuple(progress), evaluations, tuple(stages))
        before = budget.spent_seconds
        if placer.starter is not None:
            placed = placer.start_elsewhere(problem, budget, seed)
            if placed is not None:
                evaluations += placed.evaluations
                start = min(start, placed.best, key=lambda item: item.rank_key)
        seconds = start.evaluation.makespan_seconds
        stages.append(Stage("decoder's plans", budget.spent_seconds - before, seconds))
        subject = group_instance(Prepared(instance), placer.config.episode.group_sizes, seed)
        found = BestOfChains(problem, start, placer.name)
        before = budget.spent_seconds

        def on_round(chains: Sequence[Chain]) -> None:
            spent = budget.spent_seconds
            spent += 0.0 if budget.by_the_clock else team.cpu_seconds
            if found.offer(chains):
                progress.append((spent, found.best.evaluation.makespan_seconds))
            on_progress(min(spent / budget.cpu_seconds, 1.0))

        search = SharedGuidedSearch(
            problem, subject.groups.hierarchy, placer.policy.moves.as_scorer(),
            placer.config.guide, team, start.plan, seed, on_round,
        )  # fmt: skip
        search.run(budget, self.max_rounds, self.moves)
        spent = budget.spent_seconds - before
        spent += 0.0 if budget.by_the_clock else team.cpu_seconds
        seconds = found.best.evaluation.makespan_seconds
        stages.append(Stage("guided search", spent, seconds))
        return Placed(
            found.best, (*heuristics, found.best), tuple(progress),
            evaluations + search.evaluations, tuple(stages), team.cpu_seconds,
        )  # fmt: skip
