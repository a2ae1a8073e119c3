"""Placers without search: each gives a few placements, of which the best feasible one counts."""

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress

import numpy as np

from placement.heuristics.layers import contiguous, unit_layers
from placement.heuristics.list_scheduling import ListScheduling, schedule
from placement.heuristics.ready_scheduling import earliest_start
from placement.partition import cut, unit_graph
from placement.placer import Budget, Candidate, OnProgress, Placed
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.plan import Plan

#: Shares of memory that estimates may fill, tried in turn until the simulator agrees.
_MEMORY_SHARES = (1.0, 0.9, 0.75, 0.6)

#: A person leaves devices idle that take this many times as long as the fastest.
_SLOW_DEVICE = 4.0

#: Graphs of more ops are large: what a heuristic may try on them is weighed against its time.
_LARGE_OPS = 30_000

#: Yields (name, device of each op); each is answered by whether it fits in memory.
Placements = Generator[tuple[str, np.ndarray], bool, None]
Heuristic = Callable[[Problem, int], Placements]


def candidate(problem: Problem, devices: np.ndarray, origin: str) -> Candidate:
    """Score a placement under critical-path priorities."""
    plan = Plan.of(devices, upward_ranks(problem, devices))
    return Candidate(plan, problem.evaluate(plan), origin)


class HeuristicPlacer:
    """A `Placer` from a function that yields placements."""

    def __init__(self, heuristic: Heuristic) -> None:
        self.heuristic = heuristic
        self.__doc__ = heuristic.__doc__  # what tables say of the placer

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """All placements, whatever the budget."""
        return self.until(problem, seed)

    def until(
        self, problem: Problem, seed: int, limit: Budget | None = None, fits: bool = False
    ) -> Placed:
        """Placements until the limit is spent and there is one that fits in memory; all of them
        where there is no limit.

        Args:
            fits: whether there is one already, by others.
        """
        placements = self.heuristic(problem, seed)
        candidates: list[Candidate] = []
        name, devices = next(placements)
        with suppress(StopIteration):
            while True:
                candidates.append(candidate(problem, devices, name))
                fits = fits or candidates[-1].evaluation.feasible
                if limit is not None and limit.is_spent and fits:
                    break
                name, devices = placements.send(candidates[-1].evaluation.feasible)
        best = min(candidates, key=lambda item: item.rank_key)
        return Placed(best, tuple(candidates), evaluations=len(candidates))


def device_order(problem: Problem) -> np.ndarray:
    """Devices from the fastest to the slowest, for the whole graph; ties by number."""
    seconds = problem.seconds
    typical = np.where(np.isfinite(seconds), seconds, np.nanmax(seconds[np.isfinite(seconds)]))
    return np.argsort(typical.sum(axis=0), kind="stable").astype(np.int32)


def device_shares(problem: Problem, chosen: np.ndarray) -> np.ndarray:
    """Share of the work that makes the chosen devices finish together."""
    seconds = np.where(np.isfinite(problem.seconds), problem.seconds, 0.0).sum(axis=0)
    speeds = 1 / np.maximum(seconds[chosen], 1e-300)
    return speeds / speeds.sum()


def single_device(problem: Problem, seed: int) -> Placements:
    """Everything on one device, where constraints allow."""
    for device in device_order(problem).tolist():
        wanted = np.full(problem.unit_count, device, np.int32)
        first = problem.unit_allowed.argmax(axis=1).astype(np.int32)
        allowed = problem.unit_allowed[:, device]
        name = f"single:{problem.cluster.device_names[device]}"
        yield name, np.where(allowed, wanted, first)[problem.unit_of]


def round_robin(problem: Problem, seed: int) -> Placements:
    """Units to devices in turn."""
    number = np.cumsum(problem.unit_allowed, axis=1)  # of the devices that a unit may run on
    wanted = np.arange(problem.unit_count) % number[:, -1] + 1
    devices = (number == wanted[:, None]).argmax(axis=1).astype(np.int32)
    yield "round-robin", devices[problem.unit_of]


def human_expert(problem: Problem, seed: int) -> Placements:
    """Contiguous by depth, the same number of layers on each device that is not far slower."""
    layers = unit_layers(problem)
    order = np.argsort(layers, kind="stable")
    depths = np.empty(problem.unit_count)
    depths[order] = np.diff(layers[order], prepend=0.0)
    load = np.where(np.isfinite(problem.seconds), problem.seconds, 0.0).sum(axis=0)
    devices = np.flatnonzero(load <= _SLOW_DEVICE * load.min()).astype(np.int32)
    equal = np.ones(len(devices))
    yield "human-expert", contiguous(problem, layers, depths, devices, equal)


def layers_balanced(problem: Problem, seed: int) -> Placements:
    """Contiguous by depth, balanced by measured cost, on k of D devices, within memory."""
    layers = unit_layers(problem)
    units = unit_graph(problem)
    order = device_order(problem)
    for count in range(1, problem.cluster.device_count + 1):
        chosen = np.sort(order[:count])
        for blend in (0.0, 0.5, 1.0) if count > 1 else (0.0,):
            work = units.work_seconds / max(units.work_seconds.sum(), 1e-300)
            held = units.resident_bytes / max(units.resident_bytes.sum(), 1.0)
            weights = (1 - blend) * work + blend * held
            memory = (
                problem.cluster.memory_bytes[chosen] / problem.cluster.memory_bytes[chosen].sum()
            )
            shares = (1 - blend) * device_shares(problem, chosen) + blend * memory
            yield f"layers:{count}:{blend}", contiguous(problem, layers, weights, chosen, shares)


def metis_all(problem: Problem, seed: int) -> Placements:
    """METIS on all devices, shares by speed."""
    yield from _metis(problem, seed, (problem.cluster.device_count,), (0.0,))


def metis_subsets(problem: Problem, seed: int) -> Placements:
    """METIS on k of D devices, balanced by compute, by memory, or by both."""
    yield from _metis(problem, seed, range(1, problem.cluster.device_count + 1), (0.0, 0.5, 1.0))


def _metis(
    problem: Problem, seed: int, counts: Sequence[int], blends: Sequence[float]
) -> Placements:
    units = unit_graph(problem)
    order = device_order(problem)
    numbers = np.arange(problem.unit_count)
    for count in counts:
        chosen = order[:count]
        for blend in blends if count > 1 else blends[:1]:
            part = cut(units, count, seed, device_shares(problem, chosen), blend)
            wanted = chosen[part]
            allowed = problem.unit_allowed[numbers, wanted]
            fallback = problem.unit_allowed.argmax(axis=1)
            devices = np.where(allowed, wanted, fallback).astype(np.int32)
            yield f"metis:{count}:{blend}", devices[problem.unit_of]


def heft(problem: Problem, seed: int) -> Placements:
    """Topcuoglu et al., HEFT (2002): mean upward ranks, earliest finish with insertion."""
    order = _order(problem, 1.0)
    for share in _MEMORY_SHARES:
        choice = ListScheduling(contention=False, memory_share=share)
        if (yield f"heft:{share}", schedule(problem, order, choice)):
            return


def eft_grid(problem: Problem, seed: int) -> Placements:
    """Earliest finish with contended links, over a grid of weights and of k of D devices: all
    devices first, for on large graphs there may not be time for all of it. There, one order of ops
    does nearly as well as three (`benchmarks/results/heuristics_worth.md`)."""
    large = problem.graph.op_count > _LARGE_OPS
    yield from _eft(problem, _RANK_WEIGHTS[:1] if large else _RANK_WEIGHTS)


def eft_full_grid(problem: Problem, seed: int) -> Placements:
    """The grid with all orders of ops, however large the graph is."""
    yield from _eft(problem, _RANK_WEIGHTS)


#: How much transfers count in the ranks by which ops are ordered; the first is worth the most.
_RANK_WEIGHTS = (1.0, 0.0, 3.0)


def _eft(problem: Problem, rank_weights: Sequence[float]) -> Placements:
    fastest_first = device_order(problem)
    count = problem.cluster.device_count
    orders = [(rank_weight, _order(problem, rank_weight)) for rank_weight in rank_weights]
    for used in reversed(_subset_sizes(count)):
        mask = np.zeros(count, bool)
        mask[fastest_first[:used]] = True
        for transfer_weight in (1.0, 0.5, 3.0, 0.0):
            for rank_weight, order in orders:
                for share in _MEMORY_SHARES:
                    choice = ListScheduling(transfer_weight, memory_share=share)
                    name = f"eft:{rank_weight}:{transfer_weight}:{used}:{share}"
                    if (yield name, schedule(problem, order, choice, mask)):
                        break


def m_etf(problem: Problem, seed: int) -> Placements:
    """Baechi's m-ETF."""
    for share in _MEMORY_SHARES:
        if (yield f"m-etf:{share}", earliest_start(problem, favourites=False, memory_share=share)):
            return


def m_sct(problem: Problem, seed: int) -> Placements:
    """Baechi's m-SCT, with a greedy matching for its linear program."""
    for share in _MEMORY_SHARES:
        if (yield f"m-sct:{share}", earliest_start(problem, favourites=True, memory_share=share)):
            return


def _order(problem: Problem, communication: float) -> np.ndarray:
    """Ops by upward rank, ties and zero-cost chains in graph order."""
    ranks = upward_ranks(problem, communication=communication)
    return np.argsort(-ranks, kind="stable").astype(np.int32)


def _subset_sizes(count: int) -> list[int]:
    """How many devices to try: all, and of the rest at most four, down to two."""
    return sorted({count, *range(2, min(count, 4) + 1), count // 2, 3 * count // 4} - {0, 1} or {1})
