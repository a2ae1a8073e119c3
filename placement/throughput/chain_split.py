"""The best cut of a linear order into stages, on devices that may be unlike or stay empty.

`best[j, l, u]` is the least largest load of placing the first j pieces on u devices of each kind,
the last stage on kind l: the dynamic program of PipeDream (Narayanan et al., SOSP 2019, section
3.1) with devices counted by kind, so that their order in the pipeline and which of them stay out
are decided too. A stage may have several devices, of which each takes every r-th step.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from placement.throughput.chain import Chain, even_pieces, make_chain, pieces_near
from placement.throughput.load_problem import LoadProblem
from placement.throughput.request import Transfers
from placement.throughput.stage_kernel import StageTables, StageWalk, fill_best
from simulator.kernel_checks import check_record

#: Steps of the dynamic program that are paid for one split, about a second.
_WORK = 2e8
_MOST_PIECES, _FEWEST_PIECES = 1500, 60
#: With more counts of devices by kind the devices keep the order of their pace.
_MOST_COUNTS = 1024
#: Stages longer than the ideal by so much are left out; the next one where nothing was found.
_SLACKS = (1.25, 3.0, np.inf)


class ChainStage(NamedTuple):
    """Consecutive pieces on a device, or on several that take turns."""

    first: int
    """Piece."""
    end: int
    """The piece after the last."""
    devices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ChainSplit:
    """Stages, and what the dynamic program counts of them."""

    chain: Chain
    stages: tuple[ChainStage, ...]
    seconds: float
    """The largest load, as if every tensor came from the stage before."""
    fewer: tuple["ChainSplit", ...] = ()
    """The best of the same pieces on each smaller number of devices."""

    @property
    def devices(self) -> Int32[np.ndarray, " units"]:
        """The first device of each unit's stage."""
        of_piece = np.zeros(self.chain.count, np.int32)
        for stage in self.stages:
            of_piece[stage.first : stage.end] = stage.devices[0]
        return of_piece[self.chain.piece_of]


def split_order(
    problem: LoadProblem,
    positions: Int32[np.ndarray, " units"],
    most_replicas: int = 1,
    most_pieces: int | None = None,
) -> ChainSplit | None:
    """The best cut of an order; None where nothing fits in memory.

    The order is cut into pieces first, and anew with single positions around the borders of the
    split that was found. It is exact where there are no more positions than pieces.

    Args:
        positions: of units; those at one position stay together.
        most_replicas: devices that a stage may have.
        most_pieces: instead of as many as take about a second.
    """
    kinds = device_kinds(problem)
    most = _affordable_pieces(kinds, most_replicas) if most_pieces is None else most_pieces
    found = split_chain(
        problem, make_chain(problem, even_pieces(problem, positions, most)), kinds, most_replicas
    )
    if found is None or found.chain.count > int(positions.max()):
        return found
    ends = np.array([stage.first for stage in found.stages if stage.first], np.int64)
    first_position = np.full(found.chain.count, np.iinfo(np.int32).max, np.int64)
    np.minimum.at(first_position, found.chain.piece_of, positions)
    near = pieces_near(problem, positions, first_position[ends], most)
    finer = split_chain(problem, make_chain(problem, near), kinds, most_replicas)
    return finer if finer is not None and finer.seconds <= found.seconds else found


def device_kinds(problem: LoadProblem) -> list[list[int]]:
    """Devices that are alike in every respect but their links, in their order.

    Where there are too many kinds, one list of all devices, the fastest first.
    """
    cluster = problem.problem.cluster
    seconds = problem.arrays.seconds
    kinds: dict[tuple[object, ...], list[int]] = {}
    for number, device in enumerate(cluster.devices):
        alike = (device.memory_bytes, device.host, seconds[:, number].tobytes())
        kinds.setdefault(alike, []).append(number)
    found = list(kinds.values())
    if np.prod([float(len(kind) + 1) for kind in found]) <= _MOST_COUNTS:
        return found
    finite = np.where(np.isfinite(seconds), seconds, 0.0).sum(axis=0)
    finite[np.isinf(seconds).any(axis=0)] = np.inf
    return [np.argsort(finite, kind="stable").tolist()]


def _affordable_pieces(kinds: list[list[int]], most_replicas: int) -> int:
    states = float(np.prod([len(kind) + 1 for kind in kinds])) * len(kinds) ** 2
    pieces = int((2 * _WORK / (states * most_replicas)) ** 0.5)
    return min(_MOST_PIECES, max(_FEWEST_PIECES, pieces))


def split_chain(
    problem: LoadProblem, chain: Chain, kinds: list[list[int]], most_replicas: int = 1
) -> ChainSplit | None:
    """The best cut between pieces, exactly; None where nothing fits in memory."""
    tables = _tables(problem, chain, kinds, most_replicas)
    states = len(tables.used) * len(kinds)
    walk = StageWalk(
        best=np.full((chain.count + 1, states), np.inf),
        came_from=np.full((chain.count + 1, states), -1, np.int32),
        came_state=np.full((chain.count + 1, states), -1, np.int32),
        inside=np.zeros(chain.count, np.int8),
        counts=np.zeros(len(chain.makers), np.int32),
        weight_counts=np.zeros(len(chain.weight_bytes), np.int32),
        flows=np.zeros(4),
    )
    check_record(tables)
    check_record(tables.costs)
    check_record(walk)
    ideal = _shared_evenly(problem, chain)
    for slack in _SLACKS:
        walk.best[:] = np.inf
        walk.best[0, 0] = 0.0  # of the states without any device one is enough
        fill_best(tables, walk, ideal * slack)
        end = walk.best[-1]
        if np.isfinite(end.min()):
            break
    else:
        return None
    order = np.argsort(end, kind="stable")
    used = np.tile(tables.used.sum(axis=1), len(kinds))[order]
    best, *others = (
        ChainSplit(chain, _read_back(tables, walk, kinds, int(state)), float(end[state]))
        for at, state in enumerate(order)
        if np.isfinite(end[state]) and used[at] < used[:at].min(initial=used[0] + 1)
    )
    return replace(best, fewer=tuple(others))


def _shared_evenly(problem: LoadProblem, chain: Chain) -> float:
    """All compute spread over the devices by their pace: about the least that is possible."""
    whole = chain.seconds_before[-1]
    pace = sum(1.0 / seconds for seconds in whole.tolist() if 0.0 < seconds < np.inf)
    largest = np.diff(chain.seconds_before, axis=0).min(axis=1).max(initial=0.0)
    return max(1.0 / pace if pace else 1.0, float(largest), 1e-30)


def _tables(
    problem: LoadProblem, chain: Chain, kinds: list[list[int]], most_replicas: int
) -> StageTables:
    sizes = [len(kind) + 1 for kind in kinds]
    strides = np.cumprod([1, *sizes[:-1]]).astype(np.int64)
    numbers = np.arange(int(np.prod(sizes)))
    used = np.stack(
        [(numbers // stride) % size for stride, size in zip(strides, sizes, strict=True)], axis=1
    )
    widest = max(len(kind) for kind in kinds)
    members = np.full((len(kinds), widest), -1, np.int32)
    for row, kind in zip(members, kinds, strict=True):
        row[: len(kind)] = kind
    return StageTables(
        seconds_before=chain.seconds_before,
        bytes_before=chain.bytes_before,
        updated_before=chain.updated_before,
        makers=chain.makers,
        sizes=chain.sizes,
        shares=chain.shares,
        degrees=chain.degrees,
        touched_offsets=chain.touched_offsets,
        touched=chain.touched,
        weight_bytes=chain.weight_bytes,
        weight_offsets=chain.weight_offsets,
        weights=chain.weights,
        capacity_bytes=problem.arrays.capacity_bytes,
        used=used.astype(np.int32),
        strides=strides,
        members=members,
        kind_sizes=np.array([len(kind) for kind in kinds], np.int32),
        overlaps=problem.transfers == Transfers.CHANNELS,
        most_replicas=most_replicas,
        costs=problem.arrays.costs,
    )


def _read_back(
    t: StageTables, walk: StageWalk, kinds: list[list[int]], state: int
) -> tuple[ChainStage, ...]:
    count = len(t.used)
    piece = len(walk.best) - 1
    stages: list[ChainStage] = []
    while piece > 0:
        first, before = int(walk.came_from[piece, state]), int(walk.came_state[piece, state])
        kind = state // count
        low, high = int(t.used[before % count, kind]), int(t.used[state % count, kind])
        stages.append(ChainStage(first, piece, tuple(kinds[kind][low:high])))
        piece, state = first, before
    stages.reverse()
    if any(early.end != late.first for early, late in pairwise(stages)):
        raise AssertionError("stages do not follow each other")
    return tuple(stages)
