"""Open dimensions of ONNX inputs: how they are named, bound, defaulted and reported."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphs import Graph, ModelError
from graphs.importers.dimensions import (
    ASSUMED_BATCH,
    ASSUMED_IMAGE_SIDE,
    ASSUMED_LENGTH,
    assumed_size,
)
from graphs.importers.onnx_models.model import import_onnx_model

node = helper.make_node
#: Of a convolution of stride two on an image of 224 x 224 from 3 to 32 channels, with 3 x 3 taps.
FLOPS_PER_IMAGE = 2 * 112 * 112 * 32 * 27


def network(shape: list[Any], output: list[Any] | None = None) -> onnx.ModelProto:
    """A convolution, a pool and a product on an image of a given shape."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["c"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flat"),
        node("MatMul", ["f", "fc"], ["y"], "fc"),
    ]
    weights = {"w": np.zeros((32, 3, 3, 3), np.float32), "fc": np.zeros((32, 10), np.float32)}
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output or [shape[0], 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def loaded(shape: list[Any], dims: Mapping[str, int] | None = None) -> Graph:
    return import_onnx_model(network(shape), dims or {}, "net")


def conv_flops(graph: Graph) -> float:
    return float(graph.flops[graph.op_index["conv"]])


def test_a_batch_of_zero_is_open_and_said() -> None:
    graph = loaded([0, 3, 224, 224])
    assert conv_flops(graph) == FLOPS_PER_IMAGE
    assert graph.report.assumed_dims == {"x[0]": ASSUMED_BATCH}
    assert any("size of 0 for x[0]" in note for note in graph.report.notes)
    bound = loaded([0, 3, 224, 224], {"x[0]": 8})
    assert conv_flops(bound) == 8 * FLOPS_PER_IMAGE
    assert bound.report.bound_dims == {"x[0]": 8}
    assert bound.report.notes == ()


def test_sides_of_zero_are_open() -> None:
    graph = loaded([1, 3, 0, 0])
    assert conv_flops(graph) == FLOPS_PER_IMAGE
    assert graph.report.assumed_dims == dict.fromkeys(["x[2]", "x[3]"], ASSUMED_IMAGE_SIDE)


def _cache(name: str) -> Graph:
    nodes = [node("Concat", [name, "new"], ["present"], axis=2)]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4, 0, 8]),
         helper.make_tensor_value_info("new", TensorProto.FLOAT, [2, 4, 1, 8])],
        [helper.make_tensor_value_info("present", TensorProto.FLOAT, None)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return import_onnx_model(model, {}, "cache")


@pytest.mark.parametrize("name", ["past_key", "x3"])
def test_an_empty_cache_is_taken_at_its_word_and_said(name: str) -> None:
    graph = _cache(name)
    assert graph.tensor_bytes[-1] == 2 * 4 * 1 * 8 * 4
    assert any(f"0 for {name}[2]" in note and "word" in note for note in graph.report.notes)
    assert graph.report.assumed_dims == {f"{name}[2]": 0}


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("8", 8), (" 4 ", 4)])
def test_a_number_in_the_place_of_a_name_is_that_number(text: str, size: int) -> None:
    graph = loaded([text, 3, 224, 224])
    assert conv_flops(graph) == size * FLOPS_PER_IMAGE
    assert graph.report.assumed_dims == {}


@pytest.mark.parametrize("symbol", ["?", "-1", "None", "unk", "*", -1, None])
def test_what_is_no_name_is_bound_by_place(symbol: Any) -> None:
    graph = loaded([symbol, 3, symbol, symbol])
    assert conv_flops(graph) == FLOPS_PER_IMAGE
    sides = dict.fromkeys(["x[2]", "x[3]"], ASSUMED_IMAGE_SIDE)
    assert graph.report.assumed_dims == {"x[0]": ASSUMED_BATCH, **sides}
    bound = loaded([symbol, 3, symbol, symbol], {"x[0]": 4, "x[2]": 112})
    assert conv_flops(bound) == 4 * FLOPS_PER_IMAGE / 2


def test_a_question_mark_may_be_bound_as_one_too() -> None:
    graph = loaded(["?", 3, 224, 224], {"?": 48})
    assert conv_flops(graph) == 48 * FLOPS_PER_IMAGE
    mixed = loaded(["?", 3, "?", "?"], {"?": 224, "x[0]": 2})
    assert conv_flops(mixed) == 2 * FLOPS_PER_IMAGE


@pytest.mark.parametrize("name", ["DynamicDimension.0", "unk__616", "s77", "axis_0", "d0", "foo"])
def test_an_odd_name_in_front_is_a_batch(name: str) -> None:
    graph = loaded([name, 3, 224, 224])
    assert conv_flops(graph) == ASSUMED_BATCH * FLOPS_PER_IMAGE
    assert graph.report.assumed_dims == {name: ASSUMED_BATCH}
    assert conv_flops(loaded([name, 3, 224, 224], {name: 8})) == 8 * FLOPS_PER_IMAGE


def test_odd_names_of_an_image_are_its_sides() -> None:
    names = ["DynamicDimension.0", 3, "DynamicDimension.1", "DynamicDimension.2"]
    assert conv_flops(loaded(names)) == FLOPS_PER_IMAGE


@pytest.mark.parametrize(
    ("name", "axis", "rank", "size"),
    [
        ("sequence_length", 0, 2, ASSUMED_LENGTH),
        ("n_tokens", 0, 1, ASSUMED_LENGTH),
        ("time", 0, 3, ASSUMED_LENGTH),
        ("batch_size", 1, 3, ASSUMED_BATCH),
        ("height", 1, 3, ASSUMED_IMAGE_SIDE),
        ("foo", 1, 3, ASSUMED_LENGTH),
        ("foo", 2, 4, ASSUMED_IMAGE_SIDE),
        ("", 0, 2, ASSUMED_BATCH),
    ],
)
def test_names_go_before_places(name: str, axis: int, rank: int, size: int) -> None:
    assert assumed_size(name, axis, rank) == size


def test_a_dimension_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ModelError, match=r"open dimensions: x\[0\]"):
        loaded([0, 3, 224, 224], {"x[1]": 5})


def test_an_output_of_zero_does_not_make_foreign_ops_empty() -> None:
    """The declared output of a model with a batch of 0 is no annotation to believe."""
    model = network([0, 3, 224, 224], [0, 10])
    model.graph.node.append(node("Mystery", ["y"], ["z"], domain="my"))
    model.graph.output[0].name = "z"
    model.opset_import.append(helper.make_opsetid("my", 1))
    graph = import_onnx_model(model, {"x[0]": 8}, "net")
    assert graph.tensor_bytes[-1] == 8 * 10 * 4
