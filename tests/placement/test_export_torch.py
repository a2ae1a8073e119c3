"""Plans as device maps and pipeline stages: what accelerate and torch make of them."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_models import request_for

from graphs import load
from placement.export import ExportError, export_all
from placement.export.device_map import export_device_map
from placement.export.pipeline_stages import export_pipeline
from simulator.clusters.presets import preset
from simulator.plan import Plan

CLUSTER = preset("cpu+2xv100")


class Block(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.up = torch.nn.Linear(width, 2 * width)
        self.down = torch.nn.Linear(2 * width, width)

    def forward(self, x: Any) -> Any:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(torch.nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, width)
        self.layers = torch.nn.ModuleList([Block(width) for _ in range(4)])
        self.scale = torch.nn.Parameter(torch.full((width,), 2.0))
        self.head = torch.nn.Linear(width, 50, bias=False)

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x * self.scale)


TOKENS = torch.arange(10).reshape(2, 5)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def program(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "net.pt2"
    torch.export.save(torch.export.export(net, (TOKENS,)), path)
    return path


def staged(graph: Any, firsts: dict[str, int]) -> Plan:
    """Each op on the device of the last name in `firsts` that came before it."""
    devices, device = [], 0
    for name in graph.op_names:
        device = next((to for first, to in firsts.items() if name.startswith(first)), device)
        devices.append(device)
    return Plan.of(np.array(devices))


def test_a_device_map_is_what_accelerate_wants(net: Net, program: Path, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    plan = staged(load(program), {"layers.1.norm": 1, "layers.3.norm": 2})
    exported = export_device_map(request_for(program, tmp_path, plan, CLUSTER))
    table = json.loads(exported.files[0].read_text())
    assert table == {
        "embed": "cpu", "layers.0": "cpu", "layers.1": 0, "layers.2": 0,
        "layers.3": 1, "scale": 1, "head": 1,
    }  # fmt: skip
    accelerate.utils.check_device_map(net, table)
    for path in table:
        broken = {key: value for key, value in table.items() if key != path}
        with pytest.raises(ValueError, match=r"do not cover|not covered|does not"):
            accelerate.utils.check_device_map(net, broken)


class Unread(Net):
    """A net with a module that is never called, a buffer that is never read, and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.pooler = torch.nn.Linear(16, 16)
        self.head.weight = self.embed.weight
        for layer in self.layers:
            layer.register_buffer("steps", torch.zeros(1))


def test_a_device_map_covers_what_no_op_reads(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    net = Unread().eval()
    path = tmp_path / "unread.pt2"
    torch.export.save(torch.export.export(net, (TOKENS,)), path)
    plan = staged(load(path), {"layers.1.norm": 1, "layers.3.norm": 2, "mul": 2, "head": 0})
    exported = export_device_map(request_for(path, tmp_path / "out", plan, CLUSTER))
    table = json.loads(exported.files[0].read_text())
    accelerate.utils.check_device_map(net, table)
    assert table["layers.1"] == table["layers.2"] == 0  # buffers did not split their modules
    assert table["layers.3"] == 1
    assert table["embed"] == table["head"] == "cpu"  # one tensor, whichever name the program reads
    assert "pooler" in table
    assert any("no op reads" in note for note in exported.notes)


def test_a_model_on_one_device_is_one_entry(program: Path, tmp_path: Path) -> None:
    graph = load(program)
    plan = Plan.of(np.full(graph.op_count, 2))
    exported = export_device_map(request_for(program, tmp_path, plan, CLUSTER))
    assert json.loads(exported.files[0].read_text()) == {"": 1}
    assert len(exported.notes) == 1


def test_a_torn_module_is_refused(program: Path, tmp_path: Path) -> None:
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.head.weight = self.embed.weight

    path = tmp_path / "tied.pt2"
    torch.export.save(torch.export.export(Tied(), (TOKENS,)), path)
    plan = staged(load(path), {"layers.2": 1})
    with pytest.raises(
        ExportError, match=r"(embed|head).weight.*are read on cpu:0, v100:0.*--colocate"
    ):
        export_device_map(request_for(path, tmp_path / "out", plan, CLUSTER))


def test_stages_run_one_after_the_other(net: Net, program: Path, tmp_path: Path) -> None:
    from torch.distributed.pipelining import SplitPoint, pipeline

    plan = staged(load(program), {"layers.1.norm": 1, "layers.3.norm": 2})
    exported = export_pipeline(request_for(program, tmp_path, plan, CLUSTER))
    document = json.loads(exported.files[0].read_text())
    assert list(document["split_spec"]) == ["layers.1", "layers.3"]
    assert [stage["device"] for stage in document["stages"]] == ["cpu:0", "v100:0", "v100:1"]
    spec = {name: SplitPoint[kind] for name, kind in document["split_spec"].items()}
    pipe = pipeline(copy.deepcopy(net), mb_args=(TOKENS,), split_spec=spec)
    assert pipe.num_stages == 3
    values = (TOKENS,)
    for stage in range(3):
        result = pipe.get_stage_module(stage)(*values)
        values = result if isinstance(result, tuple) else (result,)
    torch.testing.assert_close(values[0], net(TOKENS))


def test_what_is_no_pipeline_is_refused(program: Path, tmp_path: Path) -> None:
    graph = load(program)
    there_and_back = staged(graph, {"layers.1.norm": 1, "layers.3.norm": 0})
    with pytest.raises(ExportError, match=r"no pipeline.*cpu:0's again.*human-expert"):
        export_pipeline(request_for(program, tmp_path, there_and_back, CLUSTER))


@pytest.mark.parametrize("dynamo", [True, False])
def test_onnx_models_from_torch_know_their_modules(net: Net, tmp_path: Path, dynamo: bool) -> None:
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (TOKENS,), path, dynamo=dynamo, external_data=False, verbose=False)
    graph = load(path)
    half = graph.op_count // 2
    plan = Plan.of((np.arange(graph.op_count) > half).astype(int) + 1)
    done, refused = export_all(request_for(path, tmp_path / "out", plan, CLUSTER))
    assert {item.form for item in done} | set(refused) == {
        "plan", "onnx-split", "onnx-annotated", "device-map", "pipeline",
    }  # fmt: skip
    whole = Plan.of(np.full(graph.op_count, 1))
    table = export_device_map(request_for(path, tmp_path / "whole", whole, CLUSTER)).files[0]
    assert json.loads(table.read_text()) == {"": 0}


def test_other_onnx_models_are_refused(tmp_path: Path) -> None:
    from exported_models import shared_weight_model

    model = shared_weight_model(tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="do not say which torch module"):
        export_device_map(request_for(model, tmp_path / "out"))
