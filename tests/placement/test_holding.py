"""Plans that hold ops back: memory that a work-conserving schedule does not have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster

from graphs.graph import Graph
from placement.constraints import Constraints
from placement.place import place
from placement.placer import Candidate
from placement.placers.holding import hold_back
from placement.plan_file import PlanDocument, read_plan, write_plan
from placement.problem import Problem
from simulator.errors import PlanError
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.traces.critical_path import critical_path

PINS = Constraints({"start": "d0", "far": "d1", "early": "d0", "back": "d0", "end": "d0"})


def waiting_graph() -> Graph:
    """While `far` runs elsewhere, d0 idles: `early` runs then, though `end` needs it much later.

    `back` needs 60 bytes besides the 60 of `early`; its own result is small.
    """
    return graph_of(
        op("start", 1, output_bytes=4),
        op("far", 10, ("start",), 4),
        op("early", 1, ("start",), 60),
        op("back", 1, ("far",), 4, workspace_bytes=60),
        op("end", 1, ("back", "early"), 0),
    )


def devices() -> np.ndarray:
    return np.array([0, 1, 0, 0, 0], np.int32)


def test_a_held_op_starts_when_the_other_has_ended() -> None:
    graph = waiting_graph()
    simulator = Simulator.of(graph, toy_cluster(2, bytes_per_second=1e9))
    plain = simulator.trace(Plan.of(devices()))
    assert plain.start[graph.op_index["early"]] == 1
    holds = np.array([-1, -1, 3, -1, -1], np.int32)
    plan = replace(Plan.of(devices()), holds=holds)
    held = simulator.trace(plan)
    back, early = graph.op_index["back"], graph.op_index["early"]
    assert held.start[early] == held.end[back]
    assert held.makespan_seconds == pytest.approx(plain.makespan_seconds + 1)
    assert held.peak_bytes[0] < plain.peak_bytes[0] - 50
    assert plan.digest != Plan.of(devices()).digest
    steps = [(step.index, step.because) for step in critical_path(held) if step.what == "op"]
    assert (early, "held") in steps


def test_what_no_order_makes_fit_fits_when_ops_wait() -> None:
    graph = waiting_graph()
    cluster = toy_cluster(2, memory_bytes=100, bytes_per_second=1e9)
    problem = Problem(graph, cluster, PINS)
    for order in range(20):
        priorities = np.random.default_rng(order).random(5)
        assert not problem.evaluate(Plan.of(devices(), priorities)).feasible
    plan = Plan.of(devices())
    found = hold_back(problem, Candidate(plan, problem.evaluate(plan), "given"))
    assert found.evaluation.feasible
    assert found.plan.holds.tolist() == [-1, -1, 3, -1, -1]
    for placer in ("portfolio", "search"):
        placed = place(graph, cluster, placer, PINS, budget_seconds=0.5)
        assert placed.feasible, placer
        assert placed.plan.is_held


def test_holds_that_cannot_be_kept_are_refused() -> None:
    graph = waiting_graph()
    simulator = Simulator.of(graph, toy_cluster(2))
    for holds, message in (
        ([3, -1, -1, -1, -1], "'start' is held until 'back' has ended, which waits for it"),
        ([-1, -1, 2, -1, -1], "'early' is held until 'early' has"),
        ([-1, -1, 9, -1, -1], "holds name ops from 0 to 4, or -1"),
    ):
        plan = replace(Plan.of(devices()), holds=np.array(holds, np.int32))
        with pytest.raises(PlanError, match=message):
            simulator.evaluate(plan)
    with pytest.raises(PlanError, match="one op, or -1, for each op"):
        replace(Plan.of(devices()), holds=np.array([1, 2], np.int32))
    fused = replace(
        Plan.of(devices()),
        fusion=np.array([0, -1, 0, -1, -1], np.int32),
        holds=np.array([-1, -1, 3, -1, -1], np.int32),
    )
    with pytest.raises(PlanError, match="cannot hold ops back and fuse"):
        simulator.evaluate(fused)


def test_holds_are_in_the_plan_file(tmp_path: Path) -> None:
    graph, cluster = waiting_graph(), toy_cluster(2)
    plan = replace(Plan.of(devices()), holds=np.array([-1, -1, 3, -1, -1], np.int32))
    path = tmp_path / "plan.json"
    write_plan(PlanDocument(plan), graph, cluster, path)
    assert '"early": "back"' in path.read_text()
    assert read_plan(path, graph, cluster).plan == plan
    path.write_text(path.read_text().replace('"early": "back"', '"gone": "back"'))
    assert not read_plan(path, graph, cluster).plan.is_held
    assert Plan.of(devices()).moved_to(devices()[::-1]).holds.size == 0
