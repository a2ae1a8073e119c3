"""What an importer had to assume: kept with the graph and shown to its user."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImportReport:
    """How a model file became a `Graph`; all counts refer to ops or tensors of the graph."""

    source_format: str = "memory"
    """`onnx`, `tensorflow`, `torch-export`, `msr-benchmark`, `graphwright` or `memory`."""
    assumed_dims: Mapping[str, int] = field(default_factory=dict)
    """Symbolic dimensions that the user left open, and the size assumed for each."""
    bound_dims: Mapping[str, int] = field(default_factory=dict)
    """Symbolic dimensions that the user bound."""
    unknown_shapes: tuple[str, ...] = ()
    """Tensors whose shape stayed unknown; their bytes are counted as zero unless noted."""
    estimated_ops: Mapping[str, int] = field(default_factory=dict)
    """Op types without a formula: costed from the sizes of their tensors, with their count."""
    composite_ops: Mapping[str, int] = field(default_factory=dict)
    """Control-flow op types imported as one op with the cost of their bodies, with their count."""
    opaque_ops: Mapping[str, int] = field(default_factory=dict)
    """Op types that hide work which cannot be read, with their count; costed from their tensors."""
    folded_ops: Mapping[str, int] = field(default_factory=dict)
    """Op types that depend on constants alone and are computed once at load, with their count."""
    notes: tuple[str, ...] = ()
    """Anything else that a user should know, one sentence each."""
