"""Why devices are idle: worlds small enough to work out by hand."""

import numpy as np
import pytest
from graph_samples import graph_of, op

from graphs.bundled_graphs import load_bundled
from placement import place
from simulator.clusters.presets import preset
from simulator.plan import Plan
from simulator.simulator import simulate
from simulator.traces.idle import CAUSES, idle_stretches

CLUSTER = preset("2xv100-pcie")


def test_a_device_waits_for_the_other_then_for_the_link() -> None:
    graph = graph_of(op("a", 1e12, (), 1 << 28), op("b", 1e12, ("a",), 1000))
    trace = simulate(graph, CLUSTER, Plan.of(np.array([0, 1])))
    waits = [item for item in idle_stretches(trace) if item.device == 1]
    assert [(item.cause, item.source) for item in waits] == [("other device", 0), ("sending", 0)]
    assert waits[0].end_seconds == pytest.approx(float(trace.end[0]))
    assert waits[1].end_seconds == pytest.approx(float(trace.start[1]))
    (rest,) = (item for item in idle_stretches(trace) if item.device == 0)
    assert (rest.cause, rest.op) == ("nothing left", -1)


def test_a_busy_link_is_told_from_sending() -> None:
    """b is made while a's large output is under way; y has to wait for the link."""
    graph = graph_of(
        op("a", 1e9, (), 1 << 28),
        op("b", 1e10, (), 1 << 20),
        op("z", 1e12, (), 1000),
        op("y", 1e9, ("b",), 1000),
        op("x", 1e9, ("a", "z"), 1000),
    )
    trace = simulate(graph, CLUSTER, Plan.of(np.array([0, 0, 0, 1, 1])))
    first = [item for item in idle_stretches(trace) if item.device == 1 and item.op == 3]
    assert [item.cause for item in first] == ["other device", "link busy", "sending"]
    assert first[1].end_seconds == pytest.approx(float(trace.transfer_start[1]))


@pytest.mark.parametrize("placer", ["portfolio", "round-robin"])
def test_stretches_add_up_to_the_idle_time(placer: str) -> None:
    trace = place(load_bundled("inception-v3"), preset("4xv100-pcie"), placer).trace
    for device in range(4):
        mine = [item for item in idle_stretches(trace) if item.device == device]
        idle = trace.makespan_seconds - trace.busy_seconds[device]
        assert sum(item.seconds for item in mine) == pytest.approx(idle)
        ends = [item.end_seconds for item in mine]
        assert all(b.start_seconds >= a for a, b in zip(ends, mine[1:], strict=False))
        assert {item.cause for item in mine} <= set(CAUSES)
