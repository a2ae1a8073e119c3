"""What environments ask of whoever scores plans: the simulator, or real devices."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from placement.problem import Problem
from simulator.evaluation import BatchEvaluation, Evaluation
from simulator.plan import Plan
from simulator.traces.trace import Trace


@runtime_checkable
class TracedEvaluator(Protocol):
    """An `Evaluator` that also scores many plans at once and tells what happened."""

    def evaluate(self, plan: Plan) -> Evaluation:
        """The score of one plan."""
        ...

    def evaluate_many(self, plans: Sequence[Plan]) -> BatchEvaluation:
        """The scores of many plans, in their order."""
        ...

    def trace(self, plan: Plan) -> Trace:
        """What happens while the plan runs.

        Raises:
            PlanError: an op is on a device that cannot run it.
        """
        ...


#: Makes the evaluator of a problem.
MakeEvaluator = Callable[[Problem], TracedEvaluator]


def simulated(problem: Problem) -> TracedEvaluator:
    """The problem's own simulator."""
    return problem.simulator
