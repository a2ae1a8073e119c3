"""Plans for steps that overlap."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster

from agent.cli.app import run
from graphs.bundled_graphs import load_bundled
from graphs.errors import GraphwrightError
from graphs.graph_file import write_graph
from graphs.kinds import OpKind, Phase
from placement.placer import Budget, silent
from placement.problem import Problem
from placement.simplicity import complexity_of
from placement.throughput import PipelinePlacer, Split, Throughput, Transfers, plan_pipeline
from placement.throughput.splits import simplest_of
from simulator import preset
from simulator.errors import InfeasibleError


def test_a_chain_that_no_placement_makes_faster_gains_the_number_of_devices() -> None:
    graph = graph_of(*(op(f"a{i}", 1e12, (f"a{i - 1}",) if i else (), 1000) for i in range(12)))
    problem = Problem(graph, preset("4xv100-pcie"))
    found = plan_pipeline(problem, Budget(0.5), seed=0)
    single = next(split for split in found.others if split.name == "one device")
    assert single.period_seconds / found.best.period_seconds == pytest.approx(4, rel=1e-3)
    assert found.latency_seconds >= single.period_seconds
    assert found.best.period_seconds >= found.bound_seconds
    names = {split.name for split in (found.best, *found.others)}
    assert {"equal layers", "equal bytes", "equal flops", "one device", "search"} <= names
    assert "contiguous, exact" in names


def test_it_is_never_worse_than_other_tools_cuts() -> None:
    problem = Problem(load_bundled("bert-base"), preset("2xa100+2xv100-pcie"))
    found = plan_pipeline(problem, Budget(1.0), seed=0)
    assert all(found.best.period_seconds <= 1.1 * split.period_seconds for split in found.others)
    equal = next(split for split in found.others if split.name == "equal flops")
    assert found.best.period_seconds < 0.85 * equal.period_seconds, "the devices are not alike"
    devices = found.best.devices
    assert (problem.unit_allowed[problem.unit_of, devices]).all()


def test_of_equally_fast_splits_the_one_that_sends_least_is_taken() -> None:
    """On cores nothing is paid for sending: the search may scatter ops, the cut does not."""
    cores = toy_cluster(2)
    cores = replace(cores, devices=tuple(replace(d, kind="cpu-core") for d in cores.devices))
    graph = graph_of(*(op(f"a{i}", 1, (f"a{i - 1}",) if i else (), 9) for i in range(16)))
    request = Throughput(transfers=Transfers.HOPS)
    found = plan_pipeline(Problem(graph, cores), Budget(0.5), 0, request)
    assert found.best.period_seconds == 8
    assert complexity_of(graph, found.best.devices).crossings == 1


@pytest.mark.parametrize(
    ("transfers", "alike", "worth"),
    [(Transfers.HOPS, 0.95, 0.89), (Transfers.CHANNELS, 0.98, 0.96)],
)
def test_a_gain_within_the_error_is_not_worth_more_crossings(
    transfers: Transfers, alike: float, worth: float
) -> None:
    graph = graph_of(*(op(f"a{i}", 1, (f"a{i - 1}",) if i else (), 9) for i in range(4)))
    problem = Problem(graph, toy_cluster(2))
    scattered, halves = np.array([0, 1, 0, 1], np.int32), np.array([0, 0, 1, 1], np.int32)

    def split(name: str, devices: np.ndarray, period: float) -> Split:
        return Split(name, devices, period, np.full(2, period), fits=True)

    cut = split("cut", halves, 1.0)
    for period, wanted in ((alike, "cut"), (worth, "scattered")):
        faster = split("scattered", scattered, period)
        assert simplest_of(problem, [faster, cut], transfers).name == wanted


def test_what_cannot_overlap_is_refused() -> None:
    graph = graph_of(op("a", 1, resident_bytes=60), op("b", 1, ("a",), resident_bytes=60))
    with pytest.raises(InfeasibleError, match="not even one step fits"):
        plan_pipeline(Problem(graph, toy_cluster(2, memory_bytes=50)), Budget(0.1), 0)
    place = PipelinePlacer()
    with pytest.raises(GraphwrightError, match="at least two devices"):
        place(Problem(graph, toy_cluster(1)), Budget(0.1), 0, silent)
    step = graph_of(
        op("a", 1), op("u", 1, ("a",), kind=OpKind.OPTIMIZER_UPDATE, phase=Phase.UPDATE)
    )
    with pytest.raises(GraphwrightError, match="waits for the parameters"):
        place(Problem(step, toy_cluster(2)), Budget(0.1), 0, silent)


def test_place_with_the_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = graph_of(*(op(f"a{i}", 1e12, (f"a{i - 1}",) if i else (), 1000) for i in range(8)))
    model = tmp_path / "chain.gwgraph"
    write_graph(graph, model)
    words = ["place", str(model), "-c", "2xv100-pcie", "--objective", "throughput"]
    out = tmp_path / "out"
    assert run([*words, "--budget", "0.3", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["objective"] == "throughput"
    assert found["period_seconds"] == pytest.approx(found["splits"]["one device"] / 2, rel=1e-3)
    assert found["steps_per_second"] == pytest.approx(1 / found["period_seconds"])
    assert json.loads((out / "plan.json").read_text())["ops"]
    assert run([*words, "--budget", "0.3"]) == 0
    assert "throughput: a step every" in capsys.readouterr().out
    assert run([*words, "--placer", "heft"]) == 2
    assert np.isfinite(found["latency_seconds"])
