"""Runs plans of graphs that have no kernels of their own: stand-ins in torch, on cores or GPUs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any, ClassVar

import numpy as np

from graphs.graph import Graph
from graphs.kinds import OpKind, Storage
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.processes.messages import Fetch, TensorType
from placement.runtime.processes.workers import WorkerFailure, WorkerPool, usable_cores
from placement.runtime.programs.device_program import DeviceProgram, TensorUse, cut_program
from placement.runtime.programs.prediction import fusion_groups, graph_works
from placement.runtime.programs.program_order import program_order
from placement.runtime.programs.program_runtime import FETCH_SECONDS, ProgramRuntime
from placement.runtime.samples import Sampling
from placement.runtime.stand_ins.messages import Connect, Export, LoadStandIns, UseDevice
from placement.runtime.stand_ins.segments import torch_segments
from placement.runtime.stand_ins.stand_ins import StandIn, elements, stand_in
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.costs.registry import default_costs
from simulator.plan import Plan

_GIVEN = (OpKind.INPUT, OpKind.CONSTANT, OpKind.VARIABLE)
#: Random numbers that all kernels share, at most: a gigabyte.
_MOST_CONSTANTS = 1 << 28
#: inductor compiles in the worker itself: a pool of its own would outlive it.
_ENVIRONMENT = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


@dataclass
class TorchRuntime(ProgramRuntime):
    """One graph on one cluster of cores or of GPUs, each op a stand-in of its kind and size.

    Fusion groups are compiled by inductor. Outputs must be those of the graph on one device.

    Raises:
        RuntimeRefusal: devices that are not there, or a product too large for this machine.
    """

    graph: Graph
    cluster: Cluster
    costs: CostModel
    seed: int = 0
    sampling: Sampling = Sampling()
    kind: ClassVar[str] = "torch"
    _pool: WorkerPool = field(init=False)
    _numbers: "count[int]" = field(default_factory=count)
    _sequence: int = 0
    _right: dict[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.torch_devices = torch_devices(self.cluster)
        constants = max((spec.constants for spec in self._specs if spec is not None), default=1)
        given = max((size for _, size in self._given.values()), default=1)
        constants = max(constants, given, 1)
        if constants > _MOST_CONSTANTS:
            raise RuntimeRefusal(
                f"graph {self.graph.name!r}: a stand-in would read {constants:,} constants, and "
                f"{_MOST_CONSTANTS:,} is the most; take a smaller batch"
            )
        on_cores = self.torch_devices[0] == "cpu"
        cores = usable_cores() if on_cores else (-1,) * self.cluster.device_count
        self._pool = WorkerPool(
            self.cluster.device_names, cores, "placement.runtime.stand_ins.worker", _ENVIRONMENT
        )
        self._pool.first = {
            number: UseDevice(device, constants, self.seed)
            for number, device in enumerate(self.torch_devices)
        }

    @staticmethod
    def of(
        graph: Graph,
        cluster: Cluster,
        *,
        costs: CostModel | None = None,
        seed: int = 0,
        sampling: Sampling = Sampling(),
    ) -> "TorchRuntime":
        """A runtime for any graph."""
        return TorchRuntime(graph, cluster, costs or default_costs(graph, cluster), seed, sampling)

    def program(self, plan: Plan, *, single_ops: bool = False) -> DeviceProgram:
        """The steps that each device runs for a plan.

        Raises:
            PlanError: a plan for another graph or cluster.
        """
        plan.check(self.graph, self.cluster)
        order = program_order(self.simulator, plan)
        given = {name: int(plan.devices[op]) for name, (op, _) in self._given.items()}
        alone = range(self.graph.op_count) if single_ops else ()
        devices, groups = self.cluster.device_count, fusion_groups(plan)
        return cut_program(
            order, plan.devices, self._works, devices, given, alone=alone, groups=groups
        )

    def predicted(self, plan: Plan) -> float:
        """The event engine's step time: clusters are not calibrated for stand-ins."""
        return self.simulator.evaluate(plan).makespan_seconds

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

    def _transfer_types(self, program: DeviceProgram) -> list[TensorType]:
        return [self._type(transfer.tensor) for transfer in program.transfers]

    def _type(self, name: str) -> TensorType:
        return TensorType("float32", (elements(self.graph, _tensors((name,))[0]),))

    def _load_messages(
        self, program: DeviceProgram, number: int, spin: float
    ) -> dict[int, LoadStandIns]:
        segments = torch_segments(program, self._works, self._specs, self._outputs)
        sent = {transfer.tensor for transfer in program.transfers}
        types = {name: self._type(name) for name in sent}
        devices = self.cluster.devices
        return {
            device: LoadStandIns(
                number,
                device,
                program.steps[device],
                segments[device],
                program.transfers,
                types,
                self._given_on(program, device),
                len(devices),
                spin,
                devices[device].memory_bytes if self.torch_devices[device] == "cpu" else None,
            )
            for device in range(len(devices))
        }

    def _connections(
        self, program: DeviceProgram, number: int, answers: dict[int, Any]
    ) -> dict[int, Any]:
        exports = {transfer: item for found in answers.values() for transfer, item in found.items()}
        sources: dict[int, dict[int, Export]] = {}
        for transfer, item in exports.items():
            sources.setdefault(program.transfers[transfer].source, {})[transfer] = item
        return {source: Connect(number, items) for source, items in sources.items()}

    def _given_on(self, program: DeviceProgram, device: int) -> dict[str, int]:
        """What is given and used on a device without having been sent there."""
        arrives = {transfer.tensor for transfer in program.transfers if transfer.target == device}
        used = {transfer.tensor for transfer in program.transfers if transfer.source == device}
        for step in program.steps[device]:
            for op in getattr(step, "ops", ()):
                work = self._works[op]
                used.update(work.reads if work is not None else ())
        return {
            name: size
            for name, (_, size) in self._given.items()
            if name in used and name not in arrives
        }

    def _right_outputs(self) -> dict[str, np.ndarray]:
        """Digests of the outputs of a step on the first device."""
        if self._right is None:
            one = Plan.of(np.zeros(self.graph.op_count, np.int32))
            program = self.program(one)
            sampling = replace(self.sampling, rounds=1)
            try:
                loaded = self._load(program, sampling)
                self._execute(loaded, 1, sampling, clear=True)
                names = tuple(sorted(self._outputs))
                message = Fetch(loaded.number, names)
                self._right = self._pool.ask({0: message}, FETCH_SECONDS)[0]
            except WorkerFailure as error:
                self.close()
                raise RuntimeRefusal(f"graph {self.graph.name!r} cannot run: {error}") from error
            self._drop({0: loaded})
        assert self._right is not None
        return self._right

    def _writes(self, op: int) -> Sequence[str]:
        work = self._works[op]
        return work.writes if work is not None else ()


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
