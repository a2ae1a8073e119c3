"""Damaged torch.export programs: always a `ModelError`, and in bounded time."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_files import ROOT

from graphs import ModelError, load
from graphs.importers.torch_models.layout import LayoutError, check_layout

CORPUS = ROOT / "tests" / "fuzz" / "corpus"


def _document(name: str = "layers") -> Any:
    return json.loads((CORPUS / f"{name}.pt2.json").read_text())


def _saved(folder: Path, document: Any) -> Path:
    path = folder / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("models/model.json", json.dumps(document))
    return path


@pytest.mark.parametrize("name", ["layers", "branches", "writes"])
def test_the_undamaged_programs_are_read(name: str, tmp_path: Path) -> None:
    check_layout(_document(name))
    assert load(_saved(tmp_path, _document(name))).op_count > 3


def _graph(document: Any) -> Any:
    return document["graph_module"]["graph"]


def _set_size(value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        _graph(document)["tensor_values"]["x"]["sizes"][1] = {"as_int": value}

    return change


def _set_hint(value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        _graph(document)["tensor_values"]["x"]["sizes"][0]["as_expr"]["hint"] = {"as_int": value}

    return change


def _name(value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        _graph(document)["nodes"][0]["inputs"][0]["arg"]["as_tensor"]["name"] = value

    return change


def _output(value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        _graph(document)["outputs"][0] = value

    return change


def _no_sizes(document: Any) -> None:
    del _graph(document)["tensor_values"]["x"]["sizes"]


def _nodes_are_text(document: Any) -> None:
    _graph(document)["nodes"] = "relu"


def _list_of_names(document: Any) -> None:
    document["graph_module"]["signature"]["input_specs"][0]["parameter"]["arg"]["name"] = ["x"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            _set_size(float("inf")),
            r"sizes\[1\].as_int is inf; it must be a whole number of 64 bits",
        ),
        (_set_size(2**64), "a whole number of 64 bits"),
        (_set_size("4"), "a whole number of 64 bits"),
        (_set_size(True), "a whole number of 64 bits"),
        (_set_size(2**60), "impossible shape"),
        (_set_hint(float("-inf")), "hint.as_int is -inf"),
        (_name({"a": 1}), "name is .*it must be text"),
        (_name(["x"]), "name is .*it must be text"),
        (_output({"as_tensor": {"name": {}}}), "it must be text"),
        (_output(7), "it must be an object"),
        (_no_sizes, "tensor_values.x has no sizes"),
        (_nodes_are_text, "nodes is 'relu'; it must be a list"),
        (_list_of_names, "it must be text"),
    ],
)
def test_a_field_of_another_kind_is_named(
    damage: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    document = _document()
    damage(document)
    with pytest.raises(ModelError, match=message) as caught:
        load(_saved(tmp_path, document))
    assert "model.pt2: not an exported program" in str(caught.value) or "shape" in message


def test_what_nobody_reads_may_be_anything() -> None:
    document = _document()
    document["opset_version"] = {"aten": [None, 1e400]}
    _graph(document)["sym_int_values"] = 3
    check_layout(document)
    with pytest.raises(LayoutError):
        check_layout([document])


def test_powers_of_powers_are_no_sizes(tmp_path: Path) -> None:
    document = _document()
    power = "9"
    for _ in range(60):
        power = f"({power})**8"
    size = {"as_expr": {"expr_str": power, "hint": {"as_int": 3}}}
    _graph(document)["tensor_values"]["relu"]["sizes"][1] = size
    assert load(_saved(tmp_path, document)).op_count > 3  # the hint counts


def test_a_scan_of_impossible_work_is_refused_or_estimated(tmp_path: Path) -> None:
    document = _document()
    nodes = _graph(document)["nodes"]
    nodes[0]["target"] = "torch.ops.higher_order.scan"
    body: dict[str, Any] = {"inputs": [], "outputs": [], "nodes": [], "tensor_values": {}}
    nodes[0]["inputs"].append({"name": "body", "arg": {"as_graph": {"name": "b", "graph": body}}})
    assert load(_saved(tmp_path, document), allow_unknown=True).op_count > 3
