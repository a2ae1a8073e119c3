"""Writes in place: who reads a tensor after one, through whatever view, depends on the write.

A program of torch.export may change tensors in place, also through views of them (`cache[:, i:j] =
k`), and says so by its order only. Here a call that writes gets the tensors that share memory with
what it writes, as far as they are read later, as further results: their next *version*. Later
calls read the versions, earlier ones what was there before (array SSA form: Knobe and Sarkar,
POPL 1998).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from graphs.costs.work import TensorSpec
from graphs.importers.groups import Groups
from graphs.importers.torch_models.calls import ExportedGraph, ExportedOp, Version

_MAYBE_VIEWS = frozenset({"to", "contiguous", "type_as"})


def with_versions(exported: ExportedGraph) -> ExportedGraph:
    """The program with versions, and with what must share a device in groups.

    Memory has one home: a weight or input that is changed, what makes a tensor of which views are
    changed, and the calls that change them share a device. A call that overwrites waits for the
    calls that read what was there before.
    """
    if not exported.mutations and not any(op.written for op in exported.ops):
        return exported
    return _Writes(exported).program()


@dataclass
class _Memory:
    """One tensor and all its views."""

    root: str
    members: list[str]
    readers: list[str] = field(default_factory=list)
    """Ops that read it since the last write."""
    makers: list[int] = field(default_factory=list)
    """Positions of the op that made it and of its views."""
    writers: list[int] = field(default_factory=list)
    shared: bool = False
    """Whether a write was seen under another name than the one that was written."""


class _Writes:
    def __init__(self, exported: ExportedGraph) -> None:
        self.exported = exported
        self.last_read = _last_reads(exported)
        self.given = {**exported.inputs, **exported.weights}
        self.specs: dict[str, TensorSpec] = dict(self.given)
        self.memory = {name: _Memory(name, [name]) for name in self.given}
        self.memories = list(self.memory.values())
        self.current: dict[str, str] = {}
        self.ops: list[ExportedOp] = []

    def program(self) -> ExportedGraph:
        for position, op in enumerate(self.exported.ops):
            known = [name for name in op.written if name in self.memory]
            op = replace(op, written=known)
            renamed = replace(op, inputs=[self.now(name) for name in op.inputs])
            self.ops.append(self.write(position, op, renamed) if op.written else renamed)
            self.specs.update(op.outputs)
            self.note(position, op)
        groups = self.groups()
        return replace(
            self.exported,
            ops=[
                replace(op, colocation=groups.find(op.name)) if op.name in groups else op
                for op in self.ops
            ],
            outputs=[self.now(name) for name in self.exported.outputs],
            mutations={self.now(name): to for name, to in self.exported.mutations.items()},
            groups={name: groups.find(_given(name)) for name in self.given
                    if _given(name) in groups},
        )  # fmt: skip

    def now(self, name: str) -> str:
        """The name under which a tensor's content is found at this point of the program."""
        return self.current.get(name, name)

    def write(self, position: int, op: ExportedOp, renamed: ExportedOp) -> ExportedOp:
        """The call with the versions that it leaves behind."""
        versions: list[Version] = []
        waits: dict[str, None] = {}
        declared = {name: target for (name, _), target in zip(op.outputs, op.written, strict=False)}
        result_of = {target: name for name, target in declared.items()}
        memories = {self.memory[name].root: self.memory[name] for name in op.written}
        for memory in memories.values():
            memory.writers.append(position)
            waits.update(dict.fromkeys(memory.readers))
            memory.readers.clear()
            for member in memory.members:
                if self.last_read.get(member, -1) <= position:
                    continue
                if member in result_of:
                    self.current[member] = result_of[member]
                    continue
                version = Version(f"{member}@{position}", self.specs[member], self.now(member))
                versions.append(version)
                self.current[member] = version.name
                memory.shared |= member not in op.written
        carried = dict.fromkeys(version.of for version in versions)
        return replace(
            renamed,
            written=[renamed.inputs[list(op.inputs).index(name)] for name in op.written],
            carried=[name for name in carried if name not in renamed.inputs],
            versions=versions,
            waits=[name for name in waits if name != op.name],
        )

    def note(self, position: int, op: ExportedOp) -> None:
        """Learn which memory the call's results are, and that it reads."""
        base = op.base_name
        same = bool(op.inputs) and (
            op.is_view or (base in _MAYBE_VIEWS and op.outputs[0][1] == self.specs[op.inputs[0]])
        )
        for number, (name, _) in enumerate(op.outputs):
            source = op.inputs[0] if same else None
            if op.written:
                source = op.written[min(number, len(op.written) - 1)]
            if source not in self.memory:
                self.memory[name] = _Memory(name, [name], makers=[position])
                self.memories.append(self.memory[name])
                continue
            memory = self.memory[source]
            memory.members.append(name)
            self.memory[name] = memory
            if not op.written:
                memory.makers.append(position)
        if not op.is_view:
            for name in dict.fromkeys(op.inputs):
                if name in self.memory and name not in op.written:
                    self.memory[name].readers.append(op.name)

    def groups(self) -> Groups:
        """What must share a device, by op name; weights and inputs under a name of their own."""
        groups = Groups()
        for memory in self.memories:
            given = memory.root in self.given
            if not memory.writers or not (given or memory.shared):
                continue
            home = _given(memory.root) if given else self.ops[memory.makers[0]].name
            last = max(memory.writers)
            before = [position for position in memory.makers if position < last]
            self.join(groups, home, [*self.leading(memory, before), *memory.writers])
        makers: dict[str, str] = {}
        for op in self.ops:
            makers.update((name, op.name) for name, _ in op.outputs)
            makers.update((version.name, op.name) for version in op.versions)
        for name, target in self.exported.mutations.items():
            maker = makers.get(self.now(name))
            groups.join(_given(target), _given(target) if maker is None else maker)
        return groups

    def leading(self, memory: _Memory, makers: Iterable[int]) -> list[int]:
        """The maker of a memory and the views by which it is written."""
        written = {
            name for position in memory.writers for name in self.exported.ops[position].written
        }
        kept: list[int] = []
        for position in sorted(makers, reverse=True):
            op = self.exported.ops[position]
            if any(name in written for name, _ in op.outputs):
                written.update(op.inputs[:1])
                kept.append(position)
            elif position == memory.makers[0] and memory.root not in self.given:
                kept.append(position)
        return kept

    def join(self, groups: Groups, home: str, positions: Iterable[int]) -> None:
        groups.join(home, home)
        for position in positions:
            groups.join(home, self.ops[position].name)


def _given(name: str) -> str:
    """A weight's or input's name among those of ops."""
    return f"given {name}"


def _last_reads(exported: ExportedGraph) -> dict[str, int]:
    """The position of the last call that reads each tensor; results are read behind all."""
    last: dict[str, int] = {}
    for position, op in enumerate(exported.ops):
        last.update(dict.fromkeys(op.inputs, position))
    end = len(exported.ops)
    last.update(dict.fromkeys((*exported.outputs, *exported.mutations), end))
    return last
