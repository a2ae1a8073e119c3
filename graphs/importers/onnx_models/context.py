"""The state of one ONNX import: what the model declares, and what had to be assumed so far."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from onnx import OperatorSetIdProto, defs

#: `ai.onnx` is the long form of the standard domain's name.
_STANDARD = ("", "ai.onnx")


@dataclass
class ImportContext:
    """Filled while the nodes of one model are read, in order."""

    origin: str
    """The model's name, for messages."""
    opsets: Mapping[str, int]
    ir_version: int
    folder: Path | None = None
    """Where external weights may be; None for a model in memory."""
    declared: Mapping[str, tuple[int, list[int | None]]] = field(default_factory=dict)
    """Element type and dimensions that the model itself states for intermediate tensors."""
    assumed_dims: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the inputs' dimensions that the user left open."""
    unknown_shapes: list[str] = field(default_factory=list)
    annotated: int = 0
    """Tensors whose shape only the model's own annotation tells."""
    estimated: Counter[str] = field(default_factory=Counter)
    composite: Counter[str] = field(default_factory=Counter)
    notes: dict[str, None] = field(default_factory=dict)
    _schemas: dict[tuple[str, str], defs.OpSchema | None] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        self.notes[sentence] = None

    def opset(self, domain: str) -> int | None:
        """The version of a domain that the model imports."""
        return self.opsets.get(standard_domain(domain))

    @cached_property
    def opset_imports(self) -> list[OperatorSetIdProto]:
        return [OperatorSetIdProto(domain=d, version=v) for d, v in self.opsets.items()]

    def schema(self, domain: str, op_type: str) -> defs.OpSchema | None:
        """The schema of an op in the imported version of its domain, if onnx has one."""
        key = (standard_domain(domain), op_type)
        if key not in self._schemas:
            version = self.opset(domain) or (1 if domain in _STANDARD else None)
            try:
                schema = version and defs.get_schema(op_type, version, key[0])
            except defs.SchemaError:
                schema = None
            self._schemas[key] = schema or None
        return self._schemas[key]


def standard_domain(domain: str) -> str:
    """The short form of the standard domain's name; others as they are."""
    return "" if domain in _STANDARD else domain
