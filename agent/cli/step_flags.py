"""Flags of steps that overlap, and the words for what they come to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from simulator.clusters.cluster import Cluster
    from simulator.steps import StepSchedule, StepsEvaluation


@Parameter(name="*")
@dataclass(frozen=True)
class StepFlags:
    """Steps that overlap."""

    steps: int | None = None
    """How many steps run, each while others are on the way: requests, or micro-batches of a graph
    with updates, which is then one micro-batch."""
    in_flight: int | None = None
    """The most steps on the way at once; left out: all of them."""
    order: Annotated[Literal["oldest-first", "gpipe", "1f1b"], Parameter()] = "oldest-first"
    """Which step a device works on: the oldest that is ready, or by the rules for training
    pipelines."""

    @property
    def schedule(self) -> "StepSchedule | None":
        """What the flags say; None where one step runs.

        Raises:
            GraphwrightError: --in-flight or --order without --steps, or numbers below one.
        """
        from simulator.steps import StepOrder, StepSchedule

        if self.steps is None:
            if self.in_flight is not None or self.order != "oldest-first":
                raise GraphwrightError("--in-flight and --order need --steps: how many steps run")
            return None
        return StepSchedule(self.steps, self.in_flight or self.steps, StepOrder(self.order))


#: Flags of which none was given.
ONE_STEP = StepFlags()


def steps_values(found: "StepsEvaluation", cluster: "Cluster") -> Mapping[str, Any]:
    """Steps that overlap as plain values, as `--json` prints them."""
    schedule = found.schedule
    return {
        "steps": schedule.steps,
        "in_flight": schedule.most_in_flight,
        "order": str(schedule.order),
        "period_seconds": found.period_seconds,
        "latency_seconds": found.latency_seconds,
        "steps_per_second": found.steps_per_second,
        "bubble": found.bubble,
        "makespan_seconds": found.makespan_seconds,
        "feasible": found.feasible,
        "failure": str(found.failure) if found.failure else None,
        "peak_bytes": dict(zip(cluster.device_names, found.peak_bytes, strict=True)),
    }


def steps_text(found: "StepsEvaluation") -> str:
    """Steps that overlap in a line."""
    from simulator.units import format_seconds

    schedule = found.schedule
    return (
        f"{schedule.steps} steps, {schedule.most_in_flight} in flight, {schedule.order}: "
        f"{format_seconds(found.makespan_seconds)} in all, a step every "
        f"{format_seconds(found.period_seconds)} ({found.steps_per_second:.4g} a second), latency "
        f"{format_seconds(found.latency_seconds)}, bubble {found.bubble:.0%}"
    )
