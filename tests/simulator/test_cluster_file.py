"""Clusters as YAML: an exact round trip, and a `ClusterError` that helps for anything else."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from graph_samples import random_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster_file import dump_cluster, load_cluster, parse_cluster
from simulator.clusters.cluster import Cluster
from simulator.clusters.presets import PRESET_NAMES, preset
from simulator.errors import ClusterError
from simulator.units import (
    BYTES,
    BYTES_PER_SECOND,
    FLOPS_PER_SECOND,
    SECONDS,
    format_bytes,
    format_seconds,
    parse_quantity,
)

TWO = """\
name: pair
devices:
  - {name: gpu:0, like: v100}
  - {name: gpu:1, like: v100, memory: 8GiB, launch: 3us}
links:
  - {between: ["gpu:0", "gpu:1"], bandwidth: 12GB/s, latency: 10us, channels: [bus]}
"""


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_presets_survive_a_round_trip(name: str) -> None:
    cluster = preset(name)
    again = parse_cluster(dump_cluster(cluster), "text")
    assert again == cluster
    assert again.digest == cluster.digest


@given(st.integers(0, 10_000), st.text(min_size=1, max_size=5).filter(str.isprintable))
def test_any_cluster_survives_a_round_trip(seed: int, name: str) -> None:
    cluster = random_cluster(seed)
    devices = (replace(cluster.devices[0], unsupported=frozenset({"sort"})), *cluster.devices[1:])
    cluster = replace(cluster, name=name, devices=devices)
    assert parse_cluster(dump_cluster(cluster), "text") == cluster


def test_a_short_file() -> None:
    cluster = parse_cluster(TWO, "pair.yaml")
    assert cluster.name == "pair"
    first, second = cluster.devices
    assert (first.memory_bytes, second.memory_bytes) == (16 << 30, 8 << 30)
    assert (first.launch_seconds, second.launch_seconds) == (5e-6, 3e-6)
    assert second.kind == "v100"
    assert [(k.source, k.target) for k in cluster.links] == [
        ("gpu:0", "gpu:1"), ("gpu:1", "gpu:0")
    ]  # fmt: skip
    assert cluster.links[0].bytes_per_second == 12e9
    assert cluster.links[0].latency_seconds == 1e-5
    assert cluster.links[0].channels == ("bus",)


def test_a_device_from_scratch_without_links() -> None:
    text = (
        "devices: [{name: me, memory: 2GiB, flops_per_second: {float32: 1TFLOP/s, float16: 4e12},"
        " memory_bandwidth: 100GB/s, efficiency: {matmul: 0.5}, unsupported: [conv, sort]}]"
    )
    cluster = parse_cluster(text, "/somewhere/mine.yaml")
    (only,) = cluster.devices
    assert (cluster.name, only.kind, only.launch_seconds) == ("mine", "me", 0.0)
    assert only.flops_per_second == {"float32": 1e12, "float16": 4e12}
    assert only.unsupported == {"conv", "sort"}


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("16GiB", BYTES, 16 * 2**30),
        ("16GB", BYTES, 16e9),
        (" 1.5 MiB ", BYTES, 1.5 * 2**20),
        (7, BYTES, 7),
        ("7", BYTES, 7),
        ("12GB/s", BYTES_PER_SECOND, 12e9),
        ("100Gbit/s", BYTES_PER_SECOND, 12.5e9),
        ("15.7TFLOP/s", FLOPS_PER_SECOND, 15.7e12),
        ("1e3GFLOPS", FLOPS_PER_SECOND, 1e12),
        ("10us", SECONDS, 1e-5),
        (".5ms", SECONDS, 5e-4),
        ("2min", SECONDS, 120),
        ("-1", SECONDS, -1),
    ],
)
def test_figures_with_units(text: object, units: dict[str, float], value: float) -> None:
    assert parse_quantity(text, units, "figure") == value


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "12", "1,5GiB", "16gib", "16 G i B", "0x10", "nan", "inf", "1e999", "9" * 400,
     float("nan"), float("inf"), 10**400, -(10**400), True, None, [1], {"a": 1}, "1e5e5",
     "7GiB?", "1e99999999999999999999"],
)  # fmt: skip
def test_what_is_no_figure(text: object) -> None:
    units = {"GiB": 2.0**30}
    with pytest.raises(ClusterError, match=r"^memory: "):
        parse_quantity(text, units, "memory")


def test_figures_for_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1536, 3 << 30, 5 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "3.0 GiB", "5.0 TiB"
    ]  # fmt: skip
    assert [format_seconds(s) for s in (2.5, 0.0123, 4e-6, 5e-9, 0)] == [
        "2.5 s", "12.3 ms", "4 us", "5 ns", "0 ns"
    ]  # fmt: skip


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: pair", "nmae: pair", "unknown key nmae; known are calibration, devices"),
        ("like: v100}", "lke: v100}", "device: unknown key lke; known are efficiency"),
        ("latency", "lag", "link: unknown key lag; known are bandwidth"),
        ("like: v100}", "like: v1000}", "'gpu:0': unknown like 'v1000'; known are p100"),
        (", like: v100}", "}", "missing flops_per_second, memory, memory_bandwidth; give them, or"),
        ("name: gpu:0, ", "", "every device needs a name; found None"),
        ("name: gpu:0", "name: 7", "every device needs a name; found 7"),
        ("name: gpu:1", "name: gpu:0", "device names repeat"),
        ("gpu:1\"]", "gpu:2\"]", "names an unknown device; devices are gpu:0, gpu:1"),
        ("between: [\"gpu:0\", \"gpu:1\"]", "between: [\"gpu:0\"]", "lists two or more devices"),
        ("between: [\"gpu:0\", \"gpu:1\"]", "between: gpu", "lists two or more devices"),
        ("between:", "from: x, between:", "either `between: \\[a, b\\]` or `from` and `to`"),
        ("between: [\"gpu:0\", \"gpu:1\"], ", "", "either `between"),
        ("between: [\"gpu:0\", \"gpu:1\"]", "from: \"gpu:0\", to: \"gpu:1\"", "no link for gpu:1"),
        ("between: [\"gpu:0\", \"gpu:1\"]", "from: \"gpu:0\"", "link gpu:0 -> None names an unkn"),
        ("bandwidth: 12GB/s, ", "", "missing bandwidth"),
        ("12GB/s", ".nan", "link bandwidth: nan is not finite"),
        ("12GB/s", "-12GB/s", "bytes_per_second is -12000000000.0; it must be finite and above"),
        ("12GB/s", "[12]", r"\[12\] is not a figure; write one like 12"),
        ("10us", "10 parsecs", "cannot read '10 parsecs'; write a number and one of s, ms, us"),
        ("10us", "-10us", "latency_seconds is"),
        ("[bus]", "bus", "channels must be a list"),
        ("[bus]", "[bus, bus]", "name one twice"),
        ("8GiB", "0.1", "memory_bytes is 0"),
        ("8GiB", "1e30", "at most 2"),
        ("8GiB", "true", "True is not a figure"),
        ("launch: 3us", "launch: .inf", "inf is not finite"),
        ("launch: 3us", "unsupported: sort", "unsupported must be a list of op kinds"),
        ("launch: 3us", "unsupported: [warp]", "unknown 'warp'"),
        ("launch: 3us", "efficiency: 0.5", "efficiency must map op kinds to figures"),
        ("launch: 3us", "efficiency: {matmul: fast}", "cannot read 'fast'"),
        ("launch: 3us", "flops_per_second: {float33: 1}", "unknown 'float33'"),
        ("name: pair", "schema_version: 2", "schema_version 2; this graphwright reads 1"),
        ("name: pair", "name: !!python/object/apply:os.system [ls]", "not a plain YAML document"),
        ("name: pair", "name: !!python/name:os.system", "not a plain YAML document"),
        ("name: pair", "notes: 2001-13-45", "not a plain YAML document"),
        ("name: pair", "notes: !!int none", "not a plain YAML document"),
        ("name: pair", "notes: !!bool none", "not a plain YAML document"),
        ("name: pair", "notes: !!timestamp none", "not a plain YAML document"),
        ("name: pair", "notes: " + "9" * 5000, "not a plain YAML document"),
        ("name: pair", "notes: " + "[" * 2000, "not a plain YAML document"),
        ("name: pair", "notes: &a [*a]", "aliases expand to more than"),
        ("name: pair", BOMB + "notes: *i", "aliases expand to more than"),
        ("name: pair", "name: \x00", "not a plain YAML document"),
        ("name: pair", "? [a]\n: b", "unknown key|not a plain YAML document"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(old: str, new: str, message: str) -> None:
    assert old in TWO
    with pytest.raises(ClusterError, match=message):
        parse_cluster(TWO.replace(old, new), "pair.yaml")


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "name: x", "devices: 3", "devices: []", "devices: [3]", "---\n---\n"]
)
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(ClusterError):
        parse_cluster(text, "other.yaml")


def test_two_devices_need_links() -> None:
    with pytest.raises(ClusterError, match="'links' must be a list"):
        parse_cluster(TWO[: TWO.index("links")], "pair.yaml")


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text("[]{}:,-&*!?|>'\"%@ \nadv01.e~"))
def test_any_text_is_a_cluster_or_a_cluster_error(text: str) -> None:
    with suppress(ClusterError):
        assert isinstance(parse_cluster(text, "fuzz"), Cluster)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["16GiB", "v100", "gpu:0", "matmul", "1e3"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=120)
@given(st.data())
def test_mutated_documents_are_a_cluster_or_a_cluster_error(data: st.DataObject) -> None:
    document = yaml.safe_load(dump_cluster(preset("2xv100-pcie")))
    targets = [document, *document["devices"], *document["links"]]
    targets.append(document["devices"][0]["flops_per_second"])
    for _ in range(data.draw(st.integers(1, 2))):
        target = data.draw(st.sampled_from(targets))
        target[data.draw(st.sampled_from(sorted(target, key=str)))] = data.draw(VALUES)
    with suppress(ClusterError):
        assert isinstance(parse_cluster(yaml.safe_dump(document), "fuzz"), Cluster)


def test_loading_by_name_or_path(tmp_path: Path) -> None:
    assert load_cluster("2xv100-pcie") == preset("2xv100-pcie")
    path = tmp_path / "pair.yml"
    path.write_text(TWO)
    assert load_cluster(path).name == "pair"
    with pytest.raises(ClusterError, match=r"nowhere.yaml: no such file"):
        load_cluster("nowhere.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClusterError, match="cannot be read as text"):
        load_cluster(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a cluster; a .json cluster is a dnn-partitioning benchmark"),
        ("[]", "not a cluster"),
        ("{}", "not a cluster"),
        ('{"maxSizePerFPGA": 9, "maxFPGAs": 0, "maxCPUs": 0}', "1 to 64 please"),
        ('{"maxSizePerFPGA": 9, "maxFPGAs": 1e300, "maxCPUs": 0}', "1 to 64 please"),
        ('{"maxSizePerFPGA": NaN, "maxFPGAs": 2, "maxCPUs": 0}', "nan is not finite"),
        ('{"maxSizePerFPGA": "9", "maxFPGAs": [], "maxCPUs": 0}', "is not a figure"),
    ],
)
def test_bad_benchmark_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(ClusterError, match=message):
        load_cluster(path)
