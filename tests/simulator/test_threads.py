"""How many threads score plans, and that what is scored does not depend on it."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster

from placement.problem import Problem
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.threads import pool_of, set_threads, thread_count


@pytest.fixture(autouse=True)
def all_cores_afterwards() -> Iterator[None]:
    yield
    set_threads(0)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the threads that score plans."""
    found: set[str] = set()
    lower = Simulator._lower

    def watched(self: Simulator, plan: Plan) -> object:
        found.add(threading.current_thread().name)
        return lower(self, plan)

    monkeypatch.setattr(Simulator, "_lower", watched)
    return found


def test_a_bound_on_threads_holds_for_the_simulator(used: set[str]) -> None:
    problem = Problem(graph_of(op("a", 1.0), op("b", 1.0)), toy_cluster(2))
    plans = [Plan.of(np.array([i % 2, i // 2 % 2], np.int32)) for i in range(40)]
    set_threads(1)
    alone = problem.simulator.evaluate_many(plans)
    assert used == {threading.current_thread().name}
    set_threads(3)
    together = problem.simulator.evaluate_many(plans)
    assert any(name.startswith("simulator") for name in used)
    assert together.makespan_seconds.tolist() == alone.makespan_seconds.tolist()
    assert pool_of(3) is pool_of(3)  # no new threads for each call


def test_without_a_bound_there_is_a_thread_for_each_core() -> None:
    set_threads(2)
    assert thread_count() == 2
    set_threads(0)
    assert thread_count() >= 1
