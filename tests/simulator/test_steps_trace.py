"""Traces of several steps: slices with their step's number, and memory that adds up."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
from graph_samples import graph_of, op, random_cluster, random_devices, random_graph, toy_cluster

from graphs.kinds import Phase
from simulator.plan import Plan
from simulator.simulator import simulate
from simulator.traces.steps_perfetto import steps_perfetto_json
from simulator.traces.steps_trace import StepsTrace


def pipeline() -> StepsTrace:
    """a 2 s on d0, a second on the wire, b 1 s on d1; two steps on the way."""
    graph = graph_of(op("a", 2, output_bytes=1), op("b", 1, ("a",), 8))
    return simulate(graph, toy_cluster(2), Plan.of(np.array([0, 1])), steps=3, in_flight=2)


def slices(trace: StepsTrace, kind: str = "X") -> list[dict[str, Any]]:
    return [e for e in json.loads(steps_perfetto_json(trace))["traceEvents"] if e["ph"] == kind]


def test_each_slice_has_the_number_of_its_step() -> None:
    found = {(e["name"], e["pid"], e["ts"], e["dur"]) for e in slices(pipeline())}
    assert {name for name, process, *_ in found if process == 1} == {
        "step 0: a",
        "step 1: a",
        "step 2: a",
    }
    assert ("step 1: a", 1, 2e6, 2e6) in found
    assert ("step 1: a", 3, 4e6, 1e6) in found, "its transfer"
    assert ("step 2: b", 2, 7e6, 1e6) in found
    assert len({e["cname"] for e in slices(pipeline())}) == 3, "a colour for each step"


def test_updates_are_called_so() -> None:
    graph = graph_of(op("f", 1), op("u", 1, ("f",), phase=Phase.UPDATE))
    trace = simulate(graph, toy_cluster(1), Plan.of(np.zeros(2)), steps=2, in_flight=1)
    assert [e["name"] for e in slices(trace)] == ["step 0: f", "step 1: f", "update: u"]


def test_slices_of_a_device_never_overlap_and_memory_ends_where_it_began() -> None:
    for seed in range(10):
        graph, cluster = random_graph(seed, 40), random_cluster(seed)
        plan = Plan.of(random_devices(graph, cluster, seed))
        if (graph.phases[0]) == Phase.UPDATE:
            continue
        trace = simulate(graph, cluster, plan, steps=4, in_flight=3)
        for process in range(1, cluster.device_count + 1):
            mine = sorted(
                (e["ts"], e["ts"] + e["dur"]) for e in slices(trace) if e["pid"] == process
            )
            assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(mine))
            counts = [e["args"]["bytes"] for e in slices(trace, "C") if e["pid"] == process]
            assert counts[-1] == trace.resident_bytes[process - 1]


def test_the_document_says_what_ran() -> None:
    told = json.loads(steps_perfetto_json(pipeline()))["otherData"]
    assert (told["steps"], told["in_flight"], told["order"]) == (3, 2, "oldest-first")
    assert told["period_seconds"] == pipeline().evaluation.period_seconds
