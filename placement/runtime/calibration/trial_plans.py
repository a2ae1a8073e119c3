"""Plans to calibrate and to be judged by: from sensible to chatty, all drawn from a seed."""

import numpy as np
from jaxtyping import Int32

from placement.placer import Budget, silent
from placement.placers.portfolio import portfolio
from placement.placers.registry import get_placer
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.plan import Plan

#: Of search, where a plan of it is wanted.
_SEARCH_SECONDS = 5.0


def trial_plans(
    problem: Problem, count: int, seed: int, *, searched: bool = False
) -> dict[str, Plan]:
    """Named plans of a problem.

    The first is everything on one device, the second the best of all heuristics, with `searched`
    the third what a search finds. The rest take turns:

    - the graph's order cut into pieces on devices that take turns, a share of the units moved;
    - the portfolio's plan, a share of the units moved;
    - stripes: every so many levels of the graph on the next device, so that most of what is made is
      sent, and devices wait for each other;
    - every unit anywhere.

    Every other plan is run in the order of the graph, or against its critical path.
    """
    graph, devices = problem.graph, problem.cluster.device_count
    best = portfolio(problem, Budget(10.0), seed, silent).best.plan
    named = {"one device": Plan.of(np.zeros(graph.op_count, np.int32)), "portfolio": best}
    if searched:
        found = get_placer("search")(problem, Budget(_SEARCH_SECONDS), seed, silent)
        named["search"] = found.best.plan
    random = np.random.default_rng(seed)
    first = np.unique(problem.unit_of, return_index=True)[1]
    levels = _levels(problem)
    while len(named) < count:
        number = len(named)
        kind = number % 4
        moved = float(random.choice([0.02, 0.1, 0.3])) if kind < 2 else 0.0
        if kind == 0:
            pieces = int(random.integers(1, 2 + 2 * devices))
            cuts = np.sort(random.integers(0, graph.op_count, pieces))
            base = np.searchsorted(cuts, np.arange(graph.op_count), side="right")
            name = f"{pieces} cuts, {moved:.0%} moved"
        elif kind == 1:
            base, name = best.devices.copy(), f"portfolio, {moved:.0%} moved"
        elif kind == 2:
            width = int(random.choice([1, 1, 2, 4]))
            base, name = levels // width, f"stripes of {width}"
        else:
            moved, base, name = 1.0, levels, "anywhere"
        per_unit = ((base + random.integers(devices)) % devices)[first]
        drawn = random.random(len(first)) < moved
        per_unit[drawn] = random.integers(0, devices, int(drawn.sum()))
        placed = per_unit[problem.unit_of].astype(np.int32)
        ranks = upward_ranks(problem, placed)
        order = int(random.integers(4))
        priorities = (ranks, ranks, None, -ranks)[order]
        ordered = ("", "", ", graph order", ", reversed")[order]
        named[f"{number}: {name}{ordered}"] = Plan.of(placed, priorities)
    return named


def _levels(problem: Problem) -> Int32[np.ndarray, " ops"]:
    """How many ops stand before each on the longest chain."""
    graph = problem.graph
    level = np.zeros(graph.op_count, np.int32)
    for op in range(graph.op_count):
        for tensor in graph.inputs_of(op).tolist():
            level[op] = max(level[op], level[graph.tensor_producers[tensor]] + 1)
    return level
