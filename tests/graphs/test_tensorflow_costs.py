"""TensorFlow op costs against TensorFlow's profiler, Grappler's cost model and hand counts."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import device_properties_pb2, meta_graph_pb2
from tensorflow.python.framework import ops
from tensorflow.python.grappler import cluster as grappler_cluster
from tensorflow.python.grappler import item as grappler_item
from tensorflow_samples import training_graph

from graphs import DType, Graph, OpKind
from graphs.costs.tensorflow_ops import TENSORFLOW_OPS
from graphs.costs.work import Signature, TensorSpec, Work
from graphs.importers.tensorflow_models.functions import registered_op
from graphs.importers.tensorflow_models.graph import import_tf_graph
from graphs.workloads.recurrent_layers import LstmCell

tf1 = tf.compat.v1
_GPU = "/job:localhost/replica:0/task:0/device:GPU:0"


@pytest.fixture(scope="module")
def sample() -> tuple[Any, Graph]:
    live, train_op = training_graph()
    return live, import_tf_graph(live, "sample", [train_op])


def _work(
    op_type: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], **attributes: Any
) -> Work:
    signature = Signature(
        op_type,
        [TensorSpec(shape) for shape in inputs],
        [TensorSpec(shape) for shape in outputs],
        attributes,
    )
    return TENSORFLOW_OPS[op_type].formula(signature)


def test_every_op_type_in_the_table_exists() -> None:
    internal = {name for name in TENSORFLOW_OPS if name.startswith("_")}
    unknown = [n for n in TENSORFLOW_OPS if n not in internal and registered_op(n) is None]
    # Not every optimizer has every form: by value or resource, dense or sparse.
    assert [name for name in unknown if "Apply" not in name] == []


#: How our weight relates to the profiler's, which counts one flop for any elementwise op, two
#: per element for BiasAddGrad and Mean, and every point of a maximum's window backwards.
_PROFILER_RATIOS: Mapping[str, tuple[float, float]] = {
    "RealDiv": (4.0, 4.0),
    "Sqrt": (4.0, 4.0),
    "Mean": (1.0, 2.0),
    "BiasAddGrad": (1.0, 2.0),
    "MaxPoolGrad": (0.5, 1.0),
    "AddN": (0.2, 1.0),
}


def test_flops_agree_with_the_profiler(sample: tuple[Any, Graph]) -> None:
    live, graph = sample
    compared: defaultdict[str, int] = defaultdict(int)
    for op in live.get_operations():
        if op.name not in graph.op_index:
            continue
        try:
            expected = ops.get_stats_for_node_def(live, op.node_def, "flops").value
        except ValueError:  # the profiler wants a shape that depends on data
            continue
        if expected and expected > 16:
            low, high = _PROFILER_RATIOS.get(op.type, (1.0, 1.0))
            ours = graph.flops[graph.op_index[op.name]]
            assert low * expected <= ours <= high * expected, (op.name, op.type, expected, ours)
            compared[op.type] += 1
    assert {
        "Conv2D",
        "MatMul",
        "Conv2DBackpropFilter",
        "Conv2DBackpropInput",
        "MaxPool",
        "AddV2",
    } <= set(compared)


#: Grappler charges these the whole variable, nothing at all, or a copy where there is none.
_GRAPPLER_DIFFERS = frozenset(
    {
        "AddN", "ResourceGather", "AssignVariableOp", "AssignSubVariableOp", "ResourceScatterAdd",
        "AssignAddVariableOp", "ResourceApplyAdam", "Unique", "UnsortedSegmentSum", "ExpandDims",
        "Fill", "Tile", "StridedSlice", "ConcatV2", "MaxPoolGrad", "Reshape", "Mul", "Pack",
    }
)  # fmt: skip


def _grappler(live: Any, train_op: str) -> dict[str, tuple[float, float]]:
    """Op name to flops and bytes moved, by Grappler's model of a GPU of known speed."""
    meta = meta_graph_pb2.MetaGraphDef()
    meta.graph_def.CopyFrom(live.as_graph_def())
    for node in meta.graph_def.node:
        node.device = _GPU
    meta.collection_def["train_op"].node_list.value.append(train_op)
    properties = device_properties_pb2.DeviceProperties(
        type="GPU", frequency=1, num_cores=1, bandwidth=1000, memory_size=1 << 40
    )
    properties.environment["architecture"] = "7"  # 64 lanes: 0.128 flops per nanosecond
    device = device_properties_pb2.NamedDevice(properties=properties, name=_GPU)
    cluster = grappler_cluster.Cluster(devices=[device])
    costs, _, _ = cluster.MeasureCosts(grappler_item.Item(meta))
    return {c.node: (c.compute_time * 0.128, c.memory_time / 1000.0) for c in costs}


def test_flops_and_bytes_agree_with_grappler(sample: tuple[Any, Graph]) -> None:
    live, graph = sample
    compared: dict[str, int] = defaultdict(int)
    for name, (flops, moved) in _grappler(live, "train_op").items():
        if name not in graph.op_index:
            continue
        op = graph.op_index[name]
        op_type, kind = graph.op_types[op], OpKind(graph.kinds[op])
        if op_type in _GRAPPLER_DIFFERS or not moved or kind is OpKind.SHAPE:
            continue
        ours = graph.bytes_read[op] + graph.bytes_written[op]
        assert ours == pytest.approx(moved, rel=0.01, abs=8), (name, op_type)
        if kind in {OpKind.MATMUL, OpKind.CONV, OpKind.CONV_GRAD}:
            assert graph.flops[op] == pytest.approx(flops, rel=0.01), (name, op_type)
        compared[op_type] += 1
    wanted = {"Conv2D", "FusedBatchNormV3", "MatMul", "Tanh", "Conv2DBackpropFilter",
              "FusedBatchNormGradV3", "SparseSoftmaxCrossEntropyWithLogits", "MaxPool"}  # fmt: skip
    assert wanted <= set(compared)


def test_products() -> None:
    assert _work("MatMul", [(3, 5), (5, 7)], [(3, 7)]).flops == 2 * 3 * 5 * 7
    assert _work("MatMul", [(5, 3), (5, 7)], [(3, 7)], transpose_a=True).flops == 2 * 3 * 5 * 7
    batched = _work("BatchMatMulV2", [(2, 4, 3, 5), (5, 7)], [(2, 4, 3, 7)])
    assert batched.flops == 2 * 8 * 3 * 5 * 7
    adjoint = _work("BatchMatMulV2", [(8, 5, 3), (8, 5, 7)], [(8, 3, 7)], adj_x=True)
    assert adjoint.flops == 2 * 8 * 3 * 5 * 7


@pytest.mark.parametrize(
    ("equation", "inputs", "output", "flops"),
    [
        ("ij,jk->ik", [(3, 5), (5, 7)], (3, 7), 2 * 3 * 5 * 7),
        ("bnih,bnjh->bnij", [(2, 4, 3, 8), (2, 4, 5, 8)], (2, 4, 3, 5), 2 * 2 * 4 * 3 * 5 * 8),
        ("...i,ij->...j", [(2, 3, 5), (5, 7)], (2, 3, 7), 2 * 2 * 3 * 5 * 7),
        ("ij->i", [(3, 5)], (3,), 3 * 5),
    ],
)
def test_einsum(
    equation: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], flops: int
) -> None:
    assert _work("Einsum", inputs, [output], equation=equation).flops == flops


def test_convolutions_and_their_gradients_take_the_same_flops() -> None:
    x, w, y, sizes = (2, 8, 8, 3), (3, 3, 3, 16), (2, 8, 8, 16), (4,)
    flops = 2 * (2 * 8 * 8 * 16) * 9 * 3
    assert _work("Conv2D", [x, w], [y]).flops == flops
    assert _work("Conv2DBackpropInput", [sizes, w, y], [x]).flops == flops
    assert _work("Conv2DBackpropFilter", [x, sizes, y], [w]).flops == flops
    depthwise = (3, 3, 3, 2)
    y = (2, 8, 8, 6)
    flops = 2 * (2 * 8 * 8 * 6) * 9
    assert _work("DepthwiseConv2dNative", [x, depthwise], [y]).flops == flops
    backward = _work("DepthwiseConv2dNativeBackpropInput", [sizes, depthwise, y], [x])
    assert backward.flops == flops
    backward = _work("DepthwiseConv2dNativeBackpropFilter", [x, sizes, y], [depthwise])
    assert backward.flops == flops


def test_updates_touch_the_variable_its_slots_and_the_gradient() -> None:
    handles = [(), (), ()]
    adam = _work("ResourceApplyAdam", [*handles, (100,)], [])
    assert adam.bytes_written == 3 * 400
    assert adam.bytes_read == 4 * 400
    plain = _work("ApplyGradientDescent", [(100,), (), (100,)], [(100,)])
    assert (plain.bytes_read, plain.bytes_written) == (800, 400)


def test_gathers_touch_only_the_rows_they_take() -> None:
    taken = _work("GatherV2", [(10_000, 64), (5,), ()], [(5, 64)])
    assert taken.bytes_read == taken.bytes_written == 5 * 64 * 4


def test_an_lstm_step_by_hand() -> None:
    live = tf.Graph()
    batch, hidden = 4, 32
    with live.as_default():
        x = tf1.placeholder(tf.float32, (batch, hidden), "x")
        state = tuple(tf1.placeholder(tf.float32, (batch, hidden)) for _ in range(2))
        cell = LstmCell.create(hidden, hidden)
        output, _ = cell.step([x], state)
    graph = import_tf_graph(live, "step", [output])
    product = 2 * batch * (2 * hidden) * (4 * hidden)
    elements = batch * hidden
    # Bias on four gates; forget bias, two products and a sum, the output's product; five
    # transcendental functions.
    pointwise = 4 * elements + 5 * elements + 5 * 10 * elements
    assert graph.flops.sum() == product + pointwise


def test_half_precision_moves_half_the_bytes() -> None:
    half = Signature("Tanh", [TensorSpec((8,), DType.FLOAT16)], [TensorSpec((8,), DType.FLOAT16)])
    assert TENSORFLOW_OPS["Tanh"].formula(half).bytes_read == 16
