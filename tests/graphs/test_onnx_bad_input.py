"""Whatever the bytes, an ONNX file becomes a graph or a `ModelError`; never anything else."""

import signal
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from graphs import Graph, GraphError, ModelError, load
from graphs.costs.onnx_contrib import MICROSOFT_OPS
from graphs.formats import FORMATS
from graphs.importers.onnx_models.contrib_shapes.table import RULES
from graphs.importers.onnx_models.file import check_model
from graphs.importers.onnx_models.model import import_onnx, import_onnx_model

node = helper.make_node
SECONDS_PER_EXAMPLE = 10


def _info(name: str, shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any] | None = None,
    outputs: tuple[str, ...] = ("y",),
    weights: tuple[TensorProto, ...] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [_info(n, s) for n, s in (inputs if inputs is not None else {"x": [2, 3]}).items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        list(weights),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _valid() -> onnx.ModelProto:
    """A model with a bit of everything: shapes, a body, strings, floats, small and big weights."""
    then = helper.make_graph([node("Relu", ["h"], ["t"])], "then", [], [_info("t", None)])
    other = helper.make_graph([node("Exp", ["h"], ["e"])], "else", [], [_info("e", None)])
    return _model(
        [
            node("Shape", ["x"], ["s"]),
            node("MatMul", ["x", "w"], ["h"]),
            node("If", ["c"], ["i"], then_branch=then, else_branch=other),
            node("Reshape", ["i", "s"], ["r"]),
            node("Conv", ["r4", "k"], ["v"], pads=[1, 1, 1, 1]),
            node("Resize", ["v", "", "z"], ["q"], mode="linear"),
            node("ReduceSum", ["q"], ["u"], keepdims=0),
            node("Add", ["r", "u"], ["y"]),
        ],
        {"x": ["batch", 4], "r4": [1, 2, 5, 5]},
        ("y",),
        (
            helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [0.5] * 16),
            helper.make_tensor("c", TensorProto.BOOL, [], [True]),
            helper.make_tensor("k", TensorProto.FLOAT, [3, 2, 3, 3], [0.1] * 54),
            helper.make_tensor("z", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0]),
        ),
    )


VALID = _valid().SerializeToString()


def _refused(path: Path, message: str, **dims: int) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(path, dims)
    assert path.name in str(caught.value)


def test_the_model_that_is_damaged_below_is_itself_valid(tmp_path: Path) -> None:
    path = tmp_path / "valid.onnx"
    path.write_bytes(VALID)
    graph = load(path, {"batch": 3})
    assert graph.op_count == 10
    assert graph.report.unknown_shapes == ()


def test_cut_files(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(VALID[: int(len(VALID) * share)])
        _refused(path, "damaged|no graph|no ops|opset")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00" * 64, "damaged"),
        (b"4bb2706d14e65353bc4ae9c26de6ac2a" * 20, "holds text"),
        # Text that parses as a protobuf of unknown fields.
        (b"b9c1648a0bc0f9ae42fa2b64fd557ed6" * 20, "holds text"),
        (b"<!DOCTYPE html><html>not found</html>", "holds text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x08\x0a\x00" * 3, "holds no graph|damaged"),
        (b"\x7fELF" + bytes(range(256)), "damaged"),
        (onnx.helper.make_tensor("t", 1, [4], [1.0] * 4).SerializeToString(), "damaged|graph|ir"),
    ],
)
def test_files_that_are_not_onnx(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    _refused(path, message)


def test_wrong_endings(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text(onnx.printer.to_text(_valid()))
    _refused(text, r"\.onnxtxt and \.textproto")
    for suffix in (".onnxtxt", ".textproto"):
        binary = tmp_path / f"binary{suffix}"
        binary.write_bytes(VALID)
        _refused(binary, "not readable as ONNX")
        words = tmp_path / f"words{suffix}"
        words.write_text("hello there")
        _refused(words, "not readable as ONNX")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "missing.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        import_onnx(tmp_path / "folder.onnx", {})


def _changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = _valid()
    change(model)
    return model


BAD_MODELS: dict[str, tuple[onnx.ModelProto, str]] = {
    "no graph": (_changed(lambda m: m.ClearField("graph")), "holds no graph"),
    "no ir version": (_changed(lambda m: m.ClearField("ir_version")), "no ir_version"),
    "no opset": (_changed(lambda m: m.ClearField("opset_import")), "no opset_import"),
    "future opset": (_model([node("Relu", ["x"], ["y"])]), "opset 999"),
    "no ops": (_model([], outputs=("x",)), "no ops"),
    "no outputs": (_model([node("Relu", ["x"], ["y"])], outputs=()), "no outputs"),
    "only unused ops": (_model([node("Relu", ["x"], ["y"])], outputs=("x",)), "no op contributes"),
    "unknown output": (
        _model([node("Relu", ["x"], ["y"])], outputs=("z",)),
        "nothing produces the model output 'z'",
    ),
    "cycle": (
        _model([node("Add", ["x", "b"], ["y"]), node("Relu", ["y"], ["b"])]),
        "has a cycle through",
    ),
    "self loop": (_model([node("Add", ["x", "y"], ["y"])]), "has a cycle through"),
    "dangling input": (
        _model([node("Add", ["x", "ghost"], ["y"])]),
        "consumes tensor 'ghost', which nothing produces",
    ),
    "two producers": (
        _model([node("Relu", ["x"], ["y"]), node("Exp", ["x"], ["y"])]),
        "'y' is produced by both",
    ),
    "writes its input": (_model([node("Relu", ["x"], ["x"])], outputs=("x",)), "produced by both"),
    "repeated weight": (
        _model(
            [node("Add", ["x", "w"], ["y"])],
            weights=(helper.make_tensor("w", 1, [3], [1.0] * 3),) * 2,
        ),
        "weight 'w' is declared more than once",
    ),
    "negative dimension": (
        _model([node("Relu", ["x"], ["y"])], {"x": [-2, 3]}),
        "dimensions cannot be negative",
    ),
    "absurd dimension": (
        _model([node("Relu", ["x"], ["y"])], {"x": [2**40, 2**40]}),
        "no device can hold it",
    ),
    "negative weight": (
        _model(
            [node("Add", ["x", "w"], ["y"])],
            weights=(TensorProto(name="w", data_type=1, dims=[-3]),),
        ),
        "dimensions cannot be negative",
    ),
    "unknown element type": (
        _model(
            [node("Add", ["x", "w"], ["y"])],
            weights=(TensorProto(name="w", data_type=99, dims=[3]),),
        ),
        "element type 99",
    ),
    "short weight": (
        _model(
            [node("Add", ["x", "w"], ["y"])],
            weights=(TensorProto(name="w", data_type=1, dims=[3], raw_data=b"abc"),),
        ),
        "does not fit its stored data",
    ),
    "shapes that do not fit": (
        _model([node("MatMul", ["x", "x"], ["y"])]),
        r"op 'y' \(MatMul\) does not fit its inputs of shape \[2, 3\], \[2, 3\]",
    ),
    "missing attribute": (_model([node("Cast", ["x"], ["y"])]), "does not fit its inputs"),
    "too many inputs": (_model([node("Relu", ["x", "x"], ["y"])]), "does not fit its inputs"),
    "If without branches": (_model([node("If", ["x"], ["y"])]), "lacks its 'then_branch'"),
    "Loop without a body": (_model([node("Loop", ["", "", "x"], ["y"])]), "lacks its 'body'"),
    "empty Constant": (
        _model([node("Constant", [], ["c"]), node("Add", ["x", "c"], ["y"])]),
        "has no value",
    ),
}
BAD_MODELS["future opset"][0].opset_import[0].version = 999


@pytest.mark.parametrize("case", BAD_MODELS)
def test_models_that_contradict_themselves(case: str, tmp_path: Path) -> None:
    model, message = BAD_MODELS[case]
    path = tmp_path / "bad.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        load(path)


# Found by mutation; the first crashed onnx's inference with a segmentation fault.
def test_axes_out_of_range() -> None:
    weights = (helper.make_tensor("s", 1, [3], [1.0] * 3),)
    model = _model([node("LayerNormalization", ["x", "s"], ["y"], axis=2**31)], weights=weights)
    with pytest.raises(ModelError, match=r"op 'y' has axis=2147483648 on inputs of rank 2"):
        import_onnx_model(model, {}, "axes")


@pytest.mark.parametrize("count", [1, 3, 2**31])
def test_another_number_of_outputs_than_names(count: int) -> None:
    """With too many onnx's inference would count for ever, with too few it aborts."""
    model = _model([node("Split", ["x"], ["y", "z"], num_outputs=count)])
    with pytest.raises(ModelError, match=f"num_outputs={count} .* 2 outputs"):
        import_onnx_model(model, {}, "split")


def test_an_optional_that_holds_nothing() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    nodes = [node("Optional", [], ["o"], type=tensor), node("OptionalHasElement", ["o"], ["y"])]
    assert import_onnx_model(_model(nodes), {}, "optional").op_count == 2


def test_names_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bytes.onnx"
    path.write_bytes(VALID.replace(b"MatMul", b"Mat\x80ul"))
    _refused(path, "not UTF-8 text|damaged")


@pytest.mark.parametrize("domain", ["", "ai.onnx.ml", "my.domain"])
@pytest.mark.parametrize("version", [-1, 2**31, 2**62])
def test_opset_versions_out_of_range(domain: str, version: int) -> None:
    model = _valid()
    model.opset_import.append(helper.make_opsetid(domain, version))
    with pytest.raises(ModelError, match=f"opset {version}"):
        import_onnx_model(model, {}, "opset")


def test_a_dangling_name_inside_a_body() -> None:
    body = helper.make_graph([node("Add", ["x", "ghost"], ["t"])], "b", [], [_info("t", None)])
    condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    model = _model(
        [node("If", ["c"], ["y"], then_branch=body, else_branch=body)], weights=(condition,)
    )
    with pytest.raises(ModelError, match="'ghost', which nothing produces"):
        import_onnx_model(model, {}, "body")


def test_a_body_of_another_arity() -> None:
    body = helper.make_graph(
        [node("Relu", ["s"], ["t"])], "b", [_info("s", None)], [_info("t", None)]
    )
    model = _model([node("Loop", ["", "", "x"], ["y"], body=body)])
    with pytest.raises(ModelError, match="takes 1 inputs but is given 3"):
        import_onnx_model(model, {}, "body")


@pytest.mark.parametrize("size", [0, -2])
def test_sizes_below_one_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "valid.onnx"
    path.write_bytes(VALID)
    with pytest.raises(ModelError, match=f"batch={size}"):
        load(path, {"batch": size})
    with pytest.raises(ModelError, match=f"batch={size}"):
        import_onnx(path, {"batch": size})


def _external(location: str, **entries: str) -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    return _model([node("Add", ["x", "w"], ["y"])], weights=(weight,))


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../w.bin", "a/../../w.bin", "C:\\w.bin", "..\\w.bin", "w\0.bin"]
)
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(b"\0" * 12)
    path = folder / "model.onnx"
    path.write_bytes(_external(location).SerializeToString())
    _refused(path, "outside the model's folder")


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(b"\0" * 12)
    (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    path = folder / "model.onnx"
    path.write_bytes(_external("w.bin").SerializeToString())
    _refused(path, "outside the model's folder")


@pytest.mark.parametrize("entries", [{"offset": "-5"}, {"offset": "x"}, {"offset": "99999"}, {}])
def test_wrong_offsets_only_cost_the_value(tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 8)
    path = tmp_path / "model.onnx"
    path.write_bytes(_external("w.bin", **entries).SerializeToString())
    assert load(path).resident_bytes.sum() == 12


class _TooSlow(BaseException):
    """Past every `except Exception`, so that no handler hides a hang."""


@pytest.fixture
def deadline() -> Iterator[Callable[[], None]]:
    """Restarts an alarm; an import that takes longer fails its test.

    Frameworks are imported before it: some damaged files begin as another format's do, and on a
    loaded machine TensorFlow alone takes longer than an example may.
    """
    for item in FORMATS.values():
        import_module(item.importer.partition(":")[0])

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooSlow(f"no answer after {SECONDS_PER_EXAMPLE} seconds")

    def restart() -> None:
        signal.alarm(SECONDS_PER_EXAMPLE)

    previous = signal.signal(signal.SIGALRM, ring)
    yield restart
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def _outcome(data: bytes, path: Path) -> Graph | None:
    path.write_bytes(data)
    try:
        return load(path)
    except (ModelError, GraphError) as error:
        assert str(error)
        return None


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(VALID) - 1),
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from([b"\xff", b"\x00", b"\x80\x80\x80\x80\x10", b"\xff" * 9 + b"\x01"]),
        ),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=6,
)


@given(MUTATIONS)
@example([(0, b"", 1)])
@settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_mutated_bytes_give_a_graph_or_a_model_error(
    deadline: Callable[[], None], tmp_path: Path, mutations: list[tuple[int, bytes, int]]
) -> None:
    deadline()
    data = bytearray(VALID)
    for position, inserted, removed in mutations:
        data[position : position + removed] = inserted
    _outcome(bytes(data), tmp_path / "mutated.onnx")


def test_names_of_bodies_that_are_no_text_are_refused(tmp_path: Path) -> None:
    at = VALID.index(b"then") + 1
    while at:
        data = bytearray(VALID)
        data[at] = 0xFF
        _outcome(bytes(data), tmp_path / "mutated.onnx")
        at = VALID.find(b"then", at) + 1


SWAPS = ("op_type", "foreign", "input", "attribute", "dims", "shape", "type", "initializer")
FOREIGN_DOMAINS = ("com.microsoft", "com.microsoft.nchwc")
SIZES = st.sampled_from([0, 1, 2, 3, 7, -1, -(2**63), 2**31, 2**62, 2**63 - 1])
OP_TYPES = st.sampled_from(sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}))


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from(SWAPS), st.integers(0, 63), SIZES, OP_TYPES),
        min_size=1,
        max_size=5,
    )
)
@settings(
    max_examples=800,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_mutated_fields_give_a_graph_or_a_model_error(
    deadline: Callable[[], None], tmp_path: Path, swaps: list[tuple[str, int, int, str]]
) -> None:
    deadline()
    model = _valid()
    for field, index, size, op_type in swaps:
        _swap(model, field, index, size, op_type)
    _outcome(model.SerializeToString(), tmp_path / "mutated.onnx")


def _swap(model: onnx.ModelProto, field: str, index: int, size: int, op_type: str) -> None:
    """Change one field to another valid value of its type."""
    graph = model.graph
    target = graph.node[index % len(graph.node)]
    weight = graph.initializer[index % len(graph.initializer)]
    given = graph.input[index % len(graph.input)].type.tensor_type
    match field:
        case "op_type":
            target.op_type = op_type
        case "foreign":
            domain = FOREIGN_DOMAINS[size % len(FOREIGN_DOMAINS)]
            names = sorted({*RULES[domain], *MICROSOFT_OPS})
            target.domain, target.op_type = domain, names[hash((index, size)) % len(names)]
        case "input":
            names = [name for item in graph.node for name in (*item.input, *item.output)]
            target.input.append(names[index % len(names)])
        case "attribute":
            for attribute in target.attribute:
                attribute.i = size
                attribute.ints.append(size)
        case "dims":
            weight.dims.append(size)
        case "shape":
            given.shape.dim.add(dim_value=size)
        case "type":
            given.elem_type = index % 28
        case "initializer":
            weight.data_type = index % 28


def test_the_check_itself_tells_messages_apart() -> None:
    with pytest.raises(ModelError, match="holds no graph"):
        check_model(onnx.ModelProto(), "empty")
