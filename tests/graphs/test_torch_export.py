"""torch.export programs: file and memory agree, figures match torch's own, no pickle is opened."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graphs import Graph, ModelError, OpKind, Phase, Storage, load
from graphs.costs.aten_ops import ATEN_OPS, ATEN_VIEWS
from graphs.costs.formulas import SIMPLE, TRANSCENDENTAL
from graphs.costs.work import Signature, TensorSpec
from graphs.importers.torch_models.exported import import_exported_program, import_torch_export


class Transformer(nn.Module):
    """Two encoder layers, a convolution and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.conv = nn.Conv1d(32, 16, 3, padding=1)
        self.register_buffer("shift", torch.ones(1))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(tokens)
        left, right = self.conv(hidden.transpose(1, 2)).split(8, dim=1)
        return left * right + self.shift, hidden.argmax(-1)


class Tied(nn.Module):
    """The output projection is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embed(tokens) @ self.embed.weight.T


class Branching(nn.Module):
    """A branch that torch.export keeps as a higher-order operator."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: (x * 2).exp(), (x,))


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    example = (torch.randn(2, 8, 32),)
    shapes = ({0: torch.export.Dim("batch")},)
    return torch.export.export(Transformer().eval(), example, dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def archive(
    program: torch.export.ExportedProgram, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("torch") / "model.pt2"
    torch.export.save(program, path)
    return path


def _flops(graph: Graph, kinds: tuple[OpKind, ...]) -> float:
    return float(sum(f for f, k in zip(graph.flops, graph.kinds, strict=True) if k in kinds))


def test_file_and_memory_give_the_same_graph(
    program: torch.export.ExportedProgram, archive: Path
) -> None:
    from_file = load(archive, {"tokens[0]": 5})
    in_memory = import_exported_program(program, "model", {"tokens[0]": 5})
    assert from_file == in_memory
    assert from_file.op_names == in_memory.op_names
    assert from_file.report == in_memory.report
    assert from_file.report.estimated_ops == {}


def test_open_dimensions_keep_the_example_and_say_so(
    program: torch.export.ExportedProgram, archive: Path
) -> None:
    graph = import_torch_export(archive, {})
    assert list(graph.report.assumed_dims.values()) == [2]
    assert graph == import_exported_program(program, "model")
    (symbol,) = graph.report.assumed_dims
    doubled = import_torch_export(archive, {symbol: 4})
    assert doubled.flops.sum() == pytest.approx(2 * graph.flops.sum(), rel=0.01)


def test_flops_match_torch_own_counter(archive: Path) -> None:
    graph = import_torch_export(archive, {"tokens[0]": 3})
    with FlopCounterMode(display=False) as counter:
        Transformer()(torch.randn(3, 8, 32))
    counted = counter.get_flop_counts()["Global"]
    products = sum(count for op, count in counted.items() if "attention" not in str(op))
    # Ours also counts the additions of biases, one per output.
    biases = 3 * 8 * (2 * (96 + 32 + 64 + 32) + 16)
    assert _flops(graph, (OpKind.MATMUL, OpKind.CONV)) == products + biases
    attention = 2 * 3 * 4 * (2 * 2 * 8 * 8 * 8 + 5 * 8 * 8)
    assert _flops(graph, (OpKind.ATTENTION,)) == attention


def test_parameters_and_buffers_are_resident(archive: Path) -> None:
    graph = import_torch_export(archive, {})
    model = Transformer()
    stored = [*model.parameters(), *model.buffers()]
    assert graph.resident_bytes.sum() == sum(t.numel() * t.element_size() for t in stored)


def test_views_share_their_buffer_and_cost_nothing(archive: Path) -> None:
    graph = import_torch_export(archive, {})
    views = [i for i, kind in enumerate(graph.op_types) if kind.split(".")[1:2] == ["transpose"]]
    assert views
    for op in views:
        assert graph.kinds[op] == OpKind.VIEW
        assert graph.flops[op] == graph.bytes_written[op] == 0
        assert {graph.tensor_storage[t] for t in graph.outputs_of(op)} == {Storage.ALIAS}


def test_module_paths_name_the_ops(archive: Path) -> None:
    names = import_torch_export(archive, {}).op_names
    assert "encoder.layers.1.linear2/linear_7" in names


def test_tied_weights_become_one_variable(tmp_path: Path) -> None:
    program = torch.export.export(Tied(), (torch.zeros(1, 7, dtype=torch.int64),))
    torch.export.save(program, tmp_path / "tied.pt2")
    for graph in (
        import_exported_program(program, "tied"),
        load(tmp_path / "tied.pt2"),
    ):
        variables = [i for i, kind in enumerate(graph.kinds) if kind == OpKind.VARIABLE]
        assert len(variables) == 1
        (tensor,) = graph.outputs_of(variables[0])
        assert graph.tensor_bytes[tensor] == 100 * 16 * 4
        assert graph.tensor_storage[tensor] == Storage.WEIGHT
        assert graph.resident_bytes.sum() == 0


def test_a_branch_costs_its_dearer_side(tmp_path: Path) -> None:
    program = torch.export.export(Branching(), (torch.randn(4, 6),))
    torch.export.save(program, tmp_path / "branch.pt2")
    for graph in (
        import_exported_program(program, "branch"),
        load(tmp_path / "branch.pt2"),
    ):
        assert sum(graph.report.composite_ops.values()) == 1
        (op,) = [i for i, kind in enumerate(graph.kinds) if kind == OpKind.CONTROL_FLOW]
        assert graph.flops[op] == 4 * 6 * (SIMPLE + TRANSCENDENTAL)


def test_a_training_step_has_a_backward_phase() -> None:
    class Step(nn.Module):
        def forward(self, x: Tensor, w: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
            return torch.ops.aten.convolution_backward(
                grad, x, w, [4], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
            )[:2]

    example = (torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(1, 4, 8, 8))
    graph = import_exported_program(torch.export.export(Step(), example), "step")
    (op,) = [i for i, kind in enumerate(graph.kinds) if kind == OpKind.CONV_GRAD]
    assert graph.phases[op] == Phase.BACKWARD
    assert graph.flops[op] == 2 * (2 * 4 * 8 * 8 * 3 * 9)


def test_every_named_aten_op_exists_in_torch() -> None:
    unknown = [name for name in ATEN_OPS if not hasattr(torch.ops.aten, name.rstrip("_"))]
    assert unknown == []
    assert set(ATEN_VIEWS) <= set(ATEN_OPS)


def test_rows_in_groups_cost_their_own_products() -> None:
    """Six rows of 4 numbers, each times one of three 4x5 matrices: 6 * 4 * 5 multiply-adds. Of two
    flat factors the same rows give three 4x5 matrices, with as many."""
    rows, matrices, out = TensorSpec((6, 4)), TensorSpec((3, 4, 5)), TensorSpec((6, 5))
    forward = ATEN_OPS["_grouped_mm"].formula(Signature("_grouped_mm", [rows, matrices], [out]))
    flat = Signature("_grouped_mm", [TensorSpec((4, 6)), out], [matrices])
    assert forward.flops == ATEN_OPS["_grouped_mm"].formula(flat).flops == 2 * 6 * 4 * 5


def test_unknown_dimensions_are_refused_with_the_known_ones(archive: Path) -> None:
    with pytest.raises(ModelError, match=r"no dimension 'batch'.*tokens\[0\]"):
        import_torch_export(archive, {"batch": 4})


def _rewritten(archive: Path, path: Path, change: dict[str, bytes | None]) -> Path:
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
        for item in source.infolist():
            data = change.get(item.filename.split("/", 1)[1], source.read(item))
            if data is not None:
                target.writestr(item.filename, data)
    return path


def test_only_the_program_is_read(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        keep = {name.split("/", 1)[1]: source.read(name) for name in source.namelist()}
    # A pickle that would run code, where torch stores sample inputs.
    poison = b"cos\nsystem\n(S'touch poisoned'\ntR."
    change: dict[str, bytes | None] = {
        name: None for name in keep if name.startswith("data/weights")
    }
    change["data/sample_inputs/model.pt"] = poison
    path = _rewritten(archive, tmp_path / "poisoned.pt2", change)
    assert import_torch_export(path, {}) == import_torch_export(archive, {})
    assert not Path("poisoned").exists()


def test_reading_a_file_needs_neither_torch_nor_pickle(archive: Path) -> None:
    check = (
        "import sys; from graphs import load; load(sys.argv[1]);"
        "sys.exit(any(name == 'torch' or name.startswith('torch.') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", check, str(archive)], check=True, timeout=3600)


def test_damaged_archives_are_refused(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    cut = tmp_path / "cut.pt2"
    cut.write_bytes(data[: len(data) // 2])
    text = tmp_path / "text.pt2"
    text.write_text("not an archive")
    empty = tmp_path / "other.pt2"
    with zipfile.ZipFile(empty, "w") as target:
        target.writestr("hello.txt", "hello")
    broken = _rewritten(archive, tmp_path / "broken.pt2", {"models/model.json": b"{"})
    listed = _rewritten(archive, tmp_path / "list.pt2", {"models/model.json": b"[1, 2]"})
    for path in (cut, text, empty, broken, listed):
        with pytest.raises(ModelError, match=path.name):
            load(path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("schema_version", "major"), 99),
        (("graph_module", "graph", "nodes"), None),
        (("graph_module", "graph", "nodes"), []),
        (("graph_module", "graph", "nodes", 0, "inputs"), 7),
        (("graph_module", "graph", "tensor_values", "tokens", "dtype"), 99),
        (("graph_module", "graph", "tensor_values", "tokens", "sizes"), [{"as_int": -4}]),
        (("graph_module", "graph", "tensor_values", "tokens", "sizes"), [{"as_int": 2**60}]),
        (("graph_module", "signature", "input_specs"), {}),
    ],
)
def test_damaged_programs_are_refused(
    archive: Path, tmp_path: Path, keys: tuple[str | int, ...], value: object
) -> None:
    with zipfile.ZipFile(archive) as source:
        (member,) = [name for name in source.namelist() if name.endswith("models/model.json")]
        document = json.loads(source.read(member))
    target = document
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    change = {"models/model.json": json.dumps(document).encode()}
    path = _rewritten(archive, tmp_path / "changed.pt2", change)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"changed\.pt2"):
        load(path)


def test_the_suffix_does_not_matter(archive: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "program.bin"
    shutil.copy(archive, renamed)
    assert load(renamed) == load(archive)
