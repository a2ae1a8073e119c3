"""Writes in place: later readers wait for them, earlier ones do not, and memory has one home."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graphs import Graph, OpKind, Storage, load
from graphs.costs.aten_ops import aten_cost, is_in_place
from graphs.costs.work import Signature, TensorSpec
from graphs.importers.torch_models.exported import import_exported_program
from graphs.kinds import DType


def both_forms(model: nn.Module, example: tuple[Tensor, ...], folder: Path) -> list[Graph]:
    """The graph from memory and the graph from a file; they are the same."""
    program = torch.export.export(model.eval(), example)
    torch.export.save(program, folder / "model.pt2")
    memory, file = import_exported_program(program, "model"), load(folder / "model.pt2")
    assert memory == file
    return [memory, file]


def ancestors(graph: Graph, name: str) -> set[str]:
    """Names of all ops that must run before one."""
    reached = {graph.op_index[name]}
    todo = list(reached)
    while todo:
        for tensor in graph.inputs_of(todo.pop()):
            source = int(graph.tensor_producers[tensor])
            if source not in reached:
                reached.add(source)
                todo.append(source)
    return {graph.op_names[index] for index in reached} - {name}


def _group(graph: Graph, name: str) -> int:
    return int(graph.colocation[graph.op_index[name]])


class Halves(nn.Module):
    """An output that is put together by slice assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.b = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(4, 16)
        before = out.exp()
        out[:, :8] = self.a(x)
        out[:, 8:] = self.b(x)
        return out.relu() + before


def test_a_reader_of_the_base_waits_for_writes_through_views(tmp_path: Path) -> None:
    for graph in both_forms(Halves(), (torch.ones(4, 8),), tmp_path):
        assert {"a/linear", "b/linear_1", "copy_", "copy__1"} <= ancestors(graph, "relu")
        assert not {"a/linear", "copy_", "copy__1"} & ancestors(graph, "exp")
        assert "exp" in ancestors(graph, "copy_")  # which overwrites what `exp` reads
        assert len({_group(graph, name) for name in ("zeros", "slice_1", "copy_", "copy__1")}) == 1
        assert _group(graph, "zeros") >= 0
        assert _group(graph, "relu") == _group(graph, "a/linear") == -1


class Cache(nn.Module):
    """A key cache that is written by slices and read through another slice."""

    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(8, 8)
        self.register_buffer("cache", torch.zeros(1, 128, 8))

    def forward(self, x: Tensor) -> Tensor:
        self.cache[:, 5:9] = self.key(x)
        return x @ self.cache[:, :9].transpose(1, 2)


def test_a_cache_is_a_variable_with_its_writes_on_one_device(tmp_path: Path) -> None:
    for graph in both_forms(Cache(), (torch.ones(1, 4, 8),), tmp_path):
        assert {"key/linear", "copy_", "b_cache"} <= ancestors(graph, "matmul")
        cache = graph.op_index["b_cache"]
        assert graph.kinds[cache] == OpKind.VARIABLE
        assert graph.resident_bytes[cache] == 128 * 8 * 4
        assert [graph.tensor_storage[t] for t in graph.outputs_of(cache)] == [Storage.RESIDENT]
        assert _group(graph, "b_cache") == _group(graph, "copy_") >= 0
        write = graph.op_index["copy_"]
        assert graph.bytes_read[write] == graph.bytes_written[write] == 4 * 8 * 4
        assert all(graph.tensor_storage[t] == Storage.ALIAS for t in graph.outputs_of(write))


def test_the_functional_form_has_the_same_home_for_its_cache(tmp_path: Path) -> None:
    program = torch.export.export(Cache().eval(), (torch.ones(1, 4, 8),)).run_decompositions()
    torch.export.save(program, tmp_path / "model.pt2")
    graphs = [import_exported_program(program, "model"), load(tmp_path / "model.pt2")]
    assert graphs[0] == graphs[1]
    for graph in graphs:
        (scatter,) = [n for n in graph.op_names if "slice_scatter" in n]
        assert _group(graph, "b_cache") == _group(graph, scatter) >= 0


def test_an_input_that_is_changed_has_one_home_too(tmp_path: Path) -> None:
    class Passed(nn.Module):
        def forward(self, x: Tensor, cache: Tensor) -> Tensor:
            cache[:, 2:4] = x
            return cache.sum()

    for graph in both_forms(Passed(), (torch.ones(4, 2), torch.ones(4, 8)), tmp_path):
        assert _group(graph, "cache") == _group(graph, "copy_") >= 0
        assert "copy_" in ancestors(graph, "sum_1")


def test_a_view_made_before_a_write_shows_what_was_written(tmp_path: Path) -> None:
    class Older(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            base = x.exp()
            view = base[1:]
            base.mul_(2.0)
            return view.tanh()

    for graph in both_forms(Older(), (torch.ones(4, 8),), tmp_path):
        assert "mul_" in ancestors(graph, "tanh")


def test_a_chain_of_views_leads_to_the_same_memory(tmp_path: Path) -> None:
    class Chain(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            base = x.exp()
            rows: Tensor = base.view(2, 2, 8)[1]
            rows.select(0, 0)[2:5].zero_()
            other = x.cos()
            return base.tanh(), other.sin()

    for graph in both_forms(Chain(), (torch.ones(4, 8),), tmp_path):
        assert "zero_" in ancestors(graph, "tanh")
        assert "zero_" not in ancestors(graph, "sin")


WRITES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "index_copy_": lambda t, s: t.index_copy_(0, torch.tensor([1, 3]), s[:2]),
    "index_put_": lambda t, s: t.index_put_((torch.tensor([1, 3]),), s[:2]),
    "index_add_": lambda t, s: t.index_add_(0, torch.tensor([1, 3]), s[:2]),
    "masked_fill_": lambda t, s: t.masked_fill_(s > 0, 1.0),
    "scatter_": lambda t, s: t.scatter_(0, torch.zeros(2, 8, dtype=torch.int64), s[:2]),
    "fill_": lambda t, s: t[1:3].fill_(3.0),
    "add_": lambda t, s: t[:2].add_(s[:2]),
}


@pytest.mark.parametrize("write", list(WRITES))
def test_every_kind_of_write_is_waited_for(write: str, tmp_path: Path) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, source: Tensor) -> Tensor:
            target = x.exp()
            WRITES[write](target.view(4, 8), source.cos())
            return target.tanh()

    for graph in both_forms(Model(), (torch.ones(4, 8), torch.ones(4, 8)), tmp_path):
        assert write in ancestors(graph, "tanh")
        # What is written came from `cos`, unless it is a number.
        assert ("cos" in ancestors(graph, "tanh")) == (write != "fill_")


def test_an_out_argument_is_written(tmp_path: Path) -> None:
    class Out(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            target = torch.zeros(4, 8)
            torch.ops.aten.add.out(x, x, out=target[:])
            return target.tanh()

    program = torch.export.export(Out(), (torch.ones(4, 8),))
    graph = import_exported_program(program, "out")
    (write,) = [name for name, t in zip(graph.op_names, graph.op_types, strict=True)
                if t == "aten.add.out"]  # fmt: skip
    assert write in ancestors(graph, "tanh")


def test_a_result_that_aliases_a_written_tensor_is_the_written_one(tmp_path: Path) -> None:
    class Returned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = torch.zeros(4, 8)
            out[1:] = x[1:].exp()
            return out

    for graph in both_forms(Returned(), (torch.ones(4, 8),), tmp_path):
        assert {"zeros", "exp", "copy_"} <= set(graph.op_names)


def test_python_operators_are_not_in_place(tmp_path: Path) -> None:
    class And(nn.Module):
        def forward(self, m: Tensor, n: Tensor) -> Tensor:
            return (m & n) | (m ^ n)

    mask = torch.ones(4, 8, dtype=torch.bool)
    for graph in both_forms(And(), (mask, mask), tmp_path):
        assert graph.report.estimated_ops == {}
        made = graph.tensor_storage[graph.tensor_bytes > 0]
        assert (made == Storage.BUFFER).all()
        assert graph.flops.sum() == 3 * 32
    assert not is_in_place("__and__")
    assert is_in_place("__ior__")
    assert is_in_place("add_")
    assert not is_in_place("add")


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "written"),
    [
        ("index_copy_", [(1, 8, 1024, 64), (16,), (1, 8, 16, 64)], {"dim": 2}, 8 * 16 * 64),
        ("index_put_", [(1024, 64), (16,), (16, 64)], {}, 16 * 64),
        ("index_put_", [(1024, 64), (16,), ()], {}, 16 * 64),
        ("index_fill_", [(1024, 64), (16,)], {"dim": 0}, 16 * 64),
        ("scatter_", [(1024, 64), (16, 64), (512, 64)], {"dim": 0}, 16 * 64),
        ("copy_", [(16, 64), (64,)], {}, 16 * 64),
        ("fill_", [(16, 64)], {}, 16 * 64),
    ],
)
def test_a_write_moves_what_it_writes(
    name: str,
    inputs: list[tuple[int, ...]],
    attributes: dict[str, int],
    written: int,
) -> None:
    specs = [
        TensorSpec(shape, DType.INT64 if len(shape) == 1 and name != "copy_" else DType.FLOAT32)
        for shape in inputs
    ]
    cost = aten_cost(name)
    assert cost is not None
    work = cost.formula(Signature(name, specs, specs[:1], attributes))
    assert work.bytes_written == 4 * written
    assert work.bytes_read <= sum(spec.bytes for spec in specs[1:])


def test_foreach_writes_change_every_tensor_of_their_list() -> None:
    class Lists(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            a, b = x.exp(), y.exp()
            torch._foreach_mul_([a, b], 2.0)
            return a.tanh() + b.cos()

    graph = import_exported_program(
        torch.export.export(Lists(), (torch.ones(4, 8), torch.ones(4, 8))), "lists"
    )
    (write,) = [name for name in graph.op_names if "_foreach_mul_" in name]
    assert write in ancestors(graph, "tanh")
    assert write in ancestors(graph, "cos")
    assert graph.flops[graph.op_index[write]] == 2 * 32


def test_a_foreign_op_without_results_may_write_all_that_it_is_given(tmp_path: Path) -> None:
    with torch.library._scoped_library("graphwright_writes", "FRAGMENT") as library:
        library.define("store(Tensor x, Tensor(a!) into) -> ()")
        library.impl("store", lambda x, into: None, "CompositeExplicitAutograd")
        library.impl("store", lambda x, into: None, "Meta")

        class Stored(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                target = torch.zeros(4, 8)
                torch.ops.graphwright_writes.store(x.exp(), target)
                return target.tanh()

        program = torch.export.export(Stored(), (torch.ones(4, 8),))
        torch.export.save(program, tmp_path / "model.pt2")
        memory = import_exported_program(program, "model")
    for graph in (memory, load(tmp_path / "model.pt2")):
        (write,) = [name for name in graph.op_names if "store" in name or "call" in name]
        assert write in ancestors(graph, "tanh")
