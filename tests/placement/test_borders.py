"""Pieces of a linear order, and the search that moves their borders by the engine's word."""

from itertools import combinations

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster

from graphs.graph import Graph
from graphs.kinds import Phase
from placement.placer import Budget
from placement.problem import Problem
from placement.simplicity import is_contiguous
from placement.throughput.border_search import search_borders
from placement.throughput.engine_choice import simulated_split
from placement.throughput.load_problem import channel_problem
from placement.throughput.pieces import Pieces, looped_pieces, pieces_of
from placement.throughput.pipeline import plan_pipeline
from placement.throughput.request import Throughput
from placement.throughput.splits import Split, split_of

POSITIONS = np.array([0, 1, 2, 3, 3, 4], np.int32)


def test_pieces_are_runs_of_one_device_along_the_order() -> None:
    units = np.array([1, 1, 0, 0, 0, 1], np.int32)
    pieces = pieces_of(POSITIONS, units)
    assert (pieces.firsts, pieces.devices) == ((0, 2, 4), (1, 0, 1))
    assert pieces.units.tolist() == units.tolist()
    assert [pieces.length(piece) for piece in range(3)] == [2, 2, 1]


def test_a_border_moves_and_leaves_no_piece_empty() -> None:
    pieces = Pieces(POSITIONS, (0, 2, 4), (1, 0, 1))
    moved = pieces.shifted(1, -1)
    assert moved is not None
    assert moved.units.tolist() == [1, 0, 0, 0, 0, 1]
    assert pieces.shifted(1, -2) is None
    assert pieces.shifted(1, 2) is None
    assert pieces.shifted(2, 1) is None
    assert pieces.swapped(0, 1).units.tolist() == [0, 0, 1, 1, 1, 1]


def chain(seconds: list[int], training: bool = False) -> Graph:
    """Forward ops, and where asked for the backward op of each, twice as long, and updates."""
    records = [
        op(f"f{i}", each, (f"f{i - 1}",) if i else (), 1, colocation=f"u{i}")
        for i, each in enumerate(seconds)
    ]
    if training:
        last = f"f{len(seconds) - 1}"
        for i in reversed(range(len(seconds))):
            inputs = (last, f"f{i}")
            records.append(
                op(f"b{i}", 2 * seconds[i], inputs if last != f"f{i}" else (last,), 1,
                   phase=Phase.BACKWARD, colocation=f"u{i}")
            )  # fmt: skip
            last = f"b{i}"
            records.append(op(f"w{i}", 0, (last,), phase=Phase.UPDATE, colocation=f"u{i}"))
    return graph_of(*records)


def test_pieces_come_to_each_device_in_turn_with_equal_time() -> None:
    problem = channel_problem(Problem(chain([1] * 8), toy_cluster(2)), Throughput())
    positions = np.arange(8, dtype=np.int32)
    looped = looped_pieces(problem, positions, (1, 0), 2)
    assert looped is not None
    assert looped.units.tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert looped_pieces(problem, positions, (0, 1), 5) is None, "ten pieces of eight units"


@pytest.mark.parametrize("seed", range(4))
def test_the_search_finds_the_best_borders_of_a_training_pipeline(seed: int) -> None:
    """All cuts of a chain of nine into three are tried: the search comes to the best of them."""
    rng = np.random.default_rng(seed)
    graph = chain(rng.integers(1, 9, 9).tolist(), training=True)
    problem = Problem(graph, toy_cluster(3, bytes_per_second=1e3))
    request = Throughput(micro_batches=4)
    loads = channel_problem(problem, request)
    positions = np.arange(9, dtype=np.int32)

    def judge(pieces: Pieces, like: Split | None = None) -> Split:
        split = split_of(loads, "cut", pieces.units)
        return simulated_split(problem, problem.simulator, split, request)

    every = [Pieces(positions, (0, a, b), (0, 1, 2)) for a, b in combinations(range(1, 9), 2)]
    least = min(judge(pieces).period_seconds for pieces in every)
    found = search_borders([every[0]], judge, Budget(3.0), seed, goal_seconds=least)
    assert found is not None
    assert found.period_seconds == least


def test_a_device_that_comes_twice_stands_still_for_less() -> None:
    """Of two micro-batches on two devices a third is bubble; pieces in turn fill some of it."""
    problem = Problem(chain([1] * 8, training=True), toy_cluster(2, bytes_per_second=1e6))
    found = plan_pipeline(problem, Budget(2.0), 0, Throughput(micro_batches=2))
    periods = {split.name: split.period_seconds for split in (found.best, *found.others)}
    assert periods["interleaved"] < 0.95 * min(periods["contiguous"], periods["search"])
    one_each = plan_pipeline(problem, Budget(1.0), 0, Throughput(micro_batches=2, contiguous=True))
    assert "interleaved" not in {split.name for split in (one_each.best, *one_each.others)}
    assert is_contiguous(problem.graph, one_each.best.devices)
