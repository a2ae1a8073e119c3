"""Clusters as YAML, and the cluster that belongs to a dnn-partitioning benchmark file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from graphs.file_presence import is_file
from graphs.importers.msr_benchmark import NOMINAL_HOP_BYTES_PER_SECOND
from simulator.clusters.calibration import calibration_document, calibration_from
from simulator.clusters.cluster import Cluster, Device, Link
from simulator.clusters.device_specs import DEVICE_SPECS
from simulator.clusters.host_costs import HostCosts
from simulator.clusters.plain_yaml import load_plain_yaml
from simulator.clusters.presets import PRESET_NAMES, preset
from simulator.clusters.topology_matrix import cluster_from_topology, looks_like_topology
from simulator.errors import ClusterError
from simulator.units import (
    BYTES,
    BYTES_PER_SECOND,
    FLOPS_PER_SECOND,
    SECONDS,
    parse_quantity,
)

SCHEMA_VERSION = 1
_MAX_FILE_BYTES = 4 << 20
_TOP_KEYS = {"schema_version", "name", "devices", "links", "notes", "calibration"}
_DEVICE_KEYS = {
    "name", "kind", "like", "memory", "flops_per_second", "memory_bandwidth", "launch",
    "efficiency", "unsupported", "host",
}  # fmt: skip
_LINK_KEYS = {"from", "to", "between", "bandwidth", "latency", "channels"}


#: Clusters that ship with the package as files of their own.
_NAMED = Path(__file__).parent / "clusters" / "named"


def cluster_names() -> tuple[str, ...]:
    """Names that lists walk over: presets, and the clusters that ship as files."""
    return (*PRESET_NAMES, *_named_clusters())


def _named_clusters() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _NAMED.glob("*.yaml")))


def load_cluster(name_or_path: str | Path) -> Cluster:
    """A cluster by name or from a file.

    Files are YAML, a dnn-partitioning benchmark (.json), or saved `nvidia-smi topo -m` output.

    Raises:
        ClusterError: neither a file nor a known name, or a description that cannot be used.

    Example:
        >>> load_cluster("dgx1-v100").device_count
        8
    """
    path = Path(name_or_path)
    if not is_file(path):
        if path.suffix.lower() in (".yaml", ".yml", ".json", ".txt"):
            raise ClusterError(f"{path}: no such file")
        if str(name_or_path) in _named_clusters():
            text = (_NAMED / f"{name_or_path}.yaml").read_text(encoding="utf-8")
            return parse_cluster(text, str(name_or_path))
        return preset(str(name_or_path))
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ClusterError(f"{path}: larger than {_MAX_FILE_BYTES} bytes; not a cluster file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path}: cannot be read as text ({error})") from error
    if path.suffix.lower() == ".json":
        return _benchmark_cluster(text, str(path))
    if looks_like_topology(text):
        return cluster_from_topology(text, path.stem)
    return parse_cluster(text, str(path))


def parse_cluster(text: str, origin: str) -> Cluster:
    """Read a cluster from YAML text; `docs/file_formats.md` describes the keys.

    Raises:
        ClusterError: not YAML, object tags, unknown or missing keys, figures out of range.

    Example:
        >>> text = "devices: [{name: gpu, like: a100}]"
        >>> parse_cluster(text, "text").devices[0].memory_bytes >> 30
        40
    """
    try:
        document = load_plain_yaml(text)
    except ValueError as error:
        raise ClusterError(f"{origin}: not a plain YAML document ({error})") from error
    body = _mapping(document, _TOP_KEYS, origin)
    version = body.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ClusterError(
            f"{origin}: schema_version {version!r:.80}; this graphwright reads {SCHEMA_VERSION}"
        )
    devices = tuple(_device(item, origin) for item in _sequence(body, "devices", origin))
    links: list[Link] = []
    for item in _sequence(body, "links", origin, required=len(devices) > 1):
        links.extend(_links(item, origin))
    measured = None
    if "calibration" in body:
        known = {"machine", "runtime", "costs", "program", "step_seconds", "error"}
        document = _mapping(body["calibration"], known, f"{origin}: calibration")
        measured = calibration_from(document, Path(origin).parent, origin)
    return Cluster(str(body.get("name", Path(origin).stem)), devices, tuple(links), measured)


def _mapping(value: Any, known: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ClusterError(f"{where}: expected keys and values, found {type(value).__name__}")
    unknown = [str(key) for key in value if key not in known]
    if unknown:
        raise ClusterError(
            f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    return value


def _sequence(body: Mapping[str, Any], key: str, where: str, required: bool = True) -> list[Any]:
    value = body.get(key)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise ClusterError(f"{where}: {key!r} must be a list")
    return value


def _device(item: Any, origin: str) -> Device:
    body = _mapping(item, _DEVICE_KEYS, f"{origin}: device")
    name = body.get("name")
    if not isinstance(name, str):
        raise ClusterError(f"{origin}: every device needs a name; found {name!r:.80}")
    where = f"{origin}: device {name!r}"
    base = None
    if "like" in body:
        base = DEVICE_SPECS.get(str(body["like"]))
        if base is None:
            raise ClusterError(
                f"{where}: unknown like {body['like']!r:.80}; known are {', '.join(DEVICE_SPECS)}"
            )
    needed = {"memory", "flops_per_second", "memory_bandwidth"} - set(body)
    if base is None and needed:
        raise ClusterError(
            f"{where}: missing {', '.join(sorted(needed))}; give them, or `like:` a known device"
        )

    def figure(key: str, units: Mapping[str, float], fallback: float) -> float:
        return parse_quantity(body[key], units, f"{where}: {key}") if key in body else fallback

    flops: dict[str, float] = dict(base.flops_per_second) if base else {}
    stated = body.get("flops_per_second", {})
    stated = stated if isinstance(stated, Mapping) else {"float32": stated}
    for dtype, value in stated.items():
        flops[str(dtype)] = parse_quantity(value, FLOPS_PER_SECOND, f"{where}: flops_per_second")
    efficiency: dict[str, float] = dict(base.efficiency) if base else {}
    for kind, value in _plain_mapping(body, "efficiency", where).items():
        efficiency[str(kind)] = parse_quantity(value, {"": 1.0}, f"{where}: efficiency")
    unsupported = body.get("unsupported", [])
    if not isinstance(unsupported, list):
        raise ClusterError(f"{where}: unsupported must be a list of op kinds")
    return Device(
        name=name,
        kind=str(body.get("kind", base.kind if base else name)),
        memory_bytes=int(figure("memory", BYTES, base.memory_bytes if base else 0)),
        flops_per_second=flops,
        memory_bytes_per_second=figure(
            "memory_bandwidth", BYTES_PER_SECOND, base.memory_bytes_per_second if base else 0
        ),
        launch_seconds=figure("launch", SECONDS, base.launch_seconds if base else 0.0),
        efficiency=efficiency,
        unsupported=frozenset(str(kind) for kind in unsupported),
        host=_host(body["host"], where) if "host" in body else None,
    )


def _host(item: Any, where: str) -> HostCosts:
    known = {field.name for field in fields(HostCosts)}
    body = _mapping(item, known, f"{where}: host")
    figures = {
        key: parse_quantity(
            value, {"": 1.0} if key == "contention" else SECONDS, f"{where}: host: {key}"
        )
        for key, value in body.items()
    }
    return HostCosts(**figures)


def _plain_mapping(body: Mapping[str, Any], key: str, where: str) -> Mapping[Any, Any]:
    value = body.get(key, {})
    if not isinstance(value, Mapping):
        raise ClusterError(f"{where}: {key} must map op kinds to figures")
    return value


def _links(item: Any, origin: str) -> list[Link]:
    body = _mapping(item, _LINK_KEYS, f"{origin}: link")
    if ("between" in body) == ("from" in body or "to" in body):
        raise ClusterError(f"{origin}: a link says either `between: [a, b]` or `from` and `to`")
    if "bandwidth" not in body:
        raise ClusterError(f"{origin}: link {dict(body)!s:.120}: missing bandwidth")
    bandwidth = parse_quantity(body["bandwidth"], BYTES_PER_SECOND, f"{origin}: link bandwidth")
    latency = parse_quantity(body.get("latency", 0), SECONDS, f"{origin}: link latency")
    channels = body.get("channels", [])
    if not isinstance(channels, list):
        raise ClusterError(f"{origin}: link channels must be a list of names")
    named = tuple(str(channel) for channel in channels)
    if "between" not in body:
        return [Link(str(body.get("from")), str(body.get("to")), bandwidth, latency, named)]
    ends = body["between"]
    if not isinstance(ends, list) or len(ends) < 2:
        raise ClusterError(f"{origin}: `between` lists two or more devices; found {ends!r:.80}")
    names = [str(end) for end in ends]
    return [Link(a, b, bandwidth, latency, named) for a in names for b in names if a != b]


def dump_cluster(cluster: Cluster) -> str:
    """YAML text that `parse_cluster` reads back to an equal cluster.

    Example:
        >>> cluster = load_cluster("2xv100-pcie")
        >>> parse_cluster(dump_cluster(cluster), "text").digest == cluster.digest
        True
    """
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": cluster.name,
        "devices": [
            {
                "name": device.name,
                "kind": device.kind,
                "memory": device.memory_bytes,
                "flops_per_second": dict(device.flops_per_second),
                "memory_bandwidth": device.memory_bytes_per_second,
                "launch": device.launch_seconds,
                "efficiency": dict(device.efficiency),
                "unsupported": sorted(device.unsupported),
                **({} if device.host is None else {"host": asdict(device.host)}),
            }
            for device in cluster.devices
        ],
        "links": [
            {
                "from": link.source,
                "to": link.target,
                "bandwidth": link.bytes_per_second,
                "latency": link.latency_seconds,
                "channels": list(link.channels),
            }
            for link in cluster.links
        ],
    }
    if cluster.calibration is not None:
        document["calibration"] = calibration_document(cluster.calibration)
    return yaml.safe_dump(document, sort_keys=False)


def _benchmark_cluster(text: str, origin: str) -> Cluster:
    """Accelerators and CPUs of a dnn-partitioning file.

    Transfers are given as milliseconds per hop between an accelerator and host memory, so two
    accelerators are two hops apart, and CPUs share the host's memory.
    """
    try:
        body = json.loads(text)
        memory, accelerators, cpus = (
            body[key] for key in ("maxSizePerFPGA", "maxFPGAs", "maxCPUs")
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ClusterError(
            f"{origin}: not a cluster; a .json cluster is a dnn-partitioning benchmark file with "
            f"maxSizePerFPGA, maxFPGAs and maxCPUs ({error})"
        ) from error
    counts = [int(parse_quantity(n, {"": 1.0}, f"{origin}: devices")) for n in (accelerators, cpus)]
    if min(counts) < 0 or not 1 <= sum(counts) <= 64:
        raise ClusterError(
            f"{origin}: {counts[0]} accelerators and {counts[1]} CPUs; 1 to 64 please"
        )
    size = int(parse_quantity(memory, BYTES, f"{origin}: maxSizePerFPGA"))
    kinds = ["accelerator"] * counts[0] + ["cpu"] * counts[1]
    devices = tuple(
        Device(
            name=f"{kind}:{index if kind == 'accelerator' else index - counts[0]}",
            kind=kind,
            memory_bytes=size if kind == "accelerator" else 1 << 50,
            flops_per_second={"float32": 1.0},
            memory_bytes_per_second=1.0,
            launch_seconds=0.0,
        )
        for index, kind in enumerate(kinds)
    )
    hop = float(NOMINAL_HOP_BYTES_PER_SECOND)
    bandwidth = {2: hop / 2, 1: hop, 0: 1e30}
    links = tuple(
        Link(a.name, b.name, bandwidth[(a.kind != "cpu") + (b.kind != "cpu")], 0.0)
        for a in devices
        for b in devices
        if a is not b
    )
    return Cluster(Path(origin).stem, devices, links)
