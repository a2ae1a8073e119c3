"""A run that cannot end before its deadline ends early, and is never taken for one that can."""

import numpy as np
import pytest
from graph_samples import (
    graph_of,
    op,
    random_cluster,
    random_devices,
    random_graph,
    toy_cluster,
    with_hosts,
)
from hypothesis import given
from hypothesis import strategies as st

from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.state import FINISHED, make_engine_state, make_recording
from simulator.simulator import Simulator

#: Bounds are sums in another order than the makespan's.
ROUNDING = 1e-9


def run(
    program: ProgramArrays, devices: np.ndarray, ranks: np.ndarray, deadline: float
) -> tuple[float, list[int], int]:
    """Makespan, peaks, and how many ops ended."""
    state = make_engine_state(program)
    state.deadline[0] = deadline
    ops, count = program.seconds.shape
    recording = make_recording(ops, len(program.tensor_bytes), len(program.consumers))
    peak = np.zeros(count, np.int64)
    seconds = run_kernel(program, state, devices, ranks, peak, recording)
    return seconds, peak.tolist(), int(state.counts[FINISHED])


@given(st.integers(0, 100_000), st.floats(0.0, 2.0))
def test_what_comes_back_is_the_makespan_or_between_deadline_and_makespan(
    seed: int, share: float
) -> None:
    graph, cluster = random_graph(seed, 60), random_cluster(seed)
    if seed % 2:
        cluster = with_hosts(cluster, seed // 2)
    program = Simulator.of(graph, cluster).program.arrays
    devices = random_devices(graph, cluster, seed)
    ranks = np.random.default_rng(seed).permutation(60).astype(np.int32)
    whole, peak, _ = run(program, devices, ranks, np.inf)
    deadline = share * whole * (1 + ROUNDING)
    seconds, seen, _ = run(program, devices, ranks, deadline)
    if share >= 1:
        assert (seconds, seen) == (whole, peak)
    else:
        assert seconds <= whole * (1 + ROUNDING)
        assert seconds == whole or deadline < seconds
        assert all(part <= most for part, most in zip(seen, peak, strict=True))


@pytest.mark.parametrize(
    ("deadline", "seconds", "ended"), [(9.0, 9.0, 3), (8.5, 9.0, 0), (6.0, 9.0, 0)]
)
def test_a_device_with_too_much_to_do_ends_a_run_at_once(
    deadline: float, seconds: float, ended: int
) -> None:
    graph = graph_of(op("a", 4.0), op("b", 5.0), op("c", 1.0))
    program = Simulator.of(graph, toy_cluster(2)).program.arrays
    devices, ranks = np.array([0, 0, 1], np.int32), np.arange(3, dtype=np.int32)
    assert run(program, devices, ranks, deadline) == (seconds, [0, 0], ended)


def test_idle_time_counts_as_it_passes() -> None:
    """`c` waits for `a` until 4: only then it is sure that its device is not done by 8."""
    graph = graph_of(op("a", 4.0, (), 0), op("b", 1.0), op("c", 5.0, ("a",)))
    program = Simulator.of(graph, toy_cluster(2)).program.arrays
    devices, ranks = np.array([0, 1, 1], np.int32), np.arange(3, dtype=np.int32)
    assert run(program, devices, ranks, 8.0)[::2] == (9.0, 2)
    assert run(program, devices, ranks, 9.0)[::2] == (9.0, 3)
