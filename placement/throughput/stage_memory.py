"""Stages of a training pipeline filled by what 1F1B holds: the first stage more than the last.

In 1F1B's order the i-th of D stages has begun D - i micro-batches and not finished them (Narayanan
et al., PipeDream, SOSP 2019, section 3.2). A cut that counts as many on every stage finds no place
where memory is tight, or leaves the last stages empty. The estimate is held against the event
engine, and stages that overfill their device are filled less.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int32

from placement.throughput.held_memory import held_memory
from placement.throughput.load_problem import LoadProblem
from placement.throughput.schedules import StepsSimulator
from simulator.errors import OrderError
from simulator.plan import Plan
from simulator.steps import StepOrder, StepSchedule

_HALVINGS = 40
#: Fillings that are tried, each with a bit more spared than was missing.
_FITTINGS, _SPARED = 6, 1.01


def fill_stages(
    problem: LoadProblem,
    positions: Int32[np.ndarray, " units"],
    devices: Sequence[int],
    micro_batches: int,
    shares: Float64[np.ndarray, " devices"],
) -> Int32[np.ndarray, " units"] | None:
    """Cut an order into a stage for each device, with the least limit on compute that suffices.

    Args:
        positions: of units in the order; those at one position stay together.
        devices: in the order in which a step comes to them.
        shares: of each device's memory that may be filled, by the estimate.

    Returns:
        The device of each unit; None where the stages cannot hold everything.
    """
    count = int(positions.max()) + 1
    held, saved = held_memory(problem.problem, 0), held_memory(problem.problem, 1)
    resident = np.cumsum(np.bincount(positions, held.unit_bytes, count))
    left = np.cumsum(np.bincount(positions, saved.unit_bytes - held.unit_bytes, count))
    seconds = [
        np.cumsum(np.bincount(positions, problem.arrays.seconds[:, device], count))
        for device in devices
    ]
    if not all(np.isfinite(done[-1]) for done in seconds):
        return None
    rooms = (shares * problem.arrays.capacity_bytes)[list(devices)] - saved.reserve_bytes

    def firsts(limit: float) -> list[int] | None:
        """Where each stage begins within the limit; None where something is left over."""
        begins, at = [], 0
        for stage, (done, room) in enumerate(zip(seconds, rooms, strict=True)):
            begins.append(at)
            steps = min(len(devices) - stage, micro_batches)
            memory = resident + steps * left
            before = (done[at - 1], memory[at - 1]) if at else (0.0, 0.0)
            by_time = int(np.searchsorted(done, before[0] + limit * (1 + 1e-12), side="right"))
            by_memory = int(np.searchsorted(memory, before[1] + room, side="right"))
            at = max(at, min(by_time, by_memory))
            if at >= count:
                return begins
        return None

    low, high = 0.0, max(float(done[-1]) for done in seconds)
    best = firsts(high)
    if best is None:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = firsts(middle)
        if found is None:
            low = middle
        else:
            best, high = found, middle
    stage = np.searchsorted(best, positions, side="right") - 1
    return np.array(devices, np.int32)[stage]


def fitted_stages(
    problem: LoadProblem,
    engine: StepsSimulator,
    positions: Int32[np.ndarray, " units"],
    devices: Sequence[int],
    micro_batches: int,
) -> Int32[np.ndarray, " units"] | None:
    """Stages that fit in 1F1B's order as the engine runs it; None where none were found."""
    shares = np.ones(problem.device_count)
    schedule = StepSchedule(micro_batches, micro_batches, StepOrder.ONE_F_ONE_B)
    capacity = problem.arrays.capacity_bytes
    for _ in range(_FITTINGS):
        units = fill_stages(problem, positions, devices, micro_batches, shares)
        if units is None:
            return None
        plan = Plan.of(units[problem.problem.unit_of])
        try:
            found = engine.evaluate_steps(plan, schedule)
        except OrderError:
            return None
        if found.feasible:
            return units
        over = np.maximum(np.array(found.peak_bytes) / capacity, 1.0)
        shares /= np.where(over > 1.0, over * _SPARED, 1.0)
    return None
