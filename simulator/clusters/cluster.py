"""Devices and the links between them."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32

from graphs.kinds import DType, OpKind
from simulator.clusters.calibration import Calibration
from simulator.clusters.host_costs import HostCosts
from simulator.errors import ClusterError

#: Which type's peak stands in where a device states none for an op's own type.
_PEAK_FALLBACK = {
    DType.FLOAT16: (DType.BFLOAT16, DType.FLOAT32),
    DType.BFLOAT16: (DType.FLOAT16, DType.FLOAT32),
    DType.FLOAT8: (DType.INT8, DType.FLOAT16, DType.FLOAT32),
    DType.INT8: (DType.FLOAT16, DType.FLOAT32),
    DType.INT4: (DType.INT8, DType.FLOAT16, DType.FLOAT32),
}

#: Leaves room to add up many devices in 64 bits.
MAX_MEMORY_BYTES = 1 << 56


@dataclass(frozen=True)
class Device:
    """One device: a compute stream, copy engines apart from it, and a memory of its own.

    With `host` costs it has no copy engines: its compute stream sends and receives.
    """

    name: str
    kind: str
    """The model, such as `v100`; profiled costs are looked up by it."""
    memory_bytes: int
    flops_per_second: Mapping[str, float]
    """Peak by element type (`float32`, `float16`, ...); `float32` is required."""
    memory_bytes_per_second: float
    launch_seconds: float
    """Fixed cost of starting a kernel."""
    efficiency: Mapping[str, float] = field(default_factory=dict)
    """Share of the roofline that kernels of an op kind reach (`matmul: 0.6`); 1 if unnamed."""
    unsupported: frozenset[str] = frozenset()
    """Op kinds that cannot run here, in lower case."""
    host: HostCosts | None = None
    """For a device without copy engines: what it spends itself on sending, receiving, starting."""

    def __post_init__(self) -> None:
        where = f"device {self.name!r}"
        if not self.name or not self.kind:
            raise ClusterError(f"{where}: a device needs a name and a kind")
        for text in (self.name, self.kind):
            _require_printable(text, where)
        for label in ("memory_bytes", "memory_bytes_per_second"):
            _require_positive(getattr(self, label), f"{where}: {label}")
        if self.memory_bytes > MAX_MEMORY_BYTES:
            raise ClusterError(
                f"{where}: memory_bytes is {self.memory_bytes:.3g}; at most 2^56 can be counted"
            )
        if not (math.isfinite(self.launch_seconds) and self.launch_seconds >= 0):
            raise ClusterError(f"{where}: launch_seconds is {self.launch_seconds}; it must be >= 0")
        if "float32" not in self.flops_per_second:
            raise ClusterError(f"{where}: flops_per_second must name at least float32")
        known_types = {dtype.name.lower() for dtype in DType}
        for name, value in self.flops_per_second.items():
            _require_known(name, known_types, f"{where}: flops_per_second")
            _require_positive(value, f"{where}: flops_per_second of {name}")
        known_kinds = {kind.name.lower() for kind in OpKind}
        for name, value in self.efficiency.items():
            _require_known(name, known_kinds, f"{where}: efficiency")
            _require_positive(value, f"{where}: efficiency of {name}")
        for name in self.unsupported:
            _require_known(name, known_kinds, f"{where}: unsupported")

    def peak_flops_per_second(self, dtype: DType) -> float:
        """Peak for an element type, or for the nearest one that the device states."""
        for candidate in (dtype, *_PEAK_FALLBACK.get(dtype, ()), DType.FLOAT32):
            value = self.flops_per_second.get(candidate.name.lower())
            if value is not None:
                return value
        raise AssertionError("unreachable: float32 is required")


@dataclass(frozen=True)
class Link:
    """A way from one device to another.

    A transfer takes all of the link's channels for `bytes / bandwidth` seconds and arrives one
    latency later; channels that several links name are shared and serve first come, first served.
    A device with `host` costs copies out of the link itself, at the link's pace.
    """

    source: str
    target: str
    bytes_per_second: float
    latency_seconds: float
    channels: tuple[str, ...] = ()
    """Empty: a channel of its own."""

    def __post_init__(self) -> None:
        where = f"link {self.source} -> {self.target}"
        _require_positive(self.bytes_per_second, f"{where}: bytes_per_second")
        if not (math.isfinite(self.latency_seconds) and self.latency_seconds >= 0):
            raise ClusterError(f"{where}: latency_seconds is {self.latency_seconds}; must be >= 0")
        if len(set(self.channels)) != len(self.channels):
            raise ClusterError(f"{where}: channels {self.channels} name one twice")


@dataclass(frozen=True)
class Cluster:
    """Devices, and one link for each ordered pair of them.

    Raises:
        ClusterError: no devices, repeated names, a missing, repeated or stray link.
    """

    name: str
    devices: tuple[Device, ...]
    links: tuple[Link, ...] = ()
    calibration: Calibration | None = None
    """What was measured on the machine whose devices these are."""

    def __post_init__(self) -> None:
        _require_printable(self.name, f"cluster {self.name!r}")
        names = [device.name for device in self.devices]
        if not names:
            raise ClusterError(f"cluster {self.name!r} has no devices; it needs at least one")
        if len(set(names)) != len(names):
            raise ClusterError(f"cluster {self.name!r}: device names repeat: {', '.join(names)}")
        seen: set[tuple[str, str]] = set()
        for link in self.links:
            pair = (link.source, link.target)
            if link.source not in names or link.target not in names:
                raise ClusterError(
                    f"cluster {self.name!r}: link {link.source} -> {link.target} names an unknown "
                    f"device; devices are {', '.join(names)}"
                )
            if link.source == link.target or pair in seen:
                raise ClusterError(
                    f"cluster {self.name!r}: link {link.source} -> {link.target} is a loop "
                    "or a repeat"
                )
            seen.add(pair)
        missing = [(a, b) for a in names for b in names if a != b and (a, b) not in seen]
        if missing:
            shown = ", ".join(f"{a} -> {b}" for a, b in missing[:4])
            raise ClusterError(
                f"cluster {self.name!r}: no link for {shown}{' ...' if missing[4:] else ''}; "
                "each ordered pair of devices needs one"
            )

    @property
    def device_count(self) -> int:
        return len(self.devices)

    @property
    def device_names(self) -> tuple[str, ...]:
        return tuple(device.name for device in self.devices)

    def device_index(self, name: str) -> int:
        """Position of a device.

        Raises:
            ClusterError: no device of that name.
        """
        if name not in self.device_names:
            allowed = ", ".join(self.device_names)
            raise ClusterError(f"cluster {self.name!r} has no device {name!r}; it has {allowed}")
        return self.device_names.index(name)

    @cached_property
    def memory_bytes(self) -> np.ndarray:
        """int64 per device."""
        return np.array([device.memory_bytes for device in self.devices], np.int64)

    @cached_property
    def link_arrays(self) -> "LinkArrays":
        """Links as dense matrices for the simulator."""
        return _link_arrays(self)

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify everything but the cluster's name."""
        document = {
            "devices": self.devices,
            "links": sorted(self.links, key=lambda k: (k.source, k.target)),
        }
        text = json.dumps(document, sort_keys=True, default=_plain)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def with_memory(self, memory_bytes: int) -> "Cluster":
        """The same cluster with that much memory on every device."""
        devices = tuple(replace(device, memory_bytes=memory_bytes) for device in self.devices)
        return replace(self, devices=devices)

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, eq=False)
class LinkArrays:
    """Links by (source, target); the diagonal is unused.

    Planners and bounds read what a transfer takes altogether, the engine its parts: what the link
    takes, and what the receiver does; they are the same where no device has host costs.
    """

    bytes_per_second: Float64[np.ndarray, "devices devices"]
    latency_seconds: Float64[np.ndarray, "devices devices"]
    wire_bytes_per_second: Float64[np.ndarray, "devices devices"]
    """Infinite where the receiver copies."""
    wire_latency_seconds: Float64[np.ndarray, "devices devices"]
    receive_seconds_per_byte: Float64[np.ndarray, "devices devices"]
    """What each byte takes of the receiver's time."""
    channels: Int32[np.ndarray, "devices devices width"]
    """Channel numbers, padded with -1."""
    channel_names: tuple[str, ...]


def _link_arrays(cluster: Cluster) -> LinkArrays:
    count = cluster.device_count
    position = {name: index for index, name in enumerate(cluster.device_names)}
    width = max((max(1, len(link.channels)) for link in cluster.links), default=1)
    bandwidth = np.ones((count, count))
    latency = np.zeros((count, count))
    channels = np.full((count, count, width), -1, np.int32)
    numbers: dict[str, int] = {}
    for link in cluster.links:
        at = (position[link.source], position[link.target])
        bandwidth[at] = link.bytes_per_second
        latency[at] = link.latency_seconds
        for slot, channel in enumerate(link.channels or (f"{link.source}->{link.target}",)):
            channels[(*at, slot)] = numbers.setdefault(channel, len(numbers))
    names = tuple(numbers)
    receive = np.zeros((count, count))
    hosts = [device.host for device in cluster.devices]
    if not any(hosts):
        return LinkArrays(bandwidth, latency, bandwidth, latency, receive, channels, names)
    pace, whole, wire = 1.0 / bandwidth, latency.copy(), bandwidth.copy()
    for end, host in enumerate(hosts):
        if host is not None:
            pace[end] += host.send_seconds_per_byte + host.output_seconds_per_byte
            whole[end] += host.send_seconds + host.border_seconds
            pace[:, end] += host.input_seconds_per_byte
            whole[:, end] += host.receive_seconds + host.border_seconds + host.launch_seconds
            receive[:, end] = 1.0 / bandwidth[:, end]
            wire[:, end] = np.inf
    return LinkArrays(1.0 / pace, whole, wire, latency, receive, channels, names)


def _plain(value: object) -> object:
    if isinstance(value, Device):
        figures = asdict(value)
        if value.host is None:
            del figures["host"]
        return {
            **_floats(figures),
            "memory_bytes": int(value.memory_bytes),
            "unsupported": sorted(value.unsupported),
        }
    if isinstance(value, Link):
        return _floats(asdict(value))
    raise TypeError(f"cannot serialise {type(value).__name__}")


def _floats(values: Mapping[str, Any]) -> dict[str, Any]:
    """Equal figures written alike: 1 as 1.0."""
    return {
        key: float(value)
        if isinstance(value, int)
        else _floats(value)
        if isinstance(value, Mapping)
        else value
        for key, value in values.items()
    }


def _require_positive(value: float, label: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ClusterError(f"{label} is {value}; it must be finite and above zero")


def _require_printable(text: str, where: str) -> None:
    """Names are shown beside figures, so nothing in them may hide or imitate any."""
    if not text.isprintable():
        raise ClusterError(
            f"{where}: the name {text!r} holds characters that cannot be shown; give one of "
            "letters, digits and signs"
        )


def _require_known(name: str, known: set[str], label: str) -> None:
    if name not in known:
        raise ClusterError(f"{label}: unknown {name!r}; known are {', '.join(sorted(known))}")
