"""Estimates of what a team would do instead: by hand."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster

from graphs.graph import Graph
from graphs.kinds import OpKind, Phase
from placement.constraints import Constraints
from placement.place import place
from placement.problem import Problem
from placement.rivals import rivals_of
from placement.rivals.data_parallel import ring_seconds
from simulator.clusters.cluster import Cluster


def training_step() -> Graph:
    """Two layers of 8 and 4 seconds forward, the same backward, gradients of 6 and 2 bytes."""
    graph = graph_of(
        op("f1", 8, output_bytes=16, resident_bytes=100),
        op("f2", 4, ("f1",), 16, resident_bytes=60),
        op("b2", 4, ("f2",), 2),
        op("b1", 8, ("b2", "f1"), 6),
        op("u2", 1, ("b2",), kind=OpKind.OPTIMIZER_UPDATE),
        op("u1", 1, ("b1",), kind=OpKind.OPTIMIZER_UPDATE),
    )
    phases = np.array([Phase.FORWARD] * 2 + [Phase.BACKWARD] * 2 + [Phase.UPDATE] * 2, np.uint8)
    return replace(graph, phases=phases)


def alike(bytes_per_second: float) -> Cluster:
    return toy_cluster(2, bytes_per_second=bytes_per_second)


def test_data_parallel_by_hand() -> None:
    problem = Problem(training_step(), alike(1.0))
    rival = next(item for item in rivals_of(problem) if item.name == "data parallel")
    # Half the batch: 6 s forward, 6 s backward beside 2 * (8 bytes / 2) at 1 byte/s = 8 s, updates.
    assert rival.makespan_seconds == pytest.approx(6 + 8 + 2)
    assert rival.devices == 2
    fast = Problem(training_step(), alike(100.0))
    rival = next(item for item in rivals_of(fast) if item.name == "data parallel")
    assert rival.makespan_seconds == pytest.approx(6 + 6 + 2)
    peak = problem.simulator.evaluate(place(problem.graph, alike(1.0), "single").plan).peak_bytes
    assert rival.peak_bytes == 160 + (max(peak) - 160) // 2


def test_pipeline_by_hand() -> None:
    problem = Problem(training_step(), alike(1.0))
    rival = next(item for item in rivals_of(problem) if item.name == "equal-layers pipeline")
    # With m parts: (m + 1) * (8 + 8) / m, then an update: the more parts the better, 32 at most.
    assert rival.makespan_seconds == pytest.approx(33 * 16 / 32 + 1)
    assert "32 micro-batches" in rival.how


def test_what_does_not_shrink_with_the_batch() -> None:
    graph = replace(training_step(), launches=np.array([1, 1, 1, 1, 1, 1], np.int64))
    cluster = alike(100.0)
    slow = replace(cluster, devices=tuple(replace(d, launch_seconds=3.0) for d in cluster.devices))
    rival = next(item for item in rivals_of(Problem(graph, slow)) if item.name == "data parallel")
    assert rival.makespan_seconds == pytest.approx(6 + 6 + 2 + 6 * 3.0)
    weighty = replace(graph, bytes_read=np.array([100, 0, 0, 0, 0, 0], np.float64))
    rival = next(
        item for item in rivals_of(Problem(weighty, alike(100.0))) if item.name == "data parallel"
    )
    # All that the first op reads are weights: it takes as long on half the batch.
    assert rival.makespan_seconds == pytest.approx(8 + 2 + 6 + 2)


def test_links_of_a_ring_that_share_a_channel_share_its_bandwidth() -> None:
    cluster = toy_cluster(4, bytes_per_second=2.0)
    problem = Problem(training_step(), cluster)
    devices = np.arange(4)
    assert ring_seconds(problem, devices, 8) == pytest.approx(2 * 3 * 8 / 4 / 2.0)
    shared = replace(
        cluster, links=tuple(replace(link, channels=("bus",)) for link in cluster.links)
    )
    crowded = ring_seconds(Problem(training_step(), shared), devices, 8)
    assert crowded == pytest.approx(4 * 2 * 3 * 8 / 4 / 2.0)


def test_only_training_steps_on_alike_devices_have_rivals() -> None:
    graph = training_step()
    inference = replace(graph, phases=np.zeros(6, np.uint8))
    assert rivals_of(Problem(inference, alike(1.0))) == ()
    assert rivals_of(Problem(graph, toy_cluster(1))) == ()
    pinned = Problem(graph, alike(1.0), Constraints(pins={"f1": "d0"}))
    assert rivals_of(pinned) == ()
    tight = rivals_of(Problem(graph, toy_cluster(2, memory_bytes=100)))
    assert not any(rival.feasible for rival in tight if rival.name == "data parallel")
    found = place(graph, alike(100.0), "single").summary()["rivals"]
    assert [row["name"] for row in found] == ["data parallel", "equal-layers pipeline"]
