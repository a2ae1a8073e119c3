"""Options that several verbs share, and how they become models, clusters and constraints."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from agent.runs.tracking.options import TrackOptions
from graphs.errors import GraphwrightError
from graphs.file_presence import is_file, is_there

if TYPE_CHECKING:
    from graphs.graph import Graph
    from graphs.import_limits import ImportLimits
    from placement.constraints import Constraints
    from placement.simplicity import Simplicity
    from simulator.clusters.cluster import Cluster


@Parameter(name="*")
@dataclass(frozen=True)
class ImportFlags:
    """How a model of unknown origin is read."""

    trust: Annotated[bool, Parameter(negative=())] = False
    """Read the model in this process, not in one that may crash or be ended."""
    import_memory: str | None = None
    """What reading the model may take of memory, such as 8GiB: half of the machine's, if left
    out."""
    import_time: str = "10min"
    """How long reading the model may take."""

    @property
    def limits(self) -> "ImportLimits | None":
        """Of the process that reads the model; None where there is to be none.

        Raises:
            GraphwrightError: no sizes, or not above zero.
        """
        from graphs.import_limits import ImportLimits
        from simulator.units import BYTES, parse_quantity

        seconds = read_seconds(self.import_time, "--import-time")
        size = None
        if self.import_memory is not None:
            size = int(parse_quantity(self.import_memory, BYTES, "--import-memory"))
            if size <= 0:
                raise GraphwrightError(f"--import-memory {self.import_memory}: must be above zero")
        return None if self.trust else ImportLimits(size, seconds)


#: Models are read in a process of their own.
GUARDED = ImportFlags()


@Parameter(name="*")
@dataclass(frozen=True)
class Target(ImportFlags):
    """The model's open dimensions, and the cluster."""

    cluster: Annotated[str | None, Parameter(alias="-c")] = None
    """Preset such as 4xv100-pcie or 8xa100-nvlink@16GiB, a cluster YAML, saved output of
    `nvidia-smi topo -m`, or a dnn-partitioning benchmark file."""
    dim: tuple[str, ...] = ()
    """Size of a symbolic dimension, such as batch=8; repeat for several."""
    signature: str | None = None
    """Which signature of a SavedModel: serving_default, or the only one, where none is named."""
    allow_unknown: Annotated[bool, Parameter(negative=())] = False
    """Go on though more than a tenth of the tensors have no known shape."""
    precision: str = "auto"
    """What float32 is computed in: auto (as the model's framework does by default: TF32 where the
    devices have it), model (full precision), tf32, float16 or bfloat16."""

    @property
    def sizes(self) -> dict[str, int]:
        """The dimensions by name.

        Raises:
            GraphwrightError: not NAME=SIZE with a whole number.
        """
        dims = {}
        for text in self.dim:
            name, value = pair(text, "--dim", "NAME=SIZE")
            if not value.isdigit():
                raise GraphwrightError(f"--dim {text}: {value!r} is not a positive whole number")
            dims[name] = int(value)
        return dims


def target_of(reading: ImportFlags, dim: tuple[str, ...], allow_unknown: bool = False) -> Target:
    """What a verb without a cluster of its own reads models with."""
    return Target(
        reading.trust, reading.import_memory, reading.import_time,
        dim=dim, allow_unknown=allow_unknown,
    )  # fmt: skip


@Parameter(name="*")
@dataclass(frozen=True)
class ConstraintFlags:
    """Constraints; op names may be regular expressions that match a whole name."""

    constraints: Path | None = None
    """YAML file with pins, forbidden, colocated, memory."""
    pin: tuple[str, ...] = ()
    """OP=DEVICE; repeat for several."""
    forbid: tuple[str, ...] = ()
    """OP=DEVICE; repeat for several."""
    colocate: tuple[str, ...] = ()
    """OP: all ops that match share a device; repeat for several."""
    memory_cap: tuple[str, ...] = ()
    """DEVICE=SIZE, such as v100:0=12GiB; repeat for several."""


@Parameter(name="*")
@dataclass(frozen=True)
class SimplicityFlags:
    """How simple a plan is to be."""

    min_gain: str | None = None
    """What a more complicated plan must gain, such as 2%; 0 keeps the fastest. Left out: the known
    error of the simulator, 3% on data sheets, as measured on a calibrated cluster."""
    crossing_price: str | None = None
    """What each tensor that is sent costs beside its transfer, such as 20us."""
    max_crossings: int | None = None
    """The most tensors that may be sent in a step."""
    contiguous: Annotated[bool, Parameter(negative=())] = False
    """One stage of the model for each device."""


@Parameter(name="*")
@dataclass(frozen=True)
class TrackFlags(TrackOptions):
    """Where a run is told."""

    job_type: Annotated[str, Parameter(parse=False)] = "train"


@Parameter(name="*")
@dataclass(frozen=True)
class TrainTrackFlags(TrackFlags):
    """Where a training run is told: by default W&B, offline without a key."""

    track: str = "wandb"


def read_model(model: str, target: Target) -> "Graph":
    """The graph that a command is about: a file, or a bundled graph by name."""
    from graphs.catalogue import resolve
    from graphs.precision import Precision, read_precision, with_precision

    precision = read_precision(target.precision)
    graph = resolve(
        model,
        target.sizes,
        signature=target.signature,
        allow_unknown=target.allow_unknown,
        limits=target.limits,
    )
    if precision == Precision.AUTO and not _has_tf32(model, target):
        return graph
    return with_precision(graph, precision)


def _has_tf32(model: str, target: Target) -> bool:
    if target.cluster is None:
        return False
    cluster = read_cluster(model, target)
    return any("tf32" in device.flops_per_second for device in cluster.devices)


def read_cluster(model: str, target: Target) -> "Cluster":
    """The cluster that a command is about; a benchmark file brings its own."""
    from simulator.cluster_file import load_cluster
    from simulator.clusters.presets import PRESET_NAMES

    if target.cluster is not None:
        return load_cluster(target.cluster)
    if Path(model).suffix.lower() == ".json" and is_file(model):
        return load_cluster(model)
    raise GraphwrightError(
        "which devices? Give --cluster with a preset, such as "
        f"{', '.join(PRESET_NAMES[4:8])}, or a cluster file; `graphwright clusters list` shows "
        "all, `graphwright clusters probe` measures this machine"
    )


def of_plan(plan: Path, target: Target) -> Target:
    """What the flags leave open is as when the plan was made: dimensions, precision,
    signature, and the cluster file that `place` wrote beside it."""
    from placement.plan_file import dimensions_of, flag_of

    if not target.dim:
        sizes = dimensions_of(plan)
        target = replace(target, dim=tuple(f"{name}={size}" for name, size in sizes.items()))
    if target.precision == Target.precision:
        target = replace(target, precision=flag_of(plan, "precision") or target.precision)
    if target.signature is None:
        target = replace(target, signature=flag_of(plan, "signature"))
    beside = plan.parent / "cluster.yaml"
    if target.cluster is None and is_there(plan) and beside.exists():
        target = replace(target, cluster=str(beside))
    return target


def read_rules(rules: ConstraintFlags) -> "Constraints":
    """Constraints from the file, with those of the flags on top."""
    from placement.constraints import Constraints, load_constraints
    from simulator.units import BYTES, parse_quantity

    constraints = load_constraints(rules.constraints) if rules.constraints else Constraints()
    forbidden = {name: tuple(devices) for name, devices in constraints.forbidden.items()}
    for text in rules.forbid:
        name, device = pair(text, "--forbid", "OP=DEVICE")
        forbidden[name] = (*forbidden.get(name, ()), device)
    caps = dict(constraints.memory_caps)
    for text in rules.memory_cap:
        device, size = pair(text, "--memory-cap", "DEVICE=SIZE")
        caps[device] = int(parse_quantity(size, BYTES, f"--memory-cap {text}"))
    return replace(
        constraints,
        pins={**constraints.pins, **dict(pair(text, "--pin", "OP=DEVICE") for text in rules.pin)},
        forbidden=forbidden,
        colocated=(*constraints.colocated, *rules.colocate),
        memory_caps=caps,
    )


def read_simplicity(flags: SimplicityFlags, searches: bool) -> "Simplicity | None":
    """The rules that the flags give; None where there are none and the plan is no search's."""
    from placement.simplicity import Simplicity
    from simulator.units import SECONDS, parse_quantity

    if flags == SimplicityFlags() and not searches:
        return None
    price = flags.crossing_price
    return Simplicity(
        None if flags.min_gain is None else _read_share(flags.min_gain, "--min-gain"),
        0.0 if price is None else parse_quantity(price, SECONDS, f"--crossing-price {price}"),
        flags.max_crossings,
        flags.contiguous,
    )


def _read_share(text: str, flag: str) -> float:
    number, scale = (text[:-1], 0.01) if text.endswith("%") else (text, 1.0)
    if not _is_number(number):
        raise GraphwrightError(f"{flag} {text}: write a share such as 2% or 0.02")
    return float(number) * scale


def read_seconds(text: str, flag: str) -> float:
    """A duration such as 30, 30s or 2min; above zero."""
    from simulator.units import SECONDS, parse_quantity

    seconds = parse_quantity(float(text) if _is_number(text) else text, SECONDS, flag)
    if seconds <= 0:
        raise GraphwrightError(f"{flag} {text}: a budget must be above zero, such as 30s")
    return seconds


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def pair(text: str, flag: str, form: str) -> tuple[str, str]:
    """Split NAME=VALUE at the last equals sign; `form` is shown where there is none."""
    name, separator, value = text.rpartition("=")
    if not separator or not name or not value:
        raise GraphwrightError(f"{flag} {text}: write {flag} {form}")
    return name, value
