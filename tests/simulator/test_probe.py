"""Probing the machine at hand gives a cluster that can be written, read and simulated on."""

import os

import numpy as np
from graph_samples import random_graph

from simulator.cluster_file import dump_cluster, parse_cluster
from simulator.clusters.probe import probe_machine
from simulator.plan import Plan
from simulator.simulator import simulate


def test_probed_figures_are_those_of_a_computer() -> None:
    before = dict(os.environ)
    cluster = probe_machine(max_devices=2)
    assert cluster.device_count == min(2, len(os.sched_getaffinity(0)))
    for device in cluster.devices:
        assert 1e8 < device.flops_per_second["float32"] < 1e13
        assert 1e7 < device.memory_bytes_per_second < 1e13
        assert 1e-9 < device.launch_seconds < 1e-2
        assert 1 << 20 < device.memory_bytes < 1 << 50
    for link in cluster.links:
        assert 1e5 < link.bytes_per_second < 1e13
        assert 1e-8 < link.latency_seconds < 1
    assert dict(os.environ) == before
    assert parse_cluster(dump_cluster(cluster), "text") == cluster
    graph = random_graph(2, 30, groups=False)
    devices = np.arange(30, dtype=np.int32) % cluster.device_count
    assert simulate(graph, cluster, Plan.of(devices)).makespan_seconds > 0
