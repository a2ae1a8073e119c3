"""Models of onnxruntime's own ops, measured on cores."""

from pathlib import Path

import numpy as np
import pytest
from device_models import core_cluster
from foreign_models import four_bit_model, sixteen_bit_model

import graphs
from placement.runtime.measurement import Clock
from placement.runtime.ort.runtime import open_ort
from placement.runtime.samples import Sampling
from simulator.plan import Plan

QUICK = Sampling(rounds=1, iterations=1, clock=Clock.VIRTUAL, timeout_seconds=20.0)


@pytest.mark.parametrize(
    ("make", "dims"),
    [(four_bit_model, {"batch": 2, "length": 5}), (sixteen_bit_model, {"batch": 4})],
)
def test_narrow_types_run_on_cores(make: object, dims: dict[str, int], tmp_path: Path) -> None:
    assert callable(make)
    path = make(tmp_path / "m.onnx")
    graph = graphs.load(path, dims)
    with open_ort(path, graph, core_cluster(), dims=dims, sampling=QUICK) as runtime:
        plan = Plan.of(np.arange(graph.op_count) % 2)
        (found,) = runtime.measure([plan])
        assert found.failure is None
        assert found.checked
