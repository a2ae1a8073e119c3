"""The ONNX importer against onnxruntime, against onnx's own models, and rule by rule."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as rt
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_toys import OPSET, imported, node, op_of, shape_of, tensor_info, toy_model
from onnxruntime.capi import onnxruntime_pybind11_state

from graphs import DType, Graph, ModelError, OpKind, Phase, Storage, load
from graphs.importers.dimensions import ASSUMED_BATCH, ASSUMED_LENGTH, evaluate_dimension
from graphs.importers.onnx_models.model import import_onnx_model
from graphs.importers.onnx_models.values import TINY_BYTES

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
SHIPPED = sorted(DATA.rglob("*.onnx"))


def _node_cases() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases divide by zero and so on, on purpose
        from onnx.backend.test.case.node import collect_testcases

        yield from collect_testcases(None)


@pytest.fixture(scope="module")
def node_cases() -> list[Any]:
    return list(_node_cases())


def test_every_shipped_model_imports() -> None:
    assert len(SHIPPED) > 100
    for path in SHIPPED:
        graph = load(path, allow_unknown=True)
        assert graph.report.estimated_ops == {}, path
        if "sequence" not in str(path):
            assert graph.report.unknown_shapes == (), path


#: Every seventh case by default, every one in a run of slow tests.
SOME_OR_ALL = pytest.mark.parametrize(
    "every", [pytest.param(7, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)


@SOME_OR_ALL
def test_one_op_models_import(node_cases: list[Any], every: int) -> None:
    assert len(node_cases) > 1500
    open_shapes = []
    for case in node_cases[::every]:
        graph = import_onnx_model(case.model, {}, case.name)
        assert graph.report.estimated_ops == {}, case.name
        if graph.report.unknown_shapes:
            open_shapes.append(case.name)
    # Sizes that depend on data: axes given at run time, unique elements, sequences.
    assert len(open_shapes) < 80 / every + 5, open_shapes


#: onnxruntime's errors share no base; what it cannot load or run is not compared.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(
        item
        for item in vars(onnxruntime_pybind11_state).values()
        if isinstance(item, type) and issubclass(item, Exception)
    ),
)


def _session(model: onnx.ModelProto) -> rt.InferenceSession | None:
    options = rt.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = rt.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return rt.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except RUNTIME_ERRORS:
        return None


def _assert_same_bytes(graph: Graph, model: onnx.ModelProto, values: dict[str, Any]) -> int:
    """Compare each value that an op of the graph writes with what was computed."""
    compared = 0
    for item in model.graph.node:
        written = [name for name in item.output if name]
        op = graph.op_index.get(item.name or written[0])
        if op is None or graph.op_types[op] not in (item.op_type, f"{item.domain}.{item.op_type}"):
            continue
        for tensor, name in zip(graph.outputs_of(op), written, strict=False):
            value = values.get(name)
            if isinstance(value, np.ndarray) and value.dtype != object:
                assert graph.tensor_bytes[tensor] == value.nbytes, (name, value.shape)
                compared += 1
    return compared


@SOME_OR_ALL
def test_one_op_outputs_are_as_large_as_onnxruntime_makes_them(
    node_cases: list[Any], every: int
) -> None:
    compared = 0
    for case in node_cases[::every]:
        graph = import_onnx_model(case.model, {}, case.name)
        session = _session(case.model)
        if session is None or graph.report.unknown_shapes or graph.report.assumed_dims:
            continue  # a batch of 0 is open here
        names = [item.name for item in case.model.graph.input]
        feeds = dict(zip(names, case.data_sets[0][0], strict=False))
        try:
            results = session.run(None, feeds)
        except RUNTIME_ERRORS:
            continue
        outputs = [item.name for item in case.model.graph.output]
        compared += _assert_same_bytes(graph, case.model, dict(zip(outputs, results, strict=True)))
    assert compared > 1000 / every


def _exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every intermediate tensor as an output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    known = {value.name for value in model.graph.output}
    copy.graph.output.extend(v for v in inferred.graph.value_info if v.name not in known)
    return copy


def _feeds_of_ones(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    stored = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for item in model.graph.input:
        if item.name not in stored:
            shape = [dim.dim_value for dim in item.type.tensor_type.shape.dim]
            kind = helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
            feeds[item.name] = np.ones(shape, kind)
    return feeds


WHOLE_MODELS = [
    path
    for path in SHIPPED
    if path.parts[-3] in ("pytorch-converted", "pytorch-operator")
    or path.stem in ("light_squeezenet", "light_shufflenet", "light_inception_v1")
]


def test_intermediates_are_as_large_as_onnxruntime_makes_them() -> None:
    compared = 0
    for path in WHOLE_MODELS:
        model = onnx.load(path)
        exposed = _exposed(model)
        session = _session(exposed)
        if session is None:
            continue
        names = [output.name for output in session.get_outputs()]
        values = dict(zip(names, session.run(None, _feeds_of_ones(model)), strict=True))
        compared += _assert_same_bytes(load(path), model, values)
    assert compared > 480


def test_weights_of_one_reader_are_resident_and_read() -> None:
    weight = np.zeros((8, 4), np.float32)
    graph = imported([node("MatMul", ["x", "w"], ["y"])], {"x": [2, 8]}, ["y"], {"w": weight})
    op = op_of(graph, "y")
    assert graph.op_names == ("x", "y")
    assert graph.resident_bytes[op] == weight.nbytes
    assert graph.bytes_read[op] == weight.nbytes + 2 * 8 * 4


def test_shared_weights_become_one_variable_and_tiny_ones_do_not() -> None:
    weights = {"w": np.zeros((8, 8), np.float32), "t": np.zeros(TINY_BYTES // 4, np.float32)[:8]}
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Add", ["a", "t"], ["b"]),
        node("MatMul", ["b", "w"], ["c"]),
        node("Add", ["c", "t"], ["d"]),
    ]
    graph = imported(nodes, {"x": [2, 8]}, ["d"], weights)
    assert graph.op_names == ("x", "w", "a", "b", "c", "d")
    op = op_of(graph, "w")
    assert graph.kinds[op] == OpKind.VARIABLE
    (tensor,) = graph.outputs_of(op)
    assert graph.tensor_storage[tensor] == Storage.WEIGHT
    assert graph.tensor_bytes[tensor] == 256
    assert graph.consumers_of(tensor).tolist() == [op_of(graph, "a"), op_of(graph, "c")]
    assert graph.resident_bytes.tolist() == [0, 0, 0, 32, 0, 32]


def test_constant_nodes_are_treated_like_weights() -> None:
    value = numpy_helper.from_array(np.zeros((8, 8), np.float32))
    constant = node("Constant", [], ["w"], value=value)
    once = [constant, node("MatMul", ["x", "w"], ["y"])]
    graph = imported(once, {"x": [2, 8]}, ["y"])
    assert graph.op_names == ("x", "y")
    assert graph.resident_bytes.tolist() == [0, 256]
    twice = [*once, node("MatMul", ["y", "w"], ["z"])]
    graph = imported(twice, {"x": [2, 8]}, ["z"])
    assert graph.kinds[op_of(graph, "w")] == OpKind.CONSTANT


def test_views_share_the_buffer_of_their_input() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Reshape", ["r", "s"], ["v"]),
        node("Dropout", ["v"], ["d"]),
        node("Exp", ["d"], ["y"]),
    ]
    graph = imported(nodes, {"x": [4, 6]}, ["y"], {"s": np.array([3, -1])})
    assert shape_of(graph, "v") == [1, 1, 3, 8]
    for name, source in (("v", "r"), ("d", "v")):
        (tensor,) = graph.outputs_of(op_of(graph, name))
        assert graph.tensor_storage[tensor] == Storage.ALIAS
        assert graph.tensor_producers[graph.tensor_alias_of[tensor]] == op_of(graph, source)


def test_a_view_of_a_private_weight_stays_resident() -> None:
    nodes = [node("Reshape", ["w", "s"], ["v"]), node("MatMul", ["x", "v"], ["y"])]
    weights = {"w": np.zeros(64, np.float32), "s": np.array([8, 8])}
    graph = imported(nodes, {"x": [2, 8]}, ["y", "v"], weights)
    (tensor,) = graph.outputs_of(op_of(graph, "v"))
    assert graph.tensor_storage[tensor] == Storage.RESIDENT


def test_dropout_draws_numbers_only_in_training() -> None:
    nodes = [node("Dropout", ["x", "ratio", "train"], ["y"])]
    weights = {"ratio": np.array(0.5, np.float32), "train": np.array(True)}
    graph = imported(nodes, {"x": [4, 6]}, ["y"], weights)
    assert graph.flops[op_of(graph, "y")] > 0
    weights["train"] = np.array(False)
    graph = imported(nodes, {"x": [4, 6]}, ["y"], weights)
    assert graph.kinds[op_of(graph, "y")] == OpKind.VIEW


def test_arithmetic_on_shapes_is_free_and_known() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"]),
        node("Mul", ["batch", "two"], ["half"]),
        node("Unsqueeze", ["half", "zero_axis"], ["row"]),
        node("Concat", ["row", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
        node("Add", ["y", "y"], ["z"]),
    ]
    weights = {
        "zero": np.array(0),
        "two": np.array(2),
        "zero_axis": np.array([0]),
        "rest": np.array([-1]),
    }
    graph = imported(nodes, {"x": ["batch", 10]}, ["z"], weights, dims={"batch": 6})
    assert shape_of(graph, "y") == [1, 1, 12, 5]
    for name in ("shape", "batch", "half", "row", "target"):
        assert graph.kinds[op_of(graph, name)] == OpKind.SHAPE, name
    assert graph.kinds[op_of(graph, "z")] == OpKind.ELEMENTWISE
    assert graph.report.unknown_shapes == ()


def test_dimensions_are_bound_derived_and_assumed() -> None:
    nodes = [node("Add", ["x", "y"], ["z"])]
    inputs = {"x": ["batch", "past + now", None], "y": ["batch", "past + now", 1]}
    graph = imported(nodes, inputs, ["z"], dims={"batch": 3, "past": 5, "now": 2})
    assert shape_of(graph, "z") == [1, 3, 7, ASSUMED_LENGTH]
    assert graph.report.assumed_dims == {"x[2]": ASSUMED_LENGTH}
    assert graph.report.bound_dims == {"batch": 3, "past": 5, "now": 2}
    graph = imported(nodes, {"x": [None, "n_tokens"], "y": [1, 1]}, ["z"])
    assert graph.report.assumed_dims == {"x[0]": ASSUMED_BATCH, "n_tokens": ASSUMED_LENGTH}
    assert graph.report.bound_dims == {}


def test_assumptions_that_do_not_fit_are_named() -> None:
    nodes = [node("Add", ["x", "y"], ["z"])]
    with pytest.raises(ModelError, match=r"op 'z' .*assumed dimensions: x\[0\]=1, tokens=128"):
        imported(nodes, {"x": [None, "tokens"], "y": [1, 5]}, ["z"])


@pytest.mark.parametrize(
    ("expression", "size"),
    [
        ("a + 2*b", 11),
        ("(a - 1)//2", 2),
        ("Mul(Integer(4), Symbol('a', positive=True))", 20),
        ("Add(Symbol('a'), Mul(Integer(-1), Symbol('b')))", 2),
        ("Max(a, b)", 5),
        ("a/b", None),
        ("c + 1", None),
        ("__import__('os')", None),
        ("a**99", None),
        ("9" * 600, None),
        ("a +", None),
        ("((9**8)**8)**8", None),
        ("1e300 * 1e300", None),
        ("1e400 - 1e400", None),
        ("Pow(Add(Symbol('a'), Integer(-9)), 0.5)", None),
        ("(65536**4 * a) // 65536**4", 5),
    ],
)
def test_dimension_expressions_are_arithmetic_only(expression: str, size: int | None) -> None:
    assert evaluate_dimension(expression, {"a": 5, "b": 3}) == size


def test_stale_annotations_do_not_survive_binding() -> None:
    model = toy_model(
        [node("Relu", ["x"], ["r"]), node("Exp", ["r"], ["y"])], {"x": ["n", 4]}, ["y"]
    )
    model.graph.value_info.append(tensor_info("r", [1, 4]))
    graph = import_onnx_model(model, {"n": 9}, "stale")
    assert shape_of(graph, "r") == [1, 1, 9, 4]


def test_annotations_tell_shapes_of_foreign_ops_and_assumptions_the_rest() -> None:
    opsets = [helper.make_opsetid("my.domain", 1)]
    nodes = [
        node("Mystery", ["x"], ["a"], domain="my.domain"),
        node("Riddle", ["a"], ["b"], domain="my.domain"),
        node("Relu", ["b"], ["y"]),
    ]
    model = toy_model(nodes, {"x": ["n", 4]}, ["y"], opsets=opsets)
    model.graph.value_info.append(tensor_info("a", ["n", 7]))
    graph = import_onnx_model(model, {"n": 5}, "foreign")
    assert shape_of(graph, "a") == shape_of(graph, "b") == shape_of(graph, "y") == [1, 1, 5, 7]
    assert graph.report.unknown_shapes == ("b",)
    assert graph.report.estimated_ops == {"my.domain.Mystery": 1, "my.domain.Riddle": 1}
    assert graph.flops[op_of(graph, "a")] == 35
    assert any("annotations" in note for note in graph.report.notes)


def test_local_functions_are_inlined() -> None:
    body = [node("MatMul", ["p", "q"], ["m"]), node("Relu", ["m"], ["r"])]
    opset = helper.make_opsetid("", OPSET)
    function = helper.make_function("local", "Layer", ["p", "q"], ["r"], body, [opset])
    nodes = [
        node("Layer", ["x", "w"], ["h"], domain="local"),
        node("Layer", ["h", "w"], ["y"], domain="local"),
    ]
    weights = {"w": np.zeros((8, 8), np.float32)}
    opsets = [helper.make_opsetid("local", 1)]
    model = toy_model(nodes, {"x": [2, 8]}, ["y"], weights, opsets=opsets, functions=[function])
    graph = import_onnx_model(model, {}, "functions")
    assert sorted(graph.op_types) == ["Initializer", "Input", "MatMul", "MatMul", "Relu", "Relu"]
    assert graph.report.estimated_ops == {}


def test_nodes_are_named_uniquely_and_stably() -> None:
    nodes = [
        node("Relu", ["x"], ["a"], name="same"),
        node("Relu", ["a"], ["b"], name="same"),
        node("Relu", ["b"], ["same"]),
        node("Relu", ["same"], ["x2"], name="x"),
    ]
    graph = imported(nodes, {"x": [2]}, ["x2"])
    assert graph.op_names == ("x#tensor", "same", "same#1", "same#2", "x")
    assert any("repeat" in note for note in graph.report.notes)


def test_unsorted_nodes_are_sorted_and_unused_ones_left_out() -> None:
    nodes = [
        node("Exp", ["a"], ["y"]),
        node("Relu", ["x"], ["a"]),
        node("Log", ["x"], ["lost"]),
    ]
    graph = imported(nodes, {"x": [2], "idle": [3]}, ["y"])
    assert graph.op_names == ("x", "a", "y")
    assert any(note.startswith("1 nodes reach no output") for note in graph.report.notes)
    assert any("inputs are read by no op" in note for note in graph.report.notes)


def test_training_ops_have_phases() -> None:
    domain = "com.microsoft"
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("ReluGrad", ["g", "h"], ["dh"], domain=domain),
        node("Transpose", ["x"], ["xt"], perm=[1, 0]),
        node("MatMul", ["xt", "dh"], ["dw"]),
        node("Adam", ["r", "t", "w", "dw", "v", "m"], ["w2", "v2", "m2"],
             domain="ai.onnx.preview.training"),
    ]  # fmt: skip
    opsets = [helper.make_opsetid(domain, 1), helper.make_opsetid("ai.onnx.preview.training", 1)]
    inputs: dict[str, Any] = {"x": [2, 8], "g": [2, 4], "r": []}
    inputs |= {name: [8, 4] for name in ("w", "v", "m")}
    model = toy_model(nodes, inputs, ["w2", "v2", "m2"], opsets=opsets)
    model.graph.input.append(tensor_info("t", [], TensorProto.INT64))
    graph = import_onnx_model(model, {}, "training")
    phases = dict(zip(graph.op_names, graph.phases, strict=True))
    assert [phases[n] for n in ("h", "xt")] == [Phase.FORWARD] * 2
    assert [phases[n] for n in ("dh", "dw")] == [Phase.BACKWARD] * 2
    assert phases["w2"] == Phase.UPDATE
    assert graph.kinds[op_of(graph, "w2")] == OpKind.OPTIMIZER_UPDATE
    assert graph.report.unknown_shapes == ()


def test_a_gradient_op_costs_twice_the_way_to_its_target() -> None:
    domain = "ai.onnx.preview.training"
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Exp", ["other"], ["unrelated"]),
        node("ReduceSum", ["h"], ["loss"], keepdims=0),
        node("Gradient", ["x", "w"], ["dx", "dw"], domain=domain, xs=["x", "w"], y="loss"),
    ]
    opsets = [helper.make_opsetid(domain, 1)]
    inputs = {"x": [2, 8], "w": [8, 4], "other": [100]}
    graph = imported(nodes, inputs, ["dx", "dw", "unrelated"], opsets=opsets)
    op = op_of(graph, "dx")
    assert graph.flops[op] == 2 * (2 * 2 * 8 * 4 + 8)
    assert graph.phases[op] == Phase.BACKWARD
    assert graph.tensor_bytes[list(graph.outputs_of(op))].tolist() == [64, 128]


def test_quantised_products_compute_in_their_operands_type() -> None:
    nodes = [node("MatMulInteger", ["x", "w"], ["y"])]
    weights = {"w": np.zeros((8, 4), np.int8)}
    model = toy_model(nodes, {}, ["y"], weights)
    model.graph.input.append(tensor_info("x", [2, 8], TensorProto.UINT8))
    graph = import_onnx_model(model, {}, "quantised")
    op = op_of(graph, "y")
    assert graph.dtypes[op] == DType.INT8
    assert graph.flops[op] == 2 * 2 * 8 * 4
    assert graph.tensor_bytes[graph.outputs_of(op)[0]] == 2 * 4 * 4


def test_a_model_in_memory_is_not_changed() -> None:
    model = onnx.load(DATA / "light" / "light_shufflenet.onnx")
    before = model.SerializeToString(deterministic=True)
    import_onnx_model(model, {}, "untouched")
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("suffix", [".onnx", ".onnxtxt", ".textproto"])
def test_binary_and_text_forms_give_the_same_graph(tmp_path: Path, suffix: str) -> None:
    model = toy_model([node("Relu", ["x"], ["y"])], {"x": ["n", 3]}, ["y"])
    model.graph.output[0].CopyFrom(tensor_info("y", ["n", 3]))
    path = tmp_path / f"model{suffix}"
    onnx.save(model, path)
    assert load(path, {"n": 2}) == import_onnx_model(model, {"n": 2}, "memory")


def test_missing_weight_files_do_no_harm_and_small_ones_are_read(tmp_path: Path) -> None:
    weights = {"w": np.zeros((64, 64), np.float32), "s": np.array([4, 16])}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Reshape", ["h", "s"], ["y"])]
    model = toy_model(nodes, {"x": [1, 64]}, ["y"], weights)
    path = tmp_path / "model.onnx"
    onnx.save_model(
        model, path, save_as_external_data=True, location="model.weights", size_threshold=0
    )
    graph = load(path)
    assert shape_of(graph, "y") == [1, 1, 4, 16]
    assert graph.report.unknown_shapes == ()
    (tmp_path / "model.weights").unlink()
    without = load(path, allow_unknown=True)
    assert without.report.unknown_shapes == ("y",)
    assert without.resident_bytes.sum() == 64 * 64 * 4 + 16


@pytest.mark.slow
def test_thousands_of_nodes_import() -> None:
    nodes: list[onnx.NodeProto] = []
    weights = {}
    name = "x"
    for layer in range(1000):
        weights[f"w{layer}"] = np.zeros((4, 4), np.float32)
        nodes.append(node("MatMul", [name, f"w{layer}"], [f"m{layer}"]))
        nodes.append(node("Relu", [f"m{layer}"], [f"r{layer}"]))
        nodes.append(node("Add", [f"r{layer}", name], [f"a{layer}"]))
        name = f"a{layer}"
    model = toy_model(nodes, {"x": [2, 4]}, [name], weights)
    assert import_onnx_model(model, {}, "deep").op_count == 3001


def test_unknown_dimensions_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"no dimension 'batch'; its open dimensions: n, x\[1\]"):
        imported([node("Relu", ["x"], ["y"])], {"x": ["n", None]}, ["y"], dims={"batch": 2})
    with pytest.raises(ModelError, match="none, all its dimensions are fixed"):
        imported([node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"], dims={"batch": 2})


def test_shape_waits_for_its_input_but_never_moves_it() -> None:
    graph = imported(
        [
            node("Relu", ["x"], ["hot"], name="relu"),
            node("Shape", ["hot"], ["size"], name="shape"),
            node("Reshape", ["y", "size"], ["out"], name="reshape"),
        ],
        {"x": (2, 3), "y": (6,)},
        ["out"],
    )
    (tensor,) = graph.inputs_of(op_of(graph, "shape"))
    assert graph.tensor_storage[tensor] == Storage.CONTROL
    assert graph.op_names[graph.tensor_producers[tensor]] == "relu"


def test_minus_one_is_an_open_dimension() -> None:
    """As Paddle's exporter writes it, and as onnxruntime reads it."""
    graph = imported([node("Relu", ["x"], ["y"])], {"x": [-1, 3]}, ["y"], dims={"x[0]": 5})
    assert graph.tensor_bytes.tolist() == [5 * 3 * 4] * 2
