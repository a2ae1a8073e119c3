"""A GPU's part of a program: tensors go straight into the other GPU's memory.

The receiver owns a buffer and an event for each transfer and hands both to the sender (CUDA IPC).
The sender copies into the buffer, records the event, and only then says so in the mailbox: a
receiver that sees the mailbox's number lets its stream wait for that event, not its process.
Buffers are free again at the end of a step, for which all devices wait.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from placement.runtime.processes.worker import RECEIVE, RUN, SEND
from placement.runtime.programs.device_program import Receive, Send
from placement.runtime.stand_ins.messages import Export
from placement.runtime.stand_ins.worker_program import StandInProgram

_NANOSECONDS_PER_MILLISECOND = 1e6


class GpuProgram(StandInProgram):
    """As on a core, but for how tensors travel and how time is taken: by events of the device."""

    def __init__(self, *arguments: Any) -> None:
        self.buffers_in: dict[int, Tensor] = {}
        self.events: dict[int, torch.cuda.Event] = {}
        self.remote: dict[int, Tensor] = {}
        super().__init__(*arguments)

    @property
    def device(self) -> torch.device:
        return self.noise.device

    def exports(self) -> Mapping[int, Export]:
        """What senders need, by transfer."""
        from torch.multiprocessing.reductions import reduce_tensor

        return {
            transfer: Export(reduce_tensor(buffer), self.events[transfer].ipc_handle())
            for transfer, buffer in self.buffers_in.items()
        }

    def connect(self, exports: Mapping[int, Export]) -> None:
        """Open the buffers and events of those that this device sends to."""
        for transfer, export in exports.items():
            rebuild, arguments = export.buffer
            self.remote[transfer] = rebuild(*arguments)
            self.events[transfer] = torch.cuda.Event.from_ipc_handle(self.device, export.event)

    def spoil(self) -> None:
        """Nothing of an earlier step is left."""
        super().spoil()
        for buffer in self.buffers_in.values():
            buffer.fill_(np.nan)

    def finish(self) -> None:
        """Wait until the device has done what it was told."""
        torch.cuda.synchronize(self.device)

    def _prepared(
        self, position: int, step: object, make: object
    ) -> tuple[int, int, Callable[[], object]]:
        if isinstance(step, Send):
            name = self.load.transfers[step.transfer].tensor
            return SEND, step.transfer, partial(self._send_away, name, step.transfer)
        if isinstance(step, Receive):
            name = self.load.transfers[step.transfer].tensor
            size = self.load.types[name].shape
            self.buffers_in[step.transfer] = torch.empty(size, device=self.device)
            self.events[step.transfer] = torch.cuda.Event(interprocess=True)
            return RECEIVE, step.transfer, partial(self._take, name, step.transfer)
        return super()._prepared(position, step, make)

    def _send_away(self, name: str, transfer: int) -> None:
        self.remote[transfer].copy_(self.values[name], non_blocking=True)
        self.events[transfer].record(torch.cuda.current_stream(self.device))

    def _take(self, name: str, transfer: int) -> None:
        torch.cuda.current_stream(self.device).wait_event(self.events[transfer])
        self.values[name] = self.buffers_in[transfer]

    def _iterate(
        self, sequence: int, deadline: float, hot: int, cpu: np.ndarray, begin: np.ndarray
    ) -> int:
        """Times are those of the device: from event to event."""
        mailboxes, spin = self.mailboxes, self.load.spin_seconds
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(self.steps) + 1)]
        stream = torch.cuda.current_stream(self.device)
        marks[0].record(stream)
        for mark, (kind, transfer, action) in zip(marks[1:], self.steps, strict=True):
            if kind == RECEIVE and not mailboxes.arrived(transfer, sequence):
                mailboxes.wait(transfer, sequence, spin, deadline)
            for _ in range(1 + (hot if kind == RUN else 0)):
                action()
            mark.record(stream)
            if kind == SEND:
                mailboxes.post(transfer, sequence, 0)
        self.finish()
        ends = [marks[0].elapsed_time(mark) * _NANOSECONDS_PER_MILLISECOND for mark in marks]
        runs = np.array([kind == RUN for kind, _, _ in self.steps])
        begin[:] = ends[:-1]
        cpu[:] = np.diff(ends) / np.where(runs, 1 + hot, 1)
        return int(ends[-1])

    def close(self) -> None:
        """Let go of the other devices' memory, then of one's own."""
        self.remote.clear()
        self.steps.clear()
        self.events.clear()
        self.buffers_in.clear()
        super().close()
