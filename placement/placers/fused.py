"""Placement of kernels: what a good placement leaves together is fused, then kernels are placed.

A search over kernels sees what a step costs once it is fused, instead of being fused afterwards.
Kernels are those of XLA's instruction fusion (`simulator.fusion`) under the portfolio's placement,
which is where the search begins. A search that spends its budget leaves the last part to moves of
kernels: ops are fused and taken out while groups go on moving (`placement.annealing.fusing`).
"""

from dataclasses import dataclass, replace

from placement.annealing.fusing.fused_problem import FusedProblem, fuse_problem
from placement.annealing.fusing.joint_search import joint_search
from placement.annealing.fusing.kernel_program import can_rebuild
from placement.placer import Budget, Candidate, OnProgress, Placed, Placer, Stage
from placement.placers.portfolio import portfolio
from placement.problem import Problem

#: Of the budget, what the placer has; kernels are moved in the rest.
PLACER_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class FusedPlacer:
    """A placer of kernels in place of ops: never worse than the portfolio's plan."""

    placer: Placer
    moves_kernels: bool = True
    """Whether kernels change after the placer has spent its share of the budget. They do where
    costs are the roofline's; one that ends before keeps the kernels of the beginning."""

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Fuse, then let the placer decide for kernels, then move kernels.

        Raises:
            InfeasibleError: constraints leave some op no device.
        """
        moves = self.moves_kernels and can_rebuild(problem) and problem.cluster.device_count > 1
        share = PLACER_SHARE if moves else 1.0
        of_placer = replace(budget, cpu_seconds=share * budget.cpu_seconds)
        floor = portfolio(problem, budget, seed, on_progress)
        fused = fuse_problem(problem, floor.best.plan)
        placed = self.placer(fused.kernels, of_placer, seed, on_progress)
        # Fused kernels may hold more at once: perhaps only the plan that is not fused fits.
        mine = self._back(fused, placed.best)
        best = min((mine, floor.best), key=lambda item: item.rank_key)
        placed = Placed(
            best,
            (*floor.candidates, *(self._back(fused, item) for item in placed.candidates), mine),
            placed.progress,
            floor.evaluations + placed.evaluations,
            placed.stages,
        )
        if moves and of_placer.is_spent and not budget.is_spent:
            return _with_moved_kernels(problem, placed, budget, seed, on_progress)
        return placed

    @staticmethod
    def _back(fused: FusedProblem, candidate: Candidate) -> Candidate:
        """Kernels take what the fused plan takes: nothing is simulated again."""
        plan = fused.plan(candidate.plan)
        return Candidate(plan, candidate.evaluation, f"fused {candidate.origin}")


def _with_moved_kernels(
    problem: Problem, placed: Placed, budget: Budget, seed: int, on_progress: OnProgress
) -> Placed:
    """What a placer returned, gone on with by a search that changes kernels."""
    before = budget.spent_seconds
    plan, evaluations = joint_search(problem, placed.best.plan, budget, seed, on_progress)
    origin = f"{placed.best.origin}, kernels moved"
    moved = Candidate(plan, problem.evaluate(plan), origin)
    best = min((placed.best, moved), key=lambda item: item.rank_key)
    seconds = best.evaluation.makespan_seconds
    spent = budget.spent_seconds
    return Placed(
        best,
        (*placed.candidates, moved),
        (*placed.progress, (spent, seconds)) if best is moved else placed.progress,
        placed.evaluations + evaluations,
        (*placed.stages, Stage("kernel moves", spent - before, seconds)) if placed.stages else (),
    )
