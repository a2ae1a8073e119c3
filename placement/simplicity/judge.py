"""Who says what a plan takes and how complicated it is."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from placement.problem import Problem
from placement.simplicity.complexity import Complexity, complexity_of
from simulator.evaluation import Evaluation
from simulator.plan import Plan


@runtime_checkable
class Judge(Protocol):
    """The simulator, or what says how an exported form of a plan would run."""

    def evaluate(self, plan: Plan) -> Evaluation:
        """Step time, and whether it fits in memory."""
        ...

    def complexity(self, plan: Plan) -> Complexity:
        """What there is of it to deploy."""
        ...


@dataclass(frozen=True)
class SimulatorJudge:
    """Plans as they are simulated."""

    problem: Problem

    def evaluate(self, plan: Plan) -> Evaluation:
        return self.problem.evaluate(plan)

    def complexity(self, plan: Plan) -> Complexity:
        return complexity_of(self.problem.graph, plan.devices)
