"""Clusters from what `nvidia-smi topo -m` prints."""

import re
from dataclasses import dataclass, replace

from simulator.clusters.cluster import Cluster, Link
from simulator.clusters.device_specs import (
    DEVICE_SPECS,
    NVLINK,
    NVLINK_PORTS,
    NVLINK_STATED,
    PCIE,
)
from simulator.errors import ClusterError

_DEFAULT_KIND = "a100"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
#: Where the matrix gives the links of a pair of devices.
_POINT_TO_POINT = ("p100", "v100")


@dataclass(frozen=True)
class _Path:
    """How a code of the matrix maps to a link: share of PCIe bandwidth, latency, shared channel."""

    share: float
    extra_seconds: float
    crosses: str


#: Codes by distance, nearest first, as nvidia-smi's legend explains them.
_PATHS = {
    "PIX": _Path(1.0, 0.0, ""),
    "PXB": _Path(1.0, 1e-6, "switch"),
    "PHB": _Path(0.9, 2e-6, "host"),
    "NODE": _Path(0.8, 3e-6, "host"),
    "SYS": _Path(0.6, 6e-6, "socket"),
    "SOC": _Path(0.6, 6e-6, "socket"),  # what drivers before 2018 print for SYS
}


def looks_like_topology(text: str) -> bool:
    """Whether a text has the header line of a topology matrix."""
    return any(_is_header(line) for line in _ANSI.sub("", text).splitlines())


def _is_header(line: str) -> bool:
    """Whether a line names the columns; a row has a code behind its name, or X for itself."""
    words = line.split()
    return words[:1] == ["GPU0"] and words[1:2] not in ([], ["X"])


def cluster_from_topology(text: str, name: str, kind: str = _DEFAULT_KIND) -> Cluster:
    """Build a cluster from the matrix; `kind` is the GPU model, which the matrix does not tell.

    Raises:
        ClusterError: no matrix in the text, a row cut short, an unknown code or device kind.
    """
    if kind not in DEVICE_SPECS:
        raise ClusterError(f"{name}: unknown device {kind!r}; known are {', '.join(DEVICE_SPECS)}")
    rows = _rows(_ANSI.sub("", text), name)
    names = [f"{kind}:{index}" for index in range(len(rows))]
    links = tuple(
        _link(row[j], names, i, j, kind, _is_switched(row, kind), name)
        for i, row in enumerate(rows)
        for j in range(len(rows))
        if i != j
    )
    devices = tuple(replace(DEVICE_SPECS[kind], name=label) for label in names)
    return Cluster(name, devices, links)


def _rows(text: str, name: str) -> list[list[str]]:
    lines = text.splitlines()
    header = next((line for line in lines if _is_header(line)), None)
    if header is None:
        raise ClusterError(f"{name}: no topology matrix; paste all of `nvidia-smi topo -m`")
    count = len(re.findall(r"\bGPU\d+\b", header.split("CPU")[0]))
    rows = [
        line.split()[1 : count + 1]
        for line in lines
        if re.match(r"\s*GPU\d+\s", line) and line is not header
    ]
    if len(rows) != count or any(len(row) < count for row in rows):
        raise ClusterError(
            f"{name}: the header names {count} GPUs, but the matrix has {len(rows)} full rows; "
            "paste all of `nvidia-smi topo -m`"
        )
    return rows


def _is_switched(row: list[str], kind: str) -> bool:
    """Whether a device's links lead to a switch: it has fewer than its row adds up to."""
    bonded = [int(code[2:]) for code in row if re.fullmatch(r"NV\d+", code)]
    return kind not in _POINT_TO_POINT or sum(bonded) > NVLINK_PORTS[kind]


def _link(
    code: str, names: list[str], i: int, j: int, kind: str, switched: bool, origin: str
) -> Link:
    source, target = names[i], names[j]
    if bonded := re.fullmatch(r"NV(\d+)", code):
        if kind not in NVLINK:
            raise ClusterError(f"{origin}: {code}, but {kind} has no nvlink; name another kind")
        spec, links = NVLINK[kind], max(1, min(int(bonded[1]), NVLINK_PORTS[kind]))
        share = links / NVLINK_STATED[kind]
        shared = (f"{source}/out", f"{target}/in") if switched else ()
        return Link(source, target, spec.bytes_per_second * share, spec.latency_seconds, shared)
    path = _PATHS.get(code)
    if code == "N/A":
        raise ClusterError(
            f"{origin}: N/A between GPU{i} and GPU{j}: the driver does not tell how they are "
            "connected, as under WSL; name a preset such as 2xa100-pcie, or write a cluster file"
        )
    if path is None:
        raise ClusterError(
            f"{origin}: unknown code {code!r} between GPU{i} and GPU{j}; "
            f"known are NV<n>, {', '.join(_PATHS)}"
        )
    spec = PCIE.get(kind, PCIE["a100"])
    channels: tuple[str, ...] = (f"{source}/out", f"{target}/in")
    if path.crosses:
        channels += (f"{path.crosses}/{'up' if i < j else 'down'}",)
    return Link(
        source,
        target,
        spec.bytes_per_second * path.share,
        spec.latency_seconds + path.extra_seconds,
        channels,
    )
