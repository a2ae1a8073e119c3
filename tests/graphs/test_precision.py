"""What float32 models are computed in."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import graph_of, op

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import DType, OpKind, Phase
from graphs.precision import Precision, computed_types, read_precision, with_precision
from simulator import preset
from simulator.costs.cost_model import RooflineCosts


def model(source_format: str) -> Graph:
    graph = graph_of(
        op("conv", 6e12, output_bytes=400, kind=OpKind.CONV, bytes_read=800.0),
        op("relu", 0, ("conv",), 400, kind=OpKind.ACTIVATION, bytes_read=400.0),
        op("matmul", 3e12, ("relu",), 40, resident_bytes=1000),
        op("double", 1e12, ("matmul",), 40, dtype=DType.FLOAT64),
    )
    return replace(graph, report=ImportReport(source_format))


def types(graph: Graph) -> list[str]:
    return [DType(code).name.lower() for code in graph.dtypes]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("onnx", ["tf32", "float32", "tf32", "float64"]),
        ("tensorflow", ["tf32", "float32", "tf32", "float64"]),
        ("torch-export", ["tf32", "float32", "float32", "float64"]),
        ("memory", ["float32", "float32", "float32", "float64"]),
    ],
)
def test_the_default_is_the_frameworks_own(source: str, wanted: list[str]) -> None:
    assert types(with_precision(model(source), Precision.AUTO)) == wanted
    assert with_precision(model(source), Precision.MODEL) == model(source)
    assert types(with_precision(model(source), Precision.TF32))[:3] == ["tf32", "float32", "tf32"]


def test_devices_without_tf32_take_as_long_as_before() -> None:
    graph = model("onnx")
    rounded = with_precision(graph, Precision.TF32)
    costs = RooflineCosts()
    v100, a100 = preset("2xv100-pcie"), preset("2xa100-pcie")
    np.testing.assert_array_equal(costs.seconds(graph, v100), costs.seconds(rounded, v100))
    before, after = costs.seconds(graph, a100)[:, 0], costs.seconds(rounded, a100)[:, 0]
    assert before[0] / after[0] == pytest.approx(156 / 19.5, rel=0.01)
    assert before[1] == after[1]


def test_half_precision_halves_what_moves_and_keeps_state_that_is_updated() -> None:
    half = with_precision(model("onnx"), Precision.FLOAT16)
    assert types(half) == ["float16", "float16", "float16", "float64"]
    assert half.bytes_read.tolist()[:2] == [400, 200]
    assert half.tensor_bytes.tolist() == [200, 200, 20, 40]
    assert half.resident_bytes[2] == 500
    phases = np.array([0, 0, 0, Phase.UPDATE], np.uint8)
    training = with_precision(replace(model("onnx"), phases=phases), Precision.BFLOAT16)
    assert types(training)[:3] == ["bfloat16"] * 3
    assert training.resident_bytes[2] == 1000


def test_shares_and_names() -> None:
    assert computed_types(model("onnx")) == {"float32": 0.9, "float64": 0.1}
    assert read_precision("FP16") == Precision.FLOAT16
    with pytest.raises(ModelError, match="precision 'fp7': there are auto, model, tf32, float16"):
        read_precision("fp7")
