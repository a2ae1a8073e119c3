"""A cluster with some figures changed: `device.memory=24GiB`, `link.bandwidth=2x`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulator.clusters.cluster import Cluster, Device, Link
from simulator.errors import ClusterError
from simulator.units import (
    BYTES,
    BYTES_PER_SECOND,
    FLOPS_PER_SECOND,
    SECONDS,
    parse_quantity,
)

_DEVICE: Mapping[str, Mapping[str, float]] = {
    "memory": BYTES,
    "flops": FLOPS_PER_SECOND,
    "memory_bandwidth": BYTES_PER_SECOND,
    "launch": SECONDS,
}
_LINK: Mapping[str, Mapping[str, float]] = {"bandwidth": BYTES_PER_SECOND, "latency": SECONDS}

FORM = (
    "WHAT.PROPERTY=VALUE: WHAT is device (all), a kind such as v100, a device such as v100:0, link "
    f"(all), or a link such as v100:0->v100:1; PROPERTY is {', '.join(_DEVICE)} for devices, "
    f"{', '.join(_LINK)} for links; VALUE is a figure such as 24GiB or a factor such as 2x"
)


def apply_change(cluster: Cluster, settings: Sequence[str]) -> Cluster:
    """Apply settings one after the other; the name of the result tells them.

    A device's `flops` as a factor scales the peaks of all types; as a figure it is the peak of
    float32, and the others keep their ratio to it.

    Raises:
        ClusterError: a setting of another form, or one that names nothing in the cluster.
    """
    for setting in settings:
        cluster = _apply(cluster, setting)
    if settings:
        cluster = replace(cluster, name=f"{cluster.name} with {', '.join(settings)}")
    return cluster


def _apply(cluster: Cluster, setting: str) -> Cluster:
    place, equals, text = setting.partition("=")
    what, dot, name = place.strip().rpartition(".")
    if not equals or not dot or not text.strip():
        raise ClusterError(f"cannot read {setting!r}; write {FORM}")
    if name in _DEVICE:
        devices = [d for d in cluster.devices if what in ("device", d.kind, d.name)]
        if devices:
            new = {d.name: _device(d, name, text.strip(), setting) for d in devices}
            return replace(cluster, devices=tuple(new.get(d.name, d) for d in cluster.devices))
    if name in _LINK:
        links = [k for k in cluster.links if what in ("link", f"{k.source}->{k.target}")]
        if links:
            return replace(
                cluster,
                links=tuple(
                    _link(k, name, text.strip(), setting) if k in links else k
                    for k in cluster.links
                ),
            )
    known = sorted({d.kind for d in cluster.devices} | set(cluster.device_names))
    raise ClusterError(
        f"{setting!r} changes nothing in cluster {cluster.name!r}, which has devices "
        f"{', '.join(known)}; write {FORM}"
    )


def _device(device: Device, name: str, text: str, setting: str) -> Device:
    if name == "memory":
        return replace(device, memory_bytes=int(_value(device.memory_bytes, text, BYTES, setting)))
    if name == "memory_bandwidth":
        old = device.memory_bytes_per_second
        return replace(device, memory_bytes_per_second=_value(old, text, BYTES_PER_SECOND, setting))
    if name == "launch":
        return replace(device, launch_seconds=_value(device.launch_seconds, text, SECONDS, setting))
    peak = device.flops_per_second["float32"]
    factor = _value(peak, text, FLOPS_PER_SECOND, setting) / peak
    peaks = {kind: value * factor for kind, value in device.flops_per_second.items()}
    return replace(device, flops_per_second=peaks)


def _link(link: Link, name: str, text: str, setting: str) -> Link:
    if name == "latency":
        return replace(link, latency_seconds=_value(link.latency_seconds, text, SECONDS, setting))
    old = link.bytes_per_second
    return replace(link, bytes_per_second=_value(old, text, BYTES_PER_SECOND, setting))


def _value(old: float, text: str, units: Mapping[str, float], setting: str) -> float:
    """A factor of the old value, or a figure of its own."""
    if text.endswith("x"):
        try:
            factor = float(text[:-1])
        except ValueError:
            factor = math.nan
        if not (math.isfinite(factor) and factor > 0):
            raise ClusterError(f"{setting}: {text!r} is no factor above zero, such as 2x or 0.5x")
        return old * factor
    return parse_quantity(text, units, setting)
