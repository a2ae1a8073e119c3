"""Plans in memory: identity, order of priorities, and what does not fit a graph."""

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster

from graphs.graph import Graph
from simulator.errors import PlanError
from simulator.plan import Plan, priority_ranks


def pair() -> Graph:
    return graph_of(op("a", 1, colocation="g"), op("b", 1), op("c", 1, colocation="g"))


def test_plans_are_equal_by_content() -> None:
    plan = Plan.of(np.array([0, 1, 0]))
    assert plan == Plan.of(np.array([0, 1, 0], np.int64))
    assert len({plan, Plan.of(np.array([0, 1, 0]))}) == 1
    assert plan != Plan.of(np.array([0, 1, 1]))
    assert plan != Plan.of(np.array([0, 1, 0]), np.zeros(3))
    assert plan != Plan.of(np.array([0, 1, 0]), None, np.array([-1, 0, 0]))
    assert plan != "plan"


def test_a_plan_keeps_its_own_copy() -> None:
    devices = np.array([0, 1, 0], np.int32)
    plan = Plan.of(devices)
    devices[0] = 7
    assert plan.devices[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        plan.devices[0] = 1


def test_without_priorities_ops_run_in_graph_order() -> None:
    assert Plan.of(np.zeros(4)).ranks.tolist() == [0, 1, 2, 3]


def test_ranks_are_highest_first_and_ties_by_number() -> None:
    assert priority_ranks(np.array([1.0, 3.0, 1.0, 3.0, -2.0])).tolist() == [2, 0, 3, 1, 4]


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([0, 0], "the plan has 2 ops, graph 'sample' has 3: it belongs to another graph"),
        ([0, 2, 0], "op 'b' is on device 2; cluster 'toy-2' has devices 0 to 1"),
        ([0, -1, 0], "op 'b' is on device -1"),
        ([0, 0, 1], "op 'c' is on another device than the rest of its colocation group"),
    ],
)
def test_what_does_not_fit_is_refused(devices: list[int], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.of(np.array(devices)).check(pair(), toy_cluster(2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_priorities_must_be_finite(value: float) -> None:
    with pytest.raises(PlanError, match="priorities must be finite"):
        Plan.of(np.zeros(2), np.array([0.0, value]))
