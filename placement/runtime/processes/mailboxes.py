"""Shared memory between workers: mailboxes of transfers, a barrier, and a flag to give up.

The memory is an unnamed file that is handed over as an open descriptor: when the last process
that holds it ends, however it ends, the memory is gone.

A sender writes the data, then its time, then the step's number; a receiver that sees the number
sees the rest. That holds on processors that keep the order of stores (x86).
"""

import mmap
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from placement.runtime.processes.messages import TensorType
from placement.runtime.programs.device_program import Transfer

_ALIGNMENT = 64
#: Looks at a mailbox between two looks at the clock.
_SPINS = 64


class AbortedStep(Exception):
    """A peer has failed, or did not answer in time."""


@dataclass(frozen=True)
class Layout:
    """Where things are in the shared memory: counters first, then the tensors."""

    offsets: tuple[int, ...]
    """Where each transfer's tensor begins, in bytes."""
    size: int


def layout(transfers: Sequence[Transfer], types: Sequence[TensorType], device_count: int) -> Layout:
    """Counters are 64-bit: the flag, one per device, then number and time of each transfer."""
    position = _aligned(8 * (1 + device_count + 2 * len(transfers)))
    offsets = []
    for kind in types:
        offsets.append(position)
        position = _aligned(position + kind.nbytes)
    return Layout(tuple(offsets), max(position, mmap.PAGESIZE))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def unnamed_file(size: int) -> int:
    """A descriptor of memory that no path leads to."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("graphwright")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Mailboxes:
    """One process's view of the shared memory of one program."""

    def __init__(
        self,
        descriptor: int,
        transfers: Sequence[Transfer],
        types: Sequence[TensorType],
        count: int,
    ) -> None:
        where = layout(transfers, types, count)
        self._memory = mmap.mmap(descriptor, where.size)
        words = 1 + count + 2 * len(transfers)
        self._words = memoryview(self._memory)[: 8 * words].cast("q")
        self._arrivals = range(1, 1 + count)
        self._first = 1 + count
        self.tensors = [
            np.frombuffer(
                self._memory, kind.dtype, int(np.prod(kind.shape, dtype=np.int64)), offset
            )
            for kind, offset in zip(types, where.offsets, strict=True)
        ]
        """One flat array per transfer."""

    def abort(self) -> None:
        """Tell everybody who waits to give up."""
        self._words[0] = 1

    def reset(self) -> None:
        """Let the program be used again after an abort."""
        self._words[0] = 0

    def spoil(self) -> None:
        """Overwrite all tensors: what is not sent anew is noticed (floats become NaN)."""
        for array in self.tensors:
            array.view(np.uint8).fill(255)

    def meet(self, device: int, sequence: int, spin: float, deadline: float) -> None:
        """Wait until all devices are about to begin a step."""
        self._words[1 + device] = sequence
        for slot in self._arrivals:
            self._await(slot, sequence, spin, deadline)

    def post(self, transfer: int, sequence: int, nanoseconds: int) -> None:
        """Say that a tensor is in its mailbox, and when that was for the sender."""
        slot = self._first + 2 * transfer
        self._words[slot + 1] = nanoseconds
        self._words[slot] = sequence

    def arrived(self, transfer: int, sequence: int) -> bool:
        return self._words[self._first + 2 * transfer] >= sequence

    def wait(self, transfer: int, sequence: int, spin: float, deadline: float) -> None:
        """Wait for a tensor.

        Raises:
            AbortedStep: a peer has failed, or the deadline is over.
        """
        self._await(self._first + 2 * transfer, sequence, spin, deadline)

    def sent_at(self, transfer: int) -> int:
        """The sender's time in nanoseconds."""
        return self._words[self._first + 2 * transfer + 1]

    def _await(self, slot: int, sequence: int, spin: float, deadline: float) -> None:
        words = self._words
        begun = time.perf_counter()
        while words[slot] < sequence:
            for _ in range(_SPINS):
                if words[slot] >= sequence:
                    return
            self.look_again(begun, spin, deadline)

    def look_again(self, begun: float, spin: float, deadline: float) -> None:
        """Between two looks for news: give the core away if there was none for long.

        Args:
            begun: when waiting began, on `time.perf_counter`'s clock in seconds.
            spin: how long to keep the core, in seconds.
            deadline: when to give up, on the same clock.

        Raises:
            AbortedStep: a peer has failed, or the deadline is over.
        """
        if self._words[0]:
            raise AbortedStep("a peer has failed")
        now = time.perf_counter()
        if now > deadline:
            raise AbortedStep("no answer from a peer in time")
        if now - begun > spin:
            time.sleep(2e-5)

    def close(self) -> None:
        """Unmap, once no array refers to the memory any more."""
        self._words.release()
        self.tensors.clear()
        if sys.getrefcount(self._memory) <= 2:
            self._memory.close()
