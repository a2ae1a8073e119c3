"""The clock alone: the event engine's makespan to the last bit, and memory that nothing exceeds."""

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_devices, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.event_engine.clock import make_clock, run_clock
from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.most_memory import most_memory
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.state import NO_RECORDING, make_engine_state
from simulator.simulator import Simulator

#: Bounds are sums in another order than the makespan's.
ROUNDING = 1e-9

Case = tuple[ProgramArrays, np.ndarray, np.ndarray]


def case(seed: int, ops: int = 60) -> Case:
    graph, cluster = random_graph(seed, ops), random_cluster(seed)
    program = Simulator.of(graph, cluster).program.arrays
    ranks = np.random.default_rng(seed).permutation(ops).astype(np.int32)
    return program, random_devices(graph, cluster, seed), ranks


def engine(
    program: ProgramArrays, devices: np.ndarray, ranks: np.ndarray
) -> tuple[float, list[int]]:
    """Makespan and peaks of the whole engine."""
    peak = np.zeros(program.seconds.shape[1], np.int64)
    state = make_engine_state(program)
    return run_kernel(program, state, devices, ranks, peak, NO_RECORDING), peak.tolist()


@settings(max_examples=300)
@given(st.integers(0, 1_000_000), st.integers(1, 120))
def test_it_gives_the_makespan_of_the_engine(seed: int, ops: int) -> None:
    program, devices, ranks = case(seed, ops)
    clock = make_clock(program)
    expected, _ = engine(program, devices, ranks)
    assert run_clock(program, clock, devices, ranks, np.inf) == expected
    other = devices[::-1].copy() if np.isfinite(program.seconds).all() else devices
    run_clock(program, clock, other, ranks[::-1].copy(), expected / 2)
    assert run_clock(program, clock, devices, ranks, np.inf) == expected, "it remembers nothing"


@given(st.integers(0, 100_000), st.floats(0.0, 2.0))
def test_before_a_deadline_it_gives_the_makespan_or_more_than_the_deadline(
    seed: int, share: float
) -> None:
    program, devices, ranks = case(seed)
    whole, _ = engine(program, devices, ranks)
    deadline = share * whole * (1 + ROUNDING)
    seconds = run_clock(program, make_clock(program), devices, ranks, deadline)
    assert seconds == whole or share < 1
    assert seconds <= whole * (1 + ROUNDING)
    assert seconds == whole or deadline < seconds


def test_by_hand() -> None:
    """`a` on one device, what it makes takes 1 + 0.5 seconds to the other, where `c` waits for it
    behind `b`."""
    graph = graph_of(op("a", 4.0, (), 8), op("b", 7.0), op("c", 2.0, ("a",), 0))
    cluster = toy_cluster(2, bytes_per_second=8.0, latency_seconds=0.5)
    program = Simulator.of(graph, cluster).program.arrays
    devices, ranks = np.array([0, 1, 1], np.int32), np.arange(3, dtype=np.int32)
    clock = make_clock(program)
    assert run_clock(program, clock, devices, ranks, np.inf) == 9.0
    assert run_clock(program, clock, devices, ranks, 8.5) == 9.0, "seen when the device begins"
    assert run_clock(program, clock, np.zeros(3, np.int32), ranks, np.inf) == 13.0


def test_a_device_that_cannot_run_an_op_makes_it_infinite() -> None:
    program, devices, ranks = case(0)
    program = program._replace(seconds=program.seconds.copy())
    program.seconds[7, devices[7]] = np.inf
    assert run_clock(program, make_clock(program), devices, ranks, 1.0) == np.inf


@settings(max_examples=200)
@given(st.integers(0, 1_000_000), st.integers(1, 120))
def test_no_order_takes_more_than_the_most_memory(seed: int, ops: int) -> None:
    program, devices, ranks = case(seed, ops)
    count = program.seconds.shape[1]
    most, scratch = np.zeros(count, np.int64), np.zeros(count, np.int64)
    most_memory(program, devices, most, scratch)
    for order in (ranks, ranks[::-1].copy(), np.arange(ops, dtype=np.int32)):
        _, peak = engine(program, devices, order)
        assert all(held <= bound for held, bound in zip(peak, most.tolist(), strict=True))


@pytest.mark.parametrize(
    ("devices", "bytes_held"),
    [
        # Resident 5 and 7, tensors of 8 and 16, the larger workspace of a and b; c takes no time.
        ([0, 0, 0], [5 + 7 + 8 + 16 + 3 + 2, 0]),
        # The tensor of a is there twice.
        ([0, 1, 1], [5 + 8 + 3, 7 + 8 + 16 + 1 + 2]),
    ],
)
def test_most_memory_by_hand(devices: list[int], bytes_held: list[int]) -> None:
    graph = graph_of(
        op("a", 4.0, (), 8, resident_bytes=5, workspace_bytes=3),
        op("b", 7.0, ("a",), 16, resident_bytes=7, workspace_bytes=1),
        op("c", 0.0, ("b",), 0, workspace_bytes=2),
    )
    program = Simulator.of(graph, toy_cluster(2)).program.arrays
    most = np.full(2, 99)
    most_memory(program, np.array(devices, np.int32), most, np.zeros(2, np.int64))
    assert most.tolist() == bytes_held
