"""What the steps of stand-ins do on a GPU: tensors go straight into the other GPU's memory.

The receiver owns a buffer and an event for each transfer and hands both to the sender (CUDA IPC).
The sender copies into the buffer, records the event, and only then says so in the mailbox: a
receiver that sees the mailbox's number lets its stream wait for that event, not its process.
Buffers are free again at the end of a step, for which all devices wait.
"""

from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from placement.runtime.processes.loaded_program import RECEIVE, RUN, SEND, Action, Prepared
from placement.runtime.processes.messages import Export, Exports
from placement.runtime.stand_ins.tensor_table import TensorTable

_NANOSECONDS_PER_MILLISECOND = 1e6


class GpuSteps:
    """The steps' actions on a GPU."""

    def __init__(self, table: TensorTable) -> None:
        self.table = table
        self.device = table.noise.device
        self.buffers_in: dict[int, Tensor] = {}
        self.events: dict[int, torch.cuda.Event] = {}
        self.remote: dict[int, Tensor] = {}

    def run(self, position: int) -> Action:
        """The stand-ins of a run."""
        return self.table.run(position)

    def send(self, transfer: int, slot: np.ndarray) -> Action:
        """Copies the tensor into the receiver's buffer; the mailbox carries its number only."""
        return partial(self._send_away, self.table.sent(transfer), transfer)

    def receive(self, transfer: int, slot: np.ndarray) -> Action:
        """Takes what is in the buffer that is made here for the transfer."""
        self.buffers_in[transfer] = torch.empty(slot.shape, device=self.device)
        self.events[transfer] = torch.cuda.Event(interprocess=True)
        return partial(self._take, self.table.sent(transfer), transfer)

    def running(self, *, hot: bool) -> AbstractContextManager[None]:
        """As the table says."""
        return self.table.running(hot=hot)

    def spoil(self) -> None:
        """Nothing of an earlier step is left."""
        self.table.spoil()
        for buffer in self.buffers_in.values():
            buffer.fill_(np.nan)

    def close(self) -> None:
        """Let go of the other devices' memory, then of one's own."""
        self.remote.clear()
        self.events.clear()
        self.buffers_in.clear()
        self.table.values.clear()

    def exports(self) -> Exports:
        """What senders need, by transfer."""
        from torch.multiprocessing.reductions import reduce_tensor

        exports = {}
        for transfer, buffer in self.buffers_in.items():
            rebuild, arguments = reduce_tensor(buffer)
            exports[transfer] = Export(rebuild, arguments, self.events[transfer].ipc_handle())
        return exports

    def connect(self, exports: Exports) -> None:
        """Open the buffers and events of those that this device sends to."""
        for transfer, export in exports.items():
            self.remote[transfer] = export.rebuild(*export.arguments)
            self.events[transfer] = torch.cuda.Event.from_ipc_handle(self.device, export.event)

    def timed_pass(
        self,
        prepared: Prepared,
        sequence: int,
        deadline: float,
        hot: int,
        cpu: np.ndarray,
        begin: np.ndarray,
    ) -> int:
        """A `TimedPass`; times are those of the device, from event to event."""
        mailboxes, steps = prepared.mailboxes, prepared.steps
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(steps) + 1)]
        stream = torch.cuda.current_stream(self.device)
        marks[0].record(stream)
        for mark, (kind, transfer, action) in zip(marks[1:], steps, strict=True):
            if kind == RECEIVE and not mailboxes.arrived(transfer, sequence):
                mailboxes.wait(transfer, sequence, prepared.spin_seconds, deadline)
            for _ in range(1 + (hot if kind == RUN else 0)):
                action()
            mark.record(stream)
            if kind == SEND:
                mailboxes.post(transfer, sequence, 0)
        torch.cuda.synchronize(self.device)
        ends = [marks[0].elapsed_time(mark) * _NANOSECONDS_PER_MILLISECOND for mark in marks]
        runs = np.array([kind == RUN for kind, _, _ in steps])
        begin[:] = ends[:-1]
        cpu[:] = np.diff(ends) / np.where(runs, 1 + hot, 1)
        return int(ends[-1])

    def _send_away(self, name: str, transfer: int) -> None:
        self.remote[transfer].copy_(self.table.values[name], non_blocking=True)
        self.events[transfer].record(torch.cuda.current_stream(self.device))

    def _take(self, name: str, transfer: int) -> None:
        torch.cuda.current_stream(self.device).wait_event(self.events[transfer])
        self.table.values[name] = self.buffers_in[transfer]
