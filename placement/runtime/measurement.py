"""What running a plan gives: a step time with its spread, or the reason why there is none."""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from simulator.evaluation import Evaluation


class Clock(StrEnum):
    """How a step was timed."""

    WALL = "wall"
    """Wall time of samples during which the workers hardly waited for a core."""
    DISTURBED = "wall-disturbed"
    """Wall time of the least disturbed quarter of the samples, where too few count as quiet."""
    VIRTUAL = "virtual"
    """CPU time of each device, passed along messages as the larger of own and sender's."""
    EMULATED = "emulated"
    """The virtual clock where several devices share a core."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """Step times of one plan on real devices; all figures are seconds.

    A failed run is a value too: `failure` says why, and there may be no samples.
    """

    samples: Float64[np.ndarray, " samples"]
    """One step each, on the clock of the measurement."""
    clock: Clock
    failure: str | None = None
    rounds: Float64[np.ndarray, " rounds"] = field(default_factory=lambda: np.zeros(0))
    """Median of each round; several plans take turns, a round each."""
    step_seconds: tuple[Float64[np.ndarray, " _"], ...] = ()
    """Median CPU time of each step of the program, per device."""
    rejected: int = 0
    """Wall samples that were thrown away because a worker waited for its core."""
    checked: bool = False
    """Whether the outputs equal the original model's."""

    @staticmethod
    def failed(reason: str, clock: Clock = Clock.VIRTUAL) -> "Measurement":
        """A run that gave no time."""
        return Measurement(np.zeros(0), clock, reason)

    @property
    def ok(self) -> bool:
        return self.failure is None and len(self.samples) > 0

    @cached_property
    def seconds(self) -> float:
        """The median step; infinite where the run failed."""
        return float(np.median(self.samples)) if self.ok else float("inf")

    @cached_property
    def spread_seconds(self) -> float:
        """Half the distance between the quartiles."""
        if not self.ok:
            return float("nan")
        low, high = np.quantile(self.samples, (0.25, 0.75))
        return float(high - low) / 2

    def interval(self, seed: int = 0, draws: int = 1000) -> tuple[float, float]:
        """A 95% interval of the median step.

        Rounds are drawn with replacement and not samples, for the samples of one round are
        disturbed alike.
        """
        if not self.ok:
            return float("inf"), float("inf")
        values = self.rounds if len(self.rounds) > 1 else self.samples
        random = np.random.default_rng(seed)
        drawn = np.median(random.choice(values, (draws, len(values))), axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return float(low), float(high)

    def evaluation(self, peak_bytes: tuple[int, ...]) -> Evaluation:
        """As a score, beside which the simulator's memory stands."""
        return Evaluation(self.seconds, peak_bytes, self.failure, source="measured")
