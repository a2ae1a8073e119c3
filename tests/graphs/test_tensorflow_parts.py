"""Where sizes are stated, only what depends on them is inferred anew, with the same results."""

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from graphs import Graph
from graphs.importers.tensorflow_models import sanitize, shapes
from graphs.importers.tensorflow_models.graph import import_graph_def
from graphs.importers.tensorflow_models.parts import Part

tf1 = tf.compat.v1


def _searched() -> Any:
    """A chain that is known, then a search, and sizes that follow from it by way of values."""
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (40, 60), "x")
        for _ in range(200):
            x = tf.tanh(x)
        found = tf1.where(x > 0.0)
        rows = tf.gather(x, tf.cast(found[:, 0], tf.int32))
        count = tf.shape(rows)[0]
        half = tf.reshape(rows, tf.stack([count // 2, 2 * 60]))
        again = tf1.where(half > 0.0)
        tf.matmul(half, tf.ones([120, 8]), name="product")
        tf.gather(half, again[:, 0], name="rows")
    return live.as_graph_def()


def _imported() -> Graph:
    return import_graph_def(_searched(), "searched", ["product", "rows"])


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nodes each inference had."""
    counted: list[int] = []
    original: Callable[..., Any] = sanitize.inferable_graph_def

    def counting(*arguments: Any) -> Any:
        graph_def = original(*arguments)
        counted.append(len(graph_def.node))
        return graph_def

    monkeypatch.setattr(shapes, "inferable_graph_def", counting)
    return counted


def test_only_what_depends_on_a_stated_size_is_inferred_anew(sizes: list[int]) -> None:
    graph = _imported()
    rows = 40 * 60 // 2
    assert graph.flops[graph.op_index["product"]] == 2 * rows * 120 * 8
    assert tuple(graph.output_shapes[graph.op_index["rows"]]) == (1, 1, rows * 120, 120)
    assert sizes[0] > 200
    assert len(sizes) > 1
    assert max(sizes[1:]) < 40


def test_a_part_gives_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    part = _imported()

    def whole(nodes: Any, *_: Any) -> Part:
        return Part(set(nodes), {})

    monkeypatch.setattr(shapes, "part_behind", whole)
    assert _imported().digest == part.digest
