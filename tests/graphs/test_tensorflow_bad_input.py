"""TensorFlow files that are damaged or wrong: always a `ModelError` that says what and where."""

import gzip
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted_files import ROOT
from tensorflow_samples import training_graph

from graphs import Graph, ModelError, load
from graphs.importers.tensorflow_models import files
from graphs.importers.tensorflow_models.files import parse_file
from graphs.importers.tensorflow_models.graph import import_graph_def
from graphs.importers.tensorflow_models.nodes import parse_nodes
from graphs.importers.tensorflow_models.prune import chosen_fetches

tf1 = tf.compat.v1


def _small() -> Any:
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (2, 3), "x")
        w = tf.constant([[1.0], [2.0], [3.0]], name="w")
        tf.nn.relu(tf.matmul(x, w, name="product"), name="result")
    return live.as_graph_def()


def _node(definition: Any, name: str) -> Any:
    return next(node for node in definition.node if node.name == name)


def _cycle(definition: Any) -> None:
    _node(definition, "product").input[0] = "result"


def _dangling(definition: Any) -> None:
    _node(definition, "product").input[0] = "nowhere"


def _dangling_control(definition: Any) -> None:
    _node(definition, "product").input.append("^nowhere")


def _duplicate(definition: Any) -> None:
    definition.node.add().CopyFrom(_node(definition, "x"))


def _nameless(definition: Any) -> None:
    _node(definition, "w").name = ""


def _no_such_output(definition: Any) -> None:
    _node(definition, "result").input[0] = "product:7"


def _huge_output(definition: Any) -> None:
    _node(definition, "result").op = "Unheard"
    _node(definition, "product").input[0] = "result:4000000000"
    _node(definition, "result").input[0] = "x"
    definition.node.add(name="end", op="Identity", input=["product"]).attr["T"].type = 1


def _wrong_shapes(definition: Any) -> None:
    _node(definition, "x").attr["shape"].shape.dim[1].size = 4


def _wrong_types(definition: Any) -> None:
    _node(definition, "x").attr["dtype"].type = 3


def _missing_attribute(definition: Any) -> None:
    del _node(definition, "product").attr["T"]


def _impossible_constant(definition: Any) -> None:
    for dim in _node(definition, "w").attr["value"].tensor.tensor_shape.dim:
        dim.size = 1 << 40


def _negative_constant(definition: Any) -> None:
    _node(definition, "w").attr["value"].tensor.tensor_shape.dim[0].size = -3


def _lying_constant(definition: Any) -> None:
    """TensorFlow's inference ends the process over such a constant."""
    _node(definition, "w").attr["value"].tensor.dtype = 5


def _from_the_future(definition: Any) -> None:
    definition.versions.min_consumer = 1 << 30


def _self_calling_function(definition: Any) -> None:
    function = definition.library.function.add()
    function.signature.name = "again"
    for args, name in ((function.signature.input_arg, "a"), (function.signature.output_arg, "b")):
        args.add(name=name, type=1)
    inner = function.node_def.add(name="inner", op="again", input=["a"])
    function.ret["b"] = "inner:b:0"
    assert inner
    _node(definition, "result").op = "again"
    del _node(definition, "result").attr["T"]


def _lonely_exit(definition: Any) -> None:
    definition.node.add(name="leave", op="Exit", input=["result"]).attr["T"].type = 1


def _read_of_nothing(definition: Any) -> None:
    definition.node.add(name="end", op="Identity").attr["T"].type = 1


def _endless_enter(definition: Any) -> None:
    definition.node.add(name="in", op="Enter", input=["in"]).attr["T"].type = 1
    _node(definition, "product").input[0] = "in"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cycle, "cycle"),
        (_dangling, "'nowhere'"),
        (_dangling_control, "'nowhere'"),
        (_duplicate, "'x' occurs more than once"),
        (_nameless, "no name"),
        (_no_such_output, "product"),
        (_huge_output, "result"),
        (_wrong_shapes, "refuses"),
        (_wrong_types, "refuses"),
        (_missing_attribute, "refuses"),
        (_read_of_nothing, "refuses"),
        (_impossible_constant, "impossible shape"),
        (_negative_constant, "impossible shape|refuses"),
        (_lying_constant, "both must be the same"),
        (_from_the_future, "refuses"),
        (_self_calling_function, "recursive"),
        (_lonely_exit, "'leave'"),
        (_endless_enter, "nested|cycle"),
    ],
)
def test_a_wrong_graph_is_refused(
    tmp_path: Path, damage: Callable[[Any], None], message: str
) -> None:
    definition = _small()
    damage(definition)
    path = tmp_path / "wrong.pb"
    path.write_bytes(definition.SerializeToString())
    with pytest.raises(ModelError, match=message) as caught:
        load(path)
    assert "wrong.pb" in str(caught.value)


def test_the_undamaged_graph_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "right.pb"
    path.write_bytes(_small().SerializeToString())
    assert load(path).op_count == 4


_BYTES = _small().SerializeToString(deterministic=True)
_TEXT = text_format.MessageToString(_small()).encode()


_DAMAGED: dict[str, bytes] = {
    "cut.pb": _BYTES[: len(_BYTES) // 2],
    "noise.pb": bytes(random.Random(0).randbytes(500)),
    "text.pb": _TEXT,
    "binary.pbtxt": _BYTES,
    "cut.pbtxt": _TEXT[: len(_TEXT) // 2],
    "latin.pbtxt": b"node { name: '\xe9' }",
    "unknown.pbtxt": b"nodes { name: 'x' }",
    "deep.pbtxt": b"library { function { node_def { attr { value { list { " * 400,
    "empty.pbtxt": b"   ",
    "nothing.pb": b"\x22\x00",
    "cut.pb.gz": gzip.compress(_BYTES)[:-20],
    "cut_early.pb.gz": gzip.compress(_BYTES)[:12],
    "empty.pb.gz": gzip.compress(b""),
    "noise.gz": gzip.compress(random.Random(1).randbytes(500)),
    "header.pb.gz": b"\x1f\x8b" + b"\xff" * 40,
    "saved_model.pb": _BYTES,
}


@pytest.mark.parametrize("name", list(_DAMAGED))
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(_DAMAGED[name])
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load(path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="SavedModel"):
        load(tmp_path)
    (tmp_path / "saved_model.pb").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path)


def test_an_empty_graph_is_refused() -> None:
    with pytest.raises(ModelError, match="no nodes"):
        import_graph_def(tf1.GraphDef(), "empty")


def test_a_loop_condition_without_inputs_is_refused() -> None:
    live = tf.Graph()
    with live.as_default():
        tf.while_loop(lambda i: i < 5, lambda i: (i + 1,), (tf.constant(0),), name="loop")
    definition = live.as_graph_def()
    for function in definition.library.function:
        for node in function.node_def:
            if node.op == "Less":
                node.op = "Identity"
                del node.input[:]
    with pytest.raises(ModelError):
        import_graph_def(definition, "loop")


_TRAINING = training_graph()[0].as_graph_def().SerializeToString()


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cut=st.integers(0, 3),
    edits=st.lists(
        st.tuples(st.integers(0, len(_TRAINING) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
)
def test_mutated_bytes_give_a_graph_or_a_model_error(
    cut: int, edits: list[tuple[int, int]]
) -> None:
    data = bytearray(_TRAINING)
    for position, value in edits:
        data[position] = value
    if cut == 0:
        del data[edits[0][0] :]
    definition = tf1.GraphDef()
    try:
        definition.ParseFromString(bytes(data))
    except Exception as error:  # noqa: BLE001 - protobuf's own refusal is tested with files
        assert type(error).__name__ == "DecodeError"
        return
    try:
        assert isinstance(import_graph_def(definition, "mutated"), Graph)
    except ModelError as error:
        assert "mutated" in str(error)


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_fields_give_a_graph_or_a_model_error(data: st.DataObject) -> None:
    definition = training_definition()
    for _ in range(data.draw(st.integers(1, 3))):
        node = definition.node[data.draw(st.integers(0, len(definition.node) - 1))]
        other = definition.node[data.draw(st.integers(0, len(definition.node) - 1))]
        change = data.draw(st.sampled_from(["op", "input", "drop", "attr", "retype", "shape"]))
        if change == "op":
            node.op = other.op
        elif change == "input" and node.input:
            suffix = data.draw(st.sampled_from(["", ":0", ":1", ":9"]))
            node.input[data.draw(st.integers(0, len(node.input) - 1))] = other.name + suffix
        elif change == "drop" and node.input:
            del node.input[0]
        elif change == "attr" and node.attr:
            del node.attr[data.draw(st.sampled_from(sorted(node.attr)))]
        elif change == "retype":
            for key in ("T", "dtype"):
                if key in node.attr:
                    node.attr[key].type = data.draw(st.integers(0, 140))
        elif change == "shape" and "shape" in node.attr:
            for dim in node.attr["shape"].shape.dim:
                dim.size = data.draw(st.sampled_from([-2, -1, 0, 1, 7, 1 << 31, 1 << 62]))
    try:
        assert isinstance(import_graph_def(definition, "mutated"), Graph)
    except ModelError as error:
        assert "mutated" in str(error)


def training_definition() -> Any:
    """A fresh copy of the sample training graph."""
    return tf1.GraphDef.FromString(_TRAINING)


def _stacks_less_than_nothing(definition: Any) -> None:
    stack = next(node for node in definition.node if node.op == "TensorListStack")
    stack.attr["num_elements"].i = -2


def test_a_negative_size_of_tensorflows_inference_is_refused(tmp_path: Path) -> None:
    definition = tf1.GraphDef.FromString((ROOT / "tests/fuzz/corpus/loop.pb").read_bytes())
    _stacks_less_than_nothing(definition)
    path = tmp_path / "loop.pb"
    path.write_bytes(definition.SerializeToString())
    with pytest.raises(ModelError, match=r"loop.pb: tensor 'Tensor.*impossible shape"):
        load(path)


@pytest.mark.parametrize("around", [["group"], ["second", "group"]])
def test_groups_that_group_themselves_are_no_results(around: list[str]) -> None:
    definition = _small()
    for name, other in zip(around, [*around[1:], around[0]], strict=True):
        definition.node.add(name=name, op="NoOp", input=[f"^{other}"])
    nodes = parse_nodes(definition.node, "g")
    assert chosen_fetches(nodes)[0] == ["result"]


def test_long_chains_of_groups_are_walked() -> None:
    definition = _small()
    definition.node.add(name="init", op="NoOp")
    definition.node.add(name="group0", op="NoOp", input=["^init"])
    for number in range(1, 3000):
        definition.node.add(name=f"group{number}", op="NoOp", input=[f"^group{number - 1}"])
    assert chosen_fetches(parse_nodes(definition.node, "g"))[0] == ["result"]


def test_a_small_file_takes_little_memory_to_unpack(tmp_path: Path) -> None:
    path = tmp_path / "small.pb.gz"
    path.write_bytes(gzip.compress(_small().SerializeToString()))
    tracemalloc.start()
    try:
        assert len(parse_file(path, tf1.GraphDef, "GraphDef").node) == 4
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("more", [0, 1])
def test_an_archive_that_unpacks_to_too_much_is_refused(
    more: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _small().SerializeToString()
    path = tmp_path / "small.pb.gz"
    path.write_bytes(gzip.compress(whole))
    monkeypatch.setattr(files, "_MAX_BYTES", len(whole) - more)
    if more:
        with pytest.raises(ModelError, match=r"small.pb.gz: more than"):
            parse_file(path, tf1.GraphDef, "GraphDef")
    else:
        assert len(parse_file(path, tf1.GraphDef, "GraphDef").node) == 4


@pytest.mark.parametrize("value", ["1099511627776", "-1099511627776", "1e400"])
def test_a_text_with_a_number_out_of_range_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pbtxt"
    path.write_text(f'node {{ name: "x" op: "NoOp" }} versions {{ producer: {value} }}')
    with pytest.raises(ModelError, match=r"model.pbtxt: not a GraphDef in text form"):
        load(path)
