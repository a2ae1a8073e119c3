"""The graph IR: what it refuses, what identifies it, how it is walked."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from graph_samples import graph_of, op, random_graph
from hypothesis import given
from hypothesis import strategies as st

from graphs.builder import OutputTensor
from graphs.errors import GraphError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import OpKind, Storage


def diamond() -> Graph:
    """a -> b, c -> d; tensors are numbered like the ops."""
    return graph_of(
        op("a", 1, output_bytes=10),
        op("b", 2, ("a",), 20),
        op("c", 3, ("a",), 30),
        op("d", 4, ("b", "c"), 40),
    )


def with_view() -> Graph:
    view = OutputTensor("v", 10, Storage.ALIAS, "a")
    return graph_of(
        op("a", 1, output_bytes=10),
        replace(op("v", 0, ("a",), kind=OpKind.VIEW), outputs=(view,)),
    )


def unchecked(graph: Graph, **changes: Any) -> Graph:
    """A graph past all checks: the import hook's and its own."""
    result = Graph.__new__(Graph)
    for item in fields(Graph):
        value = changes.get(item.name, getattr(graph, item.name))
        object.__setattr__(result, item.name, value)
    return result


def test_walking() -> None:
    graph = diamond()
    assert graph.op_names == ("a", "b", "c", "d")
    assert (graph.op_count, graph.tensor_count, graph.edge_count) == (4, 4, 4)
    assert graph.inputs_of(3).tolist() == [1, 2]
    assert list(graph.outputs_of(1)) == [1]
    assert graph.consumers_of(0).tolist() == [1, 2]
    assert graph.consumers_of(3).tolist() == []
    assert graph.op_index["c"] == 2
    assert graph.edge_tensors.tolist() == [0, 0, 1, 2]


@given(st.integers(0, 10_000))
def test_inputs_and_consumers_are_two_views_of_the_same_edges(seed: int) -> None:
    graph = random_graph(seed, 30)
    forth = {(t, int(c)) for t in range(graph.tensor_count) for c in graph.consumers_of(t)}
    back = {(int(t), op) for op in range(graph.op_count) for t in graph.inputs_of(op)}
    assert forth == back
    assert len(forth) == graph.edge_count
    for index in range(graph.op_count):
        assert all(graph.tensor_producers[t] == index for t in graph.outputs_of(index))
    for tensor in np.flatnonzero(graph.tensor_storage == Storage.ALIAS):
        edge = graph.alias_edges[tensor]
        assert graph.edge_tensors[edge] == graph.tensor_alias_of[tensor]
        assert graph.consumers[edge] == graph.tensor_producers[tensor]


def test_arrays_cannot_be_written() -> None:
    graph = diamond()
    with pytest.raises(ValueError, match="read-only"):
        graph.flops[0] = 7.0


def test_equal_content_is_equal_whatever_its_name_and_report() -> None:
    graph = diamond()
    other = replace(graph, name="other", report=ImportReport(notes=("seen",)))
    assert other.digest == graph.digest
    assert other == graph
    assert len({other, graph}) == 1
    assert graph != "graph"


def test_digest_is_the_same_everywhere() -> None:
    assert diamond().digest == "bf46c02342e93b8f"


def _changed(value: Any) -> Any:
    if isinstance(value, tuple):
        return (*value[:-1], value[-1] + "x")
    copy = value.copy()
    copy.flat[-1] += 1
    return copy


CONTENT = [item.name for item in fields(Graph) if item.name not in ("name", "report")]


@pytest.mark.parametrize("field", CONTENT)
def test_any_changed_figure_changes_the_digest(field: str) -> None:
    graph = diamond()
    value = {"gpu": np.ones(4)} if field == "profiled_seconds" else _changed(getattr(graph, field))
    assert unchecked(graph, **{field: value}).digest != graph.digest


def test_line_breaks_in_names_do_not_confuse_the_digest() -> None:
    graph = graph_of(op("a", 1), op("b", 1))
    first = replace(graph, op_names=("x\ny", "z"))
    second = replace(graph, op_names=("x", "y\nz"))
    assert first.digest != second.digest


def _with(graph: Graph, field: str, index: int, value: float) -> Graph:
    array = getattr(graph, field).copy()
    array[index] = value
    return replace(graph, **{field: array})


@pytest.mark.parametrize(
    ("field", "index", "value", "message"),
    [
        ("flops", 1, np.nan, "flops of 'b' is nan; it must be finite and not negative"),
        ("flops", 1, -1.0, "flops of 'b' is -1.0"),
        ("bytes_read", 2, np.inf, "bytes_read of 'c'"),
        ("bytes_written", 2, -2.0, "bytes_written of 'c'"),
        ("resident_bytes", 0, -1, "resident_bytes of 'a'"),
        ("workspace_bytes", 3, -1, "workspace_bytes of 'd'"),
        ("tensor_bytes", 1, -1, "tensor_bytes of 'tensor 1'"),
        ("kinds", 0, 42, "kinds hold 42; the largest known is 41"),
        ("phases", 0, 3, "phases hold 3"),
        ("dtypes", 0, 16, "dtypes hold 16"),
        ("tensor_storage", 0, 6, "tensor_storage hold 6"),
        ("colocation", 0, -2, "colocation holds -2"),
        ("tensor_producers", 3, 4, "producer is not an op"),
        ("tensor_producers", 0, -1, "producer is not an op"),
        ("tensor_producers", 0, 3, "sorted by producer"),
        ("consumers", 3, 4, "consumer is not an op"),
        ("consumers", 0, -1, "consumer is not an op"),
        ("consumers", 2, 0, "edge 'b' -> 'a' goes against the order of ops"),
        ("consumers", 3, 2, "edge 'c' -> 'c' goes against the order"),
        ("consumers", 1, 1, "ascending and without repeats"),
        ("consumer_offsets", 0, 1, "consumer_offsets do not match"),
        ("consumer_offsets", 4, 5, "consumer_offsets do not match"),
        ("consumer_offsets", 1, 4, "ascending consumer offsets"),
        ("tensor_storage", 1, int(Storage.ALIAS), "storage ALIAS, and only they"),
        ("tensor_alias_of", 1, 0, "storage ALIAS, and only they"),
    ],
)  # fmt: skip
def test_bad_figures_are_refused(field: str, index: int, value: float, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        _with(diamond(), field, index, value)


@pytest.mark.parametrize("target", [1, 7])
def test_a_view_of_what_its_op_does_not_read_is_refused(target: int) -> None:
    with pytest.raises(GraphError, match="'v' aliases a tensor that the op does not consume"):
        _with(with_view(), "tensor_alias_of", 1, target)


def test_a_view_in_a_graph_without_edges_is_refused() -> None:
    graph = graph_of(op("a", 1), op("b", 1))
    with pytest.raises(GraphError, match="'b' aliases"):
        replace(
            graph,
            tensor_storage=np.array([0, Storage.ALIAS], np.uint8),
            tensor_alias_of=np.array([-1, 0], np.int32),
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"op_names": ("a", "b", "b", "d")}, "op name 'b' occurs more than once"),
        ({"op_types": ("A",)}, "op_types and op_names differ in length"),
        ({"op_names": ("a", 2, "c", "d")}, "text that UTF-8 can hold"),
        ({"op_names": ("a", "\ud800", "c", "d")}, "UTF-8"),
        ({"tensor_storage": np.zeros(3, np.uint8)}, "tensor_storage and tensor_producers differ"),
        ({"output_shapes": np.ones((4, 3), np.int64)}, "4 columns"),
        ({"profiled_seconds": {"gpu": np.ones(3)}}, "'gpu' must be one float64 per op"),
        ({"profiled_seconds": {"gpu": np.ones(4, np.int64)}}, "'gpu' must be one float64 per op"),
        ({"flops": np.ones(4, np.float32)}, "flops is float32; it must be an array of float64"),
        ({"consumers": [1, 2, 3, 3]}, "consumers is list; it must be an array of int32"),
        ({"consumers": np.zeros((4, 1), np.int32)}, "consumers has 2 dimensions; it must have 1"),
        ({"flops": np.ones(3)}, "flops has 3 rows for 4 ops"),
        ({"profiled_seconds": {"gpu": -np.ones(4)}}, "figure >= 0 per op"),
        ({"profiled_seconds": {"gpu": np.full(4, np.nan)}}, "figure >= 0 per op"),
    ],
)  # fmt: skip
def test_arrays_that_contradict_each_other_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        unchecked(diamond(), **changes).__post_init__()


def test_a_time_of_infinity_means_that_an_op_cannot_run() -> None:
    graph = replace(diamond(), profiled_seconds={"gpu": np.array([1.0, np.inf, 1.0, 1.0])})
    assert np.isinf(graph.profiled_seconds["gpu"][1])
