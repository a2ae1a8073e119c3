"""One device's part of overlapping steps inside of its worker.

A *piece* is a run, send or receive of one step. The device works on the oldest step whose next
piece is ready: a run or a send always is, a receive once its tensor has been sent. A step is let in
when the step `in_flight` before it has ended on all devices.

That cannot deadlock, whatever the plan. The oldest step that has not ended is in, and its pieces
cannot wait for each other (see `device_program`). Sends never wait (see `boxes`), so that whatever
else a device does ends by itself, after which it goes on with the oldest step.
"""

import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from placement.runtime.pipelines.boxes import PipelineBoxes
from placement.runtime.pipelines.messages import ExecutedSteps, ExecuteSteps, PipelinePart
from placement.runtime.processes.loaded_program import (
    RECEIVE,
    RUN,
    SEND,
    Action,
    PreparedStep,
    run_delay,
)
from placement.runtime.programs.device_program import Run, Send, Step


@runtime_checkable
class PipelineActions(Protocol):
    """Makes what the pieces of overlapping steps do, and holds the tensors that they work on."""

    def run(self, position: int, step: int) -> Action:
        """Runs the ops of the piece at that position, on the tensors of that step."""
        ...

    def send(self, transfer: int, slot: np.ndarray, step: int) -> Action:
        """Copies a step's tensor into its mailbox, a flat array."""
        ...

    def receive(self, transfer: int, slot: np.ndarray, step: int) -> Action:
        """Copies a step's tensor out of its mailbox."""
        ...

    def spoil(self, *, everything: bool) -> None:
        """Overwrite the outputs of all steps, or whatever steps make."""
        ...

    def wrong(self) -> str | None:
        """Which output of which step is not the original's; None where all are."""
        ...

    def close(self) -> None:
        """Let go of the tensors."""
        ...


Actions = TypeVar("Actions", bound=PipelineActions)

#: Step, position, begin, end and CPU time of a piece that has been done.
Mark = tuple[int, int, int, int, int]


class LoadedPipeline(Generic[Actions]):
    """All steps of a pipeline on one device, ready to run."""

    def __init__(self, part: PipelinePart, descriptor: int, actions: Actions) -> None:
        self.part = part
        self.actions = actions
        self.boxes = PipelineBoxes(descriptor, part)
        self.steps: list[list[PreparedStep]] = [
            [self._prepared(at, piece, step) for at, piece in enumerate(part.part.steps)]
            for step in range(part.schedule.steps)
        ]
        """Per step its pieces; a transfer is the number of its mailbox."""

    def _prepared(self, position: int, piece: Step, step: int) -> PreparedStep:
        if isinstance(piece, Run):
            return RUN, -1, self.actions.run(position, step)
        box = self.boxes.box(piece.transfer, step)
        slot = self.boxes.slot(piece.transfer, step)
        if isinstance(piece, Send):
            return SEND, box, self.actions.send(piece.transfer, slot, step)
        return RECEIVE, box, self.actions.receive(piece.transfer, slot, step)

    def execute(self, order: ExecuteSteps) -> ExecutedSteps:
        """Run all steps; the first begin when all devices are ready."""
        deadline = time.perf_counter() + order.timeout_seconds
        self.actions.spoil(everything=order.clear)
        if order.clear:
            self.boxes.boxes.spoil()
        self.boxes.meet(order.first_sequence, deadline)
        delay, started = run_delay(), time.perf_counter_ns()
        marks = self._run_all(order.first_sequence, deadline)
        wall, delay = time.perf_counter_ns() - started, run_delay() - delay
        begin, end, cpu = _table(marks, len(self.steps), len(self.part.part.steps))
        return ExecutedSteps(started, begin, end, cpu, wall, delay, self.actions.wrong())

    def _run_all(self, first: int, deadline: float) -> list[Mark]:
        boxes, in_flight = self.boxes, self.part.schedule.most_in_flight
        count, pieces = len(self.steps), len(self.part.part.steps)
        arrived = boxes.boxes.arrived
        position = [0] * count
        on_the_way = list(range(in_flight))
        outside = list(range(in_flight, count))
        wall, cpu = time.perf_counter_ns, time.thread_time_ns
        idle_since = 0.0
        marks: list[Mark] = []
        last = cpu()
        while on_the_way or outside:
            step = _oldest_ready(on_the_way, self.steps, position, arrived, first)
            if outside and not 0 <= step < outside[0]:  # else nothing older can be let in
                released = self._released(outside[:in_flight], first)
                if released:
                    outside = [other for other in outside if other not in released]
                    on_the_way = sorted([*on_the_way, *released])
                    continue
            if step < 0:
                idle_since = idle_since or time.perf_counter()
                boxes.look_again(idle_since, deadline)
                last = cpu()  # waiting is not work
                continue
            idle_since = 0.0
            at = position[step]
            kind, box, action = self.steps[step][at]
            begin = wall()
            action()
            end, mark = wall(), cpu()
            if kind == SEND:
                boxes.boxes.post(box, first + step, end)
            marks.append((step, at, begin, end, mark - last))
            last = mark
            position[step] = at + 1
            if at + 1 == pieces:
                on_the_way.remove(step)
                boxes.end(step, first + step, end)
        return marks

    def _released(self, candidates: Sequence[int], first: int) -> list[int]:
        """Steps that may be let in; none beyond the next `in_flight` can be."""
        in_flight, ended = self.part.schedule.most_in_flight, self.boxes.ended
        return [step for step in candidates if ended(step - in_flight, first + step - in_flight)]

    def close(self) -> None:
        """Let go of what the pieces hold, then of the shared memory."""
        self.steps.clear()
        self.actions.close()
        self.boxes.boxes.close()


def _oldest_ready(
    on_the_way: Sequence[int],
    steps: Sequence[Sequence[PreparedStep]],
    position: Sequence[int],
    arrived: Callable[[int, int], bool],
    first: int,
) -> int:
    """The oldest step that can go on; -1 where none can."""
    for step in on_the_way:
        kind, box, _ = steps[step][position[step]]
        if kind != RECEIVE or arrived(box, first + step):
            return step
    return -1


def _table(marks: Sequence[Mark], steps: int, pieces: int) -> np.ndarray:
    """Begin, end and CPU time, each a row per step and a column per piece."""
    times = np.zeros((3, steps, pieces), np.int64)
    done = np.array(marks, np.int64).reshape(-1, 5)
    times[:, done[:, 0], done[:, 1]] = done[:, 2:].T
    return times
