"""The last part of a fused search: devices and kernels move together, and nothing that costs time.

It begins where a search over fixed kernels has cooled down, and does not heat up again: what a
kernel saves is less than what the temperature of a search lets through.
"""

import numpy as np

from placement.annealing.fusing.fused_problem import FusedProblem, fuse_problem
from placement.annealing.fusing.joint_anneal import JointAnnealer
from placement.annealing.hierarchy import Hierarchy, build_hierarchy, collect_groups
from placement.placer import Budget, OnProgress
from placement.problem import Problem
from simulator.fusion import kernel_roots
from simulator.plan import Plan

_STEPS = 100
_FIRST_MOVES = 50
#: Steps after which the order is worked out anew: it takes as long as a hundred evaluations.
_STEPS_OF_AN_ORDER = 10


def joint_search(
    problem: Problem, plan: Plan, budget: Budget, seed: int, on_progress: OnProgress
) -> tuple[Plan, int]:
    """Move devices and kernels until the budget is spent.

    Args:
        problem: with costs that kernels can be rebuilt with (`kernel_program.can_rebuild`).
        plan: where it begins.

    Returns:
        The best plan, whose memory may not suffice where that of the plan given does not, and how
        many were simulated.
    """
    fused = fuse_problem(problem, plan, plan.fusion)
    annealer = JointAnnealer(problem, joint_hierarchy(problem, fused, seed))
    fused_now = kernel_roots(problem.graph, plan.fusion) != np.arange(problem.graph.op_count)
    starts = [annealer.start(plan, wishes, seed) for wishes in (np.ones_like(fused_now), fused_now)]
    chain = min(starts, key=lambda start: start.energy)
    step, moves = 0, _FIRST_MOVES
    span = max(budget.left_seconds, 1e-9)
    while not budget.is_spent:
        before = budget.spent_seconds
        chain = annealer.advance(chain, moves, 0.0)
        step += 1
        if step % _STEPS_OF_AN_ORDER == 0:
            chain = annealer.reprioritise(chain)
        seconds = max(budget.spent_seconds - before, 1e-4)
        moves = int(np.clip(moves * span / _STEPS / seconds, 1, 4 * moves))
        on_progress(min(budget.spent_seconds / max(budget.cpu_seconds, 1e-9), 1.0))
    return annealer.best_plan(chain), chain.evaluations


def joint_hierarchy(problem: Problem, fused: FusedProblem, seed: int) -> Hierarchy:
    """The groups of the kernels' hierarchy as ops, then single units of the problem: a kernel may
    lose what moves away alone."""
    coarse = build_hierarchy(fused.kernels, seed)
    at = fused.kernel_of[problem.first_of_unit]
    labels = [coarse.labels[level][at] for level in range(coarse.level_count)]
    labels.append(np.arange(problem.unit_count, dtype=np.int32))
    return collect_groups(problem, labels, np.arange(len(labels), dtype=np.float64))
