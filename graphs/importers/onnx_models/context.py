"""The state of one ONNX import: what the model declares, and what had to be assumed so far."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
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
    opaque: Counter[str] = field(default_factory=Counter)
    """Ops that hide work, by type."""
    body_bytes: int = 0
    """Weights that lie inside control-flow bodies."""
    folded: Counter[str] = field(default_factory=Counter)
    """Nodes that read weights alone, by type."""
    notes: dict[str, None] = field(default_factory=dict)
    settled_types: dict[str, int] = field(default_factory=dict)
    """Element types that only the readers of a foreign op's output tell."""
    contradictions: dict[str, str] = field(default_factory=dict)
    """Tensors whose shape or type was guessed, and what the file or a reader says instead."""
    must_repeat: bool = False
    """Whether a guess turned out wrong that shapes before it rest on."""
    _schemas: dict[tuple[str, str], defs.OpSchema | None] = field(default_factory=dict)
    _attribute_types: dict[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        self.notes[sentence] = None

    def contradict(self, tensor: str, reader: str, reason: str) -> None:
        """Keep that a guess about a tensor does not fit."""
        by = f"op {reader!r} " if reader else ""
        self.contradictions.setdefault(tensor, f"{by}{reason}")

    def settle(self, tensor: str, elem_type: int, reader: str, guessed: str) -> None:
        """Keep the element type that a reader of a tensor requires, against the guess."""
        if self.settled_types.get(tensor) == elem_type:
            return
        if tensor in self.settled_types:
            self.contradict(tensor, reader, f"takes no {guessed}, another reader does")
            return
        self.settled_types[tensor] = elem_type
        self.must_repeat = True

    def opset(self, domain: str) -> int | None:
        """The version of a domain that the model imports."""
        return self.opsets.get(standard_domain(domain))

    def again(self) -> "ImportContext":
        """The state before the first node, but for the types that readers told."""
        return ImportContext(
            self.origin,
            self.opsets,
            self.ir_version,
            self.folder,
            self.declared,
            self.assumed_dims,
            settled_types=self.settled_types,
        )

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

    def attribute_types(self, domain: str, op_type: str) -> Mapping[str, int]:
        """The type that each attribute of an op must have; none where onnx has no schema."""
        key = (standard_domain(domain), op_type)
        if key not in self._attribute_types:
            schema = self.schema(domain, op_type)
            known = {} if schema is None else schema.attributes
            self._attribute_types[key] = {name: item.type.value for name, item in known.items()}
        return self._attribute_types[key]

    def newest_schema(self, op_type: str) -> defs.OpSchema | None:
        """The schema of a standard op in the model's version, or else in onnx's newest."""
        known = self.schema("", op_type) if self.opset("") else None
        return known or _newest_schema(op_type)


@cache
def _newest_schema(op_type: str) -> defs.OpSchema | None:
    try:
        return defs.get_schema(op_type, defs.onnx_opset_version(), "")
    except defs.SchemaError:
        return None


def standard_domain(domain: str) -> str:
    """The short form of the standard domain's name; others as they are."""
    return "" if domain in _STANDARD else domain
