"""A plan as a list of steps per device: run, send, receive.

All lists are cut from one global topological order. A step waits only for steps that stand
before it in that order, so that the first unfinished step of the order can always go on: such
programs cannot deadlock, also where parts of two devices depend on each other in both directions.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32, Int64

from simulator.errors import PlanError


@dataclass(frozen=True)
class TensorUse:
    """What one op reads and writes, by tensor name; nothing but what takes part in a step."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Transfer:
    """One tensor that goes from one device to another, once per step."""

    tensor: str
    source: int
    target: int


@dataclass(frozen=True)
class Run:
    """Ops that run one after another with nothing sent or received in between."""

    ops: tuple[int, ...]
    fused: bool = False
    """Whether they are a fusion group of the plan: the runtime may make one kernel of them."""


@dataclass(frozen=True)
class Send:
    """Copy a tensor into the transfer's mailbox."""

    transfer: int


@dataclass(frozen=True)
class Receive:
    """Wait for a transfer and copy the tensor out of its mailbox."""

    transfer: int


Step = Run | Send | Receive


@dataclass(frozen=True)
class DeviceProgram:
    """Steps per device, and the transfers that they name by number."""

    steps: tuple[tuple[Step, ...], ...]
    transfers: tuple[Transfer, ...]

    @cached_property
    def op_count(self) -> int:
        return sum(len(step.ops) for steps in self.steps for step in steps if isinstance(step, Run))


def cut_program(
    order: Int64[np.ndarray, " order"],
    devices: Int32[np.ndarray, " ops"],
    works: Sequence[TensorUse | None],
    device_count: int,
    given: Mapping[str, int] | None = None,
    *,
    alone: Collection[int] = (),
    groups: Mapping[int, int] | None = None,
) -> DeviceProgram:
    """Cut one global order into a program per device.

    A tensor is sent right after the op that makes it and received right before the first op that
    reads it; between such points the ops of a device are one `Run`.

    Args:
        order: ops in a topological order; those without work may be left out.
        devices: the device of each op.
        works: what each op reads and writes; None for an op that does nothing in a step. Tensors
            that nobody writes and that are not given are there from the beginning (weights).
        device_count: how many programs to make.
        given: tensors that are there before the step (the model's inputs), and on which device.
        alone: ops that are a `Run` of their own.
        groups: the fusion group of each op that has one; a group is a `Run` of its own. Its ops
            must be next to each other in the order.

    Raises:
        PlanError: the order has an op before one whose tensor it reads.
    """
    home: dict[str, int] = dict(given or {})
    wanted = _remote_readers(order, devices, works)
    written = {name for work in works if work is not None for name in work.writes}
    steps: list[list[Step]] = [[] for _ in range(device_count)]
    open_run: list[list[int]] = [[] for _ in range(device_count)]
    transfers: list[Transfer] = []
    pending: dict[tuple[str, int], int] = {}

    def close(device: int, *, fused: bool = False) -> None:
        if open_run[device]:
            steps[device].append(Run(tuple(open_run[device]), fused))
            open_run[device] = []

    def send(name: str, source: int) -> None:
        for target in sorted(wanted.get(name, set()) - {source}):
            close(source)
            pending[name, target] = len(transfers)
            steps[source].append(Send(len(transfers)))
            transfers.append(Transfer(name, source, target))

    for name, device in home.items():
        send(name, device)
    for batch in _batches(order, works, groups or {}):
        device, fused = int(devices[batch[0]]), len(batch) > 1
        uses = [work for op in batch if (work := works[op]) is not None]
        inside = {name for work in uses for name in work.writes}
        for name in dict.fromkeys(name for work in uses for name in work.reads):
            if name not in home and name not in inside:
                if name in written:
                    raise PlanError(f"the order runs op {batch[0]} before {name!r}, which it reads")
                continue
            transfer = pending.pop((name, device), None)
            if transfer is not None:
                close(device)
                steps[device].append(Receive(transfer))
        single = fused or batch[0] in alone
        if single:
            close(device)
        open_run[device].extend(batch)
        if single:
            close(device, fused=fused)
        for work in uses:
            for name in work.writes:
                home[name] = device
                send(name, device)
    for device in range(device_count):
        close(device)
    return DeviceProgram(tuple(tuple(items) for items in steps), tuple(transfers))


def _batches(
    order: Int64[np.ndarray, " order"], works: Sequence[TensorUse | None], groups: Mapping[int, int]
) -> list[list[int]]:
    """Ops with work in their order, those of one fusion group together."""
    batches: list[list[int]] = []
    last = -1
    for op in order.tolist():
        if works[op] is None:
            continue
        group = groups.get(op, -1)
        if group >= 0 and group == last:
            batches[-1].append(op)
        else:
            batches.append([op])
        last = group
    return batches


def _remote_readers(
    order: Int64[np.ndarray, " order"],
    devices: Int32[np.ndarray, " ops"],
    works: Sequence[TensorUse | None],
) -> dict[str, set[int]]:
    """Devices on which each tensor is read."""
    wanted: dict[str, set[int]] = {}
    for op in order.tolist():
        work = works[op]
        if work is not None:
            for name in work.reads:
                wanted.setdefault(name, set()).add(int(devices[op]))
    return wanted
