"""One device's part of a program inside of its worker: prepared steps, mailboxes and clocks.

What a step does is up to `StepActions`; when it may begin and how long it takes is measured here.
"""

import resource
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from placement.runtime.processes.mailboxes import Mailboxes
from placement.runtime.processes.messages import Execute, Executed, ProgramPart
from placement.runtime.programs.device_program import Run, Send, Step

RUN, SEND, RECEIVE = 0, 1, 2

#: What a step does when its turn has come.
Action = Callable[[], object]

#: Which of the three kinds, the transfer (-1 of a run), and what to do.
PreparedStep = tuple[int, int, Action]


@runtime_checkable
class StepActions(Protocol):
    """Makes what the steps of a program do, and holds the tensors that they work on."""

    def run(self, position: int) -> Action:
        """Runs the ops of the step at that position."""
        ...

    def send(self, transfer: int, slot: np.ndarray) -> Action:
        """Gets a transfer's tensor on its way; `slot` is its flat array in the mailbox."""
        ...

    def receive(self, transfer: int, slot: np.ndarray) -> Action:
        """Takes a transfer's tensor, once it has been sent."""
        ...

    def running(self, *, hot: bool) -> AbstractContextManager[None]:
        """Entered while steps are run; `hot` if runs are repeated in place."""
        ...

    def spoil(self) -> None:
        """Overwrite or forget everything that a step has to make, but for the mailboxes."""
        ...

    def close(self) -> None:
        """Let go of the tensors."""
        ...


Actions = TypeVar("Actions", bound=StepActions)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What it takes to run a device's steps once."""

    steps: list[PreparedStep]
    mailboxes: Mailboxes
    spin_seconds: float


@runtime_checkable
class TimedPass(Protocol):
    """Runs prepared steps once and times them."""

    def __call__(
        self,
        prepared: Prepared,
        sequence: int,
        deadline: float,
        hot: int,
        cpu: np.ndarray,
        begin: np.ndarray,
    ) -> int:
        """Fill in nanoseconds per step; returns when the last one ended, on the virtual clock.

        Args:
            prepared: the steps.
            sequence: number of the pass, by which mailboxes know what is new.
            deadline: when to give up, on `time.perf_counter`'s clock in seconds.
            hot: how often to repeat each run in place, of which the mean counts; 0 for once only.
            cpu: an int64 per step, for how long it took.
            begin: an int64 per step, for when it began on the virtual clock.

        Raises:
            AbortedStep: a peer has failed or did not answer in time.
        """
        ...


def timed_on_core(
    prepared: Prepared,
    sequence: int,
    deadline: float,
    hot: int,
    cpu: np.ndarray,
    begin: np.ndarray,
) -> int:
    """A `TimedPass` by the CPU time of this thread."""
    mailboxes, spin = prepared.mailboxes, prepared.spin_seconds
    clock = time.thread_time_ns
    now, last = 0, clock()
    durations, beginnings = [], []
    for kind, transfer, action in prepared.steps:
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
    cpu[:], begin[:] = durations, beginnings
    return now


class LoadedProgram(Generic[Actions]):
    """A program's part on one device, ready to run."""

    def __init__(
        self,
        part: ProgramPart,
        descriptor: int,
        actions: Actions,
        timed_pass: TimedPass = timed_on_core,
    ) -> None:
        self.part = part
        self.actions = actions
        self.timed_pass = timed_pass
        mailboxes = Mailboxes(descriptor, part.transfers, part.transfer_types, part.device_count)
        self.mailboxes = mailboxes
        steps = [self._prepared(position, step) for position, step in enumerate(part.steps)]
        self.prepared = Prepared(steps, mailboxes, part.spin_seconds)

    def _prepared(self, position: int, step: Step) -> PreparedStep:
        if isinstance(step, Run):
            return RUN, -1, self.actions.run(position)
        slot = self.mailboxes.tensors[step.transfer]
        if isinstance(step, Send):
            return SEND, step.transfer, self.actions.send(step.transfer, slot)
        return RECEIVE, step.transfer, self.actions.receive(step.transfer, slot)

    def execute(self, order: Execute) -> Executed:
        """Run the program; each iteration begins when all devices are ready."""
        rows, columns = order.iterations, len(self.prepared.steps)
        times = np.zeros((4, rows), np.int64)
        cpu = np.zeros((rows, columns), np.int64)
        begin = np.zeros((rows, columns), np.int64)
        deadline = time.perf_counter() + order.timeout_seconds
        device, spin = self.part.device, self.part.spin_seconds
        with self.actions.running(hot=order.hot > 0):
            if order.clear:
                self.actions.spoil()
                self.mailboxes.spoil()
            for row in range(rows):
                sequence = order.first_sequence + row
                self.mailboxes.meet(device, sequence, spin, deadline)
                delay = run_delay()
                wall = time.perf_counter_ns()
                virtual = self.timed_pass(
                    self.prepared, sequence, deadline, order.hot, cpu[row], begin[row]
                )
                times[:, row] = wall, time.perf_counter_ns(), run_delay() - delay, virtual
        return Executed(times[0], times[1], times[2], times[3], cpu, begin)

    def close(self) -> None:
        """Let go of what the steps hold, then of the shared memory."""
        self.prepared.steps.clear()
        self.actions.close()
        self.mailboxes.close()


def run_delay() -> int:
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
