"""Where a plan cuts a torch model, and where torch can: only before a module that begins."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from graphs.graph import Graph
from graphs.kinds import OpKind, Phase
from placement.export.errors import ExportError

_SOURCES = (OpKind.INPUT, OpKind.CONSTANT, OpKind.VARIABLE)


@dataclass(frozen=True)
class Cut:
    """A place between two stages."""

    op: int
    """The first op of the later stage."""
    module: str | None
    """The module that begins there; None where the cut is in the middle of one."""


@dataclass(frozen=True)
class ModelOrder:
    """The forward ops of a torch model that take time, in the order in which they are called."""

    graph: Graph
    ops: tuple[int, ...]
    paths: tuple[str, ...]
    """The innermost module of each of these ops."""

    @staticmethod
    def of(
        graph: Graph, modules: Mapping[str, str], taken: np.ndarray | Sequence[float]
    ) -> "ModelOrder":
        """From the module of each op and what each op takes; ops of unknown origin are left out."""
        ops = [
            op
            for op in range(graph.op_count)
            if taken[op] > 0 and graph.phases[op] == Phase.FORWARD and graph.op_names[op] in modules
        ]
        return ModelOrder(graph, tuple(ops), tuple(modules[graph.op_names[op]] for op in ops))

    def borders(self) -> dict[int, str]:
        """Positions in `ops` where a module begins whose ops are called in a row.

        Of several that begin at once it is the outermost that has ops of its own: others may be
        mere lists, which torch never calls.
        """
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for position, path in enumerate(self.paths):
            for module in _enclosing(path):
                first.setdefault(module, position)
                last[module] = position
        counts = dict.fromkeys(first, 0)
        for path in self.paths:
            for module in _enclosing(path):
                counts[module] += 1
        called = set(self.paths)
        found: dict[int, str] = {}
        for module, position in sorted(first.items(), key=lambda item: item[0].count(".")):
            in_a_row = counts[module] == last[module] - position + 1
            if position and in_a_row and module in called and "@" not in module:
                found.setdefault(position, module)
        return found

    def turns(
        self, devices: Int32[np.ndarray, " ops"], names: Sequence[str]
    ) -> tuple[list[int], list[int]]:
        """The device of each stage, and the position in `ops` where each begins.

        Raises:
            ExportError: a device's turn comes twice.
        """
        order: list[int] = []
        begins: list[int] = []
        for position, op in enumerate(self.ops):
            device = int(devices[op])
            if order and device == order[-1]:
                continue
            if device in order:
                before = self.graph.op_names[self.ops[position - 1]]
                raise ExportError(
                    f"the plan is no pipeline: after {before!r} on {names[order[-1]]} the turn is "
                    f"{names[device]}'s again, with {self.graph.op_names[op]!r}; place with "
                    "--placer human-expert for contiguous stages, or export another form"
                )
            order.append(device)
            begins.append(position)
        return order, begins

    def refusal(self, position: int) -> ExportError:
        """Why a stage cannot begin here."""
        op, path = self.graph.op_names[self.ops[position]], self.paths[position]
        remedy = f": place again with --colocate '{re.escape(path)}[./].*'" if path else ""
        return ExportError(
            f"a stage would begin at {op!r}, in the middle of module {path!r}; torch cuts "
            f"programs where a module begins only{remedy}"
        )


def _enclosing(path: str) -> list[str]:
    parts = path.split(".") if path else []
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def staged_devices(
    graph: Graph, devices: Sequence[int], begins: Sequence[int]
) -> Int32[np.ndarray, " ops"]:
    """The device of each op where stages run as torch cuts them: in the order of the program.

    Args:
        graph: of a forward pass, in the order of the program.
        devices: of each stage.
        begins: the first op of each stage but the first.

    Returns:
        Inputs on the first stage, which is given them; weights with the first op that reads them.
    """
    stages = np.searchsorted(np.array(begins), np.arange(graph.op_count), side="right")
    for op in np.flatnonzero(np.isin(graph.kinds, [int(kind) for kind in _SOURCES])).tolist():
        readers = [int(reader) for tensor in graph.outputs_of(op)
                   for reader in graph.consumers_of(tensor)]  # fmt: skip
        is_input = graph.kinds[op] == OpKind.INPUT
        stages[op] = 0 if is_input or not readers else min(stages[reader] for reader in readers)
    return np.array(devices, np.int32)[stages]
