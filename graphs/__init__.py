"""What is computed: the graph IR, importers and op costs.

Names are imported when they are asked for, so that a command can settle where it imports from
before anything else is loaded. Reports of libraries to their makers are turned off at once.
"""

from importlib import import_module

from graphs.telemetry import turn_reports_off as _turn_reports_off

TYPE_CHECKING = False  # what `typing` calls so; type checkers know the name
if TYPE_CHECKING:
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

_MODULES = {
    "DType": "graphs.kinds",
    "Graph": "graphs.graph",
    "GraphError": "graphs.errors",
    "GraphwrightError": "graphs.errors",
    "ImportReport": "graphs.import_report",
    "ModelError": "graphs.errors",
    "OpKind": "graphs.kinds",
    "Phase": "graphs.kinds",
    "Storage": "graphs.kinds",
    "load": "graphs.loading",
}

_turn_reports_off()


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'graphs' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
