"""A plan inside of a GraphDef: a device for each node, the order as control edges, XLA groups."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphs.graph import Graph
from graphs.importers.tensorflow_models.files import parse_file
from placement.runtime.errors import RuntimeRefusal
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.plan import Plan

#: Nodes that a session replaces by what is fed.
_FED = frozenset({"Placeholder", "PlaceholderV2"})


@dataclass(frozen=True)
class PlacedGraph:
    """What a session is given, and what its step statistics must show."""

    definition: bytes
    fetches: tuple[str, ...]
    expected: Mapping[str, str]
    """The device of every node that a step has to run."""


def placed_graph(
    path: Path,
    graph: Graph,
    cluster: Cluster,
    plan: Plan,
    costs: CostModel,
    targets: Mapping[str, str],
) -> PlacedGraph:
    """Write a plan into the GraphDef that `graph` was imported from.

    Raises:
        ModelError: the file cannot be read.
        ExportError: ops inside of functions, whose order cannot be pinned.
        RuntimeRefusal: none of its nodes is in the graph.
    """
    from tensorflow.core.framework import graph_pb2

    from placement.export.request import ExportRequest
    from placement.export.tensorflow_clusters import cluster_groups
    from placement.export.tensorflow_devices import place_nodes
    from placement.export.tensorflow_schedule import pin_order

    definition = parse_file(path, graph_pb2.GraphDef, "GraphDef")
    request = ExportRequest(
        path, graph, cluster, plan, path.parent, targets=targets, costs=costs, fusion=True
    )
    if place_nodes(definition, request) == 0:
        raise RuntimeRefusal(
            f"{path}: no node of it is in graph {graph.name!r}; give the file that it came from"
        )
    if plan.is_fused:
        _, plan = cluster_groups(definition, request)
    pin_order(definition, request, plan)
    kept = {node.name: node for node in definition.node if node.name in graph.op_index}
    read = {text.lstrip("^").partition(":")[0] for node in kept.values() for text in node.input}
    counts = np.diff(graph.consumer_offsets)
    unread = set(graph.op_names) - {
        graph.op_names[producer] for producer in graph.tensor_producers[counts > 0].tolist()
    }
    fetches = tuple(name for name in kept if name in unread)
    expected = {
        name: node.device
        for name, node in kept.items()
        if node.op not in _FED and (name in read or name in fetches)
    }
    return PlacedGraph(definition.SerializeToString(deterministic=True), fetches, expected)
