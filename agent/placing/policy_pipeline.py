"""Throughput with a policy: its samples compete with the pipeline's splits, judged by the engine.

The policy begins at the best of what the pipeline and the heuristics come to. What it finds is a
further start of the search over loads, and the engine judges that too. Of all splits about as good
the one with the fewest crossings is taken, as ever.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Int32

from agent.config import AgentConfig
from agent.placing.policy_placer import PolicyPlacer
from agent.policy.network import Policy
from envs.decision import first_of_units
from envs.overlapping import OverlapEvaluator
from placement.placer import Budget, Candidate, OnProgress, Placed, Stage
from placement.problem import Problem
from placement.throughput import (
    LoadProblem,
    Pipeline,
    PipelinePlacer,
    Split,
    Throughput,
    Transfers,
    channel_problem,
    pipeline_plan,
    search_loads,
    simplest_of,
)
from placement.throughput.splits import split_of, stages_of

#: Shares of the budget after which the pipeline, and then the policy, are done.
_PIPELINE_SHARE, _POLICY_SHARE = 0.4, 0.85


class PolicyPipelinePlacer(PipelinePlacer):
    """A `PipelinePlacer` whose splits compete with what a policy finds."""

    def __init__(self, policy: Policy, config: AgentConfig, request: Throughput) -> None:
        """The policy is not changed.

        Args:
            config: of a policy that was trained for throughput.
            request: takes the place of the steps in flight and micro-batches of training.
        """
        super().__init__(request)
        asked = replace(
            config,
            objective="throughput",
            in_flight=request.in_flight or 0,
            micro_batches=request.micro_batches,
        )
        self.decide = PolicyPlacer(policy, asked)

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """The simplest of the shortest periods that the pipeline, the policy or both come to.

        Raises:
            GraphwrightError: as `PipelinePlacer`.
            InfeasibleError: no split was found that fits in memory.
        """
        begun, span = budget.spent_seconds, budget.left_seconds
        first = replace(budget, cpu_seconds=begun + _PIPELINE_SHARE * span)
        placed = super().__call__(problem, first, seed, on_progress)
        assert self.pipeline is not None, "set by the call before"
        after_pipeline = budget.spent_seconds
        known = (*problem.known_plans, placed.best.plan)
        second = replace(budget, cpu_seconds=begun + _POLICY_SHARE * span)
        decided = self.decide(replace(problem, known_plans=known), second, seed, on_progress)
        after_policy = budget.spent_seconds
        loads = channel_problem(problem, self.request, 1)
        units = decided.best.plan.devices[first_of_units(problem)]
        searched = search_loads(loads, [units], max(budget.left_seconds, 0.1), seed)
        evaluator = OverlapEvaluator(problem, self.request)
        policy = _judged(evaluator, loads, "policy", units)
        search = _judged(evaluator, loads, "search from the policy's plan", searched)
        own = [self.pipeline.best, *self.pipeline.others]
        self.pipeline = _with_more(problem, self.pipeline, [policy, search])
        plan = pipeline_plan(problem, self.pipeline.best)
        best = Candidate(plan, problem.evaluate(plan), f"throughput: {self.pipeline.best.name}")
        spent = (after_pipeline - begun, after_policy - after_pipeline)
        return replace(
            placed,
            best=best,
            candidates=(*placed.candidates, placed.best),
            evaluations=placed.evaluations + decided.evaluations + 1,
            stages=(
                Stage("pipeline", spent[0], _shortest(own)),
                Stage("policy", spent[1], _shortest([*own, policy])),
                Stage(
                    "search", budget.spent_seconds - after_policy, _shortest([*own, policy, search])
                ),
            ),
        )


def _judged(
    evaluator: OverlapEvaluator, loads: LoadProblem, name: str, units: Int32[np.ndarray, " units"]
) -> Split:
    """A placement of units as a split, as the engine sees it."""
    problem, split = loads.problem, split_of(loads, name, units)
    plan = pipeline_plan(problem, split)
    steps = evaluator.steps(plan)
    period = evaluator.period_seconds(plan, steps)
    return replace(split, period_seconds=period, fits=steps.feasible, simulated=steps)


def _with_more(problem: Problem, pipeline: Pipeline, more: list[Split]) -> Pipeline:
    """The same with further splits; the best is chosen anew."""
    splits = [pipeline.best, *pipeline.others, *more]
    good = [split for split in splits if split.fits and split.simulated is not None]
    best = simplest_of(problem, good, Transfers.CHANNELS)
    assert best.simulated is not None
    return replace(
        pipeline,
        best=best,
        others=tuple(split for split in splits if split is not best),
        latency_seconds=best.simulated.latency_seconds,
        in_flight=best.simulated.schedule.in_flight,
        stages=tuple(stages_of(problem, best)),
    )


def _shortest(splits: list[Split]) -> float:
    fitting = [split for split in splits if split.fits and split.simulated is not None]
    return min(split.period_seconds for split in fitting)
