"""Attributes, sizes and work of ops are checked in one place, whatever a file says of them."""

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_toys import imported, node

from graphs.costs.aten_ops import aten_cost
from graphs.costs.einsum import einsum_flops
from graphs.costs.onnx_ops import onnx_cost
from graphs.costs.tensorflow_ops import TENSORFLOW_OPS
from graphs.costs.work import (
    FORMULA_ERRORS,
    Signature,
    SizeError,
    TensorSpec,
    Work,
    WorkError,
    repeated,
)
from graphs.errors import ModelError

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(-(10**30), 10**30) | st.text(max_size=3), max_size=4)
)
#: Attributes that some formula looks at.
NAMES = (
    "size", "kernel_shape", "sampling_ratio", "mode", "nodes_featureids", "nodes_treeids",
    "tree_roots", "coefficients", "num_heads", "K", "N", "k", "expert_weight_bits", "transA",
    "equation", "hidden_size", "q_num_heads", "kv_num_heads", "reduction", "kernel_size",
    "transposed", "num_layers", "bidirectional", "training", "is_training", "depth_radius",
    "ksize", "adj_x", "dim", "group", "output_mask",
)  # fmt: skip
OPS = [
    *((f"onnx {name}", onnx_cost("", name)) for name in (
        "LRN", "AveragePool", "RoiAlign", "Resize", "Einsum", "Gemm", "Attention", "LSTM",
        "ScatterND", "BatchNormalization", "Conv", "GridSample",
    )),
    *((f"ml {name}", onnx_cost("ai.onnx.ml", name)) for name in (
        "TreeEnsemble", "LinearClassifier", "SVMClassifier",
    )),
    *((f"microsoft {name}", onnx_cost("com.microsoft", name)) for name in (
        "Attention", "MultiHeadAttention", "PackedAttention", "MatMulNBits", "MoE", "QMoE",
    )),
    *((f"aten {name}", aten_cost(name)) for name in (
        "max_pool2d", "einsum", "convolution", "lstm", "batch_norm", "index_add",
    )),
    *((f"tensorflow {name}", TENSORFLOW_OPS.get(name)) for name in (
        "LRN", "MaxPool", "FusedBatchNormV3", "Einsum", "BatchMatMulV2",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("name", "cost"), [item for item in OPS if item[1] is not None])
@given(
    attributes=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
    shapes=st.lists(st.lists(st.integers(0, 2**12), max_size=4), min_size=1, max_size=4),
)
def test_a_formula_gives_work_or_an_error_that_importers_know(
    name: str, cost: Any, attributes: dict[str, Any], shapes: list[list[int]]
) -> None:
    specs = [TensorSpec(tuple(shape)) for shape in shapes]
    signature = Signature(name.split()[1], specs, specs[:1], attributes)
    try:
        work = cost.formula(signature)
    except FORMULA_ERRORS:
        return
    assert 0 <= work.flops < 1e31


@pytest.mark.parametrize(
    ("value", "message"),
    [("many", "whole number"), (-1, "whole number"), (2**50, "whole number"), (True, "whole"),
     (1.5, "whole number"), ([1], "whole number")],
)  # fmt: skip
def test_a_count_is_a_whole_number_in_its_range(value: Any, message: str) -> None:
    signature = Signature("A", [], [], {"size": value})
    with pytest.raises(ValueError, match=f"attribute size is .*{message}"):
        signature.integer("size", 3)
    with pytest.raises(ValueError, match="attribute size"):
        Signature("A", [], [], {"size": [value]}).integers("size")


def test_what_is_absent_has_its_default_or_is_an_error() -> None:
    signature = Signature("A", [], [], {"zero": 0, "on": 1, "word": "b", "list": [1, 2]})
    assert signature.integer("size", 3) == 3
    assert signature.integers("list") == (1, 2)
    assert signature.integers("zero") == (0,)
    assert signature.flag("on")
    assert not signature.flag("off")
    assert signature.text("word", "a") == "b"
    assert signature.text("none", "a") == "a"
    assert signature.values("list") == [1, 2]
    assert signature.values("none") == ()
    for read in (signature.integer, signature.integers):
        with pytest.raises(KeyError):
            read("size")
    with pytest.raises(ValueError, match="from 1 to"):
        signature.integer("zero", least=1)
    wrong: list[tuple[Callable[[str], object], str]] = [
        (signature.flag, "word"), (signature.text, "on"), (signature.values, "on")
    ]  # fmt: skip
    for reads, name in wrong:
        with pytest.raises(ValueError, match=f"attribute {name}"):
            reads(name)


@pytest.mark.parametrize("shape", [(-1,), (2**49,), (2**30, 2**30), (10**400, 2), (0, 10**400)])
def test_no_tensor_is_larger_than_any_device(shape: tuple[int, ...]) -> None:
    with pytest.raises(SizeError, match=r"2\*\*48 elements at most"):
        TensorSpec(shape)
    assert issubclass(SizeError, ModelError)
    assert TensorSpec((2**48, 0)).bytes == 0


@pytest.mark.parametrize("figure", [10**400, 1e31, -1.0, float("nan")])
def test_no_op_works_for_ever(figure: float) -> None:
    for name in ("flops", "bytes_read", "bytes_written"):
        with pytest.raises((ValueError, OverflowError)):
            Work(**{name: figure})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["eight", -1, 2.5, [1, 2], 2**62])
def test_a_model_with_senseless_attributes_is_costed_or_refused(value: Any) -> None:
    attention = node(
        "MultiHeadAttention", ["x", "x", "x"], ["y"], "attention", domain="com.microsoft",
        num_heads=value,
    )  # fmt: skip
    try:
        graph = imported(
            [attention],
            {"x": [1, 8, 4]},
            ["y"],
            opsets=[onnx.helper.make_opsetid("com.microsoft", 1)],
        )
    except ModelError:
        return
    assert graph.report.estimated_ops == {"com.microsoft.MultiHeadAttention": 1}


def test_a_weight_of_work_is_a_number() -> None:
    signature = Signature("A", [], [], {"taps": 2.5, "word": "x", "huge": 1e300, "on": True})
    assert signature.figure("taps") == 2.5
    for name in ("word", "huge", "on"):
        with pytest.raises(ValueError, match=f"attribute {name}"):
            signature.figure(name)
    with pytest.raises(KeyError):
        signature.figure("none")


def test_work_beyond_all_devices_is_the_models_fault() -> None:
    assert issubclass(WorkError, ModelError)
    with pytest.raises(WorkError, match="how often its loops run"):
        repeated([Work(flops=1e20)], 2**48)


@pytest.mark.parametrize("value", [[1], "one", 1.0])
def test_attributes_of_another_type_than_the_schemas_are_not_used(value: Any) -> None:
    scan = node("Scan", ["x"], ["y"], "scan", body=_body(), num_scan_inputs=value)
    with pytest.raises(ModelError, match="num_scan_inputs=0 of 1"):
        imported([scan], {"x": [3, 4]}, ["y"])


def _body() -> onnx.GraphProto:
    row = onnx.helper.make_tensor_value_info("row", onnx.TensorProto.FLOAT, [4])
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [4])
    return onnx.helper.make_graph([node("Relu", ["row"], ["out"])], "body", [row], [out])


def test_an_einsum_of_very_many_operands_has_no_formula() -> None:
    equation = ",".join(["i"] * 65) + "->i"
    with pytest.raises(ValueError, match="at most 64"):
        einsum_flops(equation, [(2,)] * 65)
