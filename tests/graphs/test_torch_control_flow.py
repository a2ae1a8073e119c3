"""Higher-order operators of torch: loops cost their trips, regions are the ops in them."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.map import map as slice_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import flex_attention

from graphs import DType, Graph, OpKind, load
from graphs.costs.formulas import SIMPLE, TRANSCENDENTAL
from graphs.costs.work import TensorSpec
from graphs.import_report import ImportReport
from graphs.importers.torch_models.calls import ExportedGraph, ExportedOp
from graphs.importers.torch_models.exported import import_exported_program
from graphs.importers.torch_models.graph import build_exported

PRODUCT = 2 * 4 * 16 * 16


class Recurrence(nn.Module):
    """One product, an addition and a tanh for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(16, 16), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        def step(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            state = torch.tanh(row + state @ self.w)
            return state, state.clone()

        return scan(step, torch.zeros(4, 16), rows)[1]


class Mapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(16, 16), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        return slice_map(lambda row, w: torch.relu(row @ w), rows, self.w)  # type: ignore[arg-type]


class Until(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(16, 16), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        def body(count: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return count + 1, torch.tanh(x @ self.w)

        return while_loop(  # type: ignore[no-untyped-call]
            lambda count, x: count < 9, body, (torch.tensor(0), x)
        )[1]


class Layers(nn.Module):
    """Two blocks of two products, under one of several contexts."""

    def __init__(self, context: str) -> None:
        super().__init__()
        self.context = context
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(2)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.context == "no_grad":
            with torch.no_grad():
                return self.head(self.run(x))
        if self.context == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                x = self.run(x)
            return self.head(x.float())
        if self.context == "both":
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                x = self.run(x)
            return self.head(x.float())
        return self.head(self.run(x))

    def run(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def both_forms(model: nn.Module, example: tuple[Tensor, ...], folder: Path) -> list[Graph]:
    """The graph from memory and the graph from a file."""
    program = torch.export.export(model.eval(), example)
    torch.export.save(program, folder / "model.pt2")
    return [import_exported_program(program, "model"), load(folder / "model.pt2")]


def _calls(graph: Graph) -> list[str]:
    return [kind for kind in graph.op_types if "." in kind]


def _only(graph: Graph, kind: OpKind) -> int:
    (op,) = [index for index, value in enumerate(graph.kinds) if value == kind]
    return op


def test_a_scan_runs_its_body_for_each_slice(tmp_path: Path) -> None:
    memory, file = both_forms(Recurrence(), (torch.ones(100, 4, 16),), tmp_path)
    op = _only(file, OpKind.CONTROL_FLOW)
    assert file.flops[op] == 100 * (PRODUCT + 4 * 16 * (SIMPLE + TRANSCENDENTAL))
    assert file.launches[op] == 100 * 4  # product, addition, tanh, copy
    assert file.report.composite_ops == {"higher_order.scan": 1}
    assert memory == file
    assert memory.report == file.report


def test_a_scan_over_an_open_length_takes_the_bound_one() -> None:
    length = torch.export.Dim("length")
    program = torch.export.export(
        Recurrence(), (torch.ones(100, 4, 16),), dynamic_shapes=({0: length},)
    )
    graph = import_exported_program(program, "scan", {"rows[0]": 7})
    op = _only(graph, OpKind.CONTROL_FLOW)
    assert graph.launches[op] == 7 * 4


def test_a_map_runs_its_body_for_each_slice(tmp_path: Path) -> None:
    memory, file = both_forms(Mapped(), (torch.ones(50, 4, 16),), tmp_path)
    op = _only(file, OpKind.CONTROL_FLOW)
    assert file.flops[op] == 50 * (PRODUCT + 4 * 16 * SIMPLE)
    assert file.launches[op] == 50 * 2
    assert memory == file


def test_a_while_loop_counts_condition_and_body_once_and_says_so(tmp_path: Path) -> None:
    for graph in both_forms(Until(), (torch.ones(4, 16),), tmp_path):
        op = _only(graph, OpKind.CONTROL_FLOW)
        assert graph.flops[op] == 2 + PRODUCT + 4 * 16 * TRANSCENDENTAL
        assert graph.launches[op] == 4
        assert any("trips are unknown" in note for note in graph.report.notes)


def test_an_associative_scan_launches_for_each_pass_not_for_each_slice() -> None:
    row, rows = TensorSpec((8,)), TensorSpec((1000, 8))
    add = ExportedOp("add", "aten.add.Tensor", ["a", "b"], [("sum", row)])
    scanned = ExportedOp(
        "scan", "higher_order.associative_scan", ["x"], [("y", rows)],
        bodies=[ExportedGraph({"a": row, "b": row}, {}, [add], ["sum"])],
        arguments=[("1", ["x"])],
    )  # fmt: skip
    graph = build_exported(ExportedGraph({"x": rows}, {}, [scanned], ["y"]), "a", ImportReport())
    op = _only(graph, OpKind.CONTROL_FLOW)
    assert graph.flops[op] == 1000 * 8
    assert graph.launches[op] == 2 * 10


@pytest.mark.parametrize("context", ["no_grad", "autocast", "both"])
def test_a_region_is_the_ops_in_it(context: str, tmp_path: Path) -> None:
    example = (torch.ones(3, 16),)
    plain = import_exported_program(torch.export.export(Layers("none"), example), "plain")
    cast = context != "no_grad"
    for graph in both_forms(Layers(context).train(), example, tmp_path):
        assert [c for c in _calls(graph) if c != "aten.to.dtype"] == _calls(plain)
        assert "blocks.1.2/linear_3" in graph.op_names
        assert graph.report.composite_ops == {}
        products = graph.kinds == OpKind.MATMUL
        assert graph.flops[products].sum() == plain.flops[plain.kinds == OpKind.MATMUL].sum()
        first = graph.op_index["blocks.0.0/linear"]
        assert graph.dtypes[first] == (DType.BFLOAT16 if cast else DType.FLOAT32)
        assert graph.dtypes[graph.op_index["head/linear_4"]] == DType.FLOAT32
        assert graph.resident_bytes.sum() == plain.resident_bytes.sum()


def test_a_region_that_is_called_twice_keeps_names_apart() -> None:
    spec = TensorSpec((4,))
    exp = ExportedOp("layer/exp", "aten.exp.default", ["a"], [("exp", spec)])
    body = ExportedGraph({"a": spec}, {}, [exp], ["exp"])

    def call(name: str, source: str, result: str) -> ExportedOp:
        target = "higher_order.invoke_subgraph"
        return ExportedOp(name, target, [source], [(result, spec)], bodies=[body])

    calls = [call("one", "x", "y"), call("two", "y", "z")]
    graph = build_exported(ExportedGraph({"x": spec}, {}, calls, ["z"]), "two", ImportReport())
    assert graph.op_names == ("x", "layer/exp", "layer/exp#2")
    assert [graph.tensor_producers[t] for t in graph.inputs_of(2)] == [1]


def test_flex_attention_costs_its_scores_and_what_is_done_to_them() -> None:
    class Flex(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return flex_attention(q, k, v, score_mod=lambda score, b, h, i, j: score * 2.0)

    class Plain(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v)

    example = (torch.ones(2, 4, 64, 16), torch.ones(2, 4, 128, 16), torch.ones(2, 4, 128, 16))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flex = import_exported_program(torch.export.export(Flex(), example), "flex")
        plain = import_exported_program(torch.export.export(Plain(), example), "plain")
    mine, reference = (_only(graph, OpKind.ATTENTION) for graph in (flex, plain))
    pairs = 2 * 4 * 64 * 128
    assert plain.flops[reference] + pairs <= flex.flops[mine] <= plain.flops[reference] + 3 * pairs
    assert flex.launches[mine] == 1


def test_an_operand_that_is_given_twice_counts_twice(tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    memory, file = both_forms(Same(), (torch.ones(2, 4, 8, 16),), tmp_path)
    assert memory == file
    assert memory.report.estimated_ops == {}
    op = _only(memory, OpKind.ATTENTION)
    assert memory.bytes_read[op] == 3 * 2 * 4 * 8 * 16 * 4


def test_rows_of_vmap_are_one_tensor(tmp_path: Path) -> None:
    class Rows(nn.Module):
        def forward(self, x: Tensor, w: Tensor) -> Tensor:
            return torch.vmap(lambda row: torch.tanh(row @ w))(x).exp()

    for graph in both_forms(Rows(), (torch.ones(32, 4, 16), torch.ones(16, 16)), tmp_path):
        product = _only(graph, OpKind.MATMUL)
        assert graph.flops[product] == 32 * PRODUCT
        assert tuple(graph.output_shapes[product]) == (1, 32, 4, 16)
        assert graph.launches[product] == 1
        after = graph.op_index["exp"]
        assert graph.flops[after] == 32 * 4 * 16 * TRANSCENDENTAL
        assert graph.report.estimated_ops == {}


def test_an_op_that_is_an_argument_is_what_is_costed(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def forward(self, x: Tensor, w: Tensor) -> Tensor:
            mm = torch.ops.aten.mm.default
            return torch.ops.higher_order.out_dtype(mm, torch.int32, x, w)

    example = (torch.ones(4, 16, dtype=torch.int8), torch.ones(16, 16, dtype=torch.int8))
    memory, file = both_forms(Wide(), example, tmp_path)
    assert memory == file
    assert memory.flops.sum() == PRODUCT
    assert memory.report.estimated_ops == {}


def test_compiled_kernels_are_opaque() -> None:
    spec = TensorSpec((4,))
    op = ExportedOp("k", "higher_order.triton_kernel_wrapper_functional", ["x"], [("y", spec)])
    graph = build_exported(ExportedGraph({"x": spec}, {}, [op], ["y"]), "k", ImportReport())
    assert graph.report.opaque_ops == {"higher_order.triton_kernel_wrapper_functional": 1}
    assert graph.report.estimated_ops == {}
