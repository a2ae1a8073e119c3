"""Kernels compiled with bounds checks: their own tests once more, and an index that is caught.

Kernels are compiled when they are imported, so that all this happens in other processes, with a
cache of machine code of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graph_samples import random_graph, toy_cluster

from placement.problem import Problem
from simulator.compiled import BOUNDS_CHECKS, CHECKS_BOUNDS
from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.state import make_engine_state, make_recording

ROOT = Path(__file__).resolve().parents[2]

needs_checks = pytest.mark.skipif(not CHECKS_BOUNDS, reason=f"{BOUNDS_CHECKS} is not set")
starts_them = pytest.mark.skipif(CHECKS_BOUNDS, reason="this is the process with checks")


@needs_checks
@pytest.mark.parametrize("missing", ["ops", "edges"])
def test_a_recording_that_is_one_too_short_is_caught(missing: str) -> None:
    """Called as `Simulator` never does, past the checks at the entry."""
    p = Problem(random_graph(0, 40), toy_cluster(3)).simulator.program.arrays
    ops, tensors, edges = len(p.seconds), len(p.tensor_bytes), len(p.consumers)
    devices, ranks = np.arange(ops, dtype=np.int32) % 3, np.arange(ops, dtype=np.int32)
    peak = np.zeros(3, np.int64)
    whole = make_recording(ops, tensors, edges)
    run_kernel(p, make_engine_state(p), devices, ranks, peak, whole)
    if missing == "ops":
        short = make_recording(ops - 1, tensors, edges)
    else:
        sent = int((whole.copy_tensor[tensors:] >= 0).sum())
        short = make_recording(ops, tensors, sent - 1)
    with pytest.raises(IndexError, match="out of bounds"):
        run_kernel(p, make_engine_state(p), devices, ranks, peak, short)


def passes_with_checks(*arguments: str, cache: Path) -> str:
    """What pytest says of the tests, run once more in a process with bounds checks."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={
            **os.environ,
            BOUNDS_CHECKS: "1",
            "NUMBA_CACHE_DIR": str(cache),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@starts_them
def test_the_engine_stays_within_its_arrays(tmp_path: Path) -> None:
    told = passes_with_checks(
        "tests/simulator/test_checked_indices.py",
        "tests/simulator/test_clock.py",
        "tests/simulator/test_engine_hosts.py",
        "tests/simulator/test_engine_reference.py",
        cache=tmp_path,
    )
    assert "passed" in told
    kernels = [path.name for path in tmp_path.rglob("*.nbi")]
    assert kernels
    assert all(".bounds_checked-" in name for name in kernels), "the cache would mix both kinds"


@starts_them
@pytest.mark.slow
def test_all_kernels_stay_within_their_arrays(tmp_path: Path) -> None:
    passes_with_checks(
        "tests/simulator/test_engine_steps.py",
        "tests/simulator/test_engine_times.py",
        "tests/simulator/test_engine_memory.py",
        "tests/simulator/test_engine_properties.py",
        "tests/placement/test_search.py",
        "tests/agent/test_guided_search.py",
        "tests/placement/test_move_features.py",
        "tests/placement/test_feature_memo.py",
        "tests/placement/test_placers.py",
        "tests/placement/test_overlay.py",
        "tests/placement/test_decoding.py",
        "tests/simulator/test_fusion.py",
        "tests/envs/test_envs_features.py",
        "tests/simulator/test_kernel_checks.py",
        cache=tmp_path,
    )
