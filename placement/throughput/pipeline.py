"""Plans for steps that overlap: the shortest period, beside what other tools cut by.

Splits come from exact cuts of linear orders, from all contiguous splits where these can be listed,
from runs of equal layers, bytes and flops, and from pieces that come to each device in turn. All of
them run in the event engine, and a local search moves the borders of the best. Of splits about as
good, the one that sends the fewest tensors is taken. Where tensors go through the host, loads
decide instead, and the local search is over all placements of units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int32

from placement.placer import Budget
from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.simplicity import is_contiguous
from placement.throughput.border_search import badness, search_borders
from placement.throughput.chain_split import ChainSplit, split_order
from placement.throughput.contiguous import best_contiguous_split
from placement.throughput.engine_choice import (
    decided_by_engine,
    simulated_alike,
    simulated_split,
    steps_simulator,
    too_many,
)
from placement.throughput.equal_cuts import equal_cuts
from placement.throughput.held_memory import most_steps_held
from placement.throughput.linear_orders import linear_orders
from placement.throughput.load_problem import (
    LoadProblem,
    channel_problem,
    load_problem,
    op_shares,
)
from placement.throughput.load_search import search_loads
from placement.throughput.period_bound import period_bound
from placement.throughput.pieces import Pieces, looped_pieces, pieces_of
from placement.throughput.replication import ReplicatedSplit, replicated_split
from placement.throughput.request import Throughput, Transfers
from placement.throughput.schedules import StepsSimulator, default_in_flight, is_training
from placement.throughput.splits import Split, pipeline_plan, simplest_of, split_of, stages_of
from placement.throughput.stage_memory import fitted_stages
from simulator.clusters.device_specs import PCIE
from simulator.errors import InfeasibleError

#: More ideals than that are not listed for `place`: the exact split takes seconds.
_MOST_IDEALS = 20_000
#: Units of which ideals are counted.
_MOST_UNITS = 4000
#: A replicated split is told of where it is faster by such a share.
_WORTH_TELLING = 0.01
#: Search ends where the period is this close to the bound.
_AT_BOUND = 1e-4
#: Of the time that is left once exact cuts are known; the event engine needs the rest.
_SEARCH_SHARE = 0.75
#: What cuts of linear orders are called, of which only the best is told.
_CONTIGUOUS, _CUT = "contiguous", "cut "
#: Splits whose borders are searched.
_STARTS = 4

Units = Int32[np.ndarray, " units"]


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The split to run, and the others."""

    best: Split
    """Of those whose periods are alike, the one with the fewest crossings."""
    others: tuple[Split, ...]
    bound_seconds: float
    """No placement has a shorter period: all work spread perfectly within memory."""
    latency_seconds: float
    """Of one step: from its release to its end among others where the event engine was asked, else
    on its own."""
    in_flight: int
    """Steps on the way at once."""
    stages: tuple[Mapping[str, Any], ...] = ()
    """Plain values for each device in use, in the order in which a step comes to them."""
    replicated: ReplicatedSplit | None = None
    """Stages on several devices each, where that is faster by their loads."""

    @property
    def period_seconds(self) -> float:
        return self.best.period_seconds

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        replicated = {} if self.replicated is None else {"replicated": self.replicated.as_dict()}
        return {
            "objective": "throughput",
            "period_seconds": self.best.period_seconds,
            "latency_seconds": self.latency_seconds,
            "steps_per_second": 1.0 / max(self.best.period_seconds, 1e-300),
            "period_bound_seconds": self.bound_seconds,
            "in_flight": self.in_flight,
            "splits": {
                split.name: split.period_seconds
                for split in (self.best, *self.others)
                if split.fits
            },
            "stages": list(self.stages),
            **replicated,
        }


def hop_bytes_per_second(problem: Problem) -> float:
    """Between a device and the host: the slowest PCI Express of the cluster's devices."""
    kinds = {device.kind for device in problem.cluster.devices}
    return min(PCIE.get(kind, PCIE["a100"]).bytes_per_second for kind in kinds)


def plan_pipeline(
    problem: Problem, budget: Budget, seed: int, request: Throughput | None = None
) -> Pipeline:
    """Find the split with the shortest period.

    Args:
        budget: CPU seconds, most of them for the local search; exact cuts come first, the event
            engine last, and neither is cut short.
        seed: of the search's moves.
        request: steps in flight, micro-batches and how tensors travel; None: requests of an
            inference graph on the simulator's machine.

    Raises:
        InfeasibleError: no split was found that fits in memory, or not with as many steps in
            flight as were asked for; the message says how many fit.
    """
    request = request or Throughput()
    loads, cuts, orders = _cuts(problem, request)
    bound = period_bound(loads, op_shares(problem, request.micro_batches))
    found = {**_baselines(loads, cuts, orders), **_ideal_cut(loads)}
    for cut in cuts.values():
        for fewer in cut.fewer:
            used = len({device for stage in fewer.stages for device in stage.devices})
            found[f"{_CONTIGUOUS} on {used}"] = fewer.devices
    replicated = replicated_split(loads, orders["depth first"])
    left = max(_SEARCH_SHARE * budget.left_seconds, 0.1)
    goal = bound * (1 + _AT_BOUND)
    engine = steps_simulator(problem) if request.transfers == Transfers.CHANNELS else None
    if engine is not None and is_training(problem):
        found |= _filled(loads, engine, cuts, orders, request)
    if engine is None or not cuts:
        found["search"] = search_loads(loads, _starts(loads, found), left, seed, goal)
    # Upward ranks hardly depend on where borders are: one cut's are for all.
    some = next(iter(found.values()))[problem.unit_of]
    ranks = upward_ranks(problem, some) if engine is not None else None
    splits = [split_of(loads, name, units, ranks) for name, units in found.items()]
    if engine is not None:
        splits = [split for split in splits if np.isfinite(split.period_seconds)]
        splits = decided_by_engine(problem, engine, splits, request)
        searched = _search_borders(problem, loads, engine, request, splits, orders, budget, seed)
        splits = _best_cut(splits) + searched
    good = [split for split in splits if split.fits and np.isfinite(split.period_seconds)]
    if request.contiguous and good:
        graph = problem.graph
        good = [split for split in good if is_contiguous(graph, split.devices)]
        if not good:
            raise InfeasibleError(
                "no split into one stage for each device was found that fits in memory; allow "
                "others (leave --contiguous out)"
            )
    if not good and engine is not None and splits:
        raise InfeasibleError(too_many(problem, engine, splits, request))
    if not good:
        raise InfeasibleError(
            "no split was found whose weights fit in memory; take more devices or larger ones"
        )
    best = simplest_of(problem, good, request.transfers)
    splits = [split for split in splits if split is not best]
    if engine is not None:
        best = simulated_split(problem, engine, best, request)
    return Pipeline(
        best,
        tuple(splits),
        bound,
        _latency(problem, best),
        _in_flight(problem, best, request),
        tuple(stages_of(problem, best)),
        _worth_telling(replicated, min(good, key=_load)),
    )


def _cuts(
    problem: Problem, request: Throughput
) -> tuple[LoadProblem, dict[str, ChainSplit], dict[str, Units]]:
    """The best cut of each linear order, with as many steps held in memory as fit.

    Where no contiguous cut fits, the problem is the one with the least in memory.
    """
    if request.transfers == Transfers.HOPS:
        loads = load_problem(problem, hop_bytes_per_second(problem))
        orders = linear_orders(loads)
        return loads, _cut_all(loads, orders), orders
    steps = most_steps_held(problem, request)
    found: dict[str, ChainSplit] = {}
    while True:
        loads = channel_problem(problem, request, steps)
        orders = linear_orders(loads)
        cuts = _cut_all(loads, orders)
        # The estimate of memory is careful: cuts with fewer steps held are for the engine to judge.
        found |= {f"{name}, {steps} held" if found else name: cut for name, cut in cuts.items()}
        if steps == 1:
            return loads, found, orders
        steps = (steps + 1) // 2


def _cut_all(loads: LoadProblem, orders: Mapping[str, Units]) -> dict[str, ChainSplit]:
    cuts = ((name, split_order(loads, positions)) for name, positions in orders.items())
    return {name: cut for name, cut in cuts if cut is not None}


def _baselines(
    loads: LoadProblem, cuts: Mapping[str, ChainSplit], orders: Mapping[str, Units]
) -> dict[str, Units]:
    """What other tools do, and the best of the linear cuts."""
    fastest = int(loads.arrays.seconds.sum(axis=0).argmin())
    found = {
        **equal_cuts(loads, orders["depth first"]),
        "one device": np.full(loads.unit_count, fastest, np.int32),
    }
    if "as given" in cuts:
        found["balanced DP"] = cuts["as given"].devices
    for name, cut in cuts.items():
        found[f"{_CUT}{name}"] = cut.devices
    return found


def _search_borders(
    problem: Problem,
    loads: LoadProblem,
    engine: StepsSimulator,
    request: Throughput,
    splits: Sequence[Split],
    orders: Mapping[str, Units],
    budget: Budget,
    seed: int,
) -> list[Split]:
    """The best split with borders moved, and the best with several pieces on each device."""
    bound = period_bound(loads, op_shares(problem, request.micro_batches))

    def judge(pieces: Pieces, like: Split | None) -> Split:
        split = split_of(loads, "search", pieces.units, splits[0].priorities)
        if like is None:
            return simulated_split(problem, engine, split, request, most_schedules=2)
        return simulated_alike(problem, engine, split, request, like)

    ranked = sorted(splits, key=_rank)
    first_of_unit = np.unique(problem.unit_of, return_index=True)[1]
    units = [split.devices[first_of_unit] for split in ranked[:_STARTS]]
    whole = [
        min((pieces_of(positions, each) for positions in orders.values()), key=_piece_count)
        for each in units
    ]
    goal = bound * (1 + _AT_BOUND)
    found = [search_borders(whole, judge, Budget(budget.left_seconds / 2), seed, goal)]
    if is_training(problem) and whole[0].count > 1 and not request.contiguous:
        devices = tuple(dict.fromkeys(whole[0].devices))
        looped = [looped_pieces(loads, whole[0].positions, devices, rounds) for rounds in (2, 3, 4)]
        starts = [pieces for pieces in looped if pieces is not None]
        best = search_borders(starts, judge, budget, seed, goal)
        found += [None if best is None else replace(best, name="interleaved")]
    return [split for split in found if split is not None]


def _best_cut(splits: Sequence[Split]) -> list[Split]:
    """The same splits, but of the cuts of linear orders only the best."""
    cuts = [split for split in splits if split.name.startswith(_CUT)]
    others = [split for split in splits if split not in cuts]
    best = min(cuts, key=_rank, default=None)
    return others if best is None else [replace(best, name=_CONTIGUOUS), *others]


def _rank(split: Split) -> tuple[float, float]:
    return badness(split), split.period_seconds


def _piece_count(pieces: Pieces) -> int:
    return pieces.count


def _filled(
    loads: LoadProblem,
    engine: StepsSimulator,
    cuts: Mapping[str, ChainSplit],
    orders: Mapping[str, Units],
    request: Throughput,
) -> dict[str, Units]:
    """Stages filled by what 1F1B holds, on devices in the order of the best cut, or as given."""
    devices = list(range(loads.device_count))
    if cuts:
        best = min(cuts.values(), key=lambda cut: cut.seconds)
        used = [device for stage in best.stages for device in stage.devices]
        devices = used if len(used) == loads.device_count else devices
    units = fitted_stages(loads, engine, orders["depth first"], devices, request.micro_batches)
    return {} if units is None else {f"{_CUT}depth first, by memory": units}


def _ideal_cut(loads: LoadProblem) -> dict[str, Units]:
    """The best of all contiguous splits, where devices are alike and its ideals can be listed."""
    seconds = loads.arrays.seconds
    cores, accelerators = np.flatnonzero(loads.sends == 0), np.flatnonzero(loads.sends)
    alike = all((seconds[:, kind] == seconds[:, kind[:1]]).all() for kind in (cores, accelerators))
    if not alike or loads.unit_count > _MOST_UNITS:
        return {}
    if loads.transfers == Transfers.CHANNELS and cores.size:
        return {}  # there cores pay for transfers
    try:
        split = best_contiguous_split(loads, _MOST_IDEALS)
    except InfeasibleError:
        return {}
    return {} if split is None else {"contiguous, exact": split.devices}


def _starts(loads: LoadProblem, found: Mapping[str, Units]) -> list[Units]:
    """Each placement once; those that cannot run are no starts where any can."""
    distinct = list({units.tobytes(): units for units in found.values()}.values())
    units = np.arange(loads.unit_count)
    runs = [item for item in distinct if np.isfinite(loads.arrays.seconds[units, item]).all()]
    return runs or [loads.arrays.seconds.argmin(axis=1).astype(np.int32)]


def _latency(problem: Problem, split: Split) -> float:
    if split.simulated is not None:
        return split.simulated.latency_seconds
    return problem.simulator.evaluate(pipeline_plan(problem, split)).makespan_seconds


def _in_flight(problem: Problem, split: Split, request: Throughput) -> int:
    if split.simulated is not None:
        return split.simulated.schedule.in_flight
    return default_in_flight(problem, split.device_count, request)


def _load(split: Split) -> float:
    return split.load_seconds


def _worth_telling(found: ReplicatedSplit | None, best: Split) -> ReplicatedSplit | None:
    """A replicated split that is faster than the best one without, by their loads."""
    if found is None or not found.replicates:
        return None
    return found if found.period_seconds < best.load_seconds * (1 - _WORTH_TELLING) else None
