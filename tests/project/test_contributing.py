"""What CONTRIBUTING promises of additions: each row of its table is done here, as the row says."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_samples import random_graph
from onnx import TensorProto, helper

import graphs
import simulator
from agent.cli import app
from agent.cli.app import run
from agent.evaluation.columns import column_of
from agent.evaluation.contestants import contestants
from agent.runs.tracking import open_tracker as trackers
from agent.runs.tracking.options import TrackOptions
from agent.runs.tracking.tracker import Silent
from envs import REWARDS, GraphEnv, get_reward
from envs.rewards import Comparison
from graphs.catalogue import resolve
from graphs.costs.formulas import per_output_element
from graphs.costs.onnx_ops import ONNX_OPS
from graphs.costs.work import OpCost
from graphs.families.registry import FAMILIES, Family, generate
from graphs.families.rnnlm import rnnlm
from graphs.formats import FORMATS, Format
from graphs.graph import Graph
from graphs.graph_file import write_graph
from graphs.kinds import OpKind
from graphs.workloads.registry import WORKLOADS, build
from graphs.workloads.rnnlm import RnnlmConfig
from graphs.workloads.rnnlm import rnnlm as rnnlm_workload
from placement.export.registry import FORMS, ExportForm, forms_of, get_exporter
from placement.export.request import Exported, ExportRequest
from placement.heuristics.placements import HeuristicPlacer
from placement.heuristics.registry import HEURISTICS
from placement.place import place
from placement.placer import Budget, OnProgress, Placed
from placement.placers.registry import SEARCHES, get_placer
from placement.problem import Problem
from placement.report.blocks import Section, Text
from placement.report.plan_report import SECTIONS, sections_of
from placement.runtime.measurement import Clock, Measurement
from placement.runtime.registry import RUNTIMES, RuntimeKind
from placement.runtime.runtime import Runtime
from placement.runtime.samples import Sampling
from placement.suites.folder import suite_from_folder
from simulator import cluster_file
from simulator.clusters import device_specs
from simulator.clusters.cluster import Cluster
from simulator.costs.registry import default_costs
from simulator.plan import Plan

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


def toy_model(path: Path, op_type: str, domain: str) -> Path:
    """One op of eight elements."""
    node = helper.make_node(op_type, ["x"], ["y"], "toy", domain=domain)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in "xy"]
    body = helper.make_graph([node], "toy", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    onnx.save(helper.make_model(body, opset_imports=opsets, ir_version=8), path)
    return path


def read_toy(path: Path, dims: Mapping[str, int]) -> Graph:
    return random_graph(int(path.read_text().removeprefix("toy ")), dims["ops"])


def test_every_row_of_the_page_has_a_test_here() -> None:
    rows = re.findall(r"^\| (an? [^|]+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    tests = {
        name.replace("_", " ")
        for path in (Path(__file__), Path(__file__).with_name("test_contributing_copies.py"))
        for name in re.findall(r"def test_(\w+)", path.read_text(encoding="utf-8"))
    }
    missing = [row for row in rows if row.replace("'", "") not in tests]
    assert rows
    assert missing == []


def test_an_importer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toy = Format("a toy (.toy)", f"{__name__}:read_toy", suffixes=(".toy",))
    monkeypatch.setitem(FORMATS, "toy", toy)
    (tmp_path / "a.toy").write_text("toy 7")
    assert graphs.load(tmp_path / "a.toy", {"ops": 9}).op_count == 9
    assert len(suite_from_folder(tmp_path, ["2xv100-pcie"]).pairs) == 1
    (tmp_path / "a.strange").write_text("?")
    with pytest.raises(graphs.ModelError, match=r"a toy \(\.toy\)"):
        graphs.load(tmp_path / "a.strange")


def test_an_ops_cost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cost = OpCost(OpKind.ACTIVATION, per_output_element(100))
    monkeypatch.setitem(ONNX_OPS["com.microsoft"], "Toy", cost)
    found = graphs.load(toy_model(tmp_path / "a.onnx", "Toy", "com.microsoft"))
    assert found.flops.sum() == 800.0
    assert OpKind.ACTIVATION in found.kinds.tolist()


def test_an_op_of_another_domain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cost = OpCost(OpKind.ACTIVATION, per_output_element(100))
    monkeypatch.setitem(ONNX_OPS, "com.example", {"Toy": cost})
    found = graphs.load(toy_model(tmp_path / "a.onnx", "Toy", "com.example"))
    assert found.flops.sum() == 800.0
    assert not found.report.estimated_ops


def test_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = device_specs.DEVICE_SPECS["v100"]
    monkeypatch.setitem(device_specs.DEVICE_SPECS, "toy", toy)
    monkeypatch.setitem(device_specs.PCIE, "toy", device_specs.PCIE["v100"])
    assert simulator.load_cluster("2xtoy-pcie").device_count == 2


def test_a_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = simulator.dump_cluster(simulator.preset("2xv100-pcie"))
    (tmp_path / "my-desk.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(cluster_file, "_NAMED", tmp_path)
    assert simulator.load_cluster("my-desk").device_count == 2
    assert run(["clusters", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["clusters"]
    assert listed[-1]["digest"] == simulator.preset("2xv100-pcie").digest


def all_on_the_last(problem: Problem, seed: int) -> Any:
    """Everything on the last device."""
    yield "last", np.full(problem.graph.op_count, problem.cluster.device_count - 1, np.int32)


def test_a_heuristic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEURISTICS, "last", HeuristicPlacer(all_on_the_last))
    graph, cluster = random_graph(3, 12), simulator.preset("2xv100-pcie")
    assert set(place(graph, cluster, "last").plan.devices.tolist()) == {1}
    origins = {item.origin for item in place(graph, cluster, "portfolio").placed.candidates}
    assert "last" in origins
    assert column_of("last").about == "Everything on the last device"


def like_the_portfolio(
    problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
) -> Placed:
    """The portfolio under another name."""
    return get_placer("portfolio")(problem, budget, seed, on_progress)


def test_a_placer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEARCHES, "toy", like_the_portfolio)
    graph, cluster = random_graph(3, 12), simulator.preset("2xv100-pcie")
    assert place(graph, cluster, "toy").placer == "toy"
    (found,) = contestants(("toy",), None, 0)
    attempt = found.attempt(Problem(graph, cluster), Budget(1.0), 0)
    assert attempt.placed.best.evaluation.feasible
    assert column_of("toy").about == "The portfolio under another name"


def export_toy(request: ExportRequest) -> Exported:
    return Exported("toy", (request.out / "toy",))


def test_an_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(FORMS, "toy", ExportForm(f"{__name__}:export_toy"))
    graph, cluster = random_graph(3, 12), simulator.preset("2xv100-pcie")
    plan = place(graph, cluster, "single").plan
    request = ExportRequest(tmp_path / "a", graph, cluster, plan, tmp_path)
    assert "toy" in forms_of(request)
    assert get_exporter("toy")(request).form == "toy"


def test_a_section_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    section = Section("toy", "A toy", (Text("nothing"),))
    monkeypatch.setattr(
        "placement.report.plan_report.SECTIONS", [*SECTIONS, lambda _reported: section]
    )
    found = place(random_graph(3, 12), simulator.preset("2xv100-pcie"), "single")
    assert sections_of(found.reported)[-1] is section


class ToyRuntime(Runtime):
    """Every step takes two seconds for each device that it uses."""

    kind = "toy"
    process_ids = ()

    def __init__(self, graph: Graph, cluster: Cluster) -> None:
        self.graph, self.cluster = graph, cluster
        self.costs = default_costs(graph, cluster)

    def measure(self, plans: Sequence[Plan], sampling: Sampling | None = None) -> list[Measurement]:
        assert sampling is not None
        seconds = [2.0 * len(set(plan.devices.tolist())) for plan in plans]
        samples = [np.full(sampling.rounds, each) for each in seconds]
        return [Measurement(each, Clock.WALL, rounds=each, checked=True) for each in samples]

    def close(self) -> None:
        """Nothing runs."""


def open_toy(model: Path, graph: Graph, cluster: Cluster, **_options: object) -> ToyRuntime:
    return ToyRuntime(graph, cluster)


def test_a_runtime(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = RuntimeKind("a toy.", f"{__name__}:open_toy", compared_with="a toy's")
    write_graph(random_graph(3, 12), tmp_path / "net.gwg")
    command = ["measure", str(tmp_path / "net.gwg"), "--cluster", "2xv100-pcie", "--runtime", "toy"]
    command += ["--compare", "single", "round-robin", "--repeats", "5"]
    assert run(command) == 2
    assert "unknown runtime 'toy'; there are ort: onnxruntime" in capsys.readouterr().err
    monkeypatch.setitem(RUNTIMES, "toy", toy)
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["runtime"], found["winner"]) == ("toy", "single")
    assert [plan["seconds"] for plan in found["plans"]] == [2.0, 4.0]
    assert run(command) == 0
    assert "outputs equal a toy's" in capsys.readouterr().out
    assert run([*command, "--clock", "virtual"]) == 2
    assert "--runtime ort or torch" in capsys.readouterr().err


def test_a_tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "toy", lambda *_: Silent())
    trackers.open_tracker(tmp_path, {}, TrackOptions(track="toy")).close()


def test_a_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    small = RnnlmConfig(layers=1, steps=2, batch=2)
    monkeypatch.setitem(WORKLOADS, "toy", lambda: rnnlm_workload(small))
    assert build("toy").op_count > 10


def test_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy", Family(rnnlm))
    assert generate("toy", 3, 400).op_count > 200
    assert resolve("toy:3:400") == generate("toy", 3, 400)


class HalfTheTime:
    """A reward: minus half the step time in seconds."""

    failure = -1.0

    def __call__(self, instance: object, compared: Comparison) -> np.ndarray:
        return np.where(np.isfinite(compared.seconds), -compared.seconds / 2, self.failure)


def test_a_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "half", HalfTheTime())
    assert isinstance(get_reward("half"), HalfTheTime)
    graph = random_graph(3, 12)
    env = GraphEnv(graph=graph, cluster=simulator.preset("2xv100-pcie"), reward="half")
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.zeros(graph.op_count, np.int32))
    assert reward == pytest.approx(-info["makespan_seconds"] / 2)


def toy_verb() -> int:
    """Say nothing."""
    return 0


def test_a_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(app.VERBS, "toy", toy_verb)
    assert run(["toy"]) == 0
    run(["--help"])
    assert "Say nothing" in capsys.readouterr().out
