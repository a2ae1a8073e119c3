"""Sizes that only the data decide: upper estimates, said truly, bound by the user."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graphs import DType, Graph, ModelError, OpKind, load
from graphs.costs.work import TensorSpec
from graphs.importers.torch_models.data_sizes import DataSizes, upper_estimate
from graphs.importers.torch_models.exported import import_exported_program


class Experts(nn.Module):
    """A mixture of experts that finds each expert's rows by `torch.where`."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).topk(2)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, places = torch.where(chosen == number)
            out.index_add_(0, rows, expert(x[rows]) * weights[rows, places, None])
        return out


def both_forms(
    model: nn.Module, example: tuple[Tensor, ...], folder: Path, dims: dict[str, int] | None = None
) -> Graph:
    """The graph, which is the same from memory and from a file, report included."""
    program = torch.export.export(model.eval(), example)
    torch.export.save(program, folder / "model.pt2")
    memory = import_exported_program(program, "model", dims)
    file = load(folder / "model.pt2", dims)
    assert memory == file
    assert memory.report == file.report
    return memory


def _shape(graph: Graph, prefix: str) -> tuple[int, ...]:
    (name,) = [name for name in graph.op_names if name.startswith(prefix)]
    return tuple(int(size) for size in graph.output_shapes[graph.op_index[name]])


def test_each_expert_may_get_every_choice(tmp_path: Path) -> None:
    graph = both_forms(Experts(), (torch.ones(64, 16),), tmp_path)
    experts = [i for i, n in enumerate(graph.op_names) if n.startswith("experts.")]
    assert len(experts) == 4
    for op in experts:
        assert graph.kinds[op] == OpKind.MATMUL
        assert graph.flops[op] == 64 * 2 * (2 * 16 * 16 + 16)
    assert set(graph.report.assumed_dims.values()) == {64 * 2}
    assert not any("example" in note for note in graph.report.notes)
    assert any("depend on data" in note and "128" in note for note in graph.report.notes)


def test_the_user_knows_better(tmp_path: Path) -> None:
    graph = both_forms(Experts(), (torch.ones(64, 16),), tmp_path, {"u0": 32})
    flops = [graph.flops[i] for i, n in enumerate(graph.op_names) if n.startswith("experts.")]
    assert sorted(flops) == [32 * (2 * 16 * 16 + 16)] + [128 * (2 * 16 * 16 + 16)] * 3
    assert "u0" not in graph.report.assumed_dims
    with pytest.raises(ModelError, match="u9"):
        import_exported_program(
            torch.export.export(Experts(), (torch.ones(64, 16),)), "m", {"u9": 1}
        )


class Searches(nn.Module):
    def forward(self, x: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        return (
            torch.nonzero(x),
            torch.masked_select(x, rows[:, None]),
            torch.unique(x),
            x[rows],
        )


def test_searches_find_at_most_what_they_search(tmp_path: Path) -> None:
    example = (torch.ones(6, 5), torch.ones(6, dtype=torch.bool))
    graph = both_forms(Searches(), example, tmp_path)
    assert _shape(graph, "nonzero") == (1, 1, 30, 2)
    assert _shape(graph, "masked_select") == (1, 1, 1, 30)
    assert _shape(graph, "_unique2") == (1, 1, 1, 30)
    assert _shape(graph, "index") == (1, 1, 6, 5)


def test_open_inputs_and_data_are_told_apart(tmp_path: Path) -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.nonzero(x), x.exp()

    program = torch.export.export(
        Both(), (torch.ones(6, 5),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, tmp_path / "model.pt2")
    for graph in (import_exported_program(program, "m", {"x[0]": 8}),
                  load(tmp_path / "model.pt2", {"x[0]": 8})):  # fmt: skip
        assert _shape(graph, "nonzero") == (1, 1, 40, 2)
        assert not any("example" in note for note in graph.report.notes)
    graph = load(tmp_path / "model.pt2")
    assert any("example" in note for note in graph.report.notes)
    assert any("depend on data" in note for note in graph.report.notes)


def test_parts_are_at_most_the_whole_and_splits_share_it(tmp_path: Path) -> None:
    class Parts(nn.Module):
        def forward(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
            first, *_ = lengths = sizes.tolist()
            for length in lengths:
                torch._check(length >= 0)  # type: ignore[no-untyped-call]
                torch._check(length <= x.shape[0])  # type: ignore[no-untyped-call]
            parts = torch.split(x, lengths)
            return (x[:first].exp(), *(part.cos() for part in parts))

    graph = both_forms(Parts(), (torch.ones(16, 8), torch.tensor([4, 4, 8])), tmp_path)
    rows = [int(graph.output_shapes[i][2]) for i, n in enumerate(graph.op_names) if "cos" in n]
    assert sum(rows) in range(16, 3 * 16)


def test_sizes_without_any_bound_count_one_and_are_named() -> None:
    sizes = DataSizes({}, {"u0": 7, "u1": 2**62})
    sizes.settle("u0", None)
    sizes.settle("u1", None)
    sizes.settle("u2", 50)
    assert sizes.known() == {"u0": 7, "u1": 1, "u2": 50}
    told, unbounded = sizes.notes()
    assert "u0 = 7, u2 = 50" in told
    assert "u1" in unbounded
    assert "u0" not in unbounded


@pytest.mark.parametrize(
    ("target", "shapes", "outputs", "most"),
    [
        ("aten.index.Tensor", [(512, 64), (512,)], 1, 512),
        ("aten.nonzero.default", [(12, 5)], 1, 60),
        ("aten.where.default", [(12, 2)], 2, 24),
        ("aten.masked_select.default", [(12,), (4, 12)], 1, 48),
        ("aten._unique2.default", [(12, 5)], 3, 60),
        ("aten.slice.Tensor", [(12, 5)], 1, 12),
        ("aten.split_with_sizes.default", [(12, 5)], 4, 3),
        ("aten.zeros.default", [], 1, None),
    ],
)
def test_estimates_follow_from_operands(
    target: str, shapes: list[tuple[int, ...]], outputs: int, most: int | None
) -> None:
    types = [DType.FLOAT32, DType.BOOL]
    specs = [TensorSpec(shape, dtype) for shape, dtype in zip(shapes, types, strict=False)]
    assert upper_estimate(target, specs, outputs, 0) == most
