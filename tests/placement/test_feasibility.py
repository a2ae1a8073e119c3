"""What one look at a graph shows: no plan fits, and why."""

import numpy as np
import pytest
from graph_samples import graph_of, op, random_graph, toy_cluster

from placement.constraints import Constraints
from placement.feasibility import why_nothing_fits
from placement.place import place
from placement.problem import Problem


def test_an_op_that_fits_on_no_device_is_named() -> None:
    graph = graph_of(
        op("a", 1, output_bytes=60), op("b", 1, output_bytes=50), op("sum", 1, ("a", "b"), 10)
    )
    assert why_nothing_fits(Problem(graph, toy_cluster(2, memory_bytes=120))) is None
    told = why_nothing_fits(Problem(graph, toy_cluster(2, memory_bytes=119)))
    assert told is not None
    assert "op 'sum' (Matmul) cannot run, for its inputs" in told
    assert "take 120 B and the largest device that may run it has 119 B" in told


def test_a_unit_and_the_whole_are_looked_at() -> None:
    graph = graph_of(
        op("a", 1, resident_bytes=60, colocation="v"),
        op("b", 1, resident_bytes=50, colocation="v"),
        op("c", 1, resident_bytes=50),
    )
    unit = why_nothing_fits(Problem(graph, toy_cluster(2, memory_bytes=100)))
    assert unit is not None
    assert "must share a device with it take 110 B" in unit
    whole = why_nothing_fits(Problem(graph, toy_cluster(1, memory_bytes=140)))
    assert whole is not None
    assert "take 160 B, the devices of toy-1 have 140 B together" in whole


def test_devices_that_may_not_run_an_op_do_not_count() -> None:
    graph = graph_of(op("a", 1, output_bytes=60), op("b", 1, ("a",), 50))
    caps = Constraints(pins={"b": "d1"}, memory_caps={"d1": 100})
    found = place(graph, toy_cluster(2, memory_bytes=1000), "search", caps, budget_seconds=60)
    assert not found.feasible
    assert "op 'b'" in str(found.summary()["failure"])
    tried = len(found.placed.candidates)
    assert found.placed.evaluations == tried, "nothing is searched for where nothing fits"


@pytest.mark.parametrize("seed", range(30))
def test_nothing_that_fits_is_refused(seed: int) -> None:
    """Capacity as a plan needs it is enough: the check must not be stricter than the simulator."""
    graph = random_graph(seed, 12)
    problem = Problem(graph, toy_cluster(3))
    found = place(graph, toy_cluster(3), "round-robin")
    peak = max(found.trace.evaluation.peak_bytes)
    if peak:
        assert why_nothing_fits(Problem(graph, toy_cluster(3, memory_bytes=int(peak)))) is None
    assert np.isfinite(problem.bounds.seconds)
