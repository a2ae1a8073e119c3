"""The safety net itself: shapes are checked, foreign packages are refused, W&B stays offline."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import shape_checks
from graph_samples import graph_of, op, toy_cluster

from placement.heuristics.layers import contiguous
from placement.heuristics.list_scheduling import ListScheduling, schedule
from placement.problem import Problem
from simulator.errors import KernelInputError
from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.state import make_engine_state
from simulator.plan import Plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def expected_violation() -> Iterator[list[str]]:
    yield shape_checks.violations
    shape_checks.violations.clear()


def test_a_wrong_element_type_is_caught(expected_violation: list[str]) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        Plan(np.zeros(2, np.int64), np.zeros(2), np.zeros(2, np.int32))
    assert "'devices'" in expected_violation[0]


def test_a_wrong_shape_is_caught(expected_violation: list[str]) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        Plan(np.zeros(2, np.int32), np.zeros(3), np.zeros(2, np.int32))
    assert expected_violation


def test_a_violation_counts_even_where_it_is_swallowed(expected_violation: list[str]) -> None:
    problem = Problem(graph_of(op("a", 1)), toy_cluster(2))
    with suppress(TypeError):
        contiguous(problem, np.zeros(1), np.zeros(1), np.zeros(2, np.int64), np.ones(2))
    assert "device_order" in expected_violation[0]


def test_all_modules_are_checked_but_packages_own() -> None:
    modules = shape_checks.checked_modules(ROOT)
    assert {"graphs.graph", "simulator.event_engine.kernel", "placement.annealing.anneal"} <= set(
        modules
    )
    assert not set(modules) & {"graphs", "simulator", "placement", "envs", "agent"}


def test_beside_kernels_too_a_wrong_element_type_is_caught(expected_violation: list[str]) -> None:
    problem = Problem(graph_of(op("a", 1)), toy_cluster(2))
    with suppress(TypeError, KernelInputError):
        schedule(problem, np.zeros(1), ListScheduling())
    assert "order" in expected_violation[0]


def test_kernels_are_compiled_as_they_are_written() -> None:
    dispatcher: Any = run_kernel  # numba, which makes it, has no types
    assert not hasattr(dispatcher.py_func, "__wrapped__")
    assert hasattr(make_engine_state, "__wrapped__")


def test_wandb_is_offline_and_writes_to_a_temporary_folder() -> None:
    assert os.environ["WANDB_MODE"] == "offline"
    assert "WANDB_API_KEY" not in os.environ
    assert not Path(os.environ["WANDB_DIR"]).is_relative_to(ROOT)
