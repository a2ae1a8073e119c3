"""Building graphs: order, shared groups, and errors that name the ops."""

from dataclasses import replace

import pytest
from graph_samples import graph_of, op
from hypothesis import given
from hypothesis import strategies as st

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.errors import GraphError, ModelError
from graphs.import_report import ImportReport
from graphs.kinds import OpKind, Storage


def test_ops_that_are_in_order_keep_it() -> None:
    graph = graph_of(op("z", 1), op("a", 1), op("m", 1, ("z",)))
    assert graph.op_names == ("z", "a", "m")


def test_ops_are_sorted_and_ready_ones_keep_the_order_of_addition() -> None:
    graph = graph_of(op("sum", 1, ("x", "y")), op("y", 1), op("x", 1))
    assert graph.op_names == ("y", "x", "sum")


@given(st.permutations(list(range(8))))
def test_any_order_of_addition_gives_a_topological_order(order: list[int]) -> None:
    records = [op(f"n{i}", 1, tuple(f"n{j}" for j in range(i) if (i + j) % 3 == 0)) for i in order]
    graph = graph_of(*records)
    position = graph.op_index
    for record in records:
        assert all(position[source] < position[record.name] for source in record.inputs)


def test_a_tensor_read_twice_by_an_op_is_one_edge() -> None:
    graph = graph_of(op("a", 1), op("square", 1, ("a", "a")))
    assert graph.edge_count == 1


def test_control_inputs_become_one_tensor_without_bytes_per_producer() -> None:
    graph = graph_of(
        op("a", 1, output_bytes=9),
        op("b", 1, control_inputs=("a",)),
        op("c", 1, control_inputs=("a",)),
    )
    assert graph.tensor_storage.tolist()[:2] == [Storage.BUFFER, Storage.CONTROL]
    assert graph.tensor_bytes.tolist()[:2] == [9, 0]
    assert graph.consumers_of(1).tolist() == [1, 2]


def test_shapes_are_right_aligned_and_leading_dimensions_merge() -> None:
    graph = graph_of(
        op("scalar", 1, output_shape=()),
        op("matrix", 1, output_shape=(5, 7)),
        op("six", 1, output_shape=(2, 3, 4, 5, 6, 7)),
    )
    assert graph.output_shapes.tolist() == [[1, 1, 1, 1], [1, 1, 5, 7], [24, 5, 6, 7]]


def test_groups_of_one_are_no_groups() -> None:
    graph = graph_of(
        op("a", 1, colocation="alone"),
        op("b", 1, colocation="shared"),
        op("c", 1),
        op("d", 1, colocation="shared"),
    )
    assert graph.colocation.tolist() == [-1, 0, -1, 0]


def test_profiled_seconds_follow_the_ops() -> None:
    builder = GraphBuilder("profiled", [op("late", 1, ("early",)), op("early", 1)])
    graph = builder.build(ImportReport(), {"gpu": {"late": 2.0, "early": 1.0}})
    assert graph.profiled_seconds["gpu"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "'bad' has no ops"),
        ([op("a", 1), op("a", 1)], "op name 'a' occurs more than once"),
        (
            [op("a", 1), replace(op("b", 1), outputs=(OutputTensor("a", 0),))],
            "tensor 'a' is produced by both 'a' and 'b'",
        ),
        ([op("a", 1, ("ghost",))], "op 'a' consumes tensor 'ghost', which nothing produces"),
        (
            [op("a", 1, control_inputs=("ghost",))],
            "op 'a' consumes op 'ghost', which nothing produces",
        ),
        (
            [op("start", 1), op("a", 1, ("start", "c")), op("b", 1, ("a",)), op("c", 1, ("b",))],
            "cycle through 'a' -> 'b' -> 'c' -> 'a'|cycle through 'b' -> 'c' -> 'a' -> 'b'"
            "|cycle through 'c' -> 'a' -> 'b' -> 'c'",
        ),
        ([op("self", 1, control_inputs=("self",))], "cycle through 'self' -> 'self'"),
        (
            [replace(op("a", 1), outputs=(OutputTensor("a", 1, Storage.ALIAS, "ghost"),))],
            "output 'a' of op 'a' is a view of 'ghost', which the op does not consume",
        ),
        ([op("a", 1, output_bytes=1 << 70)], "does not fit into 64 bits"),
    ],
)
def test_errors_name_the_ops(records: list[OpRecord], message: str) -> None:
    builder = GraphBuilder("bad", records)
    with pytest.raises(ModelError, match=message):
        builder.build(ImportReport())


def test_long_cycles_are_cut_short_in_the_message() -> None:
    count = 3000
    ring = [op(f"n{i}", 1, (f"n{(i - 1) % count}",)) for i in range(count)]
    with pytest.raises(ModelError, match=r"cycle through ('n\d+' -> ){5}'n\d+' \.\.\.; a dataflow"):
        GraphBuilder("ring", ring).build(ImportReport())


def test_figures_are_checked_by_the_graph() -> None:
    with pytest.raises(GraphError, match="flops of 'a' is nan"):
        graph_of(op("a", float("nan"), kind=OpKind.MATMUL))
    with pytest.raises(GraphError, match="only they"):
        graph_of(replace(op("a", 1), outputs=(OutputTensor("a", 1, Storage.ALIAS),)))
