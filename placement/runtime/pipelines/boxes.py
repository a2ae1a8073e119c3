"""Mailboxes of steps that overlap: one per transfer for each step on the way, and who has ended.

Step `s` uses the same mailboxes as step `s - in_flight`, which has ended on all devices before `s`
is let in: a mailbox that is to be written has been read, so that nobody ever waits to send.
"""

from collections.abc import Sequence

import numpy as np

from placement.runtime.pipelines.messages import PipelinePart
from placement.runtime.processes.mailboxes import Mailboxes
from placement.runtime.processes.messages import TensorType
from placement.runtime.programs.device_program import Transfer
from simulator.steps import StepSchedule

#: That a device is ready, or has ended its part of a step, is a message to all.
_NEWS = TensorType("int8", (1,))


def pipeline_boxes(
    transfers: Sequence[Transfer],
    types: Sequence[TensorType],
    schedule: StepSchedule,
    device_count: int,
) -> tuple[tuple[Transfer, ...], tuple[TensorType, ...]]:
    """All mailboxes in a row, as `layout` and `Mailboxes` take them.

    First those of the transfers, for each step on the way; then one per device, by which it says
    that it is ready; then one per device, for each step on the way, by which it says that it ended.
    """
    slots = schedule.most_in_flight
    news = tuple(Transfer("", at, at) for at in range(device_count)) * (1 + slots)
    return (*(tuple(transfers) * slots), *news), (*(tuple(types) * slots), *[_NEWS] * len(news))


class PipelineBoxes:
    """One worker's view of the shared memory of a pipeline."""

    def __init__(self, descriptor: int, part: PipelinePart) -> None:
        inner = part.part
        devices = inner.device_count
        boxes = pipeline_boxes(inner.transfers, inner.transfer_types, part.schedule, devices)
        self.boxes = Mailboxes(descriptor, *boxes, devices)
        self._slots = part.schedule.most_in_flight
        self._transfers = len(inner.transfers)
        self._devices = devices
        self._device = inner.device
        self._spin = inner.spin_seconds
        self._working = part.working
        self._ready = self._transfers * self._slots

    def box(self, transfer: int, step: int) -> int:
        """The mailbox of a transfer in a step."""
        return (step % self._slots) * self._transfers + transfer

    def slot(self, transfer: int, step: int) -> np.ndarray:
        """Its flat array."""
        return self.boxes.tensors[self.box(transfer, step)]

    def meet(self, sequence: int, deadline: float) -> None:
        """Wait until all devices that work are about to begin.

        Raises:
            AbortedStep: a peer has failed, or the deadline is over.
        """
        self.boxes.post(self._ready + self._device, sequence, 0)
        for device in self._working:
            self.boxes.wait(self._ready + device, sequence, self._spin, deadline)

    def end(self, step: int, sequence: int, nanoseconds: int) -> None:
        """Say that this device's part of a step has ended, and when."""
        self.boxes.post(self._end_box(self._device, step), sequence, nanoseconds)

    def ended(self, step: int, sequence: int) -> bool:
        """Whether a step has ended on all devices."""
        arrived = self.boxes.arrived
        return all(arrived(self._end_box(device, step), sequence) for device in self._working)

    def look_again(self, idle_since: float, deadline: float) -> None:
        """Between two looks at all mailboxes.

        Raises:
            AbortedStep: a peer has failed, or the deadline is over.
        """
        self.boxes.look_again(idle_since, self._spin, deadline)

    def _end_box(self, device: int, step: int) -> int:
        return self._ready + self._devices * (1 + step % self._slots) + device
