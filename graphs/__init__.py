"""What is computed: the graph IR, importers and op costs."""

from graphs.errors import GraphError, GraphwrightError, ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import DType, OpKind, Phase, Storage
from graphs.loading import load

__all__ = [
    "DType",
    "Graph",
    "GraphError",
    "GraphwrightError",
    "ImportReport",
    "ModelError",
    "OpKind",
    "Phase",
    "Storage",
    "load",
]
