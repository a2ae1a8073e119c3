"""Largest loads: by hand, by brute force, and the benchmark's published optima."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_samples import graph_of, op, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

import graphs
from graphs.graph import Graph
from graphs.importers.msr_benchmark import NOMINAL_HOP_BYTES_PER_SECOND
from graphs.kinds import Phase
from placement.problem import Problem
from placement.throughput import (
    LoadProblem,
    best_contiguous_split,
    device_loads,
    load_problem,
    search_loads,
)
from placement.throughput.ideals import ideals_of, nodes_of
from placement.throughput.loads import fits
from placement.throughput.starts import simple_splits
from simulator.cluster_file import load_cluster
from simulator.errors import InfeasibleError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "msr"


def loads_of(graph: Graph, devices: int, memory_bytes: int = 1 << 40) -> LoadProblem:
    """Hops take a second for each byte."""
    return load_problem(Problem(graph, toy_cluster(devices, memory_bytes)), 1.0)


def test_a_tensor_leaves_once_and_comes_in_once_for_each_device() -> None:
    graph = graph_of(op("a", 5, output_bytes=2), *(op(f"r{i}", 1, ("a",), 0) for i in range(4)))
    loads = device_loads(loads_of(graph, 3), np.array([0, 1, 1, 2, 0], np.int32))
    assert loads.tolist() == [5 + 1 + 2, 2 + 2, 1 + 2]


def test_cpu_cores_do_not_pay_for_transfers() -> None:
    cluster = toy_cluster(2)
    cluster = replace(
        cluster, devices=(cluster.devices[0], replace(cluster.devices[1], kind="cpu"))
    )
    graph = graph_of(op("a", 5, output_bytes=2), op("b", 1, ("a",)))
    problem = load_problem(Problem(graph, cluster), 1.0)
    assert device_loads(problem, np.array([0, 1], np.int32)).tolist() == [7, 1]


def contiguous_optimum(loads: LoadProblem) -> float:
    """All placements whose stages can be put in an order that keeps what comes before."""
    best = np.inf
    for choice in itertools.product(range(loads.device_count), repeat=loads.unit_count):
        devices = np.array(choice, np.int32)
        if not fits(loads, devices):
            continue
        ranks = itertools.permutations(range(loads.device_count))
        ordered = any(
            all(
                order[devices[other]] <= order[devices[unit]]
                for unit, earlier in enumerate(loads.before)
                for other in earlier
            )
            for order in ranks
        )
        if ordered:
            best = min(best, float(device_loads(loads, devices).max()))
    return best


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_exact_split_is_the_best_of_all(seed: int, tight: bool) -> None:
    rng = np.random.default_rng(seed)
    names = [f"n{i}" for i in range(7)]
    records = [
        op(
            name,
            float(rng.integers(1, 9)),
            tuple(rng.choice(names[:at], rng.integers(1, min(at, 3) + 1), replace=False).tolist())
            if at
            else (),
            int(rng.integers(0, 4)),
            resident_bytes=int(rng.integers(0, 10)),
        )
        for at, name in enumerate(names)
    ]
    loads = loads_of(graph_of(*records), 3, memory_bytes=18 if tight else 1000)
    wanted = contiguous_optimum(loads)
    if np.isinf(wanted):
        with pytest.raises(InfeasibleError, match="no split into contiguous stages"):
            best_contiguous_split(loads)
        return
    found = best_contiguous_split(loads)
    assert found is not None
    assert found.seconds == pytest.approx(wanted)
    assert fits(loads, found.devices)
    assert device_loads(loads, found.devices).max() == pytest.approx(wanted)


def test_backward_ops_follow_their_forward_ops() -> None:
    graph = graph_of(
        op("f1", 4, output_bytes=1, colocation="one"),
        op("f2", 4, ("f1",), 1, colocation="two"),
        op("b2", 4, ("f2",), 1, colocation="two"),
        op("b1", 4, ("b2",), 1, colocation="one"),
    )
    phases = np.array([0, 0, Phase.BACKWARD, Phase.BACKWARD], np.uint8)
    loads = loads_of(replace(graph, phases=phases), 2)
    found = best_contiguous_split(loads)
    assert found is not None
    # Eight seconds of work, one tensor out and one in for each of the two.
    assert found.seconds == 8 + 2


def test_too_many_ideals_are_not_listed() -> None:
    wide = graph_of(*(op(f"a{i}", 1) for i in range(12)))
    nodes = nodes_of(loads_of(wide, 2))
    assert ideals_of(nodes, most=4096) is not None
    assert ideals_of(nodes, most=4095) is None
    assert best_contiguous_split(loads_of(wide, 2), most=100) is None


@pytest.mark.parametrize("seed", range(5))
def test_search_is_no_worse_than_its_starts_and_finds_small_optima(seed: int) -> None:
    loads = loads_of(random_graph(seed, 8), 2)
    starts = simple_splits(loads, seed)
    floor = min(float(device_loads(loads, start).max()) for start in starts)
    found = search_loads(loads, starts, cpu_seconds=0.3, seed=seed)
    best = min(
        float(device_loads(loads, np.array(choice, np.int32)).max())
        for choice in itertools.product(range(2), repeat=loads.unit_count)
    )
    reached = float(device_loads(loads, found).max())
    assert reached <= floor
    assert reached == pytest.approx(best)


@pytest.mark.parametrize(
    ("name", "optimum", "ideals"),
    [("layer_gnmt_training", 107.0, 17_914), ("operator_bert_l-3_training", 65.30, 2_774)],
)
def test_published_optima(name: str, optimum: float, ideals: int) -> None:
    """Tarnawski et al., NeurIPS 2020, table 2: the best contiguous splits."""
    path = DATA / f"{name}.json"
    problem = Problem(graphs.load(path), load_cluster(path))
    loads = load_problem(problem, NOMINAL_HOP_BYTES_PER_SECOND)
    found = best_contiguous_split(loads)
    assert found is not None
    assert found.ideals == ideals
    assert found.seconds * 1e3 == pytest.approx(optimum, abs=0.01)
    better = search_loads(loads, [found.devices], cpu_seconds=1.0, seed=0)
    assert device_loads(loads, better).max() <= found.seconds


def test_the_command_writes_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "graphs" / "below"
    folder.mkdir(parents=True)
    name = "operator_bert_l-3_training.json"
    (folder / name).write_bytes((DATA / name).read_bytes())
    (folder / "expert.json").write_text("{}")
    out = tmp_path / "out.json"
    command = ROOT / "benchmarks" / "quality" / "msr_throughput.py"
    words = [str(folder.parent), "--budget", "0.5s", "--json", str(out)]
    subprocess.run([sys.executable, str(command), *words], check=True, cwd=ROOT)
    (row,) = json.loads(out.read_text()).values()
    assert set(json.loads(out.read_text())) == {f"below/{name}"}
    assert row["dp_milliseconds"] == pytest.approx(65.30, abs=0.01)
    assert row["one_device_milliseconds"] == pytest.approx(122.99, abs=0.01)
    assert row["milliseconds"] <= row["dp_milliseconds"]
