"""Throughput as a placer, for everything that takes one."""

from graphs.errors import GraphwrightError
from placement.placer import Budget, Candidate, OnProgress, Placed, Stage
from placement.problem import Problem
from placement.throughput.pipeline import Pipeline, plan_pipeline
from placement.throughput.request import Throughput
from placement.throughput.schedules import is_training
from placement.throughput.splits import pipeline_plan
from placement.throughput.warm_up import warm_up_pipelines


class PipelinePlacer:
    """A `Placer` for throughput; what it found besides the plan is in `pipeline`."""

    def __init__(self, request: Throughput | None = None) -> None:
        self.request = request or Throughput()
        self.pipeline: Pipeline | None = None

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """The plan of the shortest period.

        Raises:
            GraphwrightError: a single device; a training step that is not cut into micro-batches,
                whose updates the next waits for; micro-batches of an inference graph.
            InfeasibleError: no split was found that fits in memory.
        """
        if problem.cluster.device_count < 2:
            raise GraphwrightError("throughput takes at least two devices to overlap steps on")
        self._check_steps(problem)
        on_progress(0.0)
        budget = _after_warm_up(budget)
        self.pipeline = plan_pipeline(problem, budget, seed, self.request)
        plan = pipeline_plan(problem, self.pipeline.best)
        best = Candidate(plan, problem.evaluate(plan), f"throughput: {self.pipeline.best.name}")
        others = tuple(
            Candidate(item, problem.evaluate(item), split.name)
            for split in self.pipeline.others
            if (item := pipeline_plan(problem, split)) is not None
        )
        stage = Stage("throughput", budget.spent_seconds, best.evaluation.makespan_seconds)
        return Placed(best, others, evaluations=len(others) + 1, stages=(stage,))

    def _check_steps(self, problem: Problem) -> None:
        training = is_training(problem)
        if training and self.request.micro_batches == 1:
            raise GraphwrightError(
                "steps of this graph cannot overlap: each waits for the parameters that the one "
                "before updates; throughput is for inference, or for a training step of several "
                "micro-batches (ask for micro_batches=8, say; the graph is one of them)"
            )
        if not training and self.request.micro_batches > 1:
            raise GraphwrightError(
                f"{self.request.micro_batches} micro-batches of a graph that updates nothing: "
                "micro-batches are parts of a training step; requests are steps in flight"
            )


def _after_warm_up(budget: Budget) -> Budget:
    """What is left of a budget, kernels compiled: that counts as installation."""
    left = budget.left_seconds
    warm_up_pipelines()
    return Budget(left)
