"""Runs device programs in worker processes, one per device, and measures them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import numpy as np

from graphs.graph import Graph
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.measurement import Measurement
from placement.runtime.processes.mailboxes import Mailboxes, layout, unnamed_file
from placement.runtime.processes.messages import (
    Connect,
    Execute,
    Executed,
    Export,
    Exports,
    Fetch,
    Message,
    ProgramPart,
    Unload,
)
from placement.runtime.processes.workers import WorkerFailure, WorkerPool
from placement.runtime.programs.device_program import DeviceProgram, Run
from placement.runtime.programs.difference import difference
from placement.runtime.programs.program_source import ProgramSource
from placement.runtime.runtime import Runtime
from placement.runtime.samples import Sampling, StepTimes, measured, shared_clock
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.plan import Plan

#: What each of the workers that are asked answers.
Answer = TypeVar("Answer")

_FETCH_SECONDS = 20.0
#: While each device has a core of its own; otherwise a waiting worker gives the core away.
_SPIN_SECONDS = 2e-3


@dataclass(frozen=True, eq=False)
class Loaded:
    """A program that is in the workers."""

    number: int
    program: DeviceProgram
    box: Mailboxes


@dataclass
class ProgramRuntime(Runtime):
    """A runtime of device programs: a pool of workers, and a source that says what they run."""

    graph: Graph
    cluster: Cluster
    costs: CostModel
    source: ProgramSource
    pool: WorkerPool
    """A worker per device; ended with the runtime."""
    sampling: Sampling = Sampling()
    _right: Mapping[str, np.ndarray] | None = None
    _numbers: "count[int]" = field(default_factory=count)
    _sequence: int = 0

    @property
    def kind(self) -> str:
        return self.source.kind

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Identifiers of the workers that run now."""
        return self.pool.process_ids

    def close(self) -> None:
        """End all workers; what they held is free again."""
        self.pool.close()

    def program(self, plan: Plan, *, single_ops: bool = False) -> DeviceProgram:
        """The steps that each device runs for a plan.

        Raises:
            PlanError: a plan for another graph or cluster.
            RuntimeRefusal: the graph cannot run here.
        """
        return self.source.program(self.simulator, plan, single_ops=single_ops)

    def predicted(self, plan: Plan) -> float:
        """The step time in seconds to expect."""
        return self.source.predictor(self.simulator).evaluate(plan).makespan_seconds

    @property
    def emulated(self) -> bool:
        """Whether there are more devices than cores."""
        return self.cluster.device_count > len(self.pool.cores)

    def measure(
        self, plans: Sequence[Plan], sampling: Sampling | None = None, *, single_ops: bool = False
    ) -> list[Measurement]:
        """Measure plans in turns: A B C A B C. A failure of one is its measurement's reason.

        Args:
            plans: any number; all their programs are in memory at once.
            sampling: the runtime's own where none is given.
            single_ops: whether every op is a step of its own, to learn how long each takes.

        Raises:
            PlanError: a plan for another graph or cluster.
            RuntimeRefusal: the model itself cannot run here.
        """
        sampling = sampling or self.sampling
        programs = [self.program(plan, single_ops=single_ops) for plan in plans]
        right = self._right_outputs()
        failures: dict[int, str] = {}
        loaded: dict[int, Loaded] = {}
        rounds: list[list[StepTimes]] = [[] for _ in plans]
        try:
            for turn in range(sampling.rounds):
                for index, program in enumerate(programs):
                    if index in failures:
                        continue
                    try:
                        if index not in loaded:
                            loaded[index] = self._load(program, sampling)
                            self._check(loaded[index], right, sampling)
                        rounds[index].append(self._round(loaded[index], sampling))
                    except WorkerFailure as error:
                        failures[index] = f"{error} (round {turn + 1})"
                        self.drop(loaded)
        finally:
            self.drop(loaded)
        clock = sampling.clock or shared_clock(rounds, emulated=self.emulated)
        comparable = bool(right) and all(np.isfinite(array).all() for array in right.values())
        return [
            Measurement.failed(failures[index], clock)
            if index in failures
            else measured(times, clock, checked=comparable)
            for index, times in enumerate(rounds)
        ]

    def _right_outputs(self) -> Mapping[str, np.ndarray]:
        if self._right is None:
            self._right = self.source.right_outputs(self.simulator, self._run_once)
        return self._right

    def _run_once(self, program: DeviceProgram, names: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run a program from spoiled buffers; tensors of the first device.

        Raises:
            RuntimeRefusal: it cannot run.
        """
        loaded: dict[int, Loaded] = {}
        try:
            loaded[0] = self._load(program, self.sampling)
            self._execute(loaded[0], 1, self.sampling, clear=True)
            message = Fetch(loaded[0].number, tuple(names))
            answer = self.pool.ask({0: message}, _FETCH_SECONDS)[0]
        except WorkerFailure as error:
            self.close()
            raise RuntimeRefusal(f"graph {self.graph.name!r} cannot run: {error}") from error
        finally:
            self.drop(loaded)
        return answer

    def _load(self, program: DeviceProgram, sampling: Sampling) -> Loaded:
        types, devices = self.source.transfer_types(program), self.cluster.device_count
        parts = self.parts(program)
        messages = self.source.load_messages(program, parts)
        descriptor = unnamed_file(layout(program.transfers, types, devices).size)
        try:
            files = dict.fromkeys(messages, descriptor)
            answers = self.pool.ask(messages, sampling.load_seconds, files)
            number = parts[0].number
            if connections := _connections(program, number, answers):
                self.pool.ask(connections, _FETCH_SECONDS)
            return Loaded(number, program, Mailboxes(descriptor, program.transfers, types, devices))
        finally:
            os.close(descriptor)

    def parts(self, program: DeviceProgram) -> list[ProgramPart]:
        """What each device's worker has to know, whatever its steps do."""
        number, types = next(self._numbers), self.source.transfer_types(program)
        # Threads that share a core must not spin while the other has work.
        spin = 0.0 if self.emulated else _SPIN_SECONDS
        devices = self.cluster.devices
        return [
            ProgramPart(
                number,
                at,
                program.steps[at],
                program.transfers,
                types,
                len(devices),
                spin,
                # A limit on the process; a GPU's memory is none of it.
                device.memory_bytes if device.kind.startswith("cpu") else None,
            )
            for at, device in enumerate(devices)
        ]

    def _execute(
        self, loaded: Loaded, iterations: int, sampling: Sampling, *, clear: bool
    ) -> list[Executed]:
        devices = range(self.cluster.device_count)
        first = self._sequence + 1
        self._sequence += iterations
        timeout, hot = sampling.timeout_seconds, 0 if clear else sampling.hot
        order = Execute(loaded.number, first, iterations, timeout, hot, clear)
        answers = self.ask_all(loaded, dict.fromkeys(devices, order), timeout + 1.0)
        return [answers[device] for device in devices]

    def ask_all(
        self, loaded: Loaded, messages: Mapping[int, Message[Answer]], timeout_seconds: float
    ) -> dict[int, Answer]:
        """Ask workers that wait for each other; when one fails, the others give up.

        Raises:
            WorkerFailure: at least one failed, see `WorkerPool.ask`.
        """
        self.pool.on_failure = loaded.box.abort
        try:
            return self.pool.ask(messages, timeout_seconds)
        finally:
            self.pool.on_failure = _nothing

    def _round(self, loaded: Loaded, sampling: Sampling) -> StepTimes:
        total = sampling.warm_up + sampling.iterations
        executed = self._execute(loaded, total, sampling, clear=False)
        return StepTimes.of(executed, sampling.warm_up)

    def _check(self, loaded: Loaded, right: Mapping[str, np.ndarray], sampling: Sampling) -> None:
        """Run once from spoiled buffers and compare the outputs with the original's."""
        self._execute(loaded, 1, sampling, clear=True)
        wanted: dict[int, list[str]] = {}
        for device, steps in enumerate(loaded.program.steps):
            for step in steps:
                for op in step.ops if isinstance(step, Run) else ():
                    names = [name for name in self.source.writes(op) if name in right]
                    wanted.setdefault(device, []).extend(names)
        for device, names in wanted.items():
            for name in names:
                fetched = self.pool.ask({device: Fetch(loaded.number, (name,))}, _FETCH_SECONDS)
                reason = difference(fetched[device][name], right[name])
                if reason is not None:
                    raise WorkerFailure(f"output {name!r} is not the original's: {reason}")

    def drop(self, loaded: dict[int, Loaded]) -> None:
        """Forget all programs; a worker that has died meanwhile has forgotten them already."""
        for item in loaded.values():
            running = {device: Unload(item.number) for device in self.pool.running}
            try:
                self.pool.ask(running, _FETCH_SECONDS)
            except WorkerFailure:
                self.pool.stop()
            item.box.close()
        loaded.clear()


def _connections(
    program: DeviceProgram, number: int, answers: Mapping[int, Exports]
) -> dict[int, Connect]:
    """What to tell senders of what receivers export; nothing where mailboxes are all."""
    sources: dict[int, dict[int, Export]] = {}
    for exports in answers.values():
        for transfer, item in exports.items():
            sources.setdefault(program.transfers[transfer].source, {})[transfer] = item
    return {source: Connect(number, items) for source, items in sources.items()}


def _nothing() -> None:
    return None
