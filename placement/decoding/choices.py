"""What is decided, in which order: units, with what takes no time going along with its readers."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32

from placement.priorities import upward_ranks
from placement.problem import Problem

#: Views of views of sources, at most so many deep, go along.
_DEPTH = 8


@dataclass(frozen=True, eq=False)
class Choices:
    """The decisions of a problem. A *choice* is a device for one unit and for those without time of
    their own that go along with it.
    """

    choice_of: Int32[np.ndarray, " ops"]
    """The choice that decides for each op, numbered in the order in which they are met."""
    order: Int32[np.ndarray, " ops"]
    """Ops in the order in which they are placed: by upward rank, producers first."""
    decider: Int32[np.ndarray, " choices"]
    """The op at which each choice is made: its first in the order that takes time, if any does."""
    allowed: Bool[np.ndarray, "choices devices"]

    @property
    def count(self) -> int:
        return len(self.decider)

    def of_plan(self, devices: Int32[np.ndarray, " ops"]) -> Int32[np.ndarray, " choices"]:
        """The device of each choice in a plan; where its units lie apart, that of its decider."""
        return np.ascontiguousarray(devices[self.decider], np.int32)


def make_choices(problem: Problem, communication: float = 1.0) -> Choices:
    """Join to others what could not tell by itself where it belongs, and put everything in order.

    A unit without any op that takes time goes with the first unit that it reads from; where it
    reads nothing, as constants and inputs do, with the first that reads it. So does a variable,
    whose update takes time at the end of the step. Nothing joins what may go to other devices.

    Args:
        problem: what is decided.
        communication: how much transfers count in upward ranks.
    """
    ranks = upward_ranks(problem, communication=communication)
    order = np.argsort(-ranks, kind="stable").astype(np.int32)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    timed = _takes_time(problem)
    label = _join(problem, position, timed)[problem.unit_of]
    nowhere = len(order)
    meeting, first = (np.full(problem.unit_count, nowhere, np.int64) for _ in range(2))
    np.minimum.at(meeting, label, np.where(timed, position, nowhere))
    np.minimum.at(first, label, position)
    meeting = np.where(meeting < nowhere, meeting, first)
    used = np.unique(label)
    ranked = used[np.argsort(meeting[used], kind="stable")]
    number = np.full(problem.unit_count, -1, np.int32)
    number[ranked] = np.arange(len(ranked), dtype=np.int32)
    decider = order[meeting[ranked]]
    allowed = problem.unit_allowed[problem.unit_of[decider]]
    return Choices(number[label].astype(np.int32), order, decider, allowed)


def _takes_time(problem: Problem) -> Bool[np.ndarray, " ops"]:
    seconds: Float64[np.ndarray, "ops devices"] = problem.seconds
    return np.any(np.where(np.isfinite(seconds), seconds, 0.0) > 0.0, axis=1)


def _join(
    problem: Problem, position: np.ndarray, timed: Bool[np.ndarray, " ops"]
) -> Int32[np.ndarray, " units"]:
    """For each unit the one that it goes with, mostly itself."""
    graph, unit_of, count = problem.graph, problem.unit_of, problem.unit_count
    producers, readers = graph.tensor_producers[graph.edge_tensors], graph.consumers
    across = unit_of[producers] != unit_of[readers]
    producers, readers = producers[across], readers[across]
    nowhere = len(position)
    order = np.argsort(position)
    first = np.full(count, nowhere, np.int64)
    np.minimum.at(first, unit_of, position)
    opener = order[first]
    reads = np.bincount(readers, minlength=len(timed)) > 0
    is_source = ~reads[opener] & ~timed[opener]
    is_timed = np.bincount(unit_of[timed], minlength=count) > 0

    # What takes no time and reads something goes with the first that it reads from.
    source_of = np.full(count, nowhere, np.int64)
    np.minimum.at(source_of, unit_of[readers], position[producers])
    target = np.arange(count)
    follows = ~is_timed & ~is_source & (source_of < nowhere)
    target[follows] = unit_of[order[source_of[follows]]]
    for _ in range(_DEPTH):
        target = target[target]

    # Sources, with all that follows them, go with the first that reads any of it.
    root = target[unit_of]
    reading = is_source[root[producers]] & (root[producers] != root[readers])
    reading &= timed[readers] & ~is_source[root[readers]]
    earliest = np.full(count, nowhere, np.int64)
    np.minimum.at(earliest, root[producers[reading]], position[readers[reading]])
    found = np.flatnonzero(earliest < nowhere)
    joined = np.arange(count)
    joined[found] = root[order[earliest[found]]]
    result = joined[target]
    same = (problem.unit_allowed[result] == problem.unit_allowed).all(axis=1)
    return np.where(same & same[target], result, np.arange(count)).astype(np.int32)
