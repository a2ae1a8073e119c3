"""Plans of an ONNX model as programs of onnxruntime sessions on cores, a pinned process each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from graphs.graph import Graph
from graphs.importers.onnx_models.context import standard_domain
from graphs.importers.onnx_models.topology import read_names
from graphs.kinds import OpKind
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.ort.feeds import carried_state, other_feeds
from placement.runtime.ort.messages import WORKER, LoadPipeline, LoadSessions, RunWhole, WholeRun
from placement.runtime.ort.onnx_source import RunnableModel, load_runnable
from placement.runtime.ort.segments import program_segments, segment_of
from placement.runtime.ort.shared_tensors import share
from placement.runtime.pipelines.messages import PipelinePart
from placement.runtime.pipelines.source import feed_count
from placement.runtime.processes.messages import ProgramPart, TensorType
from placement.runtime.processes.workers import WorkerFailure, WorkerPool, usable_cores
from placement.runtime.programs.device_program import DeviceProgram, Run, TensorUse, cut_program
from placement.runtime.programs.prediction import fusion_groups, sharing_ops
from placement.runtime.programs.predictor import predictor_of
from placement.runtime.programs.program_order import program_order
from placement.runtime.programs.program_runtime import ProgramRuntime
from placement.runtime.programs.program_source import RunOnce
from placement.runtime.samples import Sampling
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.costs.registry import default_costs
from simulator.evaluation import Evaluator
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.steps import StepSchedule

_WHOLE_SECONDS = 300.0
#: Outputs of all overlapping steps are kept to be checked; more than a gigabyte is not.
_MOST_KEPT_BYTES = 1 << 30


@dataclass
class OrtSource:
    """Device programs of one ONNX model: a `ProgramSource`."""

    graph: Graph
    cluster: Cluster
    model: RunnableModel
    pool: WorkerPool
    """The first worker runs the whole model once; all share its weights and inputs."""
    _whole: WholeRun | None = None
    _steps: list[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]] = field(
        default_factory=list
    )
    """Different inputs, each with the outputs of the whole model."""
    kind: ClassVar[str] = "ort"

    def program(self, simulator: Simulator, plan: Plan, *, single_ops: bool) -> DeviceProgram:
        """See `ProgramSource`."""
        plan.check(self.graph, self.cluster)
        self.describe()
        work = self.model.work
        works: list[TensorUse | None] = [work.get(name) for name in self.graph.op_names]
        order = program_order(simulator, plan)
        given = {name: int(plan.devices[self._input_op(name)]) for name in self.model.inputs}
        alone = range(self.graph.op_count) if single_ops else sharing_ops(self.graph)
        count = self.cluster.device_count
        groups = fusion_groups(plan)
        return cut_program(order, plan.devices, works, count, given, alone=alone, groups=groups)

    def _input_op(self, name: str) -> int:
        for op in np.flatnonzero(self.graph.kinds == OpKind.INPUT).tolist():
            if self.graph.op_names[op].split("#tensor")[0] == name:
                return op
        raise RuntimeRefusal(f"graph {self.graph.name!r} has no input {name!r}")

    def describe(self) -> WholeRun:
        """Types of all tensors and the right outputs; shapes become constants of the model.

        The original is run for that, once.

        Raises:
            RuntimeRefusal: onnxruntime cannot run it.
        """
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
            whole = self.pool.ask({0: RunWhole(segment, tuple(values))}, _WHOLE_SECONDS)[0]
        except WorkerFailure as error:
            raise RuntimeRefusal(f"{model.name} cannot run on onnxruntime: {error}") from error
        types = {**whole.types, **self._given()}
        self._whole = replace(whole, types=types)
        self.model = replace(
            model,
            nodes={name: node for name, node in model.nodes.items() if name not in shapes},
            weights={**model.weights, **{t: whole.values[t] for t in shapes.values()}},
            outputs=tuple(name for name in model.outputs if name not in shapes.values()),
        )
        if any(read_names(node) for node in self.model.nodes.values()):
            self.pool.set_up(*share(self.model.shared))
        return self._whole

    def _given(self) -> dict[str, TensorType]:
        return {n: TensorType(a.dtype.name, a.shape) for n, a in self.model.shared.items()}

    def transfer_types(self, program: DeviceProgram) -> tuple[TensorType, ...]:
        """See `ProgramSource`."""
        types = self.describe().types
        return tuple(types[transfer.tensor] for transfer in program.transfers)

    def load_messages(
        self, program: DeviceProgram, parts: Sequence[ProgramPart]
    ) -> dict[int, LoadSessions]:
        """See `ProgramSource`."""
        types = self.describe().types
        segments = program_segments(program, self.graph.op_names, self.model, types)
        return {part.device: LoadSessions(part, segments[part.device], types) for part in parts}

    def right_outputs(self, simulator: Simulator, run_once: RunOnce) -> dict[str, np.ndarray]:
        """The outputs of the whole model in one session."""
        whole = self.describe()
        return {name: whole.values[name] for name in self.model.outputs}

    def load_pipeline(
        self, program: DeviceProgram, parts: Sequence[PipelinePart]
    ) -> dict[int, LoadPipeline]:
        """See `PipelineSource`."""
        types = self.describe().types
        segments = program_segments(program, self.graph.op_names, self.model, types)
        steps = self._different_steps(feed_count(parts[0].schedule))
        self._check_kept(steps[0][1], parts[0].schedule)
        return {
            device: LoadPipeline(
                part,
                segments[device],
                types,
                tuple(feeds for feeds, _ in steps),
                tuple(
                    {name: right[name] for name in self._outputs_on(program, device)}
                    for _, right in steps
                ),
            )
            for part in parts
            for device in (part.part.device,)
        }

    def is_comparable(self, schedule: StepSchedule) -> bool:
        """See `PipelineSource`."""
        steps = self._different_steps(feed_count(schedule))
        return bool(self.model.outputs) and all(
            np.isfinite(array).all() for _, right in steps for array in right.values()
        )

    @property
    def state(self) -> list[tuple[str, str]]:
        """See `PipelineSource`."""
        return carried_state(list(self.model.inputs), self.model.outputs)

    def _outputs_on(self, program: DeviceProgram, device: int) -> list[str]:
        """Outputs of the model that a device makes."""
        ops = [op for step in program.steps[device] if isinstance(step, Run) for op in step.ops]
        promised = set(self.model.outputs)
        return [name for op in ops for name in self.writes(op) if name in promised]

    def _check_kept(self, outputs: Mapping[str, np.ndarray], schedule: StepSchedule) -> None:
        """Refuse more steps than the outputs of which can be kept.

        Raises:
            RuntimeRefusal: says how many can.
        """
        each = sum(array.nbytes for array in outputs.values())
        if each * schedule.steps > _MOST_KEPT_BYTES:
            raise RuntimeRefusal(
                f"{self.model.name}: outputs of all steps are kept until they have been checked, "
                f"{each / 1e6:.3g} MB a step and {_MOST_KEPT_BYTES / 1e9:.3g} GB in all; take at "
                f"most --steps {max(_MOST_KEPT_BYTES // each, 1)}"
            )

    def _different_steps(
        self, count: int
    ) -> list[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]:
        """Inputs that differ, with the outputs of the whole model in one session.

        Raises:
            RuntimeRefusal: shapes depend on values of the inputs, and buffers are fixed.
        """
        types = self.describe().types
        model = self.model
        written = [tensor for work in model.work.values() for tensor in work.writes]
        segment = segment_of(model, list(model.nodes), list(model.inputs), written, self._given())
        while len(self._steps) < count:
            feeds = other_feeds(model, len(self._steps))
            message = RunWhole(segment, tuple(model.outputs), feeds)
            try:
                whole = self.pool.ask({0: message}, _WHOLE_SECONDS)[0]
            except WorkerFailure as error:
                raise RuntimeRefusal(f"{model.name} cannot run on onnxruntime: {error}") from error
            moved = [name for name, kind in whole.types.items() if kind != types[name]]
            if moved:
                raise RuntimeRefusal(
                    f"{model.name}: the shape of {moved[0]!r} depends on values of the inputs "
                    f"({list(types[moved[0]].shape)}, then {list(whole.types[moved[0]].shape)}), "
                    "and steps that overlap have fixed buffers; without --steps it runs"
                )
            self._steps.append((feeds, whole.values))
        return self._steps[:count]

    def writes(self, op: int) -> tuple[str, ...]:
        """Tensors that an op makes."""
        return self.model.work[self.graph.op_names[op]].writes

    def predictor(self, simulator: Simulator) -> Evaluator:
        """The program on paper, where the cluster was calibrated."""
        return predictor_of(simulator)


def open_ort(
    model: Path,
    graph: Graph,
    cluster: Cluster,
    *,
    dims: Mapping[str, int] | None = None,
    costs: CostModel | None = None,
    seed: int = 0,
    sampling: Sampling = Sampling(),
) -> ProgramRuntime:
    """A runtime of one ONNX model on one cluster of cores.

    Args:
        model: the file that `graph` was imported from.
        graph: of the model, with sizes `dims`.
        cluster: cores of this machine.
        dims: sizes of symbolic dimensions by name.
        costs: the cluster's own where none are given.
        seed: of inputs, and of weights that the file does not hold.
        sampling: how to measure where nothing else is said.

    Raises:
        ModelError: the file cannot be read.
        RuntimeRefusal: devices that are no cores of this machine, or a model that cannot run here.
    """
    runnable = load_runnable(model, graph, dict(dims or {}), seed)
    strange = [device for device in cluster.devices if not device.kind.startswith("cpu")]
    if strange:
        raise RuntimeRefusal(
            f"cluster {cluster.name!r}: device {strange[0].name!r} is a "
            f"{strange[0].kind}, and this machine has cores only; `graphwright calibrate` or "
            "`graphwright clusters probe` make a cluster of them"
        )
    pool = WorkerPool(cluster.device_names, usable_cores(), WORKER)
    pool.set_up(*share(runnable.shared))
    source = OrtSource(graph, cluster, runnable, pool)
    cost_model = costs or default_costs(graph, cluster)
    return ProgramRuntime(graph, cluster, cost_model, source, pool, sampling)
