"""A worker process: holds one device's part of programs and runs it step by step.

    python -m placement.runtime.processes.worker DESCRIPTOR CORE

It answers one message at a time on the socket that it inherits. It ends with its parent.
"""

import gc
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from placement.runtime.ort.sessions import SessionMaker, SharedTensors
from placement.runtime.processes.mailboxes import Mailboxes
from placement.runtime.processes.messages import (
    Execute,
    Executed,
    Fetch,
    LoadProgram,
    RunWhole,
    ShareWeights,
    Unload,
)
from placement.runtime.processes.worker_process import serve
from placement.runtime.programs.device_program import Receive, Run, Send

RUN, SEND, RECEIVE = 0, 1, 2


class LoadedProgram:
    """Sessions, buffers and mailboxes of one program on one device."""

    def __init__(self, load: Any, descriptor: int, make: Any) -> None:
        self.load = load
        types = [load.types[transfer.tensor] for transfer in load.transfers]
        self.mailboxes = Mailboxes(descriptor, load.transfers, types, load.device_count)
        self.buffers: dict[str, np.ndarray] = {}
        self.own: dict[str, np.ndarray] = {}
        self.steps: list[tuple[int, int, Callable[[], object]]] = []
        for position, step in enumerate(load.steps):
            self.steps.append(self._prepared(position, step, make))

    def _prepared(
        self, position: int, step: object, make: Any
    ) -> tuple[int, int, Callable[[], object]]:
        if isinstance(step, Run):
            segment = self.load.segments[position]
            inputs = {n: self._buffer(name, make.shared) for n, name in segment.inputs.items()}
            outputs = {n: self._buffer(name, make.shared) for n, name in segment.outputs.items()}
            return RUN, -1, make.bound(segment, inputs, outputs)
        if isinstance(step, Send):
            slot = self.mailboxes.tensors[step.transfer]
            source = self._buffer(self.load.transfers[step.transfer].tensor, make.shared)
            return SEND, step.transfer, partial(np.copyto, slot, source.reshape(-1))
        assert isinstance(step, Receive)
        slot = self.mailboxes.tensors[step.transfer]
        target = self._buffer(self.load.transfers[step.transfer].tensor, make.shared)
        return RECEIVE, step.transfer, partial(np.copyto, target.reshape(-1), slot)

    def _buffer(self, name: str, shared: SharedTensors) -> np.ndarray:
        """The tensor's memory on this device; what was given at the start is shared."""
        if name not in self.buffers:
            if name in shared.arrays and not self._received(name):
                self.buffers[name] = shared.arrays[name]
            else:
                kind = self.load.types[name]
                self.buffers[name] = self.own[name] = np.zeros(kind.shape, kind.dtype)
        return self.buffers[name]

    def _received(self, name: str) -> bool:
        return any(t.tensor == name and t.target == self.load.device for t in self.load.transfers)

    def finish(self) -> None:
        """Wait until the device has done what it was told; a core has, when the call returns."""

    def spoil(self) -> None:
        """Overwrite everything that a step has to write."""
        for array in (*self.own.values(), *self.mailboxes.tensors):
            array.view(np.uint8 if array.ndim else array.dtype).fill(255 if array.ndim else 1)

    def execute(self, order: Execute) -> Executed:
        """Run the program; each iteration begins when all devices are ready."""
        rows, columns = order.iterations, len(self.steps)
        times = np.zeros((4, rows), np.int64)
        cpu = np.zeros((rows, columns), np.int64)
        begin = np.zeros((rows, columns), np.int64)
        deadline = time.perf_counter() + order.timeout_seconds
        if order.clear:
            self.spoil()
        for row in range(rows):
            sequence = order.first_sequence + row
            self.mailboxes.meet(self.load.device, sequence, self.load.spin_seconds, deadline)
            delay = _run_delay()
            wall = time.perf_counter_ns()
            virtual = self._iterate(sequence, deadline, order.hot, cpu[row], begin[row])
            times[:, row] = wall, time.perf_counter_ns(), _run_delay() - delay, virtual
        return Executed(times[0], times[1], times[2], times[3], cpu, begin)

    def _iterate(
        self, sequence: int, deadline: float, hot: int, cpu: np.ndarray, begin: np.ndarray
    ) -> int:
        mailboxes, spin = self.mailboxes, self.load.spin_seconds
        clock = time.thread_time_ns
        now, last = 0, clock()
        durations, beginnings = [], []
        for kind, transfer, action in self.steps:
            if kind == RECEIVE:
                if not mailboxes.arrived(transfer, sequence):
                    mailboxes.wait(transfer, sequence, spin, deadline)
                    last = clock()  # waiting is not work
                now = max(now, mailboxes.sent_at(transfer))
            action()
            mark = clock()
            taken = mark - last
            if hot and kind == RUN:
                for _ in range(hot):
                    action()
                taken, mark = (clock() - mark) // hot, clock()
            beginnings.append(now)
            durations.append(taken)
            now += taken
            last = mark
            if kind == SEND:
                mailboxes.post(transfer, sequence, now)
        self.finish()
        cpu[:], begin[:] = durations, beginnings
        return now

    def close(self) -> None:
        """Let go of the sessions, then of the shared memory."""
        self.steps.clear()
        self.mailboxes.close()


class Worker:
    """What a worker holds between messages."""

    def __init__(self) -> None:
        self.make = SessionMaker(SharedTensors())
        self.programs: dict[int, LoadedProgram] = {}

    def answer(self, message: object, receive_file: Callable[[], int]) -> Any:
        """Do what a message asks for."""
        match message:
            case ShareWeights():
                self.make = SessionMaker(SharedTensors.mapped(receive_file(), message))
                return None
            case RunWhole():
                return self.make.whole(message)
            case LoadProgram():
                descriptor = receive_file()
                try:
                    limit_memory(message.memory_bytes)
                    loaded = LoadedProgram(message, descriptor, self.make)
                finally:
                    os.close(descriptor)
                self.programs[message.number] = loaded
                return None
            case Execute():
                return self.programs[message.number].execute(message)
            case Fetch():
                buffers = self.programs[message.number].buffers
                return {name: buffers[name].copy() for name in message.names}
            case Unload():
                program = self.programs.pop(message.number, None)
                if program is not None:
                    program.close()
                if not self.programs:
                    self.make.forget()
                limit_memory(None)
                return None
        raise TypeError(f"a worker knows no {type(message).__name__}")


def _run_delay() -> int:
    """Nanoseconds that this thread was ready and waited for its core; 0 where not counted."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1])
    return 0


def limit_memory(more_bytes: int | None) -> None:
    """Let the process grow by that much from here on."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = hard
    if more_bytes is not None:
        with suppress(OSError, ValueError):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + more_bytes
    if resource.RLIM_INFINITY not in (hard, limit):
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def main(arguments: list[str]) -> None:
    """Answer messages until the parent closes the socket."""
    gc.disable()
    worker = Worker()
    serve(arguments, worker.answer)


if __name__ == "__main__":
    main(sys.argv[1:])
