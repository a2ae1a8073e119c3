"""What scoring a plan gives: seconds, or the reason why there are none."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

from simulator.plan import Plan
from simulator.units import format_bytes, format_seconds


@dataclass(frozen=True)
class OutOfMemory:
    """A device that a plan overfills."""

    device: str
    capacity_bytes: int
    peak_bytes: int
    seconds: float | None = None
    """The first instant at which the device is over its capacity; None where none was traced."""
    largest: tuple[tuple[str, int], ...] = ()
    """The largest holdings at that instant: name and bytes."""

    def __str__(self) -> str:
        when = "" if self.seconds is None else f" at {format_seconds(self.seconds)}"
        held = ", ".join(f"{name} ({format_bytes(size)})" for name, size in self.largest)
        return (
            f"{self.device} runs out of memory{when}: peak {format_bytes(self.peak_bytes)} of "
            f"{format_bytes(self.capacity_bytes)}" + (f"; largest holdings: {held}" if held else "")
        )


@dataclass(frozen=True)
class Evaluation:
    """The score of one plan."""

    makespan_seconds: float
    """Step time, also where memory does not suffice; infinite where an op cannot run."""
    peak_bytes: tuple[int, ...]
    failure: OutOfMemory | str | None = None
    excess_bytes: int = 0
    """Peak bytes over capacity, summed over devices."""
    source: Literal["simulated", "measured"] = "simulated"
    capacity_bytes: int = 0
    """Memory of all devices together, which the excess is a share of; given where there is any."""

    @property
    def feasible(self) -> bool:
        return self.failure is None


@dataclass(frozen=True, eq=False)
class BatchEvaluation:
    """The scores of many plans of one graph."""

    makespan_seconds: Float64[np.ndarray, " plans"]
    peak_bytes: Int64[np.ndarray, "plans devices"]
    feasible: Bool[np.ndarray, " plans"]


@runtime_checkable
class Evaluator(Protocol):
    """Scores plans of one graph on one cluster: the simulator, or real devices."""

    def evaluate(self, plan: Plan) -> Evaluation:
        """Raises PlanError where the plan does not belong to the graph and cluster."""
        ...
