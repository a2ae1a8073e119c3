"""Training steps from joint torch programs: phases, flops, variables, updates."""

import pytest
import torch
from torch import Tensor, nn
from torch.export.experimental import _export_forward_backward

from graphs import Graph, ModelError, OpKind, Phase, Storage
from graphs.importers.torch_models.exported import import_exported_program, import_training_program
from simulator import Plan, Simulator
from simulator.clusters.presets import preset


class Step(nn.Module):
    """Two layers and a buffer, with their loss."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 16, bias=False)
        self.register_buffer("shift", torch.ones(8, 64))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x) + self.shift)
        return nn.functional.mse_loss(self.second(hidden), labels)


@pytest.fixture(scope="module")
def forward() -> torch.export.ExportedProgram:
    return torch.export.export(Step(), (torch.randn(8, 32), torch.randn(8, 16)))


@pytest.fixture(scope="module")
def joint(forward: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    return _export_forward_backward(forward)


def products(graph: Graph, phase: Phase) -> float:
    chosen = (graph.kinds == OpKind.MATMUL) & (graph.phases == phase)
    return float(graph.flops[chosen].sum())


def test_the_backward_pass_does_the_products_of_calculus(
    joint: torch.export.ExportedProgram,
) -> None:
    graph = import_training_program(joint, "step")
    first, second = 2 * 8 * 32 * 64, 2 * 8 * 64 * 16
    bias = 8 * 64
    assert products(graph, Phase.FORWARD) == first + bias + second
    # Weights of both layers; the input of the second only, as nothing lies before the first.
    assert products(graph, Phase.BACKWARD) == first + 2 * second
    assert not graph.report.estimated_ops


@pytest.mark.parametrize(("optimizer", "copies"), [("sgd", 1), ("momentum", 2), ("adam", 3)])
def test_a_variable_holds_its_slots_and_its_update(
    joint: torch.export.ExportedProgram, optimizer: str, copies: int
) -> None:
    graph = import_training_program(joint, "step", optimizer)
    sizes = {"first.weight": 32 * 64, "first.bias": 64, "second.weight": 64 * 16}
    place = {name: index for index, name in enumerate(graph.op_names)}
    for name, elements in sizes.items():
        variable, update = place[name], place[f"{name}/{optimizer}"]
        assert graph.resident_bytes[variable] == copies * 4 * elements
        assert graph.colocation[variable] == graph.colocation[update] >= 0
        assert graph.phases[update] == Phase.UPDATE
        assert graph.bytes_written[update] == copies * 4 * elements
        (tensor,) = graph.outputs_of(variable)
        assert graph.tensor_storage[tensor] == Storage.RESIDENT
    assert graph.resident_bytes.sum() == copies * 4 * sum(sizes.values())
    buffers = [i for i, kind in enumerate(graph.op_types) if kind == "Buffer"]
    assert [graph.tensor_storage[t] for i in buffers for t in graph.outputs_of(i)] == [
        Storage.WEIGHT
    ]


def test_it_runs_on_one_device_and_on_two(joint: torch.export.ExportedProgram) -> None:
    graph = import_training_program(joint, "step")
    for name in ("1xv100-pcie", "2xv100-pcie"):
        cluster = preset(name)
        groups = graph.colocation % cluster.device_count
        evaluation = Simulator.of(graph, cluster).evaluate(Plan.of(groups * (groups >= 0)))
        assert evaluation.feasible


def test_the_forward_pass_is_what_the_plain_import_gives(
    forward: torch.export.ExportedProgram, joint: torch.export.ExportedProgram
) -> None:
    plain = import_exported_program(forward, "plain")
    graph = import_training_program(joint, "step")
    assert products(graph, Phase.FORWARD) == products(plain, Phase.FORWARD)


def test_mistakes_are_told(
    forward: torch.export.ExportedProgram, joint: torch.export.ExportedProgram
) -> None:
    with pytest.raises(ModelError, match="no backward pass"):
        import_training_program(forward, "plain")
    with pytest.raises(ModelError, match="sgd, momentum, adam"):
        import_training_program(joint, "step", "lion")
