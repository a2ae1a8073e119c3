"""What a placer is, and what it is allowed to spend."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from placement.annealing.energy import energy_of_evaluation
from placement.problem import Problem
from simulator.evaluation import Evaluation
from simulator.plan import Plan


@dataclass(frozen=True)
class Budget:
    """CPU seconds of this process that a placer may spend, counted from when it is made."""

    cpu_seconds: float = 30.0
    begun: float = field(default_factory=time.process_time)

    @property
    def spent_seconds(self) -> float:
        return time.process_time() - self.begun

    @property
    def left_seconds(self) -> float:
        return self.cpu_seconds - self.spent_seconds

    @property
    def is_spent(self) -> bool:
        return self.left_seconds <= 0

    @property
    def by_the_clock(self) -> bool:
        """Whether seconds are the clock's rather than the processor's."""
        return False


@dataclass(frozen=True)
class WallBudget(Budget):
    """Seconds by the clock that a placer may spend: what users wait for."""

    begun: float = field(default_factory=time.perf_counter)

    @property
    def spent_seconds(self) -> float:
        return time.perf_counter() - self.begun

    @property
    def by_the_clock(self) -> bool:
        return True


@dataclass(frozen=True)
class Candidate:
    """A plan with its score and where it came from."""

    plan: Plan
    evaluation: Evaluation
    origin: str

    @property
    def energy(self) -> float:
        """What the plan costs; see `placement.annealing.energy`."""
        return energy_of_evaluation(self.evaluation)

    @property
    def rank_key(self) -> tuple[float, float]:
        """Sorts by energy; step times that differ by less than their logarithms can tell, by
        themselves."""
        return (self.energy, self.evaluation.makespan_seconds)


@dataclass(frozen=True)
class Stage:
    """What a part of an any-time placer came to."""

    name: str
    cpu_seconds: float
    """Spent in it."""
    makespan_seconds: float
    """Step time of the best plan at the stage's end."""


@dataclass(frozen=True)
class Placed:
    """What a placer returns: its best plan and how it got there."""

    best: Candidate
    candidates: tuple[Candidate, ...] = ()
    """Everything that was compared, in the order tried; empty where there was no choice."""
    progress: tuple[tuple[float, float], ...] = ()
    """(CPU seconds, best makespan in seconds) at each improvement of an any-time placer."""
    evaluations: int = 1
    stages: tuple[Stage, ...] = ()
    """In their order, of a placer that has several."""
    elsewhere_cpu_seconds: float = 0.0
    """Spent by other processes."""


#: Called now and then by any-time placers with the share of the budget that is spent.
OnProgress = Callable[[float], None]


def silent(_share: float) -> None:
    """An `OnProgress` that says nothing."""


@runtime_checkable
class Placer(Protocol):
    """Heuristics, search and trained policies alike."""

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Decide a plan; the same problem and seed give the same plan within the budget.

        Raises:
            InfeasibleError: constraints leave some op no device.
        """
        ...
