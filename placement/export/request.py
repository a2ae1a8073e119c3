"""What is to be exported, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from graphs.graph import Graph
from placement.export.errors import ExportError
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.plan import Plan

_ENDINGS = (".gz", ".onnx", ".pb", ".pbtxt", ".graphdef", ".onnxtxt", ".textproto", ".pt2")


@dataclass(frozen=True, eq=False)
class ExportRequest:
    """A plan and the model that it was made for."""

    model: Path
    """The file or folder that the graph was loaded from."""
    graph: Graph
    cluster: Cluster
    plan: Plan
    out: Path
    """Folder to write into; made if need be."""
    dims: Mapping[str, int] = field(default_factory=dict)
    """As for `graphs.load`; exported models stay open in these dimensions."""
    targets: Mapping[str, str] = field(default_factory=dict)
    """What a device of the cluster is called where the export runs; see each form."""
    schedule: bool = False
    """Pin the order too, where the form can."""
    fusion: bool = False
    """Say which ops become one kernel, where the form can."""
    copy_weights: bool = False
    """Copy weights that lie outside `out`, where the form must have them there."""
    max_parts: int = 24
    """A plan that would be cut into more programs is refused, where the form cuts it."""
    micro_batches: int | None = None
    """Into how many a mini-batch is divided, where the form runs several; each is the graph."""
    batch: int | None = None
    """Samples of a mini-batch, where the form divides it."""
    train: str | None = None
    """The optimizer that trains a forward pass, where the form can plan for it."""
    costs: CostModel | None = None
    """What the schedule is simulated with; None is the graph's default."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    """What made the plan."""

    def __post_init__(self) -> None:
        if strange := sorted(set(self.targets) - set(self.cluster.device_names)):
            raise ExportError(
                f"a target is given for device {strange[0]!r}; cluster {self.cluster.name!r} has "
                f"{', '.join(self.cluster.device_names)}"
            )

    @property
    def stem(self) -> str:
        """The model's name without endings that tell its format."""
        name = self.model.resolve().name
        for ending in _ENDINGS:
            name = name.removesuffix(ending)
        return name or "model"

    def device_of(self, op: str) -> int:
        """Index of an op's device.

        Raises:
            ExportError: the graph has no such op.
        """
        index = self.graph.op_index.get(op)
        if index is None:
            raise ExportError(
                f"{self.model}: node {op!r} is not an op of graph {self.graph.name!r}; give the "
                "model file that the plan was made for"
            )
        return int(self.plan.devices[index])

    def kind_ordinal(self, device: int) -> int:
        """Number of a device among the CPUs of the cluster, or among the others."""
        kinds = [self.is_cpu(index) for index in range(device + 1)]
        return int(np.count_nonzero(np.array(kinds[:device], bool) == kinds[device]))

    @property
    def notes_on_holds(self) -> tuple[str, ...]:
        """What a form that cannot hold ops back has to say of a plan that does."""
        if not self.plan.is_held:
            return ()
        held = int(np.count_nonzero(self.plan.holds >= 0))
        return (
            f"The plan holds {held} ops back to save memory. What is written does not: it may take "
            "more memory than simulated.",
        )

    def is_cpu(self, device: int) -> bool:
        """Whether a device is a CPU, or a core of one."""
        return self.cluster.devices[device].kind.startswith("cpu")


@dataclass(frozen=True)
class Exported:
    """What one form wrote."""

    form: str
    files: tuple[Path, ...]
    """The first is the one to open."""
    notes: tuple[str, ...] = ()
    """What the user should know: how to run it, and what the form cannot say."""


@runtime_checkable
class Exporter(Protocol):
    """Turns a plan into files of some ecosystem."""

    def __call__(self, request: ExportRequest) -> Exported:
        """Write, or leave the folder as it was.

        Raises:
            ExportError: the plan cannot take this form; the message says why, and what can.
            GraphwrightError: the model cannot be read.
        """
        ...
