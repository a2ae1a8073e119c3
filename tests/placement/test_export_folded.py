"""Models in which ops depend on weights alone, exported and run: each reader's part makes them."""

import json
import runpy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from device_models import core_cluster
from exported_models import normal, request_for, save, value

import graphs
from placement.export import ExportRequest
from placement.export.onnx_annotated import export_onnx_annotated
from placement.export.onnx_split import export_onnx_split
from placement.runtime.measurement import Clock
from placement.runtime.ort.runtime import open_ort
from placement.runtime.samples import Sampling
from simulator.clusters.presets import preset
from simulator.plan import Plan

node = onnx.helper.make_node
CPUS = preset("cpu+2xv100")


def folded_model(path: Path, *, given: bool) -> Path:
    """Transposed weights, one of them read twice, and a scale made of two constants.

    With `given` the weights are inputs with parameters' names.
    """
    names = ["a.weight", "b.weight"]
    nodes = [
        node("Transpose", [names[0]], ["ta"], name="turn_a"),
        node("Transpose", [names[1]], ["tb"], name="turn_b"),
        node("Add", ["one", "half"], ["scale"], name="scale"),
        node("MatMul", ["x", "ta"], ["h0"], name="first"),
        node("Relu", ["h0"], ["h1"], name="relu"),
        node("MatMul", ["h1", "tb"], ["h2"], name="second"),
        node("Mul", ["h2", "scale"], ["h3"], name="scaled"),
        node("MatMul", ["h3", "ta"], ["y"], name="third"),
    ]
    weights: dict[str, np.ndarray] = {
        "one": np.ones(32, np.float32),
        "half": np.full(32, 0.5, np.float32),
    }
    inputs = [value("x", "batch", 32)]
    for seed, name in enumerate(names):
        if given:
            inputs.append(value(name, 32, 32))
        else:
            weights[name] = normal(32, 32, seed=seed) / 6
    return save(path, nodes, inputs, [value("y", "batch", 32)], weights)


def feeds(given: bool) -> dict[str, np.ndarray]:
    known = {"x": normal(3, 32, seed=7)}
    if given:
        known |= {"a.weight": normal(32, 32) / 6, "b.weight": normal(32, 32, seed=1) / 6}
    return known


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_split_computes_what_the_model_does(given: bool, seed: int, tmp_path: Path) -> None:
    model = folded_model(tmp_path / "m.onnx", given=given)
    graph = graphs.load(model)
    assert sorted(graph.report.folded_ops.items()) == [("Add", 1), ("Transpose", 2)]
    devices = np.random.default_rng(seed).integers(0, 3, graph.op_count)
    request = request_for(model, tmp_path / "out", Plan.of(devices))
    exported = export_onnx_split(request)
    split = runpy.run_path(str(exported.files[1]))["SplitModel"](cpu=True)
    wanted = ort.InferenceSession(str(model)).run(None, feeds(given))
    np.testing.assert_allclose(split.run(feeds(given))["y"], wanted[0], rtol=1e-4, atol=1e-5)
    crossing = {name for part in split.manifest["parts"] for name in part["inputs"]}
    assert crossing.isdisjoint({"ta", "tb", "scale"})
    assert set(json.loads(exported.files[0].read_text())["inputs"]) == set(feeds(given))


def test_annotations_put_a_folded_node_where_its_reader_is(tmp_path: Path) -> None:
    model = folded_model(tmp_path / "m.onnx", given=False)
    graph = graphs.load(model)
    devices = np.zeros(graph.op_count, np.int64)
    devices[graph.op_index["second"]] = 2
    request = ExportRequest(model, graph, CPUS, Plan.of(devices), tmp_path / "out")
    annotated = onnx.load(export_onnx_annotated(request).files[0])
    homes = {
        item.name: prop.value
        for item in annotated.graph.node
        for prop in item.metadata_props
        if prop.key == "graphwright.device"
    }
    assert homes["turn_b"] == homes["second"] == CPUS.devices[2].name
    assert homes["turn_a"] == homes["first"] == CPUS.devices[0].name
    got = ort.InferenceSession(str(tmp_path / "out" / "m.annotated.onnx")).run(None, feeds(False))
    wanted = ort.InferenceSession(str(model)).run(None, feeds(False))
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)


@pytest.mark.parametrize("given", [False, True])
def test_a_measured_plan_gives_the_original_outputs(given: bool, tmp_path: Path) -> None:
    model = folded_model(tmp_path / "m.onnx", given=given)
    graph = graphs.load(model, {"batch": 3})
    quick = Sampling(rounds=1, iterations=1, clock=Clock.VIRTUAL, timeout_seconds=20.0)
    with open_ort(model, graph, core_cluster(), dims={"batch": 3}, sampling=quick) as runtime:
        (found,) = runtime.measure([Plan.of(np.arange(graph.op_count) % 2)])
        assert found.failure is None
        assert found.checked
