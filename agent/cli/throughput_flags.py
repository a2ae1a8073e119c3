"""Flags of the objective throughput, for the verbs that decide plans for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from placement.throughput import Throughput

Objective = Literal["latency", "throughput"]

#: Every step on the way is simulated; so many take minutes on a large graph.
_MOST_STEPS = 10_000


@Parameter(name="*")
@dataclass(frozen=True)
class ThroughputFlags:
    """What overlaps, where the objective is throughput."""

    in_flight: int | None = None
    """The most steps on the way at once; left out: twice the devices in use, or all micro-batches,
    and fewer where these do not fit in memory."""
    micro_batches: int | None = None
    """The model is one of so many parts of a training step: forward and backward run for each of
    them, updates once."""

    def request(self, objective: Objective) -> "Throughput | None":
        """What the flags ask for; None for latency.

        Raises:
            GraphwrightError: numbers below one, or flags of throughput with latency.
        """
        from placement.throughput import Throughput

        if objective == "latency":
            if self != NOT_ASKED:
                raise GraphwrightError(
                    "--in-flight and --micro-batches are for steps that overlap: add --objective "
                    "throughput, or leave them out"
                )
            return None
        for flag, value in (
            ("--in-flight", self.in_flight),
            ("--micro-batches", self.micro_batches),
        ):
            if value is not None and value < 1:
                raise GraphwrightError(f"{flag} {value}: give at least 1")
            if value is not None and value > _MOST_STEPS:
                raise GraphwrightError(
                    f"{flag} {value}: {_MOST_STEPS:,} at most; a pipeline is full with a few steps "
                    "for each device"
                )
        return Throughput(self.in_flight, self.micro_batches or 1)


#: Flags of which none was given.
NOT_ASKED = ThroughputFlags()


@dataclass(frozen=True)
class WholeBatch:
    """Samples of a whole batch, of which the model is one of several equal parts.

    Raises:
        GraphwrightError: the micro-batches do not divide the batch.
    """

    samples: int
    micro_batches: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise GraphwrightError(f"--batch {self.samples}: give at least 1 sample")
        if self.samples % self.micro_batches:
            near = " or ".join(map(str, nearest_divisors(self.samples, self.micro_batches)))
            raise GraphwrightError(
                f"--batch {self.samples} --micro-batches {self.micro_batches}: {self.samples} "
                f"samples cannot be cut into {self.micro_batches} equal parts; take "
                f"--micro-batches {near}"
            )

    def as_dict(self, period_seconds: float) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them.

        Args:
            period_seconds: between successive micro-batches, or requests of one batch each.
        """
        part = self.samples // self.micro_batches
        return {
            "batch": self.samples,
            "samples_per_step": part,
            "samples_per_second": part / max(period_seconds, 1e-300),
        }


def nearest_divisors(number: int, wanted: int) -> list[int]:
    """The largest divisor below and the smallest one above, where there are such.

    Example:
        >>> nearest_divisors(30, 8)
        [6, 10]
    """
    small = [value for value in range(1, isqrt(number) + 1) if number % value == 0]
    divisors = sorted({*small, *(number // value for value in small)})
    below = [value for value in divisors if value < wanted]
    above = [value for value in divisors if value > wanted]
    return [*below[-1:], *above[:1]]
