"""Every public function of the first three packages shows an example, and the example runs."""

import doctest
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import simulator
from graphs.bundled_graphs import load_bundled
from graphs.graph_file import write_graph
from placement import Budget, PlanDocument, Problem, get_placer
from placement.placer import silent
from simulator import Plan, RooflineCosts

FUNCTIONS = [
    (package, name)
    for package in ("graphs", "simulator", "placement")
    for name in importlib.import_module(package).__all__
    if inspect.isfunction(getattr(importlib.import_module(package), name))
]


@pytest.mark.parametrize(("package", "name"), FUNCTIONS)
def test_public_functions_show_an_example_that_runs(
    package: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_graph(load_bundled("bert-base"), tmp_path / "bert.gwgraph")
    function: Callable[..., object] = getattr(importlib.import_module(package), name)
    given = {
        "graph": load_bundled("bert-base"),
        "cluster": simulator.preset("2xv100-pcie"),
        "np": np,
        **vars(inspect.getmodule(function)),
        **{item.__name__: item for item in (Path, Budget, PlanDocument, Problem, Plan)},
        **{item.__name__: item for item in (RooflineCosts, get_placer, silent)},
    }
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=given)
    assert test.examples, f"{package}.{name} shows no example"
    shown: list[str] = []
    failed = doctest.DocTestRunner().run(test, out=shown.append).failed
    assert not failed, "".join(shown)
