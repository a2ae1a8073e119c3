"""Local search for the least largest load, over all placements of units, contiguous or not."""

import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from placement.throughput.load_problem import LoadArrays, LoadProblem, device_loads
from placement.throughput.load_state import LoadState, load_state, move_unit, place_all
from simulator.compiled import compiled
from simulator.kernel_checks import check_indices, check_record

#: Loads count by this power: near the largest, with a sense of the others.
_POWER = 12.0
#: Memory over capacity, as a share of it, costs so many times the energy.
_MISFIT = 20.0
_MOVES = 20_000
_HOT, _COLD = 0.03, 1e-5


class Draws(NamedTuple):
    """Random numbers of a run, one of each for every move."""

    units: Int32[np.ndarray, " moves"]
    targets: Int32[np.ndarray, " moves"]
    follow: Float64[np.ndarray, " moves"]
    chances: Float64[np.ndarray, " moves"]


def search_loads(
    problem: LoadProblem,
    starts: list[Int32[np.ndarray, " units"]],
    cpu_seconds: float,
    seed: int,
) -> Int32[np.ndarray, " units"]:
    """Anneal from each start in turn until the time is spent; never worse than the best start.

    Args:
        starts: placements of units; those that fit are the floor.
        cpu_seconds: of this process.
        seed: of the moves; the result depends on the time as well.
    """
    check_record(problem.arrays)
    begun = time.process_time()
    rng = np.random.default_rng(seed)
    best, least = starts[0], np.inf
    for start in starts:
        key = _judged(problem, start)
        if key < least:
            best, least = start, key
    rounds = 0
    while time.process_time() - begun < cpu_seconds:
        start = starts[rounds % len(starts)] if rounds < len(starts) or rounds % 3 else best
        found, key = _anneal(problem, start, rng)
        if key < least:
            best, least = found, key
        rounds += 1
    return best


def _judged(problem: LoadProblem, devices: Int32[np.ndarray, " units"]) -> float:
    held = np.bincount(devices, problem.arrays.memory_bytes, problem.device_count)
    over = np.maximum(held - problem.arrays.capacity_bytes, 0) / problem.arrays.capacity_bytes
    worst = float(device_loads(problem, devices).max())
    return worst if not over.any() else 1e12 * (1 + float(over.sum()))


def _anneal(
    problem: LoadProblem, start: Int32[np.ndarray, " units"], rng: np.random.Generator
) -> tuple[Int32[np.ndarray, " units"], float]:
    p = problem.arrays
    check_indices("start", start, problem.device_count)
    state = load_state(p, start)
    kept = start.copy()
    moves = max(_MOVES, 200 * problem.unit_count)
    units = rng.integers(0, problem.unit_count, moves).astype(np.int32)
    targets = rng.integers(0, problem.device_count, moves).astype(np.int32)
    follow = rng.random(moves)
    chances = rng.random(moves)
    heat = _HOT * np.exp(rng.uniform(-3, 0))
    _run(p, state, kept, Draws(units, targets, follow, chances), heat, _COLD)
    return kept, _judged(problem, kept)


@compiled
def _energy(p: LoadArrays, s: LoadState) -> float:
    largest = 0.0
    for device in range(s.loads.size):
        largest = max(largest, s.loads[device])
    if not 0.0 < largest < np.inf:
        return largest
    total = 0.0
    over = 0.0
    for device in range(s.loads.size):
        total += (s.loads[device] / largest) ** _POWER
        over += max(s.held_bytes[device] / p.capacity_bytes[device] - 1.0, 0.0)
    return largest * total ** (1.0 / _POWER) * (1.0 + _MISFIT * over + (over > 0.0))


@compiled
def _run(
    p: LoadArrays,
    s: LoadState,
    kept: Int32[np.ndarray, " units"],
    draws: Draws,
    hot: float,
    cold: float,
) -> None:
    place_all(p, s)
    energy = _energy(p, s)
    least = np.inf
    moves = draws.units.size
    for move in range(moves):
        unit = draws.units[move]
        target = draws.targets[move]
        if draws.follow[move] < 0.6:
            # To where a neighbour is.
            first, last = p.touched_offsets[unit], p.touched_offsets[unit + 1]
            if last > first:
                tensor = p.touched[first + int(draws.follow[move] / 0.6 * (last - first))]
                other = p.makers[tensor]
                if other == unit:
                    begin, end = p.reader_offsets[tensor], p.reader_offsets[tensor + 1]
                    other = p.readers[begin + int(draws.chances[move] * (end - begin))]
                target = s.devices[other]
        source = s.devices[unit]
        if target == source or p.seconds[unit, target] == np.inf:
            continue
        move_unit(p, s, unit, target)
        after = _energy(p, s)
        temperature = hot * (cold / hot) ** (move / moves)
        if after > energy and draws.chances[move] >= np.exp(
            (energy - after) / (temperature * energy)
        ):
            move_unit(p, s, unit, source)
            continue
        energy = after
        worst = 0.0
        fits = True
        for device in range(s.loads.size):
            worst = max(worst, s.loads[device])
            fits = fits and s.held_bytes[device] <= p.capacity_bytes[device]
        if fits and worst < least:
            least = worst
            for other in range(kept.size):
                kept[other] = s.devices[other]
