"""Clusters by name: `4xv100-pcie`, `2x4xa100-ethernet`, `cpu+1xv100`, `8xh100-nvlink@40GiB`."""

import re
from dataclasses import dataclass, replace

from simulator.clusters.cluster import Cluster, Device, Link
from simulator.clusters.device_specs import (
    DEVICE_SPECS,
    ETHERNET,
    NVLINK,
    NVLINK_PORTS,
    NVLINK_STATED,
    PCIE,
    SWITCHED,
    LinkSpec,
)
from simulator.errors import ClusterError
from simulator.units import BYTES, parse_quantity

#: Presets that lists and tests walk over; any other name of the same form works too.
PRESET_NAMES = (
    "1xv100-pcie",
    "2xp100-pcie",
    "4xp100-pcie",
    "8xp100-pcie",
    "2xv100-pcie",
    "4xv100-pcie",
    "4xv100-nvlink",
    "8xv100-nvlink",
    "4xa100-pcie",
    "8xa100-nvlink",
    "8xh100-nvlink",
    "2x4xa100-ethernet",
    "cpu+1xv100",
    "2xa100+2xv100-pcie",
    "4xv100-pcie@8GiB",
)

_DEVICES_PER_SWITCH = 2
_MAX_DEVICES = 64
_TERM = re.compile(r"(?:(?:(\d+)x)?(\d+)x)?([a-z]+[a-z0-9]*)")
_FORM = (
    "<n>x<device>-<link>, such as 4xv100-pcie; <nodes>x<n>x<device>-ethernet; terms joined by "
    "'+', such as cpu+1xv100 or 2xa100+2xv100-pcie; '@16GiB' behind any for another memory size"
)


@dataclass(frozen=True)
class _Seat:
    """Where one device sits: its node, and its PCIe switch within the node."""

    device: Device
    node: int
    switch: int
    switched: bool = False
    """Whether its NVLinks lead to a switch."""


def preset(name: str) -> Cluster:
    """Build the cluster that a preset name describes.

    PCIe: each device has a channel per direction, and pairs of devices share a switch whose
    uplink carries what goes to other switches. NVLink: point to point on p100 and v100, through
    a full crossbar (one channel per device and direction) on a100 and h100. Ethernet: one card
    per node and direction, NVLink or PCIe inside a node.

    Raises:
        ClusterError: a name of another form, an unknown device or link, too many devices.

    Example:
        >>> preset("2xv100-pcie@8GiB").device_names
        ('v100:0', 'v100:1')
    """
    body, _, memory = name.partition("@")
    layout, _, interconnect = body.partition("-")
    interconnect = interconnect or "pcie"
    if interconnect not in ("pcie", "nvlink", "ethernet"):
        raise ClusterError(
            f"cluster {name!r}: unknown link {interconnect!r}; links are pcie, nvlink, ethernet"
        )
    seats = _seats(name, layout)
    if memory:
        size = int(parse_quantity(memory, BYTES, f"cluster {name!r}: memory"))
        seats = [
            seat
            if seat.device.kind == "cpu"
            else replace(seat, device=replace(seat.device, memory_bytes=size))
            for seat in seats
        ]
    seats = _with_switches(seats)
    links = [
        _link(a, b, interconnect, name) for a in seats for b in seats if a.device is not b.device
    ]
    return Cluster(name, tuple(seat.device for seat in seats), tuple(links))


def _seats(name: str, layout: str) -> list[_Seat]:
    seats: list[_Seat] = []
    counts: dict[str, int] = {}
    first_node = 0
    for term in layout.split("+"):
        match = _TERM.fullmatch(term)
        if match is None:
            raise ClusterError(f"cluster {name!r}: cannot read {term!r}; the form is {_FORM}")
        nodes, per_node, kind = int(match[1] or 1), int(match[2] or 1), match[3]
        if kind not in DEVICE_SPECS:
            raise ClusterError(
                f"cluster {name!r}: unknown device {kind!r}; known are {', '.join(DEVICE_SPECS)}"
            )
        if not 1 <= nodes * per_node <= _MAX_DEVICES - len(seats):
            raise ClusterError(f"cluster {name!r}: between 1 and {_MAX_DEVICES} devices, please")
        for node in range(nodes):
            for _ in range(per_node):
                number = counts.get(kind, 0)
                counts[kind] = number + 1
                device = replace(DEVICE_SPECS[kind], name=f"{kind}:{number}")
                home = first_node + node
                inside = sum(seat.node == home for seat in seats)
                seats.append(_Seat(device, home, inside // _DEVICES_PER_SWITCH))
        if nodes > 1:
            first_node += nodes
    return seats


def _link(a: _Seat, b: _Seat, interconnect: str, cluster: str) -> Link:
    source, target = a.device.name, b.device.name
    if a.node != b.node:
        cards = (f"node{a.node}/nic/out", f"node{b.node}/nic/in")
        return _connect(source, target, ETHERNET, cards)
    fast = {a.device.kind, b.device.kind} <= set(NVLINK)
    if interconnect == "nvlink" and not fast:
        raise ClusterError(
            f"cluster {cluster!r}: {source} or {target} has no nvlink; use pcie, "
            f"or devices among {', '.join(NVLINK)}"
        )
    if fast and interconnect in ("nvlink", "ethernet"):
        spec = _slower(_nvlink(a), _nvlink(b))
        if a.switched and b.switched:
            return _connect(source, target, spec, (f"{source}/out", f"{target}/in"))
        return _connect(source, target, spec, (f"{source}->{target}",))
    channels: tuple[str, ...] = (f"{source}/out", f"{target}/in")
    if a.switch != b.switch:
        uplinks = (f"node{a.node}/switch{a.switch}/up", f"node{b.node}/switch{b.switch}/down")
        channels += uplinks
    return _connect(source, target, _slower(PCIE[a.device.kind], PCIE[b.device.kind]), channels)


def _nvlink(seat: _Seat) -> LinkSpec:
    """What a card reaches over NVLink: to one neighbour, or all of it where a switch joins them."""
    kind = seat.device.kind
    spec = NVLINK[kind]
    share = NVLINK_PORTS[kind] / NVLINK_STATED[kind] if seat.switched else 1.0
    return LinkSpec(spec.bytes_per_second * share, spec.latency_seconds)


def _with_switches(seats: list[_Seat]) -> list[_Seat]:
    """Cards that would need more links than they have, one set for each other card of their node,
    are wired to a switch, as in a DGX-2."""
    wired: list[_Seat] = []
    for seat in seats:
        kind = seat.device.kind
        others = sum(b.node == seat.node and b.device.kind in NVLINK for b in seats) - 1
        needed = others * NVLINK_STATED.get(kind, 0)
        too_many = kind in NVLINK and kind not in SWITCHED and needed > NVLINK_PORTS[kind]
        wired.append(replace(seat, switched=kind in SWITCHED or too_many))
    return wired


def _slower(a: LinkSpec, b: LinkSpec) -> LinkSpec:
    return LinkSpec(
        min(a.bytes_per_second, b.bytes_per_second), max(a.latency_seconds, b.latency_seconds)
    )


def _connect(source: str, target: str, spec: LinkSpec, channels: tuple[str, ...]) -> Link:
    return Link(source, target, spec.bytes_per_second, spec.latency_seconds, channels)
