"""The graph of a name, by whichever way the model's package takes."""

from benchmarks.data.real_graphs.model import RealModel
from graphs.graph import Graph


def graph_of(model: RealModel, name: str) -> Graph:
    """Build one of a model's graphs; seconds, and no weights in memory.

    Raises:
        ModelError: a model that cannot become a graph; whatever the packages raise where one
            cannot be built or traced is let through.
    """
    if model.package == "keras":
        from benchmarks.data.real_graphs.keras_graph import keras_graph

        return keras_graph(model, name)
    from benchmarks.data.real_graphs.torch_graph import torch_graph

    return torch_graph(model, name)
