"""Models that TensorFlow holds as StableHLO are read: their work is the sum over their ops."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.compiler.mlir.stablehlo import stablehlo

from graphs import Graph, OpKind
from graphs.costs.work import TensorSpec
from graphs.importers.stablehlo.call_modules import CallModules
from graphs.importers.stablehlo.instructions import Computation, Instruction
from graphs.importers.stablehlo.loops import Integers
from graphs.importers.stablehlo.lowering import Lowering, request_for
from graphs.importers.tensorflow_models.graph import import_graph_def
from graphs.kinds import DType

Spec = tuple[Sequence[int | None], Any]


def _definition(
    text: str, arguments: Sequence[Spec], results: Sequence[Spec], **attributes: Any
) -> Any:
    """A GraphDef whose op `model` runs a module; inputs `x0`, `x1` and so on."""
    definition = tf.compat.v1.GraphDef()
    definition.versions.producer = 1882
    model = definition.node.add(name="model", op="XlaCallModule")
    model.attr["version"].i = attributes.pop("version", 9)
    model.attr["module"].s = stablehlo.serialize_portable_artifact_str(text, "1.0.0")
    model.attr["platforms"].list.s.extend(attributes.pop("platforms", [b"CPU"]))
    assert not attributes
    for number, (shape, dtype) in enumerate(arguments):
        node = definition.node.add(name=f"x{number}", op="Placeholder")
        node.attr["dtype"].type = dtype.as_datatype_enum
        node.attr["shape"].shape.SetInParent()
        node.attr["shape"].shape.dim.extend(tf.TensorShape(shape).as_proto().dim)
        model.input.append(node.name)
        model.attr["Tin"].list.type.append(dtype.as_datatype_enum)
    for shape, dtype in results:
        model.attr["Sout"].list.shape.add().CopyFrom(tf.TensorShape(shape).as_proto())
        model.attr["Tout"].list.type.append(dtype.as_datatype_enum)
    return definition


class _KeptLowering(Lowering):
    """Keeps its process from one import to the next."""

    def close(self) -> None:
        """Nothing yet."""


@pytest.fixture(autouse=True, scope="module")
def lowering() -> Iterator[Lowering]:
    """One process for all tests, for it takes seconds to start."""
    kept = _KeptLowering()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "graphs.importers.tensorflow_models.graph.CallModules",
            partial(CallModules, lowering=kept),
        )
        yield kept
    Lowering.close(kept)


def _imported(definition: Any, **dims: int) -> Graph:
    return import_graph_def(definition, "hlo", ["model"], dims)


def _function(arguments: str, results: str, body: str, attributes: str = "") -> str:
    return (
        f"module @m {attributes} {{ func.func @main({arguments}) -> ({results}) {{\n{body}\n}} }}"
    )


F = tf.float32


def test_products_and_elementwise_groups() -> None:
    """A two-layer perceptron: two products, and each with its bias and activation one kernel."""
    text = _function(
        "%x: tensor<64x1024xf32>, %w: tensor<1024x4096xf32>, %v: tensor<4096x1024xf32>",
        "tensor<64x1024xf32>",
        """
        %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
          : (tensor<64x1024xf32>, tensor<1024x4096xf32>) -> tensor<64x4096xf32>
        %1 = stablehlo.tanh %0 : tensor<64x4096xf32>
        %2 = stablehlo.multiply %1, %0 : tensor<64x4096xf32>
        %3 = stablehlo.dot_general %2, %v, contracting_dims = [1] x [0]
          : (tensor<64x4096xf32>, tensor<4096x1024xf32>) -> tensor<64x1024xf32>
        %4 = stablehlo.add %3, %x : tensor<64x1024xf32>
        return %4 : tensor<64x1024xf32>""",
    )
    shapes = [((64, 1024), F), ((1024, 4096), F), ((4096, 1024), F)]
    graph = _imported(_definition(text, shapes, [((64, 1024), F)]))
    op = graph.op_index["model"]
    assert graph.kinds[op] == OpKind.CONTROL_FLOW
    products = 2 * 2 * 64 * 1024 * 4096
    assert graph.flops[op] == products + 11 * 64 * 4096 + 64 * 1024
    assert graph.launches[op] == 4
    hidden, data, weights = 4 * 64 * 4096, 4 * 64 * 1024, 4 * 1024 * 4096
    assert graph.bytes_read[op] == (data + weights) + hidden + (hidden + weights) + 2 * data
    assert graph.bytes_written[op] == 2 * hidden + 2 * data
    assert graph.workspace_bytes[op] == 2 * hidden
    assert graph.report.composite_ops == {"XlaCallModule": 1}
    assert graph.report.opaque_ops == {}
    assert any("one op with the work of its StableHLO" in note for note in graph.report.notes)


def test_what_a_product_stands_between_is_not_one_kernel() -> None:
    """A residual connection: the sum reads what came before the product."""
    text = _function(
        "%x: tensor<16x64xf32>, %w: tensor<64x64xf32>",
        "tensor<16x64xf32>",
        """
        %0 = stablehlo.tanh %x : tensor<16x64xf32>
        %1 = stablehlo.dot_general %0, %w, contracting_dims = [1] x [0]
          : (tensor<16x64xf32>, tensor<64x64xf32>) -> tensor<16x64xf32>
        %2 = stablehlo.add %0, %1 : tensor<16x64xf32>
        return %2 : tensor<16x64xf32>""",
    )
    graph = _imported(_definition(text, [((16, 64), F), ((64, 64), F)], [((16, 64), F)]))
    op = graph.op_index["model"]
    assert graph.launches[op] == 3
    data = 4 * 16 * 64
    assert graph.bytes_read[op] == data + (data + 4 * 64 * 64) + 2 * data
    assert graph.bytes_written[op] == 3 * data


def test_open_sizes_are_those_of_the_arguments() -> None:
    """A polymorphic module, its result's size included, whether it says that it is one or not."""
    for attributes in ("attributes {jax.uses_shape_polymorphism = true}", ""):
        text = _function(
            "%x: tensor<?x256xf32>, %w: tensor<256x32xf32>", "tensor<?xf32>",
            """
            %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
              : (tensor<?x256xf32>, tensor<256x32xf32>) -> tensor<?x32xf32>
            %s = stablehlo.get_dimension_size %0, dim = 0 : (tensor<?x32xf32>) -> tensor<i32>
            %f = stablehlo.constant dense<32> : tensor<i32>
            %p = stablehlo.multiply %s, %f : tensor<i32>
            %v = stablehlo.reshape %p : (tensor<i32>) -> tensor<1xi32>
            %r = stablehlo.dynamic_reshape %0, %v
              : (tensor<?x32xf32>, tensor<1xi32>) -> tensor<?xf32>
            return %r : tensor<?xf32>""",
            attributes,
        )  # fmt: skip
        definition = _definition(text, [((None, 256), F), ((256, 32), F)], [((None,), F)])
        graph = _imported(definition, batch=48)
        op = graph.op_index["model"]
        assert graph.flops[op] == 2 * 48 * 256 * 32
        assert graph.launches[op] == 1
        assert tuple(graph.output_shapes[op]) == (1, 1, 1, 48 * 32)
        assert graph.report.unknown_shapes == ()


@pytest.mark.parametrize(
    ("groups", "shapes", "dims"),
    [
        ("batch_group_count = 1 : i64, feature_group_count = 1 : i64", ("4x16x16x8", "3x3x8x32"),
         (4, 16, 16, 32)),
        ("batch_group_count = 1 : i64, feature_group_count = 8 : i64", ("4x16x16x8", "3x3x1x32"),
         (4, 16, 16, 32)),
        ("batch_group_count = 4 : i64, feature_group_count = 1 : i64", ("4x16x16x8", "3x3x8x32"),
         (1, 16, 16, 32)),
    ],
)  # fmt: skip
def test_convolutions_by_their_groups(
    groups: str, shapes: tuple[str, str], dims: tuple[int, ...]
) -> None:
    data, filters = (f"tensor<{shape}xf32>" for shape in shapes)
    result = f"tensor<{'x'.join(map(str, dims))}xf32>"
    text = _function(
        f"%x: {data}, %w: {filters}", result,
        f"""
        %0 = stablehlo.convolution(%x, %w) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f],
          window = {{stride = [1, 1], pad = [[1, 1], [1, 1]]}} {{{groups}}}
          : ({data}, {filters}) -> {result}
        return %0 : {result}""",
    )  # fmt: skip
    sizes = [tuple(map(int, shape.split("x"))) for shape in shapes]
    graph = _imported(_definition(text, [(size, F) for size in sizes], [(dims, F)]))
    channels = sizes[1][2]
    assert graph.flops[graph.op_index["model"]] == 2 * np.prod(dims) * 9 * channels


def test_a_transposed_convolution_skips_the_zeros_between() -> None:
    text = _function(
        "%x: tensor<1x8x8x4xf32>, %w: tensor<2x2x4x6xf32>", "tensor<1x16x16x6xf32>",
        """
        %0 = stablehlo.convolution(%x, %w) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f],
          window = {stride = [1, 1], pad = [[1, 1], [1, 1]], lhs_dilate = [2, 2]}
          {batch_group_count = 1 : i64, feature_group_count = 1 : i64}
          : (tensor<1x8x8x4xf32>, tensor<2x2x4x6xf32>) -> tensor<1x16x16x6xf32>
        return %0 : tensor<1x16x16x6xf32>""",
    )  # fmt: skip
    shapes = [((1, 8, 8, 4), F), ((2, 2, 4, 6), F)]
    graph = _imported(_definition(text, shapes, [((1, 16, 16, 6), F)]))
    assert graph.flops[graph.op_index["model"]] == 2 * 8 * 8 * 4 * 2 * 2 * 6


_LOOP = """
    %i = stablehlo.constant dense<START> : tensor<i32>
    %n = stablehlo.constant dense<LIMIT> : tensor<i32>
    %one = stablehlo.constant dense<STEP> : tensor<i32>
    %r:3 = stablehlo.while(%k = %i, %y = %x, %end = %n)
      : tensor<i32>, tensor<8x512xf32>, tensor<i32>
     cond {
      %p = stablehlo.compare COMPARE, %k, %end : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %p : tensor<i1>
    } do {
      %q = stablehlo.add %k, %one : tensor<i32>
      %d = stablehlo.dot_general %y, %w, contracting_dims = [1] x [0]
        : (tensor<8x512xf32>, tensor<512x512xf32>) -> tensor<8x512xf32>
      stablehlo.return %q, %d, %end : tensor<i32>, tensor<8x512xf32>, tensor<i32>
    }
    return %r#1 : tensor<8x512xf32>"""


@pytest.mark.parametrize(
    ("start", "step", "compare", "limit", "trips"),
    [(0, 1, "LT", 12, 12), (0, 1, "LE", 12, 13), (20, -2, "GT", 3, 9), (0, 1, "LT", 0, 0),
     (3, 4, "NE", 15, 3)],
)  # fmt: skip
def test_loops_count_their_trips(
    start: int, step: int, compare: str, limit: int, trips: int
) -> None:
    body = _LOOP
    for word, value in (("START", start), ("STEP", step), ("COMPARE", compare), ("LIMIT", limit)):
        body = body.replace(word, str(value))
    text = _function("%x: tensor<8x512xf32>, %w: tensor<512x512xf32>", "tensor<8x512xf32>", body)
    graph = _imported(_definition(text, [((8, 512), F), ((512, 512), F)], [((8, 512), F)]))
    op = graph.op_index["model"]
    assert graph.flops[op] == trips * (2 * 8 * 512 * 512 + 2)  # a comparison, an addition
    assert graph.launches[op] == 3 * trips
    assert not any("loops end on a condition" in note for note in graph.report.notes)


def test_a_loop_that_data_end_counts_once_and_is_said() -> None:
    body = _LOOP.replace("%i = stablehlo.constant dense<START>", "%i = stablehlo.convert %k0")
    body = body.replace(": tensor<i32>\n    %n", ": (tensor<i32>) -> tensor<i32>\n    %n", 1)
    for word, value in (("STEP", 1), ("COMPARE", "LT"), ("LIMIT", 9)):
        body = body.replace(word, str(value))
    text = _function(
        "%x: tensor<8x512xf32>, %w: tensor<512x512xf32>, %k0: tensor<i32>",
        "tensor<8x512xf32>", body,
    )  # fmt: skip
    shapes = [((8, 512), F), ((512, 512), F), ((), tf.int32)]
    graph = _imported(_definition(text, shapes, [((8, 512), F)]))
    assert graph.flops[graph.op_index["model"]] == 2 * 8 * 512 * 512 + 2
    assert any("loops end on a condition" in note for note in graph.report.notes)


def test_reductions_windows_movement_and_branches() -> None:
    text = _function(
        "%x: tensor<32x64xf32>, %b: tensor<i1>",
        "tensor<32xf32>, tensor<16x32xf32>, tensor<64x32xf32>",
        """
        %z = stablehlo.constant dense<0.0> : tensor<f32>
        %0 = stablehlo.reduce(%x init: %z) applies stablehlo.add across dimensions = [1]
          : (tensor<32x64xf32>, tensor<f32>) -> tensor<32xf32>
        %1 = "stablehlo.reduce_window"(%x, %z) <{window_dimensions = array<i64: 2, 2>,
          window_strides = array<i64: 2, 2>}> ({
          ^bb0(%p: tensor<f32>, %q: tensor<f32>):
            %m = stablehlo.maximum %p, %q : tensor<f32>
            stablehlo.return %m : tensor<f32>
          }) : (tensor<32x64xf32>, tensor<f32>) -> tensor<16x32xf32>
        %2 = stablehlo.transpose %x, dims = [1, 0] : (tensor<32x64xf32>) -> tensor<64x32xf32>
        %3 = "stablehlo.if"(%b) ({
            %e = stablehlo.exponential %0 : tensor<32xf32>
            stablehlo.return %e : tensor<32xf32>
          }, {
            %n = stablehlo.negate %0 : tensor<32xf32>
            stablehlo.return %n : tensor<32xf32>
          }) : (tensor<i1>) -> tensor<32xf32>
        return %3, %1, %2 : tensor<32xf32>, tensor<16x32xf32>, tensor<64x32xf32>""",
    )  # fmt: skip
    results = [((32,), F), ((16, 32), F), ((64, 32), F)]
    graph = _imported(_definition(text, [((32, 64), F), ((), tf.bool)], results))
    op = graph.op_index["model"]
    assert graph.flops[op] == 32 * 64 + 16 * 32 * 4 + 10 * 32
    assert graph.launches[op] == 4


def test_constants_are_resident_and_custom_calls_are_opaque() -> None:
    rows = ", ".join("[" + ", ".join(str(float(i + j)) for j in range(16)) + "]" for i in range(8))
    text = _function(
        "%x: tensor<4x8xf32>", "tensor<4x16xf32>",
        f"""
        %w = stablehlo.constant dense<[{rows}]> : tensor<8x16xf32>
        %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
          : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
        %1 = stablehlo.custom_call @mystery(%0) : (tensor<4x16xf32>) -> tensor<4x16xf32>
        %2 = stablehlo.custom_call @Sharding(%1) : (tensor<4x16xf32>) -> tensor<4x16xf32>
        return %2 : tensor<4x16xf32>""",
    )  # fmt: skip
    graph = _imported(_definition(text, [((4, 8), F)], [((4, 16), F)]))
    op = graph.op_index["model"]
    assert graph.resident_bytes[op] == 4 * 8 * 16
    assert graph.flops[op] == 2 * 4 * 8 * 16 + 4 * 16
    assert graph.report.opaque_ops == {"stablehlo.custom_call @mystery": 1}
    assert any("1 x mystery" in note for note in graph.report.notes)


@pytest.mark.parametrize("platforms", [[b"TPU"], [b"CUDA", b"ROCM"], [b"CUDA", b"CPU"]])
def test_modules_for_other_devices_are_read(platforms: list[bytes]) -> None:
    index = "%platform: tensor<i32>, " if len(platforms) > 1 else ""
    text = _function(
        f"{index}%x: tensor<128xf32>", "tensor<128xf32>",
        "%0 = stablehlo.negate %x : tensor<128xf32>\nreturn %0 : tensor<128xf32>",
    )  # fmt: skip
    definition = _definition(text, [((128,), F)], [((128,), F)], platforms=platforms)
    graph = _imported(definition)
    assert graph.flops[graph.op_index["model"]] == 128


def test_the_first_platform_counts_as_the_one_that_lowers() -> None:
    text = _function("%x: tensor<8xf32>", "tensor<8xf32>", "return %x : tensor<8xf32>")
    for platforms, expected in (([b"TPU"], [b"CPU"]), ([b"CUDA", b"CPU"], [b"CUDA", b"CPU"])):
        definition = _definition(text, [((8,), F)], [((8,), F)], platforms=platforms)
        request = request_for(
            definition.node[0], [(TensorSpec((8,)), F.as_datatype_enum)], definition.versions, ()
        )
        module = tf.compat.v1.GraphDef.FromString(request).node[0]
        assert list(module.attr["platforms"].list.s) == expected
        assert list(definition.node[0].attr["platforms"].list.s) == platforms


def test_a_module_that_cannot_be_read_stays_opaque() -> None:
    """Garbage, half an artifact, none."""
    text = _function("%x: tensor<8xf32>", "tensor<8xf32>", "return %x : tensor<8xf32>")
    whole = _definition(text, [((8,), F)], [((8,), F)])
    artifact = whole.node[0].attr["module"].s
    for damaged in (b"no artifact", artifact[: len(artifact) // 2], b""):
        whole.node[0].attr["module"].s = damaged
        graph = _imported(whole)
        assert graph.report.opaque_ops == {"XlaCallModule": 1}
        assert any("The module of 'model' cannot be read" in note for note in graph.report.notes)
        assert graph.kinds[graph.op_index["model"]] == OpKind.CUSTOM


def test_what_ends_the_reading_process_ends_no_import() -> None:
    """Damaged artifacts have corrupted the memory of the process that reads them."""
    with_process = Lowering()
    with_process._started().kill()
    hlo, reason = with_process.hlo(b"")
    assert hlo is None
    assert "damaged" in reason
    text = _function("%x: tensor<8xf32>", "tensor<8xf32>", "return %x : tensor<8xf32>")
    definition = _definition(text, [((8,), F)], [((8,), F)])
    modules = CallModules(definition.versions, (), with_process)
    read = modules.read(definition.node[0], [TensorSpec((8,))])  # by the next process
    assert read is not None
    assert read.results == (TensorSpec((8,)),)
    with_process.close()
    assert with_process._process is None


@pytest.mark.parametrize("opcode", ["add", "multiply"])
def test_integers_that_double_at_each_step_are_told_in_no_time(opcode: str) -> None:
    scalar = (TensorSpec((), DType.INT64),)
    instructions = {0: Instruction(0, "constant", (), (), scalar, {"value": 3})}
    for number in range(1, 90):
        operands = (number - 1, number - 1)
        instructions[number] = Instruction(number, opcode, operands, (), scalar)
    leaves = {number: ((number, 0),) for number in instructions}
    integers = Integers(Computation(instructions, 89, leaves))
    assert integers.of((4, 0)) == (48 if opcode == "add" else 3**16)
    assert integers.of((89, 0)) is None  # beyond 64 bits
