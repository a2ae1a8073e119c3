"""Runtimes by name: what the registry promises is there, and mistakes are told what there is."""

from importlib import import_module
from pathlib import Path

import pytest
from device_models import core_cluster
from graph_samples import random_graph

from placement.runtime.errors import RuntimeRefusal
from placement.runtime.programs.program_runtime import ProgramRuntime
from placement.runtime.registry import (
    RUNTIMES,
    check_runs,
    get_calibrator,
    get_runtime,
    open_runtime,
)


@pytest.mark.parametrize("name", RUNTIMES)
def test_openers_and_calibrators_can_be_imported(name: str) -> None:
    module, _, function = get_runtime(name).opener.partition(":")
    assert callable(getattr(import_module(module), function))
    if get_runtime(name).calibrator is not None:
        assert callable(get_calibrator(name))


def test_a_runtime_of_programs_has_the_kind_that_it_is_registered_by() -> None:
    graph = random_graph(1, 12)
    with open_runtime("torch", "a name", graph, core_cluster()) as runtime:
        assert isinstance(runtime, ProgramRuntime) == RUNTIMES["torch"].runs_programs
        assert runtime.kind == "torch"
        assert runtime.process_ids == ()


def test_mistakes_are_told_what_there_is(tmp_path: Path) -> None:
    graph = random_graph(1, 12)
    path = tmp_path / "net.gwg"
    path.touch()
    with pytest.raises(RuntimeRefusal, match=r"'foo'; there are ort: .*; tf: .*; torch: "):
        open_runtime("foo", path, graph, core_cluster())
    with pytest.raises(RuntimeRefusal, match="'torch' cannot be calibrated; ort, tf can"):
        get_calibrator("torch")
    with pytest.raises(RuntimeRefusal, match=r"runs onnx files; .* --runtime torch \(each op"):
        check_runs("ort", "a name", graph)
    with pytest.raises(RuntimeRefusal, match=r"runs tensorflow models, and this one is .* torch"):
        check_runs("tf", str(path), graph)
    check_runs("torch", "a name", graph)
