"""Steps that overlap on real devices: what was asked for, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.cli.import_text import import_values, print_import
from agent.cli.output import print_json, print_table, print_text
from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from placement.runtime.measurement import Measurement
    from placement.runtime.pipelines.measurement import StepsMeasurement
    from placement.runtime.pipelines.prediction import PredictedSteps
    from placement.runtime.runtime import Runtime
    from placement.runtime.samples import Sampling
    from simulator.plan import Plan
    from simulator.steps import StepSchedule


@dataclass(frozen=True, eq=False)
class Overlapped:
    """Overlapping steps of several plans, by the names under which they were given."""

    runtime: "Runtime"
    names: Sequence[str]
    found: "Sequence[StepsMeasurement]"
    predicted: "Sequence[PredictedSteps]"
    state: Sequence[tuple[str, str]]
    """Inputs that are outputs of the step before in real use, with these outputs."""

    def show(self, *, json: bool) -> None:
        """Print one JSON object, or a table."""
        if json:
            print_json(_document(self))
        else:
            _show(self)


def step_schedule(
    runtime: str, steps: int | None, in_flight: int | None, devices: int
) -> "StepSchedule | None":
    """How steps follow each other; None where they are measured one by one.

    Args:
        runtime: by name.
        steps: how many run; None for steps by themselves.
        in_flight: most on the way at once; one more than there are devices where not given.
        devices: how many there are.

    Raises:
        GraphwrightError: figures that do not go together.
        RuntimeRefusal: steps do not overlap on that runtime.
    """
    from placement.runtime.pipelines.measuring import check_overlaps
    from simulator.steps import StepSchedule

    if steps is None:
        if in_flight is not None:
            raise GraphwrightError(
                f"--in-flight {in_flight} says how many steps overlap; say with --steps how many "
                "run, such as --steps 32"
            )
        return None
    check_overlaps(runtime)
    if steps < 1:
        raise GraphwrightError(f"--steps {steps}: at least 1; 16 or more show a full pipeline")
    if in_flight is None:
        in_flight = min(steps, devices + 1)
    if not 1 <= in_flight <= steps:
        raise GraphwrightError(
            f"--in-flight {in_flight}: at least 1 and at most as many as there are steps, --steps "
            f"{steps}"
        )
    return StepSchedule(steps, in_flight)


def measure_overlapping(
    device: "Runtime",
    names: Sequence[str],
    plans: "Sequence[Plan]",
    schedule: "StepSchedule",
    sampling: "Sampling",
) -> Overlapped:
    """Run overlapping steps of plans in turns, and predict them."""
    from placement.runtime.pipelines.measuring import carried_state, measure_steps
    from placement.runtime.pipelines.prediction import predicted_steps

    found = measure_steps(device, plans, schedule, sampling)
    predicted = [predicted_steps(device.simulator, plan, schedule) for plan in plans]
    return Overlapped(device, names, found, predicted, carried_state(device))


def _document(item: Overlapped) -> dict[str, Any]:
    from placement.runtime.comparison import winner
    from placement.runtime.fingerprint import machine_fingerprint

    graph, schedule = item.runtime.graph, item.found[0].schedule
    best = winner([found.period for found in item.found])
    shared = {"steps": schedule.steps, "in_flight": schedule.in_flight}
    return {
        "graph": graph.name,
        "digest": graph.digest,
        "import": import_values(graph),
        "cluster": item.runtime.cluster.name,
        "runtime": item.runtime.kind,
        "machine": machine_fingerprint(),
        "clock": item.found[0].period.clock,
        **shared,
        "state_between_steps": [list(pair) for pair in item.state],
        "winner": None if best is None else item.names[best],
        "plans": [
            {
                "plan": name,
                **shared,
                "period_seconds": found.period.seconds,
                "period_interval": found.period.interval(),
                "latency_seconds": found.latency.seconds,
                "latency_interval": found.latency.interval(),
                "steps_per_second": found.steps_per_second,
                "rounds": len(found.period.rounds),
                "failure": found.failure,
                "outputs_checked": found.period.checked,
                "predicted_period_seconds": guess.period_seconds,
                "predicted_latency_seconds": guess.latency_seconds,
            }
            for name, found, guess in zip(item.names, item.found, item.predicted, strict=True)
        ],
    }


def _show(item: Overlapped) -> None:
    from placement.runtime.comparison import ratio, winner
    from placement.runtime.registry import get_runtime
    from simulator.units import format_seconds

    graph, schedule = item.runtime.graph, item.found[0].schedule
    rows = []
    for name, found, guess in zip(item.names, item.found, item.predicted, strict=True):
        # More steps per second are fewer seconds between them.
        against = ratio(item.found[0].period, found.period)
        rows.append(
            [
                name,
                f"{found.steps_per_second:.4g}" if found.ok else "failed",
                f"{against.value:.3f} ({against.low:.3f}-{against.high:.3f})" if found.ok else "",
                _times(found.period) if found.ok else "",
                format_seconds(guess.period_seconds),
                _times(found.latency) if found.ok else "",
                format_seconds(guess.latency_seconds),
            ]
        )
    print_table(
        f"{graph.name}, {graph.op_count} ops, on {item.runtime.cluster.name}: {schedule.steps} "
        f"steps, {schedule.in_flight} in flight, {item.found[0].period.clock} clock",
        ["plan", "steps/s", "x first", "period (95%)", "predicted", "latency (95%)", "predicted"],
        rows,
    )
    print_import(graph)
    for name, found in zip(item.names, item.found, strict=True):
        if found.failure is not None:
            print_text(f"{name}: {found.failure}")
    if all(found.period.checked for found in item.found):
        print_text(f"outputs of every step equal {get_runtime(item.runtime.kind).compared_with}")
    if item.state:
        shown = ", ".join(f"{made!r} would be {taken!r}" for taken, made in item.state[:1])
        print_text(
            f"{len(item.state)} inputs carry state from step to step in real use ({shown} of the "
            "next step); here every step is a request of its own, with state of its own"
        )
    if len(item.found) > 1:
        best = winner([found.period for found in item.found])
        verdict = "no winner: the difference is within the noise, or there were too few rounds"
        print_text(verdict if best is None else f"most steps per second: {item.names[best]}")


def _times(found: "Measurement") -> str:
    from simulator.units import format_seconds

    low, high = found.interval()
    return f"{format_seconds(found.seconds)} ({format_seconds(low)} - {format_seconds(high)})"
