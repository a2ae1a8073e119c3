"""Runs overlapping steps of plans in worker processes, one per device, and measures them."""

import os
from collections.abc import Sequence
from itertools import count

from placement.runtime.errors import RuntimeRefusal
from placement.runtime.pipelines.boxes import pipeline_boxes
from placement.runtime.pipelines.measurement import (
    StepsMeasurement,
    StepsRound,
    measured_steps,
    rounds_clock,
)
from placement.runtime.pipelines.messages import ExecuteSteps, PipelinePart
from placement.runtime.pipelines.source import PipelineSource
from placement.runtime.processes.mailboxes import Mailboxes, layout, unnamed_file
from placement.runtime.processes.workers import WorkerFailure
from placement.runtime.programs.device_program import DeviceProgram
from placement.runtime.programs.program_runtime import Loaded, ProgramRuntime
from placement.runtime.registry import get_runtime
from placement.runtime.runtime import Runtime
from placement.runtime.samples import Sampling
from simulator.plan import Plan
from simulator.steps import StepOrder, StepSchedule

#: Words by which allocations that fail are known.
_NO_MEMORY = ("allocate", "bad_alloc", "MemoryError")


def measure_steps(
    runtime: Runtime,
    plans: Sequence[Plan],
    schedule: StepSchedule,
    sampling: Sampling | None = None,
) -> list[StepsMeasurement]:
    """Measure overlapping steps of plans in turns: A B C A B C, each time all steps of one.

    Steps get inputs that differ, and the outputs of every step, in every round, must be those of
    the whole model for its inputs. A failure of a plan is its measurement's reason.

    Args:
        runtime: of device programs.
        plans: any number; all their programs are in memory at once.
        schedule: how many steps, and how many on the way at once.
        sampling: the runtime's own where none is given; `iterations` and `warm_up` play no part,
            since the first half of the steps does not count.

    Raises:
        PlanError: a plan for another graph or cluster.
        RuntimeRefusal: steps do not overlap on this runtime, another order than oldest first, or a
            model that cannot run here.
    """
    check_overlaps(runtime.kind)
    if schedule.order is not StepOrder.OLDEST_FIRST:
        raise RuntimeRefusal(
            f"device programs take steps oldest first, not by {schedule.order}: that order is for "
            "training steps in micro-batches, which can be simulated only"
        )
    assert isinstance(runtime, ProgramRuntime), "the registry says that steps overlap on it"
    return _Turns(runtime, schedule, sampling or runtime.sampling).measure(plans)


def check_overlaps(kind: str) -> None:
    """Refuse a runtime on which steps do not overlap.

    Raises:
        RuntimeRefusal: says why they do not.
    """
    reason = get_runtime(kind).one_step
    if reason is not None:
        raise RuntimeRefusal(
            f"steps do not overlap on --runtime {kind}: {reason}. Take --runtime ort for ONNX "
            "models, or leave out --steps"
        )


def carried_state(runtime: Runtime) -> Sequence[tuple[str, str]]:
    """Inputs of a model that are outputs of the step before in real use, with these outputs."""
    source = runtime.source if isinstance(runtime, ProgramRuntime) else None
    return source.state if isinstance(source, PipelineSource) else ()


class _Turns:
    """Plans that are measured in turns."""

    def __init__(self, runtime: ProgramRuntime, schedule: StepSchedule, sampling: Sampling) -> None:
        assert isinstance(runtime.source, PipelineSource), "the registry says that steps overlap"
        self.runtime, self.schedule, self.sampling = runtime, schedule, sampling
        self.source: PipelineSource = runtime.source
        self.loaded: dict[int, Loaded] = {}
        self.sequences = count(1, schedule.steps)
        counted = sampling.warm_up + sampling.iterations
        self.timeout = sampling.timeout_seconds * max(1.0, schedule.steps / counted)

    def measure(self, plans: Sequence[Plan]) -> list[StepsMeasurement]:
        runtime = self.runtime
        programs = [runtime.program(plan) for plan in plans]
        if not all(_working(program) for program in programs):
            raise RuntimeRefusal(f"graph {runtime.graph.name!r} has nothing to run in a step")
        checked = self.source.is_comparable(self.schedule)
        failures: dict[int, str] = {}
        rounds: list[list[StepsRound]] = [[] for _ in plans]
        try:
            for turn in range(self.sampling.rounds):
                for index, program in enumerate(programs):
                    if index in failures:
                        continue
                    try:
                        if index not in self.loaded:
                            self.loaded[index] = self._load(program)
                            self._round(self.loaded[index], clear=True)
                        rounds[index].append(self._round(self.loaded[index]))
                    except WorkerFailure as error:
                        failures[index] = f"{error} (round {turn + 1}){self._advice(error)}"
                        runtime.drop(self.loaded)
        finally:
            runtime.drop(self.loaded)
        clock = self.sampling.clock or rounds_clock(rounds, emulated=runtime.emulated)
        return [
            StepsMeasurement.failed(self.schedule, failures[index], clock)
            if index in failures
            else measured_steps(rounds[index], program, self.schedule, clock, checked=checked)
            for index, program in enumerate(programs)
        ]

    def _advice(self, error: WorkerFailure) -> str:
        """What to do where memory did not suffice."""
        slots = self.schedule.most_in_flight
        if slots == 1 or not any(word in str(error) for word in _NO_MEMORY):
            return ""
        return f"; {slots} steps were on the way, each with buffers of its own: take fewer"

    def _load(self, program: DeviceProgram) -> Loaded:
        runtime, devices = self.runtime, self.runtime.cluster.device_count
        working = _working(program)
        parts = [
            PipelinePart(part, self.schedule, working)
            for part in runtime.parts(program)
            if part.device in working
        ]
        types = runtime.source.transfer_types(program)
        boxes = pipeline_boxes(program.transfers, types, self.schedule, devices)
        messages = self.source.load_pipeline(program, parts)
        descriptor = unnamed_file(layout(*boxes, devices).size)
        try:
            files = dict.fromkeys(messages, descriptor)
            runtime.pool.ask(messages, self.sampling.load_seconds, files)
            return Loaded(parts[0].part.number, program, Mailboxes(descriptor, *boxes, devices))
        finally:
            os.close(descriptor)

    def _round(self, loaded: Loaded, *, clear: bool = False) -> StepsRound:
        """Run all steps once; their outputs must be the original's.

        Raises:
            WorkerFailure: a worker failed, or an output is another's.
        """
        order = ExecuteSteps(loaded.number, next(self.sequences), self.timeout, clear)
        asked = dict.fromkeys(_working(loaded.program), order)
        answers = self.runtime.ask_all(loaded, asked, self.timeout + 1.0)
        wrong = next((item.wrong for item in answers.values() if item.wrong), None)
        if wrong is not None:
            raise WorkerFailure(wrong)
        devices = range(self.runtime.cluster.device_count)
        return StepsRound.of([answers.get(device) for device in devices], self.schedule)


def _working(program: DeviceProgram) -> tuple[int, ...]:
    """Devices that have anything to do."""
    return tuple(device for device, pieces in enumerate(program.steps) if pieces)
