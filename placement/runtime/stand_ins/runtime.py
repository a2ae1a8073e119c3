"""Plans of graphs that have no kernels of their own: stand-ins in torch, on cores or GPUs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from graphs.graph import Graph
from graphs.kinds import OpKind, Storage
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.processes.messages import ProgramPart, TensorType
from placement.runtime.processes.workers import WorkerPool, usable_cores
from placement.runtime.programs.device_program import DeviceProgram, Run, TensorUse, cut_program
from placement.runtime.programs.prediction import fusion_groups, graph_works
from placement.runtime.programs.program_order import program_order
from placement.runtime.programs.program_runtime import ProgramRuntime
from placement.runtime.programs.program_source import RunOnce
from placement.runtime.samples import Sampling
from placement.runtime.stand_ins.messages import WORKER, LoadStandIns, UseDevice
from placement.runtime.stand_ins.segments import torch_segments
from placement.runtime.stand_ins.stand_ins import StandIn, elements, stand_in
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.costs.registry import default_costs
from simulator.evaluation import Evaluator
from simulator.plan import Plan
from simulator.simulator import Simulator

_GIVEN = (OpKind.INPUT, OpKind.CONSTANT, OpKind.VARIABLE)
#: Random numbers that all kernels share, at most: a gigabyte.
_MOST_CONSTANTS = 1 << 28
#: inductor compiles in the worker itself: a pool of its own would outlive it.
_ENVIRONMENT = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


@dataclass
class StandInSource:
    """Device programs of one graph, each op a stand-in of its kind and size: a `ProgramSource`.

    Fusion groups are compiled by inductor. Outputs must be those of the graph on one device.
    """

    graph: Graph
    cluster: Cluster
    kind: ClassVar[str] = "torch"

    def program(self, simulator: Simulator, plan: Plan, *, single_ops: bool) -> DeviceProgram:
        """See `ProgramSource`."""
        plan.check(self.graph, self.cluster)
        order = program_order(simulator, plan)
        given = {name: int(plan.devices[op]) for name, (op, _) in self._given.items()}
        alone = range(self.graph.op_count) if single_ops else ()
        devices, groups = self.cluster.device_count, fusion_groups(plan)
        return cut_program(
            order, plan.devices, self._works, devices, given, alone=alone, groups=groups
        )

    def predictor(self, simulator: Simulator) -> Evaluator:
        """The event engine: clusters are not calibrated for stand-ins."""
        return simulator

    @property
    def constants(self) -> int:
        """How many random numbers the kernels read.

        Raises:
            RuntimeRefusal: more than this machine should hold.
        """
        constants = max((spec.constants for spec in self._specs if spec is not None), default=1)
        given = max((size for _, size in self._given.values()), default=1)
        constants = max(constants, given, 1)
        if constants > _MOST_CONSTANTS:
            raise RuntimeRefusal(
                f"graph {self.graph.name!r}: a stand-in would read {constants:,} constants, and "
                f"{_MOST_CONSTANTS:,} is the most; take a smaller batch"
            )
        return constants

    @cached_property
    def _works(self) -> list[TensorUse | None]:
        """Ops that neither read nor make anything in a step are left out."""
        return [
            work if work is not None and (work.reads or work.writes) else None
            for work in graph_works(self.graph)
        ]

    @cached_property
    def _specs(self) -> list[StandIn | None]:
        return [
            None
            if work is None
            else stand_in(self.graph, op, _tensors(work.reads), _tensors(work.writes))
            for op, work in enumerate(self._works)
        ]

    @cached_property
    def _given(self) -> dict[str, tuple[int, int]]:
        """Tensors that are there before the step: the op that stands for each, and its size."""
        apart = (Storage.CONTROL, Storage.WEIGHT)
        return {
            f"t{tensor}": (op, elements(self.graph, tensor))
            for op in np.flatnonzero(np.isin(self.graph.kinds, _GIVEN)).tolist()
            for tensor in self.graph.outputs_of(op)
            if self.graph.tensor_storage[tensor] not in apart
        }

    @cached_property
    def _outputs(self) -> frozenset[str]:
        """Tensors that are made and that nobody reads."""
        works = [work for work in self._works if work is not None]
        read = {name for work in works for name in work.reads}
        return frozenset(name for work in works for name in work.writes if name not in read)

    def transfer_types(self, program: DeviceProgram) -> tuple[TensorType, ...]:
        """See `ProgramSource`; tensors are flat and in single precision."""
        tensors = _tensors([transfer.tensor for transfer in program.transfers])
        return tuple(TensorType("float32", (elements(self.graph, item),)) for item in tensors)

    def load_messages(
        self, program: DeviceProgram, parts: Sequence[ProgramPart]
    ) -> dict[int, LoadStandIns]:
        """See `ProgramSource`."""
        segments = torch_segments(program, self._works, self._specs, self._outputs)
        return {
            part.device: LoadStandIns(
                part, segments[part.device], self._given_on(program, part.device)
            )
            for part in parts
        }

    def _given_on(self, program: DeviceProgram, device: int) -> dict[str, int]:
        """What is given and used on a device without having been sent there."""
        arrives = {transfer.tensor for transfer in program.transfers if transfer.target == device}
        used = {transfer.tensor for transfer in program.transfers if transfer.source == device}
        for step in program.steps[device]:
            for op in step.ops if isinstance(step, Run) else ():
                work = self._works[op]
                used.update(work.reads if work is not None else ())
        return {
            name: size
            for name, (_, size) in self._given.items()
            if name in used and name not in arrives
        }

    def right_outputs(self, simulator: Simulator, run_once: RunOnce) -> Mapping[str, np.ndarray]:
        """Digests of the outputs of a step on the first device."""
        one = Plan.of(np.zeros(self.graph.op_count, np.int32))
        program = self.program(simulator, one, single_ops=False)
        return run_once(program, sorted(self._outputs))

    def writes(self, op: int) -> Sequence[str]:
        """Tensors that an op makes."""
        work = self._works[op]
        return work.writes if work is not None else ()


def open_stand_ins(
    model: Path,
    graph: Graph,
    cluster: Cluster,
    *,
    dims: Mapping[str, int] | None = None,
    costs: CostModel | None = None,
    seed: int = 0,
    sampling: Sampling = Sampling(),
) -> ProgramRuntime:
    """A runtime of any graph on one cluster of cores or of GPUs.

    Args:
        model: where the graph is from; stand-ins need nothing of it.
        graph: what to run stand-ins of.
        cluster: devices of this machine.
        dims: not needed; the graph has its sizes.
        costs: the cluster's own where none are given.
        seed: of all random numbers that kernels read.
        sampling: how to measure where nothing else is said.

    Raises:
        RuntimeRefusal: devices that are not there, or a product too large for this machine.
    """
    devices = torch_devices(cluster)
    source = StandInSource(graph, cluster)
    constants = source.constants
    cores = usable_cores() if devices[0] == "cpu" else (-1,) * cluster.device_count
    first = {number: UseDevice(name, constants, seed) for number, name in enumerate(devices)}
    pool = WorkerPool(cluster.device_names, cores, WORKER, _ENVIRONMENT, first=first)
    cost_model = costs or default_costs(graph, cluster)
    return ProgramRuntime(graph, cluster, cost_model, source, pool, sampling)


def torch_devices(cluster: Cluster) -> tuple[str, ...]:
    """Torch's names for the devices of a cluster: all cores, or all GPUs.

    Raises:
        RuntimeRefusal: a mixture, or more GPUs than there are.
    """
    on_cores = [device.kind.startswith("cpu") for device in cluster.devices]
    if all(on_cores):
        return ("cpu",) * cluster.device_count
    if any(on_cores):
        raise RuntimeRefusal(
            f"cluster {cluster.name!r} has both cores and GPUs; plans run on one or the other"
        )
    import torch

    there = torch.cuda.device_count()
    if there < cluster.device_count:
        raise RuntimeRefusal(
            f"cluster {cluster.name!r} has {cluster.device_count} GPUs, and this machine {there}; "
            "`graphwright clusters probe` makes a cluster of what is here"
        )
    return tuple(f"cuda:{number}" for number in range(cluster.device_count))


def _tensors(names: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the graph's tensors behind the names of `graph_works`."""
    return tuple(int(name[1:]) for name in names)
