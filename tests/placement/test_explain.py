"""Explanations against simulations that the test does itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_samples import graph_of, op

from agent.cli.app import run
from graphs.bundled_graphs import load_bundled
from graphs.errors import GraphwrightError
from graphs.graph_file import write_graph
from placement import Constraints, Problem, place
from placement.report.explain import explain_op, explain_plan
from simulator.clusters.presets import preset
from simulator.fusion import xla_like_groups
from simulator.plan import Plan

CLUSTER = preset("2xv100-pcie")


def chains() -> Problem:
    """Two chains: each belongs on a device of its own."""
    records = [
        op(f"{chain}{step}", 1e12, (f"{chain}{step - 1}",) if step else (), 1 << 20)
        for chain in "ab"
        for step in range(4)
    ]
    return Problem(graph_of(*records), CLUSTER)


def apart(problem: Problem) -> Plan:
    return Plan.of(np.array([int(name[0] == "b") for name in problem.graph.op_names]))


@pytest.mark.parametrize("name", ["a0", "a2", "b3"])
def test_moves_cost_what_the_simulator_says(name: str) -> None:
    problem = chains()
    plan = apart(problem)
    trace = problem.simulator.trace(plan)
    found = explain_op(problem, plan, trace, name)
    (move,) = found.moves
    devices = plan.devices.copy()
    devices[problem.graph.op_index[name]] ^= 1
    moved = problem.simulator.evaluate(Plan.of(devices, plan.priorities))
    assert move.change_seconds == moved.makespan_seconds - trace.makespan_seconds > 0
    assert "longer with it on" in found.reason
    assert sum(found.reads.values()) == (0 if name == "a0" else 1 << 20)


def test_a_move_leaves_ops_held_back() -> None:
    problem = chains()
    index = problem.graph.op_index
    holds = np.full(8, -1, np.int32)
    holds[index["b0"]] = index["a3"]
    plan = replace(apart(problem), holds=holds)
    (move,) = explain_op(problem, plan, problem.simulator.trace(plan), "a1").moves
    devices = plan.devices.copy()
    devices[index["a1"]] = 1
    held = problem.simulator.evaluate(replace(plan, devices=devices))
    assert move.evaluation == held != problem.simulator.evaluate(plan.moved_to(devices))


def test_a_missed_move_is_admitted() -> None:
    problem = chains()
    plan = Plan.of(np.zeros(8, np.int64))
    found = explain_op(problem, plan, problem.simulator.trace(plan), "a0")
    assert "missed a move" in found.reason
    assert found.moves[0].change_seconds < 0


def test_constraints_and_memory_are_named() -> None:
    graph = chains().graph
    pinned = Problem(graph, CLUSTER, Constraints(pins={"a0": "v100:0"}))
    plan = apart(pinned)
    found = explain_op(pinned, plan, pinned.simulator.trace(plan), "a0")
    assert found.reason == "the constraints leave no other device than v100:0"
    assert [move.allowed for move in found.moves] == [False]
    tight = Problem(graph, CLUSTER, Constraints(memory_caps={"v100:1": (2 << 20) + 1000}))
    said = " ".join(explain_plan(tight, plan, tight.simulator.trace(plan)).binding)
    assert "Memory of v100:1 is" in said


def test_a_unit_moves_as_a_whole() -> None:
    problem = Problem(chains().graph, CLUSTER, Constraints(colocated=("a.*",)))
    plan = apart(problem)
    trace = problem.simulator.trace(plan)
    found = explain_op(problem, plan, trace, "a1")
    assert found.unit_size == 4
    everything = problem.simulator.evaluate(Plan.of(np.ones(8, np.int64), plan.priorities))
    assert found.moves[0].evaluation == everything


def test_the_whole_plan_adds_up() -> None:
    result = place(load_bundled("rnnlm-2"), preset("4xv100-pcie"), "portfolio")
    whole = explain_plan(result.problem, result.plan, result.trace)
    for parts in whole.devices.values():
        assert sum(parts.values()) == pytest.approx(whole.makespan_seconds)
    assert max(whole.bounds.values()) == result.problem.bounds.seconds
    groups = xla_like_groups(result.problem.graph, result.plan.devices)
    fused = Plan.of(result.plan.devices, result.plan.priorities, groups)
    trace = result.problem.simulator.trace(fused)
    member = int(np.flatnonzero(groups >= 0)[0])
    name = result.problem.graph.op_names[member]
    assert len(explain_op(result.problem, fused, trace, name).moves) == 3


def test_unknown_ops_get_a_hint() -> None:
    problem = chains()
    plan = apart(problem)
    with pytest.raises(GraphwrightError, match=r"no op 'a9'; near it: 'a"):
        explain_op(problem, plan, problem.simulator.trace(plan), "a9")


def test_explain_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "chains.gwgraph"
    write_graph(chains().graph, model)
    place_ = ["place", str(model), "-c", "2xv100-pcie", "--placer", "metis", "--out"]
    assert run([*place_, str(tmp_path / "p")]) == 0
    plan = ["--plan", str(tmp_path / "p" / "plan.json")]
    assert run(["explain", str(model), *plan]) == 0
    assert "Critical path" in capsys.readouterr().out
    assert run(["explain", str(model), *plan, "--op", "a1"]) == 0
    assert "Placed by metis" in capsys.readouterr().out
    assert run(["explain", str(model), *plan, "--op", "a1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["op"] == "a1"
