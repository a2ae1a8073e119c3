"""What a plan takes as a split model: by hand."""

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster

from graphs.kinds import OpKind
from placement.constraints import Constraints
from placement.export import ExportError, judge_of
from placement.export.split_forecast import SESSION_SECONDS, SplitJudge, forecast_split
from placement.place import place
from placement.placer import Candidate
from placement.problem import Problem
from placement.simplicity import Complexity, simplify
from simulator import preset
from simulator.plan import Plan


def test_parts_wait_for_all_that_they_read_and_give_at_their_end() -> None:
    graph = graph_of(
        op("x", 0, output_bytes=8, kind=OpKind.INPUT),
        op("a", 2, ("x",), 8),
        op("b", 4, ("a",), 8),
        op("long", 9, ("a",), 8),
        op("sum", 1, ("b", "long"), 8),
    )
    problem = Problem(graph, toy_cluster(2))
    plan = Plan.of(np.array([0, 0, 1, 0, 0]))
    found = forecast_split(problem, plan)
    # `a` and `long` are one session, so `b` begins at 11 and not at 2; then `sum` at 15.
    assert found.part_count == 3
    assert found.devices.tolist() == [0, 1, 0]
    assert found.stages.tolist() == [0, 1, 2]
    copies = found.makespan_seconds - (11 + 4 + 1 + 3 * SESSION_SECONDS)
    assert 0 < copies < 1e-3, "the toy device is no CPU: its tensors go over PCI Express"
    assert found.part_of.tolist()[1:] == [0, 1, 0, 2]


def test_tensors_go_through_the_host_once_out_and_once_in_for_each_reader() -> None:
    graph = graph_of(
        op("a", 0, output_bytes=12 * 10**9, bytes_written=1.0),
        op("b", 0, ("a",), bytes_read=1.0),
        op("c", 0, ("a",), bytes_read=1.0),
    )
    problem = Problem(graph, preset("3xv100-pcie"))
    one = forecast_split(problem, Plan.of(np.zeros(3))).makespan_seconds
    two = forecast_split(problem, Plan.of(np.array([0, 1, 1]))).makespan_seconds
    three = forecast_split(problem, Plan.of(np.array([0, 1, 2]))).makespan_seconds
    assert one < 1e-3
    # 12 GB at 12 GB/s out, and again in; two readers copy in at the same time.
    assert two == pytest.approx(2.0, rel=1e-3)
    assert three == pytest.approx(2.0, rel=1e-3)


def test_a_plan_for_the_form_has_few_parts() -> None:
    """Ten short ops in a row that a plan deals out to two devices by turns."""
    graph = graph_of(
        *(op(f"a{i}", 1e-3, (f"a{i - 1}",) if i else (), 1000) for i in range(10)),
    )
    problem = Problem(graph, toy_cluster(2, bytes_per_second=1e9))
    plan = Plan.of(np.arange(10) % 2)
    judge = SplitJudge(problem)
    assert judge.complexity(plan) == Complexity(2, 10, 9)
    best = Candidate(plan, problem.evaluate(plan), "given")
    found = simplify(problem, best, judge=judge)
    assert found.complexity == Complexity(1, 1, 0)
    pinned = Problem(
        graph, toy_cluster(2, bytes_per_second=1e9), Constraints({"a0": "d0", "a9": "d1"})
    )
    found = simplify(pinned, best, judge=SplitJudge(pinned))
    assert found.complexity == Complexity(2, 2, 1)


def test_place_for_a_form() -> None:
    graph = graph_of(
        *(op(f"{c}{i}", 1e9, (f"{c}{i - 1}",) if i else (), 4000) for c in "ab" for i in range(20)),
        op("sum", 1, ("a19", "b19")),
    )
    placed = place(graph, preset("2xv100-pcie"), "portfolio", form="onnx-split")
    assert placed.form == "onnx-split"
    assert placed.simplified is not None
    assert 1 <= placed.simplified.complexity.parts <= 3
    assert placed.summary()["simplicity"]["parts"] == placed.simplified.complexity.parts
    assert placed.placed.best.evaluation == placed.problem.evaluate(placed.plan)
    with pytest.raises(ExportError, match="no form 'nonsense'"):
        judge_of("nonsense", placed.problem)
    assert judge_of("graph-def", placed.problem) is None
