"""Splits of models of onnxruntime's own ops: they load, and compute what the original does."""

import runpy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported_models import CLUSTER
from foreign_models import convolutional_model, four_bit_model, optimised, sixteen_bit_model

from graphs import Graph, load
from graphs.importers.onnx_models.contrib_shapes.table import RULES
from placement.export import ExportRequest
from placement.export.onnx_split import export_onnx_split
from simulator.plan import Plan

IMAGE = {"batch": 4}
TEXT = {"batch": 2, "length": 5}


def round_robin(graph: Graph) -> Plan:
    return Plan.of(np.arange(graph.op_count) % CLUSTER.device_count)


def assert_split_equals(model: Path, out: Path, dims: Mapping[str, int]) -> list[Path]:
    """Split round robin, run both; returns the files of the parts."""
    graph = load(model, dims, allow_unknown=True)
    request = ExportRequest(model, graph, CLUSTER, round_robin(graph), out, dims=dims)
    runner = export_onnx_split(request).files[1]
    split = runpy.run_path(str(runner))["SplitModel"](cpu=True)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Quantising twice in a row is optimised away where both ends are in one session.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {
        item.name: random.integers(0, 9, list(dims.values()))
        if item.type == "tensor(int64)"
        else random.standard_normal((dims["batch"], *item.shape[1:])).astype(np.float32)
        for item in session.get_inputs()
    }
    names = [item.name for item in session.get_outputs()]
    got = split.run(feeds)
    for name, wanted in zip(names, session.run(names, feeds), strict=True):
        np.testing.assert_allclose(got[name], wanted, rtol=1e-4, atol=1e-5)
    return sorted(out.glob("*.part*.onnx"))


def test_sixteen_bit_activations(tmp_path: Path) -> None:
    model = sixteen_bit_model(tmp_path / "m.onnx")
    parts = assert_split_equals(model, tmp_path / "out", IMAGE)
    kinds = {
        value.type.tensor_type.elem_type
        for part in parts
        for value in onnx.load(part, load_external_data=False).graph.input
    }
    assert onnx.TensorProto.UINT16 in kinds
    assert load(model, IMAGE).flops[load(model, IMAGE).op_index["fc"]] == 2 * 4 * 8 * 10


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
def test_models_that_onnxruntime_optimised(level: str, tmp_path: Path) -> None:
    plain = convolutional_model(tmp_path / "plain.onnx")
    model = optimised(plain, tmp_path / "optimised.onnx", level)
    graph, original = load(model, IMAGE), load(plain, IMAGE)
    assert graph.report.unknown_shapes == ()
    assert dict(graph.report.estimated_ops) == {}
    assert graph.flops.sum() == original.flops.sum()
    assert_split_equals(model, tmp_path / "out", IMAGE)


def test_four_bit_weights(tmp_path: Path) -> None:
    model = four_bit_model(tmp_path / "m.onnx")
    graph = load(model, TEXT)
    assert graph.flops[graph.op_index["fc0"]] == 2 * 10 * 32 * 128
    assert graph.output_shapes[graph.op_index["embed"]].tolist() == [1, 2, 5, 32]
    assert_split_equals(model, tmp_path / "out", TEXT)


def test_a_guessed_type_never_crosses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule the table's own type is guessed, which would not load."""
    monkeypatch.delitem(RULES["com.microsoft"], "GatherBlockQuantized")
    model = four_bit_model(tmp_path / "m.onnx")
    assert "x" in load(model, TEXT, allow_unknown=True).report.unknown_shapes
    parts = assert_split_equals(model, tmp_path / "out", TEXT)
    crossing = {
        value.name
        for part in parts
        for value in onnx.load(part, load_external_data=False).graph.input
    }
    assert "x" not in crossing
    assert len(parts) >= 1


def test_an_output_of_guessed_type_declares_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RULES["com.microsoft"], "GatherBlockQuantized")
    path = four_bit_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.output.append(onnx.ValueInfoProto(name="x"))
    onnx.save(model, path)
    assert_split_equals(path, tmp_path / "out", TEXT)
