"""Clusters: what they refuse, what identifies them, and presets that all simulate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graph_samples import device, random_graph, toy_cluster

from graphs.kinds import DType
from simulator.clusters.cluster import Cluster, Device, Link
from simulator.clusters.device_specs import DEVICE_SPECS, PCIE
from simulator.clusters.presets import PRESET_NAMES, preset
from simulator.errors import ClusterError
from simulator.plan import Plan
from simulator.simulator import simulate


def test_digest_is_that_of_the_content() -> None:
    cluster = toy_cluster(3)
    assert replace(cluster, name="other").digest == cluster.digest
    assert replace(cluster, links=cluster.links[::-1]).digest == cluster.digest
    assert cluster.with_memory(7).digest != cluster.digest
    slower = (*cluster.links[1:], replace(cluster.links[0], latency_seconds=1e-9))
    assert replace(cluster, links=slower).digest != cluster.digest


def test_equal_clusters_have_equal_digests_whether_figures_are_whole_or_not() -> None:
    whole = Cluster("c", (Device("d", "k", 8, {"float32": 1}, 2, 0),))
    real = Cluster("c", (Device("d", "k", 8, {"float32": 1.0}, 2.0, 0.0),))
    assert whole == real
    assert hash(whole) == hash(real)
    assert whole.digest == real.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "needs a name and a kind"),
        ({"kind": ""}, "needs a name and a kind"),
        ({"memory_bytes": 0}, "'d0': memory_bytes is 0; it must be finite and above zero"),
        ({"memory_bytes": 1 << 57}, "at most 2\\^56"),
        ({"memory_bytes_per_second": float("nan")}, "memory_bytes_per_second is nan"),
        ({"memory_bytes_per_second": float("inf")}, "memory_bytes_per_second is inf"),
        ({"launch_seconds": -1.0}, "launch_seconds is -1.0; it must be >= 0"),
        ({"launch_seconds": float("nan")}, "launch_seconds is nan"),
        ({"flops_per_second": {"float16": 1.0}}, "must name at least float32"),
        ({"flops_per_second": {"float32": -1.0}}, "flops_per_second of float32 is -1.0"),
        ({"flops_per_second": {"float32": 1.0, "f8": 1.0}}, "unknown 'f8'; known are bfloat16"),
        ({"efficiency": {"mamtul": 0.5}}, "efficiency: unknown 'mamtul'"),
        ({"efficiency": {"matmul": 0.0}}, "efficiency of matmul is 0.0"),
        ({"unsupported": frozenset({"warp"})}, "unsupported: unknown 'warp'"),
    ],
)
def test_bad_devices(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        replace(device("d0"), **change)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (("a", "b", 0.0, 0.0), "link a -> b: bytes_per_second is 0.0"),
        (("a", "b", float("inf"), 0.0), "bytes_per_second is inf"),
        (("a", "b", 1.0, -1.0), "latency_seconds is -1.0"),
        (("a", "b", 1.0, float("nan")), "latency_seconds is nan"),
        (("a", "b", 1.0, 0.0, ("x", "y", "x")), "name one twice"),
    ],
)
def test_bad_links(link: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        Link(*link)


def test_bad_clusters() -> None:
    devices = toy_cluster(3).devices
    links = toy_cluster(3).links
    for arguments, message in (
        (((), ()), "has no devices"),
        (((devices[0], devices[0]), ()), "device names repeat: d0, d0"),
        ((devices, links[1:]), "no link for d0 -> d1; each ordered pair"),
        ((devices, ()), "no link for d0 -> d1, d0 -> d2, d1 -> d0, d1 -> d2 ...; each"),
        ((devices, (*links, links[0])), "link d0 -> d1 is a loop or a repeat"),
        ((devices, (*links, Link("d0", "d0", 1.0, 0.0))), "link d0 -> d0 is a loop"),
        ((devices[:2], links), "d0 -> d2 names an unknown device; devices are d0, d1"),
    ):
        with pytest.raises(ClusterError, match=message):
            Cluster("c", *arguments)


def test_the_peak_of_a_type_falls_back_to_the_nearest() -> None:
    a100 = preset("1xa100-pcie").devices[0]
    assert a100.peak_flops_per_second(DType.FLOAT32) == 19.5e12
    assert a100.peak_flops_per_second(DType.BFLOAT16) == 312e12
    assert a100.peak_flops_per_second(DType.INT8) == 312e12
    assert a100.peak_flops_per_second(DType.INT64) == 19.5e12


def test_link_matrices() -> None:
    links = toy_cluster(3, bytes_per_second=4.0, latency_seconds=2.0).link_arrays
    off = ~np.eye(3, dtype=bool)
    assert (links.bytes_per_second[off] == 4).all()
    assert (links.latency_seconds[off] == 2).all()
    assert len(links.channel_names) == 6
    assert links.channels[0, 0, 0] == -1


def test_devices_by_name() -> None:
    assert toy_cluster(3).device_index("d2") == 2
    with pytest.raises(ClusterError, match="has no device 'gpu'; it has d0, d1"):
        toy_cluster(2).device_index("gpu")


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_every_preset_simulates(name: str) -> None:
    graph, cluster = random_graph(1, 40, groups=False), preset(name)
    devices = np.arange(40, dtype=np.int32) % cluster.device_count
    trace = simulate(graph, cluster, Plan.of(devices))
    assert 0 < trace.makespan_seconds < 1
    assert trace.evaluation.feasible


def test_preset_layouts() -> None:
    assert preset("4xv100-pcie").device_count == 4
    assert preset("4xv100") == replace(preset("4xv100-pcie"), name="4xv100")
    assert {d.memory_bytes for d in preset("4xv100-pcie@8GiB").devices} == {8 << 30}
    mixed = preset("cpu+1xv100@4GiB")
    assert mixed.device_names == ("cpu:0", "v100:0")
    assert [d.memory_bytes >> 30 for d in mixed.devices] == [256, 4]
    assert preset("2xa100+2xv100-pcie").device_names == ("a100:0", "a100:1", "v100:0", "v100:1")


def test_what_contends_in_presets() -> None:
    def shared(cluster: Cluster, first: tuple[str, str], second: tuple[str, str]) -> set[str]:
        by_pair = {(k.source, k.target): set(k.channels) for k in cluster.links}
        return by_pair[first] & by_pair[second]

    pcie = preset("4xv100-pcie")
    v = pcie.device_names
    assert shared(pcie, (v[0], v[1]), (v[0], v[2])) == {"v100:0/out"}
    assert shared(pcie, (v[0], v[2]), (v[1], v[3])) == {
        "node0/switch0/up", "node0/switch1/down"
    }  # fmt: skip
    assert shared(pcie, (v[0], v[1]), (v[1], v[0])) == set()
    nvlink = preset("4xv100-nvlink")
    assert shared(nvlink, (v[0], v[1]), (v[0], v[2])) == set()
    # Eight V100s have six links each: no card sends more than these, whatever the plan.
    eight = preset("8xv100-nvlink")
    assert shared(eight, ("v100:0", "v100:1"), ("v100:0", "v100:7")) == {"v100:0/out"}
    (rate,) = {link.bytes_per_second for link in eight.links}
    assert rate == 135e9
    (small,) = {link.bytes_per_second for link in preset("5xp100-nvlink").links}
    assert small == 18e9
    assert shared(preset("6xp100-nvlink"), ("p100:0", "p100:1"), ("p100:0", "p100:2"))
    nodes = preset("2x4xa100-ethernet")
    a = nodes.device_names
    assert shared(nodes, (a[0], a[4]), (a[1], a[5])) == {"node0/nic/out", "node1/nic/in"}
    assert shared(nodes, (a[0], a[1]), (a[0], a[4])) == set()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("4xv100-infiniband", "unknown link 'infiniband'; links are pcie, nvlink, ethernet"),
        ("4xz9000-pcie", "unknown device 'z9000'; known are p100"),
        ("nonsense!", "cannot read 'nonsense!'; the form is <n>x<device>-<link>"),
        ("", "cannot read ''"),
        ("0xv100", "between 1 and 64 devices"),
        ("65xv100", "between 1 and 64 devices"),
        ("9999999999999xv100", "between 1 and 64 devices"),
        ("40xv100+40xa100", "between 1 and 64 devices"),
        ("2xt4-nvlink", "has no nvlink; use pcie"),
        ("4xv100@8Gb", "cannot read '8Gb'; write a number and one of B"),
        ("4xv100@-8GiB", "it must be finite and above zero"),
        ("4xv100@9e99GiB", "at most 2\\^56"),
    ],
)
def test_bad_preset_names(name: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        preset(name)


@pytest.mark.parametrize(
    ("name", "gib", "terabytes_per_second"),
    [("8xh200-nvlink", 140, 4.8), ("2xl40s-pcie", 48, 0.864), ("4xl4-pcie", 24, 0.3),
     ("8xmi300x-pcie", 192, 5.3), ("4xa100sxm80-nvlink", 80, 2.039)],
)  # fmt: skip
def test_newer_devices_have_the_figures_of_their_data_sheets(
    name: str, gib: int, terabytes_per_second: float
) -> None:
    cluster = preset(name)
    assert set(cluster.memory_bytes.tolist()) == {gib << 30}
    assert cluster.devices[0].memory_bytes_per_second == terabytes_per_second * 1e12


def test_every_device_has_a_link() -> None:
    assert set(DEVICE_SPECS) <= set(PCIE)
