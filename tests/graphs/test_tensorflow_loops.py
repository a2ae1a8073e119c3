"""Loops of TensorFlow graphs: trips, element shapes, launches, the same in both versions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphs import Graph, OpKind, load
from graphs.importers.tensorflow_models.graph import import_graph_def

tf1 = tf.compat.v1
PRODUCT = 2 * (12 + 16) * 16


def built(make: Callable[[], object], v2: bool) -> Any:
    """The GraphDef of what a function builds, with loops of one version."""
    before = tf1.control_flow_v2_enabled()
    (tf1.enable_control_flow_v2 if v2 else tf1.disable_control_flow_v2)()
    try:
        live = tf.Graph()
        with live.as_default():
            make()
    finally:
        (tf1.enable_control_flow_v2 if before else tf1.disable_control_flow_v2)()
    return live.as_graph_def()


def _loops(graph: Graph) -> list[int]:
    return [int(op) for op in np.flatnonzero(graph.kinds == OpKind.CONTROL_FLOW)]


def recurrence(batch: int | None, length: int | None) -> Callable[[], object]:
    """A recurrent layer over arrays, and a product with its last output."""

    def make() -> None:
        x = tf1.placeholder(tf.float32, (batch, length, 12), "x")
        rows = tf.transpose(x, (1, 0, 2))
        steps = tf.shape(rows)[0]
        read = tf.TensorArray(tf.float32, steps).unstack(rows)
        written = tf.TensorArray(tf.float32, steps)
        w, u = (tf.constant(np.ones((n, 16), np.float32)) for n in (12, 16))
        state = tf.zeros((tf.shape(rows)[1], 16))

        def body(i: Any, h: Any, out: Any) -> Any:
            h = tf.tanh(tf.matmul(read.read(i), w) + tf.matmul(h, u))
            return i + 1, h, out.write(i, h)

        _, _, out = tf.while_loop(lambda i, h, out: i < steps, body, (0, state, written))
        last = out.stack()[-1]
        tf.matmul(last, tf.constant(np.ones((16, 10), np.float32)), name="head")

    return make


@pytest.mark.parametrize("v2", [True, False])
def test_a_recurrence_costs_its_steps_for_bound_dimensions(v2: bool) -> None:
    graph = import_graph_def(
        built(recurrence(None, None), v2), "open", ["head"], {"batch": 3, "x:1": 40}
    )
    (loop,) = _loops(graph)
    tanh, sums = 10 * 3 * 16, 3 * 16
    least = 40 * (3 * PRODUCT + tanh + sums)
    assert least <= graph.flops[loop] <= least + 40 * 4  # comparison and counters
    assert graph.launches[loop] % 40 == 0
    assert graph.launches[loop] >= 40 * 4
    assert graph.flops[graph.op_index["head"]] == 2 * 3 * 16 * 10
    assert not any("count once" in note for note in graph.report.notes)
    fixed = import_graph_def(built(recurrence(3, 40), v2), "fixed", ["head"])
    assert graph.flops[loop] == pytest.approx(fixed.flops[_loops(fixed)[0]], rel=1e-3)


def test_a_step_holds_what_one_row_holds() -> None:
    for v2 in (True, False):
        graphs = [import_graph_def(built(recurrence(2, n), v2), "n", ["head"]) for n in (10, 20)]
        short, long = (graph.flops[_loops(graph)[0]] for graph in graphs)
        assert long == pytest.approx(2 * short, rel=1e-3)


def counting(start: int, limit: int, step: int, compare: Callable[..., Any]) -> Callable[[], Any]:
    def make() -> None:
        x = tf1.placeholder(tf.float32, (8, 8), "x")
        _, h = tf.while_loop(
            lambda i, h: compare(i, limit),
            lambda i, h: (i + step, tf.matmul(h, h)),
            (tf.constant(start), x),
        )
        tf.identity(h, name="result")

    return make


@pytest.mark.parametrize("v2", [True, False])
@pytest.mark.parametrize(
    ("start", "limit", "step", "compare", "trips"),
    [
        (0, 7, 1, tf.less, 7),
        (0, 7, 2, tf.less, 4),
        (1, 7, 3, tf.less_equal, 3),
        (9, 0, -2, tf.greater, 5),
        (9, 1, -4, tf.greater_equal, 3),
    ],
)
def test_counters_may_go_by_any_step(
    v2: bool, start: int, limit: int, step: int, compare: Callable[..., Any], trips: int
) -> None:
    graph = import_graph_def(built(counting(start, limit, step, compare), v2), "count", ["result"])
    (loop,) = _loops(graph)
    assert graph.flops[loop] // (2 * 8**3) == trips
    assert graph.report.notes == () or not any("once" in n for n in graph.report.notes)


@pytest.mark.parametrize(
    "limit",
    [
        lambda size: tf.reshape(tf.reshape(size, (1,))[0], ()),
        lambda size: tf.squeeze(tf.expand_dims(size, 0)),
        lambda size: tf.reduce_max(tf.stack([size, 2])),
        lambda size: tf.cast(tf.math.ceil(tf.cast(size * 2 - 1, tf.float32) / 2.0), tf.int32),
        lambda size: tf.size(tf.range(size)),
    ],
)
def test_limits_are_worked_out_of_sizes(limit: Callable[[Any], Any]) -> None:
    def make() -> None:
        x = tf1.placeholder(tf.float32, (None, 8), "x")
        last = limit(tf.shape(x)[0])
        _, h = tf.while_loop(
            lambda i, h: i < last, lambda i, h: (i + 1, tf.matmul(h, h)), (0, tf.ones((8, 8)))
        )
        tf.identity(h, name="result")

    graph = import_graph_def(built(make, v2=True), "limit", ["result"], {"batch": 6})
    (loop,) = _loops(graph)
    assert graph.flops[loop] // (2 * 8**3) == 6


@pytest.mark.parametrize("v2", [True, False])
def test_a_counter_that_goes_away_from_its_limit_says_nothing(v2: bool) -> None:
    graph = import_graph_def(built(counting(0, 7, -1, tf.less), v2), "count", ["result"])
    (loop,) = _loops(graph)
    assert graph.flops[loop] // (2 * 8**3) == 1
    assert any("bodies count once" in note for note in graph.report.notes)


@pytest.mark.parametrize("v2", [True, False])
def test_a_loop_that_its_data_end_counts_once_and_says_so(v2: bool) -> None:
    def make() -> None:
        x = tf1.placeholder(tf.float32, (8, 8), "x")
        (h,) = tf.while_loop(lambda h: tf.reduce_sum(h) < 100.0, lambda h: (tf.matmul(h, h),), (x,))
        tf.identity(h, name="result")

    graph = import_graph_def(built(make, v2), "until", ["result"])
    (loop,) = _loops(graph)
    assert graph.flops[loop] // (2 * 8**3) == 1
    assert any("bodies count once" in note for note in graph.report.notes)


@pytest.mark.parametrize("v2", [True, False])
def test_trips_of_nested_loops_multiply(v2: bool) -> None:
    def make() -> None:
        x = tf1.placeholder(tf.float32, (8, 8), "x")

        def outer(i: Any, h: Any) -> Any:
            _, h = tf.while_loop(
                lambda j, h: j < 5, lambda j, h: (j + 1, tf.matmul(h, h)), (tf.constant(0), h)
            )
            return i + 1, h

        _, h = tf.while_loop(lambda i, h: i < 3, outer, (tf.constant(0), x))
        tf.identity(h, name="result")

    graph = import_graph_def(built(make, v2), "nested", ["result"])
    (loop,) = _loops(graph)
    assert graph.flops[loop] // (2 * 8**3) == 15


def detector() -> None:
    """Images one by one, boxes one by one with a search in each, crops of all boxes, a product."""
    images = tf1.placeholder(tf.float32, (None, None, None, 3), "images")
    small = tf.map_fn(lambda image: tf.image.resize(image, (32, 32)), images, tf.float32)
    kernel = tf.constant(np.ones((3, 3, 3, 8), np.float32))
    features = tf.nn.conv2d(small, kernel, 2, "SAME")
    boxes = tf.reshape(tf.reduce_mean(features, 3), (-1, 64, 4))
    scores = tf.reshape(tf.reduce_max(features, 3)[:, :8, :8], (-1, 64))

    def chosen(pair: Any) -> Any:
        kept = tf.image.non_max_suppression(pair[0], pair[1], 20, 0.5)
        found = tf.gather(pair[0], kept)
        return tf.pad(found, [[0, 20 - tf.shape(found)[0]], [0, 0]])

    best = tf.reshape(tf.map_fn(chosen, (boxes, scores), tf.float32), (-1, 4))
    owners = tf.zeros(tf.shape(best)[0], tf.int32)
    crops = tf.image.crop_and_resize(features, best, owners, (7, 7))
    weights = tf.constant(np.ones((7 * 7 * 8, 64), np.float32))
    tf.matmul(tf.reshape(crops, (-1, 7 * 7 * 8)), weights, name="head")


@pytest.mark.parametrize("v2", [True, False])
def test_a_detector_with_an_open_batch_costs_every_image(v2: bool) -> None:
    graph = import_graph_def(built(detector, v2), "detector", ["head"], {"batch": 4})
    assert graph.flops[graph.op_index["Conv2D"]] == 2 * 4 * 16 * 16 * 8 * 3 * 9
    assert graph.flops[graph.op_index["head"]] == 2 * (4 * 20) * (7 * 7 * 8) * 64
    first, second = _loops(graph)
    assert graph.launches[first] % 4 == graph.launches[second] % 4 == 0
    assert any("NonMaxSuppression" in name for name in graph.report.unknown_shapes)


def test_a_keras_layer_costs_its_steps(tmp_path: Path) -> None:
    inputs = tf.keras.Input((None, 12), name="rows", batch_size=1)
    hidden = tf.keras.layers.LSTM(16)(inputs)
    tf.keras.Model(inputs, tf.keras.layers.Dense(10)(hidden)).export(
        str(tmp_path / "lstm"), verbose=False
    )
    graph = load(tmp_path / "lstm", {"serving_default_rows:1": 50})
    (loop,) = _loops(graph)
    products = 50 * 2 * (12 + 16) * 64
    assert products < graph.flops[loop] < 1.3 * products
    assert graph.launches[loop] % 50 == 0
    dense = [i for i, kind in enumerate(graph.op_types) if kind == "MatMul"]
    assert [graph.flops[op] for op in dense] == [2 * 16 * 10]
