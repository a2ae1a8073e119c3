"""Clusters from `nvidia-smi topo -m`, in the forms that machines print."""

import re
from pathlib import Path

import pytest

from simulator.cluster_file import load_cluster
from simulator.clusters.cluster import Cluster, Link
from simulator.clusters.topology_matrix import cluster_from_topology, looks_like_topology
from simulator.errors import ClusterError

LEGEND = """
Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes
  NODE = Connection traversing PCIe as well as the interconnect between host bridges
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  PXB  = Connection traversing multiple PCIe bridges
  PIX  = Connection traversing at most a single PCIe bridge
  NV#  = Connection traversing a bonded set of # NVLinks

NIC Legend:

  NIC0: mlx5_0
  NIC1: mlx5_1
"""


def matrix(header: list[str], rows: dict[str, list[str]]) -> str:
    lines = ["\t" + "\t".join(header)]
    lines += ["\t".join([name, *(code.center(4) for code in row)]) for name, row in rows.items()]
    return "\n".join(lines) + "\n" + LEGEND


def dgx_v100() -> str:
    """The hybrid cube mesh of eight V100s: NV1 or NV2 within reach, SYS or NODE elsewhere."""
    codes = {
        (0, 1): "NV1", (0, 2): "NV1", (0, 3): "NV2", (0, 4): "NV2",
        (1, 2): "NV2", (1, 3): "NV1", (1, 5): "NV2",
        (2, 3): "NV2", (2, 6): "NV1", (3, 7): "NV1",
        (4, 5): "NV1", (4, 6): "NV1", (4, 7): "NV2",
        (5, 6): "NV2", (5, 7): "NV1", (6, 7): "NV2",
    }  # fmt: skip
    header = [*(f"GPU{i}" for i in range(8)), "mlx5_0", "mlx5_1", "CPU Affinity", "NUMA Affinity"]
    rows = {}
    for i in range(8):
        row = ["X" if i == j else codes.get((min(i, j), max(i, j)), "SYS") for j in range(8)]
        affinity = ["0-19,40-59", "0"] if i < 4 else ["20-39,60-79", "1"]
        rows[f"GPU{i}"] = [*row, "PIX" if i < 2 else "SYS", "PHB", *affinity]
    for nic in ("mlx5_0", "mlx5_1"):
        rows[nic] = ["SYS"] * 8 + ["X", "PHB"]
    return matrix(header, rows)


PCIE = matrix(
    ["GPU0", "GPU1", "GPU2", "GPU3", "NIC0", "NIC1", "CPU Affinity", "NUMA Affinity",
     "GPU NUMA ID"],
    {
        "GPU0": ["X", "PIX", "PHB", "SYS", "PIX", "SYS", "0-31", "0", "N/A"],
        "GPU1": ["PIX", "X", "PXB", "SYS", "PHB", "SYS", "0-31", "0", "N/A"],
        "GPU2": ["PHB", "PXB", "X", "NODE", "PHB", "SYS", "0-31", "0", "N/A"],
        "GPU3": ["SYS", "SYS", "NODE", "X", "SYS", "PIX", "32-63", "1", "N/A"],
        "NIC0": ["PIX", "PHB", "PHB", "SYS", "X", "SYS", "", "", ""],
        "NIC1": ["SYS", "SYS", "SYS", "PIX", "SYS", "X", "", "", ""],
    },
)  # fmt: skip


def link(cluster: Cluster, source: int, target: int) -> Link:
    names = cluster.device_names
    pair = (names[source], names[target])
    return next(k for k in cluster.links if (k.source, k.target) == pair)


def test_a_dgx_of_v100s() -> None:
    cluster = cluster_from_topology(dgx_v100(), "dgx", "v100")
    assert cluster.device_names == tuple(f"v100:{i}" for i in range(8))
    single, double, far = link(cluster, 0, 1), link(cluster, 0, 3), link(cluster, 0, 5)
    assert double.bytes_per_second == 2 * single.bytes_per_second
    assert single.bytes_per_second > far.bytes_per_second
    assert single.latency_seconds < far.latency_seconds
    assert single.channels == ()
    assert link(cluster, 5, 0).bytes_per_second == far.bytes_per_second


def test_a_switched_dgx_of_a100s() -> None:
    header = [*(f"GPU{i}" for i in range(8)), "CPU Affinity"]
    rows = {f"GPU{i}": [*("X" if i == j else "NV12" for j in range(8)), "48-63"] for i in range(8)}
    cluster = cluster_from_topology(matrix(header, rows), "dgx", "a100")
    assert len({k.bytes_per_second for k in cluster.links}) == 1
    assert set(link(cluster, 2, 5).channels) == {"a100:2/out", "a100:5/in"}


def test_four_boards_on_pcie_with_network_cards() -> None:
    cluster = cluster_from_topology(PCIE, "server", "t4")
    assert cluster.device_count == 4
    # PIX, PXB, PHB, NODE, SYS: each no faster and no sooner than the one before.
    steps = [link(cluster, *pair) for pair in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3))]
    speeds = [k.bytes_per_second for k in steps]
    delays = [k.latency_seconds for k in steps]
    assert speeds == sorted(speeds, reverse=True)
    assert delays == sorted(delays)
    assert len(set(delays)) == 5
    assert set(link(cluster, 0, 1).channels) == {"t4:0/out", "t4:1/in"}
    assert set(link(cluster, 0, 3).channels) & set(link(cluster, 1, 3).channels) >= {"socket/up"}
    assert not set(link(cluster, 0, 3).channels) & set(link(cluster, 3, 0).channels)


def test_terminals_underline_the_header() -> None:
    underlined = PCIE.replace("GPU0\tGPU1\tGPU2\tGPU3", "\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\x1b[0m")
    assert "\x1b" in underlined
    assert looks_like_topology(underlined)
    assert cluster_from_topology(underlined, "s") == cluster_from_topology(PCIE, "s")


def test_one_gpu() -> None:
    text = matrix(["GPU0", "CPU Affinity"], {"GPU0": ["X", "0-7"]})
    assert cluster_from_topology(text, "one").device_count == 1


def test_more_than_ten_gpus_are_told_apart() -> None:
    header = [*(f"GPU{i}" for i in range(12)), "CPU Affinity"]
    rows = {f"GPU{i}": [*("X" if i == j else "PIX" for j in range(12)), "0"] for i in range(12)}
    assert cluster_from_topology(matrix(header, rows), "many").device_count == 12


def test_saved_output_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "dgx.txt"
    path.write_text(dgx_v100())
    with pytest.raises(ClusterError, match="no such file"):
        load_cluster(tmp_path / "missing.txt")
    path.write_text(PCIE)
    assert load_cluster(path).name == "dgx"
    assert load_cluster(path).devices[0].kind == "a100"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", "a100", "no topology matrix; paste all of `nvidia-smi topo -m`"),
        (LEGEND, "a100", "no topology matrix"),
        (PCIE, "z1", "unknown device 'z1'; known are p100"),
        (re.sub(r"\nGPU3.*", "", PCIE), "a100", "names 4 GPUs, but the matrix has 3 full rows"),
        (re.sub(r"\nGPU2.*", "\nGPU2\tPHB\tPXB", PCIE), "a100", "paste all of"),
        (PCIE.replace("PXB", "ZZZ"), "a100", "unknown code 'ZZZ' between GPU1 and GPU2; known"),
        (PCIE.replace("PXB", "NV4"), "t4", "NV4, but t4 has no nvlink; name another kind"),
    ],
)
def test_what_is_no_matrix(text: str, kind: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        cluster_from_topology(text, "server", kind)


def switched(count: int) -> str:
    """V100s behind NVSwitches: six links to each of the others, of the six that a card has."""
    header = [*(f"GPU{i}" for i in range(count)), "CPU Affinity"]
    rows = {
        f"GPU{i}": [*("X" if i == j else "NV6" for j in range(count)), "0-23"] for i in range(count)
    }
    return matrix(header, rows)


def test_links_beyond_what_a_card_has_share_what_it_has() -> None:
    """All that leaves one V100 of sixteen goes through its six links, 135 GB/s in practice."""
    cluster = cluster_from_topology(switched(16), "dgx2", "v100")
    leaving = [link for link in cluster.links if link.source == "v100:0"]
    assert {link.bytes_per_second for link in leaving} == {135e9}
    assert {link.channels[0] for link in leaving} == {"v100:0/out"}
    mesh = cluster_from_topology(dgx_v100(), "dgx1", "v100")
    bonded = [link for link in mesh.links if link.source == "v100:0" and not link.channels]
    assert sum(link.bytes_per_second for link in bonded) == 135e9


def test_old_drivers_say_soc_for_sys() -> None:
    text = matrix(["GPU0", "GPU1"], {"GPU0": ["X", "SOC"], "GPU1": ["SOC", "X"]})
    newer = cluster_from_topology(text.replace("SOC", "SYS"), "a", "v100")
    assert cluster_from_topology(text, "a", "v100").links == newer.links


def test_texts_whose_white_space_was_lost_or_changed_parse() -> None:
    plain = matrix(["GPU0", "GPU1"], {"GPU0": ["X", "PHB"], "GPU1": ["PHB", "X"]})
    stripped = "\n".join(line.strip() for line in plain.splitlines())
    for text in (stripped, plain.replace("\n", "\r\n"), stripped.replace("\t", "   ")):
        assert looks_like_topology(text)
        found = cluster_from_topology(text, "a", "v100")
        assert found.links == cluster_from_topology(plain, "a", "v100").links


def test_unknown_connections_are_refused_with_a_way_out() -> None:
    text = matrix(["GPU0", "GPU1"], {"GPU0": ["X", "N/A"], "GPU1": ["N/A", "X"]})
    with pytest.raises(ClusterError, match="name a preset"):
        cluster_from_topology(text, "wsl", "v100")
