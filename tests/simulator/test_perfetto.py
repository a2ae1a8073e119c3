"""Traces for Perfetto: what is in them, and that no slice is lost for overlapping another."""

import json
import platform
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_devices, random_graph, toy_cluster
from hypothesis import given
from hypothesis import strategies as st

from graphs.graph import Graph
from simulator.clusters.cluster import Cluster
from simulator.clusters.presets import preset
from simulator.errors import TraceError
from simulator.plan import Plan
from simulator.simulator import Simulator, simulate
from simulator.traces.perfetto import perfetto_json
from simulator.traces.trace import Trace
from simulator.traces.trace_merge import merged_traces, read_trace
from simulator.traces.trace_text import trace_text


class Irregular:
    """Times that are no whole number of nanoseconds."""

    name = "irregular"

    def seconds(self, graph: Graph, cluster: Cluster) -> np.ndarray:
        rng = np.random.default_rng(graph.op_count)
        return rng.integers(0, 2, (graph.op_count, 1)) * rng.random(
            (graph.op_count, cluster.device_count)
        ) * 1e-7  # fmt: skip


def two_devices() -> Trace:
    """a 0-1 on d0; 4 bytes 1-5 and 2 s of latency; b 7-9 on d1."""
    graph = graph_of(op("a", 1, output_bytes=4), op("b", 2, ("a",), 3))
    cluster = toy_cluster(2, latency_seconds=2)
    return simulate(graph, cluster, Plan.of(np.array([0, 1])))


def random_trace(seed: int) -> Trace:
    graph, cluster = random_graph(seed, 50), random_cluster(seed)
    simulator = Simulator(graph, cluster, Irregular())
    return simulator.trace(Plan.of(random_devices(graph, cluster, seed)))


def events(trace: Trace, phase: str) -> list[dict[str, Any]]:
    return [e for e in json.loads(perfetto_json(trace))["traceEvents"] if e["ph"] == phase]


def nanoseconds(microseconds: float) -> int:
    """As Perfetto reads them."""
    return round(microseconds * 1000)


def test_slices_of_a_small_trace() -> None:
    slices = [(e["name"], e["cat"], e["pid"], e["tid"], e["ts"], e["dur"])
              for e in events(two_devices(), "X")]  # fmt: skip
    assert slices == [
        ("a", "matmul", 1, 0, 0, 1e6),
        ("b", "matmul", 2, 0, 7e6, 2e6),
        ("a", "transfer", 3, 0, 1e6, 4e6),
    ]


def test_transfers_tell_their_bytes_wait_and_arrival() -> None:
    (transfer,) = (e for e in events(two_devices(), "X") if e["cat"] == "transfer")
    assert transfer["args"] == {"bytes": 4, "waited_seconds": 0.0, "arrives_seconds": 7.0}


def test_tracks_have_names() -> None:
    names = [(e["name"], e["pid"], e["tid"], e["args"]["name"])
             for e in events(two_devices(), "M")]  # fmt: skip
    assert names == [
        ("process_name", 1, 0, "d0 (toy)"),
        ("thread_name", 1, 0, "compute"),
        ("process_name", 2, 0, "d1 (toy)"),
        ("thread_name", 2, 0, "compute"),
        ("process_name", 3, 0, "links"),
        ("thread_name", 3, 0, "d0 -> d1"),
    ]


def test_memory_is_a_counter_per_device() -> None:
    counters = [(e["pid"], e["ts"], e["args"]["bytes"]) for e in events(two_devices(), "C")]
    assert counters == [
        (1, 0, 4), (1, 7e6, 0),
        (2, 0, 0), (2, 1e6, 4), (2, 7e6, 7), (2, 9e6, 0),
    ]  # fmt: skip


def test_the_document_says_where_it_comes_from() -> None:
    trace = two_devices()
    assert json.loads(perfetto_json(trace))["otherData"] == {
        "graph": "sample",
        "digest": trace.graph.digest,
        "cluster": "toy-2",
        "source": "simulated",
    }


@given(st.integers(0, 100_000))
def test_slices_of_a_track_never_overlap(seed: int) -> None:
    trace = random_trace(seed)
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in events(trace, "X"):
        span = (nanoseconds(event["ts"]), nanoseconds(event["dur"]))
        tracks.setdefault((event["pid"], event["tid"]), []).append(span)
    assert sum(map(len, tracks.values())) == np.count_nonzero(trace.end > trace.start) + len(
        trace.transfer_tensors
    )
    for spans in tracks.values():
        assert all(start >= 0 and length >= 0 for start, length in spans)
        for (start, length), (following, _) in pairwise(sorted(spans)):
            assert start + length <= following
    described = {(e["pid"], e["tid"]) for e in events(trace, "M") if e["name"] == "thread_name"}
    assert set(tracks) <= described
    assert all(e["ts"] >= 0 for e in events(trace, "C"))


def _trace_processor() -> str | None:
    """Perfetto's own program, if it is on the path or was downloaded before."""
    cache = Path.home() / ".local" / "share" / "perfetto" / "prebuilts"
    cached = sorted(cache.glob("trace_processor_shell-*[!p]"))  # not a broken download (.tmp)
    return shutil.which("trace_processor_shell") or (str(cached[-1]) if cached else None)


@pytest.mark.skipif(
    _trace_processor() is None or platform.system() != "Linux",
    reason="Perfetto downloads its trace processor on first use, and tests do not download",
)
def test_perfetto_itself_reads_everything(tmp_path: Path) -> None:
    from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

    path = tmp_path / "trace.json"
    trace = random_trace(11)
    path.write_text(perfetto_json(trace))
    config = TraceProcessorConfig(bin_path=_trace_processor())
    with TraceProcessor(trace=str(path), config=config) as processor:
        (row,) = processor.query("select count(*) as slices from slice")
        assert row.slices == len(events(trace, "X"))
        problems = "select name, value from stats where severity = 'error' and value > 0"
        assert [(row.name, row.value) for row in processor.query(problems)] == []


def test_traces_as_text() -> None:
    text = trace_text(two_devices(), width=9)
    assert text.splitlines() == [
        "d0 |█        |  11% busy, peak 4 B",
        "d1 |       ██|  22% busy, peak 7 B",
        "1 transfers, 4 B",
        "critical path 9 s: compute 3 s, transfers 6 s, 3 steps",
    ]


@given(st.integers(0, 100_000))
def test_any_trace_has_a_text(seed: int) -> None:
    trace = random_trace(seed)
    assert len(trace_text(trace).splitlines()) == trace.cluster.device_count + 2


def test_a_step_that_takes_no_time_has_a_text() -> None:
    trace = simulate(graph_of(op("a", 0)), toy_cluster(2), Plan.of(np.zeros(1, np.int32)))
    assert trace.makespan_seconds == 0
    assert "0% busy" in trace_text(trace)
    assert json.loads(perfetto_json(trace))


def test_two_traces_lie_one_below_the_other(tmp_path: Path) -> None:
    """Every slice of both is there, on tracks of its own, under the name of its run."""
    graph = graph_of(op("a", 1e12, (), 1 << 20), op("b", 1e12, ("a",), 10))
    cluster = preset("2xv100-pcie")
    texts = [
        perfetto_json(simulate(graph, cluster, Plan.of(np.array(devices))))
        for devices in ([0, 1], [0, 0])
    ]
    merged = json.loads(merged_traces([("simulated", texts[0]), ("measured", texts[1])]))
    events = merged["traceEvents"]
    names = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert {"simulated: v100:0 (v100)", "measured: v100:0 (v100)"} <= names
    slices = [e for e in events if e["ph"] == "X"]
    parts = [[e for e in json.loads(t)["traceEvents"] if e["ph"] == "X"] for t in texts]
    assert len(slices) == sum(map(len, parts))
    first = {e["pid"] for e in slices[: len(parts[0])]}
    assert first.isdisjoint({e["pid"] for e in slices[len(parts[0]) :]})
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(TraceError, match="no Chrome trace"):
        read_trace(tmp_path / "t.json")
