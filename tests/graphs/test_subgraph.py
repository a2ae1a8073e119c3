"""Parts of graphs."""

import numpy as np
import pytest
from graph_samples import graph_of, op, random_graph

from graphs import GraphError, OpKind
from graphs.subgraph import subgraph


def test_outside_inputs_become_free_ops_of_the_same_name() -> None:
    graph = graph_of(
        op("a", 3, output_bytes=10),
        op("b", 4, ("a",), 20),
        op("c", 5, ("a", "b"), 30),
        op("d", 6, ("c",), 40),
    )
    part = subgraph(graph, np.array([2, 3]))
    assert part.op_names == ("a", "b", "c", "d")
    assert [OpKind(kind).name for kind in part.kinds[:2]] == ["INPUT", "INPUT"]
    assert part.flops.tolist() == [0, 0, 5, 6]
    assert part.tensor_bytes.tolist() == [10, 20, 30, 40]
    assert [part.consumers_of(tensor).tolist() for tensor in range(4)] == [[2], [2], [3], []]


def test_all_ops_give_the_same_graph() -> None:
    for seed in range(20):
        graph = random_graph(seed, 40)
        assert subgraph(graph, np.arange(graph.op_count)) == graph


def test_random_parts_are_valid_and_keep_their_costs() -> None:
    for seed in range(60):
        graph = random_graph(seed, 60)
        rng = np.random.default_rng(seed)
        ops = rng.choice(graph.op_count, int(rng.integers(1, graph.op_count)), replace=False)
        part = subgraph(graph, ops)
        assert part.flops.sum() == pytest.approx(graph.flops[ops].sum())
        assert part.resident_bytes.sum() == graph.resident_bytes[ops].sum()
        assert {graph.op_names[i] for i in ops} <= set(part.op_names)


def test_no_ops_are_refused() -> None:
    with pytest.raises(GraphError, match="needs ops between 0 and 2"):
        subgraph(graph_of(op("a", 1), op("b", 1), op("c", 1)), np.zeros(0, int))
    with pytest.raises(GraphError, match="needs ops"):
        subgraph(graph_of(op("a", 1)), np.array([4]))
