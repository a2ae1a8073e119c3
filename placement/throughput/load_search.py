"""Local search for the least largest load, over all placements of units, contiguous or not.

Most units of a good split lie deep inside of a stage, where no move helps: half of the moves are
therefore drawn from the tensors that cross between devices, as Fiduccia and Mattheyses (1982) move
what lies at a cut. The others are any unit to any device, and to where a neighbour is.
"""

import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, UInt64

from placement.throughput.load_problem import LoadArrays, LoadProblem
from placement.throughput.load_state import (
    POWER,
    LoadState,
    add_up,
    load_state,
    move_unit,
    place_all,
)
from placement.throughput.loads import held_bytes, period_of
from simulator.compiled import compiled, inlined
from simulator.kernel_checks import check_indices, check_record

#: Memory over capacity, as a share of it, is worth so many e-folds of the load.
_MISFIT = 20.0
#: Any excess is worth at least so much.
_ANY_MISFIT = 0.7
#: Moves between two looks at the clock.
_CHUNK = 100_000
#: A run has at least so many moves, or so many for each unit.
_MOVES, _MOVES_PER_UNIT = 20_000, 200
#: Temperatures over the *grain*: what moving a unit of mean size changes, as a share of the load.
_HOT, _COLD = (0.05, 2.5), 1e-3
_FIRST_HEAT = 0.1
#: Runs become twice as long after so many.
_DOUBLING = 6
#: Sums of powers are worked out anew after so many moves.
_REFRESH = 500


class _Run(NamedTuple):
    """What a run of moves leaves behind, and goes on from."""

    moved: Int32[np.ndarray, " moves"]
    """Units that moved, in order, for going back to the best placement."""
    sources: Int32[np.ndarray, " moves"]
    figures: Float64[np.ndarray, " 1"]
    """The least largest load met within memory."""
    lengths: Int32[np.ndarray, " 2"]
    """Moves made, and how many of them lead to the best placement (-1: none since the start)."""
    random: UInt64[np.ndarray, " 1"]


def search_loads(
    problem: LoadProblem,
    starts: list[Int32[np.ndarray, " units"]],
    cpu_seconds: float,
    seed: int,
    goal_seconds: float = 0.0,
) -> Int32[np.ndarray, " units"]:
    """Anneal from each start in turn until the time is spent; never worse than the best start.

    Args:
        starts: placements of units; those that fit are the floor.
        cpu_seconds: of this process.
        seed: of the moves; the result depends on the time as well.
        goal_seconds: a period this short ends the search early.
    """
    p = problem.arrays
    check_record(p)
    check_record(p.costs, devices=problem.device_count)
    rng = np.random.default_rng(seed)
    _anneal(problem, starts[0], 1.0, 0.0, 1, rng)  # compile it before the clock starts
    begun = time.process_time()
    judged = sorted(((_judged(problem, start), at) for at, start in enumerate(starts)))
    least, best = judged[0][0], starts[judged[0][1]]
    order = [starts[at] for _, at in judged]
    rounds = 0
    while (left := cpu_seconds - (time.process_time() - begun)) > 0 and least > goal_seconds:
        start = order[rounds // 2 % len(order)] if rounds % 2 else best
        # The first run hardly goes uphill: it improves what is good already.
        heat = float(np.exp(rng.uniform(*np.log(_HOT)))) if rounds else _FIRST_HEAT
        moves = max(_MOVES, _MOVES_PER_UNIT * problem.unit_count) * 2 ** (rounds // _DOUBLING)
        found, key = _anneal(problem, start, heat, left, moves, rng)
        if key < least:
            best, least = found, key
        rounds += 1
    return best


def _judged(problem: LoadProblem, devices: Int32[np.ndarray, " units"]) -> float:
    capacity = problem.arrays.capacity_bytes
    over = np.maximum(held_bytes(problem, devices) - capacity, 0) / capacity
    return period_of(problem, devices) if not over.any() else 1e12 * (1 + float(over.sum()))


def _anneal(
    problem: LoadProblem,
    start: Int32[np.ndarray, " units"],
    heat: float,
    cpu_seconds: float,
    most_moves: int,
    rng: np.random.Generator,
) -> tuple[Int32[np.ndarray, " units"], float]:
    """One run from hot to cold, within the time; the best placement met and what it comes to."""
    p = problem.arrays
    check_indices("start", start, problem.device_count)
    scale = period_of(problem, start)
    if not np.isfinite(scale) or scale <= 0.0:
        return start, _judged(problem, start)
    state = load_state(p, start, scale)
    run = _Run(
        np.zeros(_CHUNK, np.int32),
        np.zeros(_CHUNK, np.int32),
        np.array([np.inf]),
        np.array([0, -1], np.int32),
        rng.integers(1, 1 << 63, 1).astype(np.uint64),
    )
    check_record(state)
    check_record(run)
    kept = start
    begun = time.process_time()
    hot, cold = (_grain(problem, scale) * factor for factor in (heat, min(heat, _COLD)))
    done, share = 0, 0.0
    while share < 1.0:
        moves = min(_CHUNK, most_moves - done)
        warm = hot * (cold / hot) ** share
        cooler = hot * (cold / hot) ** min(1.0, share * (1 + moves / max(done, moves)))
        run.lengths[:] = 0, -1
        _run_moves(p, state, run, moves, warm, cooler)
        if run.lengths[1] >= 0:
            kept = state.devices.copy()
            back = slice(run.lengths[1], run.lengths[0])
            # Where a unit moved several times, the earliest source is written last.
            kept[run.moved[back][::-1]] = run.sources[back][::-1]
        done += moves
        share = max(done / most_moves, (time.process_time() - begun) / max(cpu_seconds, 1e-9))
    return kept, _judged(problem, kept)


def _grain(problem: LoadProblem, period_seconds: float) -> float:
    """What a unit of mean size adds to the logarithm of the load, if all devices are as busy."""
    seconds = problem.arrays.seconds
    finite = seconds[np.isfinite(seconds) & (seconds > 0)]
    mean = float(finite.mean()) if finite.size else period_seconds
    return min(1.0, mean / period_seconds) / problem.device_count


@inlined
def _draw(run: _Run) -> float:
    """From 0 up to 1: Marsaglia's xorshift (2003)."""
    bits = run.random[0]
    bits ^= bits << np.uint64(13)
    bits ^= bits >> np.uint64(7)
    bits ^= bits << np.uint64(17)
    run.random[0] = bits
    return float(bits >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@inlined
def _over(p: LoadArrays, s: LoadState) -> float:
    """Memory beyond capacities, as a share of these."""
    over = 0.0
    for device in range(s.held_bytes.size):
        if s.held_bytes[device] > p.capacity_bytes[device]:
            over += s.held_bytes[device] / p.capacity_bytes[device] - 1.0
    return over


@inlined
def _energy(s: LoadState, over: float) -> float:
    """Logarithm of the largest load, nearly; more where memory does not suffice."""
    if s.sums[2] != 0.0:
        add_up(s)
    energy = np.log(max(s.sums[0], 1e-300)) / POWER
    if over > 0.0:
        energy += _ANY_MISFIT + _MISFIT * over
    return energy


@inlined
def _pick_unit(p: LoadArrays, s: LoadState, run: _Run) -> int:
    """A unit at a cut, or any."""
    if s.cut_count[0] == 0 or _draw(run) < 0.3:
        return int(_draw(run) * s.devices.size)
    tensor = s.cut[int(_draw(run) * s.cut_count[0])]
    if _draw(run) < 0.5:
        return p.makers[tensor]
    first, last = p.reader_offsets[tensor], p.reader_offsets[tensor + 1]
    return p.readers[first + int(_draw(run) * (last - first))]


@inlined
def _pick_target(p: LoadArrays, s: LoadState, run: _Run, unit: int) -> int:
    """Where a neighbour is, or any device."""
    first, last = p.touched_offsets[unit], p.touched_offsets[unit + 1]
    if last == first or _draw(run) < 0.3:
        return int(_draw(run) * s.held_bytes.size)
    at = first + int(_draw(run) * (last - first))
    tensor = p.touched[at]
    if p.touch_reads[at] != 0:
        return s.devices[p.makers[tensor]]
    begin, end = p.reader_offsets[tensor], p.reader_offsets[tensor + 1]
    return s.devices[p.readers[begin + int(_draw(run) * (end - begin))]]


@compiled
def _run_moves(p: LoadArrays, s: LoadState, run: _Run, moves: int, hot: float, cold: float) -> None:
    """Try moves; the temperature falls from `hot` to `cold`, as shares of the load."""
    place_all(p, s)
    energy = _energy(s, _over(p, s))
    cooling = (cold / hot) ** (1.0 / moves)
    temperature = hot
    made = 0
    busy = 0
    for _ in range(moves):
        temperature *= cooling
        unit = _pick_unit(p, s, run)
        target = _pick_target(p, s, run, unit)
        source = s.devices[unit]
        if target == source or p.seconds[unit, target] == np.inf:
            continue
        # There and, where that is no good, back: one call, for it is inlined.
        accepted = True
        goal = target
        over, after = 0.0, 0.0
        for way in range(2):
            move_unit(p, s, unit, goal)
            if way == 1:
                break
            over = _over(p, s)
            after = _energy(s, over)
            if after <= energy or _draw(run) < np.exp((energy - after) / temperature):
                break
            accepted = False
            goal = source
        if not accepted:
            continue
        energy = after
        run.moved[made] = unit
        run.sources[made] = source
        made += 1
        if made % _REFRESH == 0:
            add_up(s)
        if over == 0.0 and s.loads[busy] < run.figures[0]:
            # Look at all loads only where the one that was too large the last time no longer is.
            for resource in range(s.loads.size):
                if s.loads[resource] > s.loads[busy]:
                    busy = resource
            if s.loads[busy] < run.figures[0]:
                run.figures[0] = s.loads[busy]
                run.lengths[1] = made
    run.lengths[0] = made
