"""Where an annealing chain stands while compiled moves go on: its plans, its energies, its draws.

Both annealers decide here whether a plan that was tried is kept, and draw from one stream of random
numbers; `placement.annealing.moves` says what is tried.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt64

from placement.annealing.energy import energy_of_excess, energy_of_plan
from simulator.compiled import compiled, inlined
from simulator.event_engine.clock import Clock, make_clock, run_clock
from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.most_memory import most_memory
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.state import NO_RECORDING, EngineState, Recording, make_engine_state
from simulator.kernel_checks import check_devices, check_ranks, check_record

#: Sums of many times differ in their last digits by the order of addition.
_ROUNDING = 1e-9

#: Where memory is followed for more than this share of the last plans, it is from the beginning:
#: to look at the time first takes about half as long, and is for nothing then.
_OFTEN = 1 / 4
#: Before any plan.
_UNKNOWN = 0.5
#: Places in `Engine.followed`.
_SHARE, _PLANS_AHEAD = range(2)
#: So many plans are the last.
_SINCE = 32.0


class Engine(NamedTuple):
    """What it takes to simulate plans of one problem, one at a time."""

    program: ProgramArrays
    clock: Clock
    state: EngineState
    recording: Recording
    """A recording of length zero: a plan that is tried leaves no trace."""
    capacity: Int64[np.ndarray, " devices"]
    """Bytes of memory of each device."""
    peak: Int64[np.ndarray, " devices"]
    """Scratch: bytes of a plan on each device."""
    followed: Float64[np.ndarray, " 2"]
    """What share of the last plans had their memory followed, being fast enough; for how many plans
    nobody asks whether all fits at once, for it did not."""
    highest: float
    """An energy that the time of no plan comes near: limits above it are those of plans that do not
    fit, and say nothing about time."""
    whole: bool
    """Whether every plan is followed to the end, with its memory; the rest is faster and decides
    the same."""


class Walk(NamedTuple):
    """What moves change."""

    devices: Int32[np.ndarray, " ops"]
    ranks: Int32[np.ndarray, " ops"]
    """Scheduling order; moves leave it alone."""
    best_devices: Int32[np.ndarray, " ops"]
    energies: Float64[np.ndarray, " 2"]
    """The plan's, and the best plan's."""
    random_state: UInt64[np.ndarray, " 1"]
    counts: Int64[np.ndarray, " 2"]
    """Plans evaluated, and those accepted."""
    undo: Int32[np.ndarray, " ops"]
    """Where the ops of the last move were before it."""


def make_engine(
    program: ProgramArrays, capacity: Int64[np.ndarray, " devices"], *, whole: bool = False
) -> Engine:
    """Room for simulations of one program."""
    slowest = np.where(np.isfinite(program.seconds), program.seconds, 0.0).max(axis=1, initial=0.0)
    sent = program.tensor_bytes.sum() * (1 / program.wire_bytes_per_second).max(initial=0.0)
    latency = program.wire_latency_seconds.max(initial=0.0) * len(program.consumers)
    engine = Engine(
        program,
        make_clock(program),
        make_engine_state(program),
        NO_RECORDING,
        capacity.copy(),
        np.zeros_like(capacity),
        np.array([_UNKNOWN, 0.0]),
        float(energy_of_excess(slowest.sum() + len(capacity) * sent + latency, 0, 1)),
        whole,
    )
    check_record(engine, devices=program.seconds.shape[1])
    return engine


PLAN, BEST = range(2)
EVALUATED, ACCEPTED = range(2)


def begin_walk(
    devices: Int32[np.ndarray, " ops"],
    ranks: Int32[np.ndarray, " ops"],
    best_devices: Int32[np.ndarray, " ops"],
    energies: tuple[float, float],
    random_state: int,
    shape: tuple[int, int],
) -> Walk:
    """A walk from a plan of a program with `shape` ops and devices; the arrays given are copied.

    Raises:
        KernelInputError: a device that the cluster does not have, or ranks that are no permutation.
    """
    walk = Walk(
        devices=devices.copy(),
        ranks=ranks.copy(),
        best_devices=best_devices.copy(),
        energies=np.array(energies),
        random_state=np.array([random_state], np.uint64),
        counts=np.zeros(2, np.int64),
        undo=np.empty(len(devices), np.int32),
    )
    ops, devices_in_all = shape
    check_record(walk, ops=ops)
    check_devices("devices", walk.devices, devices_in_all)
    check_devices("best_devices", walk.best_devices, devices_in_all)
    check_ranks("ranks", walk.ranks)
    return walk


@inlined
def draw_uniform(state: UInt64[np.ndarray, " 1"]) -> float:
    """xorshift64*: uniform in [0, 1) (Vigna 2016)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return ((x * np.uint64(2685821657736338717)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def energy_of(
    engine: Engine,
    devices: Int32[np.ndarray, " ops"],
    ranks: Int32[np.ndarray, " ops"],
    limit: float,
) -> float:
    """Simulate a plan; the logarithm of its step time, with the charge for memory.

    Memory is looked at where the plan is fast enough, and followed through the step where all that
    its devices ever hold would not fit at once.

    Args:
        limit: of an energy that is sure to be higher a lower bound above the limit will do, which
            is found before the simulation ends.
    """
    # The bound is a sum in another order than the makespan: a margin for its last digits.
    deadline = np.inf if engine.whole else np.exp(limit) * (1.0 + _ROUNDING)
    p, seconds, followed = engine.program, -1.0, engine.followed
    if p.host.size == 0 and not engine.whole:
        if limit < engine.highest and followed[_SHARE] < _OFTEN:
            seconds = run_clock(p, engine.clock, devices, ranks, deadline)
        may_fit = seconds >= 0.0 or followed[_PLANS_AHEAD] <= 0.0
        followed[_PLANS_AHEAD] = _SINCE if may_fit else followed[_PLANS_AHEAD] - 1.0
        if seconds > deadline or (may_fit and _fits_at_once(engine, devices)):
            if seconds < 0.0:
                seconds = run_clock(p, engine.clock, devices, ranks, deadline)
            followed[_PLANS_AHEAD] = 0.0
            followed[_SHARE] -= followed[_SHARE] / _SINCE
            return energy_of_excess(seconds, 0, 1)
    engine.state.deadline[0] = deadline
    seconds = run_kernel(p, engine.state, devices, ranks, engine.peak, engine.recording)
    engine.state.deadline[0] = np.inf
    if seconds > deadline:
        followed[_SHARE] -= followed[_SHARE] / _SINCE
        return energy_of_excess(seconds, 0, 1)
    followed[_SHARE] += (1.0 - followed[_SHARE]) / _SINCE
    return energy_of_plan(seconds, engine.peak, engine.capacity)


@inlined
def _fits_at_once(engine: Engine, devices: Int32[np.ndarray, " ops"]) -> bool:
    """Whether all that each device ever holds fits at the same time."""
    most_memory(engine.program, devices, engine.peak, engine.state.seen_weight)
    for device in range(engine.capacity.size):
        if engine.peak[device] > engine.capacity[device]:
            return False
    return True


@inlined
def draw_limit(walk: Walk, temperature: float) -> float:
    """The highest energy at which the plan that is tried next is kept: that of the plan at hand,
    and `temperature` times a draw from the unit exponential distribution."""
    uphill = -temperature * np.log(1.0 - draw_uniform(walk.random_state))
    return walk.energies[PLAN] + uphill


@inlined
def accept(walk: Walk, energy: float) -> None:
    """Stay at the plan that was tried; it is the best one if its energy is the least so far."""
    walk.counts[ACCEPTED] += 1
    walk.energies[PLAN] = energy
    if energy < walk.energies[BEST]:
        walk.energies[BEST] = energy
        for op in range(walk.devices.size):
            walk.best_devices[op] = walk.devices[op]
