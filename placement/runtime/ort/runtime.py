"""Runs plans of an ONNX model on cores, one pinned process each, and measures them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np

from graphs.graph import Graph
from graphs.importers.onnx_models.context import standard_domain
from graphs.importers.onnx_models.topology import read_names
from graphs.kinds import OpKind
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.ort.onnx_source import RunnableModel, load_runnable
from placement.runtime.ort.segments import program_segments, segment_of
from placement.runtime.processes.messages import LoadProgram, RunWhole, TensorType, WholeRun
from placement.runtime.processes.shared_tensors import share
from placement.runtime.processes.workers import WorkerFailure, WorkerPool, usable_cores
from placement.runtime.programs.device_program import DeviceProgram, TensorUse, cut_program
from placement.runtime.programs.prediction import fusion_groups, sharing_ops
from placement.runtime.programs.program_order import program_order
from placement.runtime.programs.program_runtime import ProgramRuntime
from placement.runtime.samples import Sampling
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.costs.registry import default_costs
from simulator.plan import Plan

_WHOLE_SECONDS = 300.0


@dataclass
class OrtRuntime(ProgramRuntime):
    """One ONNX model on one cluster of cores.

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

    def program(self, plan: Plan, *, single_ops: bool = False) -> DeviceProgram:
        """The steps that each device runs for a plan."""
        plan.check(self.graph, self.cluster)
        self._describe()
        work = self.model.work
        works: list[TensorUse | None] = [work.get(name) for name in self.graph.op_names]
        order = program_order(self.simulator, plan)
        given = {name: int(plan.devices[self._input_op(name)]) for name in self.model.inputs}
        alone = range(self.graph.op_count) if single_ops else sharing_ops(self.graph)
        count = self.cluster.device_count
        groups = fusion_groups(plan)
        return cut_program(order, plan.devices, works, count, given, alone=alone, groups=groups)

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
            if node.op_type in ("Shape", "Size") and not standard_domain(node.domain)
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

    def _transfer_types(self, program: DeviceProgram) -> list[TensorType]:
        return [self.types[transfer.tensor] for transfer in program.transfers]

    def _load_messages(
        self, program: DeviceProgram, number: int, spin: float
    ) -> dict[int, LoadProgram]:
        types = self.types
        segments = program_segments(program, self.graph.op_names, self.model, types)
        devices = self.cluster.devices
        return {
            device: LoadProgram(
                number,
                device,
                program.steps[device],
                segments[device],
                program.transfers,
                types,
                len(devices),
                spin,
                devices[device].memory_bytes,
            )
            for device in range(len(devices))
        }

    def _right_outputs(self) -> dict[str, np.ndarray]:
        whole = self._describe()
        return {name: whole.values[name] for name in self.model.outputs}

    def _writes(self, op: int) -> tuple[str, ...]:
        return self.model.work[self.graph.op_names[op]].writes
