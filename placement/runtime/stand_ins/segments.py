"""Cuts a graph into the runs of stand-ins that a device program is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from placement.runtime.programs.device_program import (
    DeviceProgram,
    Run,
    Send,
    Step,
    TensorUse,
)
from placement.runtime.stand_ins.stand_ins import StandIn


@dataclass(frozen=True)
class TorchOp:
    """One op of a run, with the names of its tensors."""

    spec: StandIn
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class TorchSegment:
    """The ops of a `Run`; tensors that no later step of the device needs are let go."""

    ops: tuple[TorchOp, ...]
    fused: bool
    drops: tuple[str, ...]
    """Those tensors that it reads or makes which nothing needs afterwards."""


@dataclass(frozen=True)
class Member:
    """One op of a group: where its inputs are among the group's values."""

    spec: StandIn
    reads: tuple[int, ...]
    """Numbers of values: the group's inputs first, then the outputs of its members in order."""


@dataclass(frozen=True)
class Group:
    """Ops that are one kernel, by structure: equal groups are compiled once."""

    input_count: int
    members: tuple[Member, ...]
    kept: tuple[int, ...]
    """Numbers of the values that are handed out."""


def torch_segments(
    program: DeviceProgram,
    works: Sequence[TensorUse | None],
    specs: Sequence[StandIn | None],
    outputs: frozenset[str],
) -> list[dict[int, TorchSegment]]:
    """The runs of each device by their position; `outputs` are kept to the end of the step."""
    found = []
    for steps in program.steps:
        needed = set(outputs)
        segments: dict[int, TorchSegment] = {}
        for position in range(len(steps) - 1, -1, -1):
            step = steps[position]
            if isinstance(step, Run):
                ops = tuple(_op(op, works, specs) for op in step.ops)
                used = dict.fromkeys(name for op in ops for name in (*op.reads, *op.writes))
                drops = tuple(name for name in used if name not in needed)
                segments[position] = TorchSegment(ops, step.fused, drops)
            needed.update(_names(step, program, works))
        found.append(dict(sorted(segments.items())))
    return found


def as_group(segment: TorchSegment) -> tuple[Group, tuple[str, ...], tuple[str, ...]]:
    """The structure of a fused run, and the names of what it reads and hands out, in order."""
    written = {name for op in segment.ops for name in op.writes}
    inputs = tuple(
        dict.fromkeys(name for op in segment.ops for name in op.reads if name not in written)
    )
    numbers: dict[str, int] = {name: number for number, name in enumerate(inputs)}
    members = []
    for op in segment.ops:
        members.append(Member(op.spec, tuple(numbers[name] for name in op.reads)))
        for name in op.writes:
            numbers[name] = len(numbers)
    kept = (
        tuple(name for op in segment.ops for name in op.writes if name not in segment.drops)
        or (segment.ops[-1].writes[-1:])
    )
    group = Group(len(inputs), tuple(members), tuple(numbers[name] for name in kept))
    return group, inputs, kept


def group_sizes(segment: TorchSegment, inputs: Sequence[str]) -> list[int]:
    """Elements of each input."""
    sizes: Mapping[str, int] = {
        name: size
        for op in segment.ops
        for name, size in zip(op.reads, op.spec.inputs, strict=True)
    }
    return [sizes[name] for name in inputs]


def _op(op: int, works: Sequence[TensorUse | None], specs: Sequence[StandIn | None]) -> TorchOp:
    work, spec = works[op], specs[op]
    assert work is not None
    assert spec is not None
    return TorchOp(spec, work.reads, work.writes)


def _names(step: Step, program: DeviceProgram, works: Sequence[TensorUse | None]) -> set[str]:
    """What a step reads."""
    if isinstance(step, Run):
        uses = [work for op in step.ops if (work := works[op]) is not None]
        return {name for work in uses for name in work.reads}
    return {program.transfers[step.transfer].tensor} if isinstance(step, Send) else set()
