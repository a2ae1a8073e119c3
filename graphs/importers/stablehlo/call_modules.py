"""What is known of the XlaCallModule ops of a graph, each read once for the same arguments."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from graphs.costs.work import FORMULA_ERRORS, TensorSpec
from graphs.importers.stablehlo.instructions import parse_module
from graphs.importers.stablehlo.lowering import Lowering, request_for
from graphs.importers.stablehlo.module_work import ModuleWork, module_work, result_specs

CALL_MODULE = "XlaCallModule"


@dataclass(frozen=True)
class ReadModule:
    """A module as it runs on given arguments."""

    cost: ModuleWork
    results: tuple[TensorSpec, ...]

    def result(self, number: int) -> TensorSpec | None:
        """The spec of a result, if there are so many."""
        return self.results[number] if number < len(self.results) else None


@dataclass
class CallModules:
    """Reads modules; `lowering` is closed by whoever made this."""

    versions: Any
    """The GraphDef's version record."""
    functions: Any
    """The functions of the graph."""
    lowering: Lowering = field(default_factory=Lowering)
    refused: dict[str, str] = field(default_factory=dict)
    """Node names to why their modules cannot be read."""
    _read: dict[Any, tuple[Any, ReadModule | None]] = field(default_factory=dict)
    """By what a module is and its arguments; with its NodeDef, whose address is part of the key."""

    def read(self, definition: Any, arguments: Sequence[TensorSpec]) -> ReadModule | None:
        """A module with the sizes that its arguments give it; None where it cannot be read.

        Args:
            definition: the NodeDef of the op.
            arguments: specs of its inputs.
        """
        key = (id(definition), *arguments)
        if key not in self._read:
            self._read[key] = definition, self._lowered(definition, arguments)
        return self._read[key][1]

    def _lowered(self, definition: Any, arguments: Sequence[TensorSpec]) -> ReadModule | None:
        from tensorflow.compiler.xla.service import hlo_pb2

        name, types = definition.name, list(definition.attr["Tin"].list.type)
        if len(types) != len(arguments):
            self.refused[name] = f"it has {len(arguments)} inputs and declares {len(types)}"
            return None
        typed = list(zip(arguments, types, strict=True))
        request = request_for(definition, typed, self.versions, self.functions)
        serialized, reason = self.lowering.hlo(request)
        if serialized is None:
            self.refused[name] = reason
            return None
        try:
            module = parse_module(hlo_pb2.HloModuleProto.FromString(serialized))
            return ReadModule(module_work(module), result_specs(module))
        except (*FORMULA_ERRORS, StopIteration, RecursionError, DecodeError) as error:
            self.refused[name] = f"it has an op that is not understood ({error})"
            return None
