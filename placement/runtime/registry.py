"""All runtimes by name; each is imported when it is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from graphs.file_presence import is_file
from placement.runtime.errors import RuntimeRefusal

if TYPE_CHECKING:
    from graphs.graph import Graph
    from placement.placer import OnProgress
    from placement.runtime.calibration.judging import CalibrationConfig, Judged, ModelFile
    from placement.runtime.runtime import Runtime
    from placement.runtime.samples import Sampling
    from simulator.clusters.cluster import Cluster
    from simulator.costs.cost_model import CostModel


@runtime_checkable
class Opener(Protocol):
    """Opens a runtime for one graph on one cluster."""

    def __call__(
        self,
        model: Path,
        graph: "Graph",
        cluster: "Cluster",
        *,
        dims: Mapping[str, int],
        costs: "CostModel | None",
        seed: int,
        sampling: "Sampling",
    ) -> "Runtime":
        """See `open_runtime`."""
        ...


@runtime_checkable
class Calibrator(Protocol):
    """Measures this machine with models."""

    def __call__(
        self,
        models: "Sequence[ModelFile]",
        cluster: "Cluster",
        machine: str,
        costs_file: str,
        config: "CalibrationConfig",
        on_progress: "OnProgress",
        profiled: "Sequence[ModelFile]",
    ) -> "tuple[Cluster, list[Judged]]":
        """The cluster with what was measured, and what its predictions are worth, per model.

        Args:
            models: measured, and judged by.
            cluster: of this machine, uncalibrated.
            machine: its fingerprint.
            costs_file: where the caller will write the kernels' times, beside the cluster's file.
            config: how much to measure.
            on_progress: is told the share that is done.
            profiled: further models of which kernels alone are measured, where that helps.

        Raises:
            RuntimeRefusal: a model that cannot run here.
        """
        ...


@dataclass(frozen=True)
class RuntimeKind:
    """One way to run plans."""

    about: str
    """What it is, for messages."""
    opener: str
    """`module:function` of an `Opener`."""
    source_format: str | None = None
    """The format of the model files that it runs; None runs any graph, with a file or without."""
    compared_with: str = "the original model's"
    """What the outputs of a plan have to equal."""
    runs_programs: bool = False
    """Whether it opens a `ProgramRuntime`: virtual clocks, and a time for every step."""
    one_step: str | None = "it runs one step at a time"
    """Why steps do not overlap on it; None: they do."""
    calibrator: str | None = None
    """`module:function` of a `Calibrator`; None: it cannot be calibrated."""


#: By name; `measure --help` says the same of these.
RUNTIMES: dict[str, RuntimeKind] = {
    "ort": RuntimeKind(
        "onnxruntime in a pinned process per core.",
        "placement.runtime.ort.runtime:open_ort",
        source_format="onnx",
        runs_programs=True,
        one_step=None,
        calibrator="placement.runtime.calibration.calibrate:calibrate",
    ),
    "tf": RuntimeKind(
        "TensorFlow, a pinned server per core.",
        "placement.runtime.tensorflow_servers.runtime:open_tensorflow",
        source_format="tensorflow",
        one_step="steps of a GraphDef share its variables, which training overwrites, and "
        "TensorFlow's executors choose between ready ops themselves, not the oldest step's",
        calibrator="placement.runtime.calibration.calibrate_servers:calibrate_tensorflow",
    ),
    "torch": RuntimeKind(
        "each op a stand-in of its kind and size, on cores or GPUs; groups by inductor.",
        "placement.runtime.stand_ins.runtime:open_stand_ins",
        compared_with="those of the same kernels on one device",
        one_step="all steps of stand-ins read the same numbers, so that nothing would tell a "
        "step's outputs from another's",
        runs_programs=True,
    ),
}


def get_runtime(name: str) -> RuntimeKind:
    """What is known of a runtime.

    Raises:
        RuntimeRefusal: no runtime of that name; the message lists them.

    Example:
        >>> get_runtime("ort").source_format
        'onnx'
    """
    if name not in RUNTIMES:
        there = "; ".join(f"{other}: {kind.about.rstrip('.')}" for other, kind in RUNTIMES.items())
        raise RuntimeRefusal(f"unknown runtime {name!r}; there are {there}")
    return RUNTIMES[name]


def get_calibrator(name: str) -> Calibrator:
    """What calibrates a runtime.

    Raises:
        RuntimeRefusal: no runtime of that name, or one that cannot be calibrated.
    """
    kind = get_runtime(name).calibrator
    if kind is None:
        there = ", ".join(other for other, item in RUNTIMES.items() if item.calibrator is not None)
        raise RuntimeRefusal(f"runtime {name!r} cannot be calibrated; {there} can")
    module, _, function = kind.partition(":")
    calibrator: Calibrator = getattr(import_module(module), function)
    return calibrator


def check_runs(name: str, model: str, graph: "Graph") -> None:
    """Refuse a graph that a runtime has no kernels for.

    Args:
        name: of the runtime.
        model: the file that the graph was imported from, or the name of a bundled graph.
        graph: what is to run.

    Raises:
        RuntimeRefusal: no such runtime, no file, or a file of another format than the runtime's.
    """
    wanted, found = get_runtime(name).source_format, graph.report.source_format
    if wanted is None:
        return
    if not is_file(model):
        raise RuntimeRefusal(
            f"{model}: --runtime {name} runs {wanted} files; bundled and generated graphs have no "
            f"kernels of their own{_instead(None)}"
        )
    if found != wanted:
        raise RuntimeRefusal(
            f"{model}: --runtime {name} runs {wanted} models, and this one is {found}"
            f"{_instead(found)}"
        )


def _instead(source_format: str | None) -> str:
    """Which runtimes take a graph of that format."""
    fitting = " or ".join(
        f"--runtime {name} ({kind.about.rstrip('.')})"
        for name, kind in RUNTIMES.items()
        if kind.source_format in (None, source_format)
    )
    return f"; instead there is {fitting}" if fitting else ""


def open_runtime(
    name: str,
    model: str | Path,
    graph: "Graph",
    cluster: "Cluster",
    *,
    dims: Mapping[str, int] | None = None,
    costs: "CostModel | None" = None,
    seed: int = 0,
    sampling: "Sampling | None" = None,
) -> "Runtime":
    """Open a runtime by name; it is a context manager, and its processes end with it.

    Args:
        name: in `RUNTIMES`.
        model: the file that `graph` was imported from, or the name of a bundled graph.
        graph: what plans are made for.
        cluster: devices of this machine.
        dims: sizes of symbolic dimensions with which the graph was imported.
        costs: what predictions and orders go by; the cluster's own where none are given.
        seed: of inputs, and of weights that the file does not hold.
        sampling: how to measure where `measure` is not told.

    Raises:
        ModelError: the file cannot be read.
        RuntimeRefusal: no such runtime, a graph that it has no kernels for, or devices that are
            not there.
    """
    from placement.runtime.samples import Sampling

    check_runs(name, str(model), graph)
    module, _, function = RUNTIMES[name].opener.partition(":")
    opener: Opener = getattr(import_module(module), function)
    return opener(
        Path(model),
        graph,
        cluster,
        dims=dims or {},
        costs=costs,
        seed=seed,
        sampling=sampling or Sampling(),
    )
