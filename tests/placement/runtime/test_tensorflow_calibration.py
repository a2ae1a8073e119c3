"""Calibrating TensorFlow: what is fitted is found again, and a real run predicts something."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_models import core_cluster
from graph_samples import random_graph
from tensorflow_samples import training_graph

import graphs
from agent.cli.app import run
from graphs.workloads.export import write_graph_def
from graphs.workloads.training import Workload
from placement.runtime.calibration.calibrate_servers import (
    ServerCosts,
    _Measured,
    fit_server_costs,
    predict_seconds,
)
from placement.runtime.programs.predictor import predictor_of
from simulator.cluster_file import dump_cluster, load_cluster
from simulator.clusters.calibration import Calibration
from simulator.clusters.kernel_times import KernelTimes, kernel_times_to_json
from simulator.costs.cost_model import RooflineCosts
from simulator.errors import ClusterError
from simulator.plan import Plan
from simulator.simulator import Simulator

TWO = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@pytest.mark.slow
def test_costs_are_fitted_to_step_times() -> None:
    """Not each figure by itself, for several do much the same; but what they predict together."""
    random = np.random.default_rng(0)
    graph = random_graph(4, 50, groups=False)
    simulator = Simulator(graph, core_cluster(), RooflineCosts())
    plans = [
        Plan.of(random.integers(0, 2, 50).astype(np.int32), random.random(50)) for _ in range(16)
    ]
    true = ServerCosts(op_seconds=2e-5, send_seconds=1e-4, latency_seconds=3e-5, step_seconds=1e-3)
    item = _Measured(simulator, tuple(plans), np.ones(16))
    item = replace(item, seconds=predict_seconds(item, true))
    seen = replace(item, plans=item.plans[:8], seconds=item.seconds[:8])
    found = fit_server_costs([seen])
    before = np.abs(predict_seconds(item, ServerCosts()) / item.seconds - 1)[8:].mean()
    after = np.abs(predict_seconds(item, found) / item.seconds - 1)[8:].mean()
    assert after < 0.03
    assert after < before / 2


def test_what_a_step_takes_beside_its_plan_is_kept_and_predicted(tmp_path: Path) -> None:
    graph = random_graph(4, 50, groups=False)
    times = KernelTimes("m", "cpu-core")
    calibration = Calibration("m", "tf", times, "costs.json", None, 0.25)
    cluster = replace(core_cluster(), calibration=calibration)
    simulator = Simulator(graph, cluster, RooflineCosts())
    plan = Plan.of(np.zeros(50, np.int32))
    guess = predictor_of(simulator).evaluate(plan).makespan_seconds
    assert guess == simulator.evaluate(plan).makespan_seconds + 0.25
    (tmp_path / "costs.json").write_text(kernel_times_to_json(times), encoding="utf-8")
    path = tmp_path / "cluster.yaml"
    path.write_text(dump_cluster(cluster), encoding="utf-8")
    read = load_cluster(path).calibration
    assert read is not None
    assert (read.runtime, read.step_seconds) == ("tf", 0.25)
    path.write_text(dump_cluster(cluster).replace("0.25", "-1"), encoding="utf-8")
    with pytest.raises(ClusterError, match="step_seconds"):
        load_cluster(path)


@TWO
@pytest.mark.slow
def test_calibrating_tensorflow_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, train_op = training_graph()
    model = tmp_path / "train.pb"
    write_graph_def(Workload("train", graph, (train_op, "loss"), 0), model)
    assert graphs.load(model).op_count > 50
    out = tmp_path / "out"
    few = ["--plans", "3", "--judged", "3", "--repeats", "2", "--devices", "2"]
    assert run(["calibrate", str(model), "--runtime", "tf", "--out", str(out), *few]) == 0
    assert "overall" in capsys.readouterr().out
    cluster = load_cluster(out / "cluster.yaml")
    assert cluster.calibration is not None
    assert cluster.calibration.runtime == "tf"
    assert cluster.devices[0].host is not None
    assert run(["calibrate", str(model), "--out", str(out), *few]) == 2
    assert "--runtime ort runs onnx" in capsys.readouterr().err
