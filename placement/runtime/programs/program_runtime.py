"""Runs device programs in worker processes, one per device, and measures them."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from placement.runtime.measurement import Measurement
from placement.runtime.pooled_runtime import PooledRuntime
from placement.runtime.processes.mailboxes import Mailboxes, layout, unnamed_file
from placement.runtime.processes.messages import Execute, Fetch, TensorType, Unload
from placement.runtime.processes.workers import WorkerFailure
from placement.runtime.programs.device_program import DeviceProgram
from placement.runtime.samples import Sampling, StepTimes, measured, shared_clock
from simulator.plan import Plan

FETCH_SECONDS = 20.0
#: While each device has a core of its own; otherwise a waiting worker gives the core away.
_SPIN_SECONDS = 2e-3
_RELATIVE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Loaded:
    """A program that is in the workers."""

    number: int
    program: DeviceProgram
    box: Mailboxes


class ProgramRuntime(PooledRuntime):
    """A runtime of device programs."""

    _numbers: "count[int]"
    _sequence: int

    @abstractmethod
    def program(self, plan: Plan, *, single_ops: bool = False) -> DeviceProgram:
        """The steps that each device runs for a plan.

        Raises:
            PlanError: a plan for another graph or cluster.
        """

    @abstractmethod
    def _transfer_types(self, program: DeviceProgram) -> list[TensorType]:
        """Type and shape of each transfer's tensor."""

    @abstractmethod
    def _load_messages(self, program: DeviceProgram, number: int, spin: float) -> dict[int, Any]:
        """What makes each device's worker ready for a program."""

    @abstractmethod
    def _right_outputs(self) -> dict[str, np.ndarray]:
        """What a step has to give, by name of the tensor."""

    @abstractmethod
    def _writes(self, op: int) -> Sequence[str]:
        """Tensors that an op makes."""

    @property
    def emulated(self) -> bool:
        """Whether there are more devices than cores."""
        return self.cluster.device_count > len(self._pool.cores)

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
                        self._drop(loaded)
        finally:
            self._drop(loaded)
        clock = sampling.clock or shared_clock(rounds, emulated=self.emulated)
        comparable = bool(right) and all(np.isfinite(array).all() for array in right.values())
        return [
            Measurement.failed(failures[index], clock)
            if index in failures
            else measured(times, clock, checked=comparable)
            for index, times in enumerate(rounds)
        ]

    def _load(self, program: DeviceProgram, sampling: Sampling) -> Loaded:
        kinds = self._transfer_types(program)
        devices = self.cluster.device_count
        number = next(self._numbers)
        descriptor = unnamed_file(layout(program.transfers, kinds, devices).size)
        # Threads that share a core must not spin while the other has work.
        messages = self._load_messages(program, number, 0.0 if self.emulated else _SPIN_SECONDS)
        try:
            files = dict.fromkeys(messages, descriptor)
            answers = self._pool.ask(messages, sampling.load_seconds, files)
            if connections := self._connections(program, number, answers):
                self._pool.ask(connections, FETCH_SECONDS)
            return Loaded(number, program, Mailboxes(descriptor, program.transfers, kinds, devices))
        finally:
            os.close(descriptor)

    def _connections(
        self, program: DeviceProgram, number: int, answers: dict[int, Any]
    ) -> dict[int, Any]:
        """What to tell senders of what receivers answered; nothing where mailboxes are all."""
        return {}

    def _execute(
        self, loaded: Loaded, iterations: int, sampling: Sampling, *, clear: bool
    ) -> list[Any]:
        devices = range(self.cluster.device_count)
        first = self._sequence + 1
        self._sequence += iterations
        timeout, hot = sampling.timeout_seconds, 0 if clear else sampling.hot
        order = Execute(loaded.number, first, iterations, timeout, hot, clear)
        self._pool.on_failure = loaded.box.abort
        try:
            answers = self._pool.ask(dict.fromkeys(devices, order), timeout + 1.0)
        finally:
            self._pool.on_failure = _nothing
        return [answers[device] for device in devices]

    def _round(self, loaded: Loaded, sampling: Sampling) -> StepTimes:
        total = sampling.warm_up + sampling.iterations
        executed = self._execute(loaded, total, sampling, clear=False)
        return StepTimes.of(executed, sampling.warm_up)

    def _check(self, loaded: Loaded, right: dict[str, np.ndarray], sampling: Sampling) -> None:
        """Run once from spoiled buffers and compare the outputs with the original's."""
        self._execute(loaded, 1, sampling, clear=True)
        wanted: dict[int, list[str]] = {}
        for device, steps in enumerate(loaded.program.steps):
            for step in steps:
                for op in getattr(step, "ops", ()):
                    names = [name for name in self._writes(op) if name in right]
                    wanted.setdefault(device, []).extend(names)
        for device, names in wanted.items():
            for name in names:
                found = self._pool.ask({device: Fetch(loaded.number, (name,))}, FETCH_SECONDS)
                reason = difference(found[device][name], right[name])
                if reason is not None:
                    raise WorkerFailure(f"output {name!r} is not the original's: {reason}")

    def _drop(self, loaded: dict[int, Loaded]) -> None:
        """Forget all programs; a worker that has died meanwhile has forgotten them already."""
        for item in loaded.values():
            running = {device: Unload(item.number) for device in self._pool.running}
            try:
                self._pool.ask(running, FETCH_SECONDS)
            except WorkerFailure:
                self._pool.stop()
            item.box.close()
        loaded.clear()


def _nothing() -> None:
    return None


def difference(found: np.ndarray, wanted: np.ndarray) -> str | None:
    """What tells two arrays apart beyond rounding, or None."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"{found.dtype}{list(found.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if found.dtype.kind != "f":
        return None if np.array_equal(found, wanted) else "values differ"
    finite = wanted[np.isfinite(wanted)]
    scale = float(np.abs(finite).max(initial=0.0))
    close = np.isclose(found, wanted, _RELATIVE_TOLERANCE, _RELATIVE_TOLERANCE * scale, True)
    if close.all():
        return None
    return f"{np.count_nonzero(~close)} of {close.size} values differ"
