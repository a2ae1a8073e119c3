"""Runs plans of an ONNX model on cores, one pinned process each, and measures them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np

from graphs.graph import Graph
from graphs.importers.onnx_context import standardised
from graphs.importers.onnx_topology import read_names
from graphs.kinds import OpKind
from placement.runtime.device_program import DeviceProgram, Work, cut_program
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.mailboxes import Mailboxes, layout, unnamed_file
from placement.runtime.measurement import Measurement
from placement.runtime.messages import (
    Execute,
    Fetch,
    LoadProgram,
    RunWhole,
    TensorType,
    Unload,
    WholeRun,
)
from placement.runtime.onnx_source import RunnableModel, load_runnable
from placement.runtime.ort_segments import program_segments, segment_of
from placement.runtime.prediction import fusion_groups, sharing_ops
from placement.runtime.predictor import predictor_of
from placement.runtime.program_order import program_order
from placement.runtime.samples import Sampling, StepTimes, measured, shared_clock
from placement.runtime.shared_tensors import share
from placement.runtime.workers import WorkerFailure, WorkerPool, usable_cores
from simulator.cluster import Cluster
from simulator.costs import CostModel, default_costs
from simulator.engine import Simulator
from simulator.evaluation import Evaluation
from simulator.plan import Plan

_WHOLE_SECONDS = 300.0
_FETCH_SECONDS = 20.0
#: While each device has a core of its own; otherwise a waiting worker gives the core away.
_SPIN_SECONDS = 2e-3
_RELATIVE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A program that is in the workers."""

    number: int
    program: DeviceProgram
    box: Mailboxes


@dataclass
class OrtRuntime:
    """One model on one cluster of cores; an `Evaluator` of its plans.

    Use it as a context manager: workers run from the first measurement to its end.

    Raises:
        RuntimeRefusal: devices that are no cores of this machine, or a model that cannot run here.
    """

    graph: Graph
    cluster: Cluster
    model: RunnableModel
    costs: CostModel
    sampling: Sampling = Sampling()
    kind: ClassVar[str] = "ort"
    _pool: WorkerPool = field(init=False)
    _whole: WholeRun | None = None
    _numbers: "count[int]" = field(default_factory=count)
    _sequence: int = 0

    def __post_init__(self) -> None:
        strange = [d for d in self.cluster.devices if not d.kind.startswith("cpu")]
        if strange:
            raise RuntimeRefusal(
                f"cluster {self.cluster.name!r}: device {strange[0].name!r} is a "
                f"{strange[0].kind}, and this machine has cores only; `graphwright calibrate` or "
                "`graphwright clusters probe` make a cluster of them"
            )
        self._pool = WorkerPool(self.cluster.device_names, usable_cores())
        self._pool.set_up(*share({**self.model.weights, **self.model.inputs}))

    @staticmethod
    def of(
        path: Path,
        graph: Graph,
        cluster: Cluster,
        *,
        dims: Mapping[str, int] | None = None,
        costs: CostModel | None = None,
        seed: int = 0,
        sampling: Sampling = Sampling(),
    ) -> "OrtRuntime":
        """A runtime for the file that `graph` was imported from, with the same dimensions."""
        model = load_runnable(path, graph, dict(dims or {}), seed)
        return OrtRuntime(graph, cluster, model, costs or default_costs(graph, cluster), sampling)

    def __enter__(self) -> "OrtRuntime":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    @property
    def emulated(self) -> bool:
        """Whether there are more devices than cores."""
        return self.cluster.device_count > len(self._pool.cores)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the workers that run now."""
        return self._pool.process_ids

    @property
    def simulator(self) -> Simulator:
        return Simulator(self.graph, self.cluster, self.costs)

    def evaluate(self, plan: Plan) -> Evaluation:
        """Measure one plan; peak memory is the simulator's."""
        return self.measure([plan])[0].evaluation(self.simulator.evaluate(plan).peak_bytes)

    def measure(
        self, plans: Sequence[Plan], sampling: Sampling | None = None, *, single_ops: bool = False
    ) -> list[Measurement]:
        """Measure plans in turns: A B C A B C. A failure of one is its measurement's reason.

        Args:
            plans: any number; all their sessions are in memory at once.
            sampling: the runtime's own where none is given.
            single_ops: whether every op is a step of its own, to learn how long each takes.

        Raises:
            PlanError: a plan for another graph or cluster.
            RuntimeRefusal: the model itself cannot run here.
        """
        sampling = sampling or self.sampling
        programs = [self.program(plan, single_ops=single_ops) for plan in plans]
        self._describe()
        failures: dict[int, str] = {}
        loaded: dict[int, _Loaded] = {}
        rounds: list[list[StepTimes]] = [[] for _ in plans]
        try:
            for turn in range(sampling.rounds):
                for index, program in enumerate(programs):
                    if index in failures:
                        continue
                    try:
                        if index not in loaded:
                            loaded[index] = self._load(program, sampling)
                            self._check(loaded[index], sampling)
                        rounds[index].append(self._round(loaded[index], sampling))
                    except WorkerFailure as error:
                        failures[index] = f"{error} (round {turn + 1})"
                        self._drop(loaded)
        finally:
            self._drop(loaded)
        clock = sampling.clock or shared_clock(rounds, emulated=self.emulated)
        return [
            Measurement.failed(failures[index], clock)
            if index in failures
            else measured(times, clock, checked=self._comparable)
            for index, times in enumerate(rounds)
        ]

    def program(self, plan: Plan, *, single_ops: bool = False) -> DeviceProgram:
        """The steps that each device runs for a plan."""
        plan.check(self.graph, self.cluster)
        self._describe()
        work = self.model.work
        works: list[Work | None] = [work.get(name) for name in self.graph.op_names]
        order = program_order(self.simulator, plan)
        given = {name: int(plan.devices[self._input_op(name)]) for name in self.model.inputs}
        alone = range(self.graph.op_count) if single_ops else sharing_ops(self.graph)
        count = self.cluster.device_count
        groups = fusion_groups(plan)
        return cut_program(order, plan.devices, works, count, given, alone=alone, groups=groups)

    def predicted(self, plan: Plan) -> float:
        """The step time to expect: of the device program where the cluster was calibrated."""
        return predictor_of(self.simulator).evaluate(plan).makespan_seconds

    @property
    def types(self) -> Mapping[str, TensorType]:
        """Type and shape of every tensor that a step makes or reads."""
        return self._describe().types

    def _input_op(self, name: str) -> int:
        for op in np.flatnonzero(self.graph.kinds == OpKind.INPUT).tolist():
            if self.graph.op_names[op].split("#tensor")[0] == name:
                return op
        raise RuntimeRefusal(f"graph {self.graph.name!r} has no input {name!r}")

    def _describe(self) -> WholeRun:
        """Run the original once: all types, the right outputs; shapes become constants."""
        if self._whole is not None:
            return self._whole
        model = self.model
        written = [tensor for work in model.work.values() for tensor in work.writes]
        shapes = {
            name: node.output[0]
            for name, node in model.nodes.items()
            if node.op_type in ("Shape", "Size") and not standardised(node.domain)
        }
        values = dict.fromkeys([*model.outputs, *shapes.values()])
        segment = segment_of(model, list(model.nodes), list(model.inputs), written, self._given())
        try:
            answer = self._pool.ask({0: RunWhole(segment, tuple(values))}, _WHOLE_SECONDS)[0]
        except WorkerFailure as error:
            raise RuntimeRefusal(f"{model.name} cannot run on onnxruntime: {error}") from error
        whole: WholeRun = answer
        types = {**whole.types, **self._given()}
        self._whole = replace(whole, types=types)
        self.model = replace(
            model,
            nodes={name: node for name, node in model.nodes.items() if name not in shapes},
            weights={**model.weights, **{t: whole.values[t] for t in shapes.values()}},
            outputs=tuple(name for name in model.outputs if name not in shapes.values()),
        )
        if any(read_names(node) for node in self.model.nodes.values()):
            self._pool.set_up(*share({**self.model.weights, **self.model.inputs}))
        return self._whole

    def _given(self) -> dict[str, TensorType]:
        arrays = {**self.model.weights, **self.model.inputs}
        return {name: TensorType(a.dtype.name, a.shape) for name, a in arrays.items()}

    def _load(self, program: DeviceProgram, sampling: Sampling) -> _Loaded:
        types = self.types
        segments = program_segments(program, self.graph.op_names, self.model, types)
        kinds = [types[transfer.tensor] for transfer in program.transfers]
        devices = self.cluster.device_count
        number = next(self._numbers)
        descriptor = unnamed_file(layout(program.transfers, kinds, devices).size)
        # Threads that share a core must not spin while the other has work.
        spin = 0.0 if self.emulated else _SPIN_SECONDS
        messages = {
            device: LoadProgram(
                number,
                device,
                program.steps[device],
                segments[device],
                program.transfers,
                types,
                devices,
                spin,
                self.cluster.devices[device].memory_bytes,
            )
            for device in range(devices)
        }
        try:
            self._pool.ask(messages, sampling.load_seconds, dict.fromkeys(messages, descriptor))
            return _Loaded(
                number, program, Mailboxes(descriptor, program.transfers, kinds, devices)
            )
        finally:
            os.close(descriptor)

    def _execute(
        self, loaded: _Loaded, iterations: int, sampling: Sampling, *, clear: bool
    ) -> list:
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

    def _round(self, loaded: _Loaded, sampling: Sampling) -> StepTimes:
        total = sampling.warm_up + sampling.iterations
        executed = self._execute(loaded, total, sampling, clear=False)
        return StepTimes.of(executed, sampling.warm_up)

    def _check(self, loaded: _Loaded, sampling: Sampling) -> None:
        """Run once from spoiled buffers and compare the outputs with the original's."""
        self._execute(loaded, 1, sampling, clear=True)
        whole = self._describe()
        writer = {
            tensor: device
            for device, steps in enumerate(loaded.program.steps)
            for step in steps
            for op in getattr(step, "ops", ())
            for tensor in self.model.work[self.graph.op_names[op]].writes
        }
        for name in self.model.outputs:
            device = writer[name]
            found = self._pool.ask({device: Fetch(loaded.number, (name,))}, _FETCH_SECONDS)
            reason = difference(found[device][name], whole.values[name])
            if reason is not None:
                raise WorkerFailure(f"output {name!r} is not the original's: {reason}")

    @property
    def _comparable(self) -> bool:
        values = [self._describe().values[name] for name in self.model.outputs]
        return bool(values) and all(np.isfinite(array).all() for array in values)

    def _drop(self, loaded: dict[int, _Loaded]) -> None:
        """Forget all programs; a worker that has died meanwhile has forgotten them already."""
        for item in loaded.values():
            running = {device: Unload(item.number) for device in self._pool.running}
            try:
                self._pool.ask(running, _FETCH_SECONDS)
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
