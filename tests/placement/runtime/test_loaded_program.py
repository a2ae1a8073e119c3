"""A device's part of a program inside of a worker, with actions that only take notes."""

import os
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np

from placement.runtime.processes.loaded_program import Action, LoadedProgram
from placement.runtime.processes.mailboxes import layout, unnamed_file
from placement.runtime.processes.messages import Execute, ProgramPart, TensorType
from placement.runtime.programs.device_program import Receive, Run, Send, Step, Transfer


class Noted:
    """Step actions that write down what they were asked for; what is sent counts up."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.received: list[float] = []

    def run(self, position: int) -> Action:
        return partial(self.notes.append, f"run {position}")

    def send(self, transfer: int, slot: np.ndarray) -> Action:
        def send() -> None:
            self.notes.append("send")
            slot[:] = len(self.received)

        return send

    def receive(self, transfer: int, slot: np.ndarray) -> Action:
        def receive() -> None:
            self.notes.append("receive")
            self.received.append(float(slot[0]))

        return receive

    def running(self, *, hot: bool) -> AbstractContextManager[None]:
        self.notes.append("hot" if hot else "once")
        return nullcontext()

    def spoil(self) -> None:
        self.notes.append("spoil")

    def close(self) -> None:
        self.notes.append("close")


def loaded(steps: tuple[Step, ...]) -> LoadedProgram[Noted]:
    """A program of one device that may send to itself."""
    transfers, types = (Transfer("a", 0, 0),), (TensorType("float32", (2,)),)
    part = ProgramPart(0, 0, steps, transfers, types, 1, 0.0, None)
    descriptor = unnamed_file(layout(transfers, types, 1).size)
    try:
        return LoadedProgram(part, descriptor, Noted())
    finally:
        os.close(descriptor)


def test_steps_are_taken_in_order_once_per_iteration_and_timed() -> None:
    program = loaded((Run((0,)), Send(0), Receive(0), Run((1,))))
    found = program.execute(Execute(0, 1, 2, 10.0))
    assert program.actions.notes == ["once", *(["run 0", "send", "receive", "run 3"] * 2)]
    assert program.actions.received == [0.0, 1.0]
    assert found.step_cpu.shape == found.step_begin.shape == (2, 4)
    assert (np.diff(found.step_begin, axis=1) >= found.step_cpu[:, :-1]).all()
    assert (found.virtual_end == found.step_begin[:, -1] + found.step_cpu[:, -1]).all()


def test_only_runs_are_repeated_in_place() -> None:
    program = loaded((Run((0,)), Send(0)))
    program.execute(Execute(0, 1, 1, 10.0, hot=3))
    assert program.actions.notes == ["hot", *["run 0"] * 4, "send"]


def test_what_was_sent_before_is_spoilt_when_a_program_starts_clear() -> None:
    program = loaded((Run((0,)), Send(0)))
    program.execute(Execute(0, 1, 1, 10.0))
    assert program.mailboxes.tensors[0].tolist() == [0.0, 0.0]
    program.prepared.steps.pop()  # nothing is sent any more
    program.execute(Execute(0, 2, 1, 10.0, clear=True))
    assert program.actions.notes[-3:] == ["once", "spoil", "run 0"]
    assert np.isnan(program.mailboxes.tensors[0]).all()
    program.close()
    assert program.actions.notes[-1] == "close"
