"""Overlapping steps inside of a worker: which step it takes, what it keeps, what it notices."""

import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from placement.runtime.measurement import Clock
from placement.runtime.ort.messages import LoadPipeline
from placement.runtime.ort.overlapping_steps import OverlappingSteps
from placement.runtime.ort.sessions import SessionMaker
from placement.runtime.ort.shared_tensors import SharedTensors
from placement.runtime.pipelines.boxes import PipelineBoxes, pipeline_boxes
from placement.runtime.pipelines.loaded_pipeline import LoadedPipeline
from placement.runtime.pipelines.measurement import StepsRound, measured_steps, rounds_clock
from placement.runtime.pipelines.messages import ExecutedSteps, ExecuteSteps, PipelinePart
from placement.runtime.processes.loaded_program import Action
from placement.runtime.processes.mailboxes import AbortedStep, layout, unnamed_file
from placement.runtime.processes.messages import ProgramPart, TensorType
from placement.runtime.programs.device_program import (
    DeviceProgram,
    Receive,
    Run,
    Send,
    Step,
    Transfer,
)
from simulator.steps import StepSchedule

TRANSFERS = (Transfer("a", 0, 1), Transfer("b", 1, 0))
TYPES = (TensorType("float32", (2,)), TensorType("float32", (2,)))
#: Device 0 begins a step, device 1 goes on, device 0 ends it.
THERE_AND_BACK: tuple[Step, ...] = (Run((0,)), Send(0), Receive(1), Run((2,)))
SEQUENCE = 10


class Scripted:
    """Actions that write down what they do, and do what the other device would do meanwhile."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.meanwhile: dict[str, Callable[[], None]] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.meanwhile.get(text, lambda: None)()

    def run(self, position: int, step: int) -> Action:
        return partial(self.note, f"{'begin' if position == 0 else 'end'} {step}")

    def send(self, transfer: int, slot: np.ndarray, step: int) -> Action:
        return partial(self._send, slot, step)

    def _send(self, slot: np.ndarray, step: int) -> None:
        slot[:] = step
        self.note(f"send {step}")

    def receive(self, transfer: int, slot: np.ndarray, step: int) -> Action:
        return partial(self.note, f"receive {step}")

    def spoil(self, *, everything: bool) -> None:
        self.notes.append("spoil all" if everything else "spoil outputs")

    def wrong(self) -> str | None:
        return None

    def close(self) -> None:
        self.notes.append("close")


class Pair:
    """Device 0 as loaded, and the mailboxes as device 1 sees them."""

    def __init__(self, schedule: StepSchedule) -> None:
        boxes = pipeline_boxes(TRANSFERS, TYPES, schedule, 2)
        descriptor = unnamed_file(layout(*boxes, 2).size)
        parts = [
            ProgramPart(0, at, steps, TRANSFERS, TYPES, 2, 0.0, None)
            for at, steps in enumerate((THERE_AND_BACK, ()))
        ]
        self.actions = Scripted()
        try:
            mine, its = (PipelinePart(part, schedule, (0, 1)) for part in parts)
            self.loaded = LoadedPipeline(mine, descriptor, self.actions)
            self.peer = PipelineBoxes(descriptor, its)
        finally:
            os.close(descriptor)
        self.peer.boxes.post(self.peer._ready + 1, SEQUENCE, 0)

    def answer(self, *steps: int) -> Callable[[], None]:
        """Device 1 does its part of some steps."""

        def go() -> None:
            for step in steps:
                assert self.peer.slot(0, step).tolist() == [step, step]
                self.peer.boxes.post(self.peer.box(1, step), SEQUENCE + step, 0)
                self.peer.end(step, SEQUENCE + step, 0)

        return go

    def execute(self, seconds: float = 20.0) -> ExecutedSteps:
        return self.loaded.execute(ExecuteSteps(0, SEQUENCE, seconds))


def test_the_oldest_step_that_can_go_on_is_taken_and_mailboxes_are_apart() -> None:
    pair = Pair(StepSchedule(4, 2))
    # Step 1 comes back before step 0; step 2 may begin only once both devices have ended step 0.
    pair.actions.meanwhile = {
        "send 1": pair.answer(1),
        "end 1": pair.answer(0),
        "send 3": pair.answer(3),
        "end 3": pair.answer(2),
    }
    found = pair.execute()
    notes = [note for note in pair.actions.notes if note.startswith(("begin", "end"))]
    assert notes == [
        "begin 0", "begin 1", "end 1", "end 0", "begin 2", "begin 3", "end 3", "end 2",
    ]  # fmt: skip
    assert found.begin.shape == (4, 4)
    assert (found.end >= found.begin).all()
    assert (found.begin[:, 1:] >= found.end[:, :-1]).all()
    assert found.wrong is None


def test_a_step_is_let_in_when_the_one_before_it_in_line_has_ended_everywhere() -> None:
    pair = Pair(StepSchedule(3, 1))
    pair.actions.meanwhile = {f"send {step}": pair.answer(step) for step in range(3)}
    pair.execute()
    assert pair.actions.notes[1:] == [
        f"{what} {step}" for step in range(3) for what in ("begin", "send", "receive", "end")
    ]
    waiting = Pair(StepSchedule(2, 1))
    peer = waiting.peer
    # Device 1 sends back, but has more to do: step 1 must not begin.
    waiting.actions.meanwhile = {
        "send 0": lambda: peer.boxes.post(peer.box(1, 0), SEQUENCE, 0),
    }
    with pytest.raises(AbortedStep, match="in time"):
        waiting.execute(0.2)
    assert "begin 1" not in waiting.actions.notes


def test_waiting_ends_when_a_peer_gives_up() -> None:
    pair = Pair(StepSchedule(2, 2))
    pair.actions.meanwhile = {"send 1": pair.peer.boxes.abort}
    with pytest.raises(AbortedStep, match="peer has failed"):
        pair.execute()
    pair.loaded.close()
    assert pair.actions.notes[-1] == "close"


@pytest.fixture
def kept() -> Iterator[OverlappingSteps]:
    """A device that makes output `y` of four steps, two on the way, three inputs in turn."""
    part = ProgramPart(0, 0, (Run((0,)),), (), (), 1, 0.0, None)
    pipeline = PipelinePart(part, StepSchedule(4, 2), (0,))
    feeds = tuple({"x": np.full(3, number, np.float32)} for number in range(3))
    right = tuple({"y": np.full(3, 10.0 * number, np.float32)} for number in range(3))
    types = {name: TensorType("float32", (3,)) for name in "xyh"}
    load = LoadPipeline(pipeline, {}, types, feeds, right)
    yield OverlappingSteps(load, SessionMaker(SharedTensors()))


def test_outputs_of_every_step_are_looked_at(kept: OverlappingSteps) -> None:
    for step in range(4):
        kept._buffer("y", step)[:] = 10.0 * (step % 3)
    assert kept.wrong() is None
    kept._buffer("y", 3)[:] = 20.0
    assert kept.wrong() == "output 'y' of step 4 is not the original's: it is that of another step"
    kept._buffer("y", 3)[:] = 17.0
    assert kept.wrong() == "output 'y' of step 4 is not the original's: 3 of 3 values differ"
    kept.spoil(everything=False)
    assert "step 1 " in str(kept.wrong())


def test_steps_on_the_way_have_buffers_of_their_own(kept: OverlappingSteps) -> None:
    assert [kept._buffer("x", step)[0] for step in range(4)] == [0.0, 1.0, 2.0, 0.0]
    assert kept._buffer("h", 0) is kept._buffer("h", 2)
    assert kept._buffer("h", 0) is not kept._buffer("h", 1)
    assert len({id(kept._buffer("y", step)) for step in range(4)}) == 4


def executed(begin: list[list[int]], end: list[list[int]], delay: int = 0) -> ExecutedSteps:
    first, last = np.array(begin, np.int64), np.array(end, np.int64)
    return ExecutedSteps(0, first, last, last - first, int(last.max()), delay, None)


def test_times_of_devices_become_period_and_latency() -> None:
    schedule = StepSchedule(4, 2)
    program = DeviceProgram(((Run((0,)), Send(0)), (Receive(0), Run((1,)))), (Transfer("a", 0, 1),))
    step = np.arange(4)[:, None]
    first = executed(*([(step * 1_000 + at).tolist() for at in ([0, 100], [100, 200])]))
    second = executed(*([(step * 1_000 + at).tolist() for at in ([200, 300], [300, 900])]))
    found = StepsRound.of([first, second, None], schedule)
    assert found.wall.end_seconds == pytest.approx([900e-9, 1900e-9, 2900e-9, 3900e-9])
    assert found.wall.release_seconds == pytest.approx([0.0, 0.0, 900e-9, 1900e-9])
    assert found.wall.period_seconds == pytest.approx(1000e-9)
    assert found.wall.latency_seconds == pytest.approx(2000e-9)
    assert found.accepted
    # The same pieces with nothing in between: the second device is busy 700 of every step.
    assert found.virtual(program).period_seconds == pytest.approx(700e-9)
    result = measured_steps([found] * 3, program, schedule, Clock.WALL, checked=True)
    assert result.steps_per_second == pytest.approx(1e6)
    assert result.period.interval() == pytest.approx((1e-6, 1e-6))


def test_rounds_in_which_a_worker_waited_for_its_core_do_not_count() -> None:
    schedule = StepSchedule(1, 1)
    quiet = StepsRound.of([executed([[0]], [[1000]])], schedule)
    noisy = StepsRound.of([executed([[0]], [[1000]], delay=100)], schedule)
    assert not noisy.accepted
    assert rounds_clock([[quiet] * 3], emulated=False) is Clock.WALL
    assert rounds_clock([[quiet] * 3, [quiet, noisy, noisy]], emulated=False) is Clock.VIRTUAL
    assert rounds_clock([[quiet] * 3], emulated=True) is Clock.EMULATED
