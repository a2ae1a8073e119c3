"""Which module of a torch model an op belongs to, and which ops read each parameter."""

import ast
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, OpKind, Phase
from placement.export.errors import ExportError
from placement.export.request import ExportRequest

_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class TorchModules:
    """A torch model's structure as far as its export tells; paths are dotted, `""` the model."""

    modules: Mapping[str, str]
    """Op name to the innermost module that called it; ops of unknown origin are absent."""
    owners: Mapping[str, tuple[str, ...]]
    """Dotted name of a parameter, or path of a module with weights, to the ops that read it."""
    followers: Mapping[str, str] = field(default_factory=dict)
    """Parameters and buffers that no op reads, to the one of `owners` whose device they take."""


def torch_modules(request: ExportRequest) -> TorchModules:
    """Read the modules of a `.pt2` program, or of an ONNX model that torch wrote.

    Raises:
        ExportError: the model does not say which module its nodes came from.
        ModelError: the model cannot be read.
    """
    if request.graph.report.source_format == "torch-export":
        return _of_program(request)
    if request.graph.report.source_format == "onnx":
        modules = _of_onnx(request)
        if modules.modules and modules.owners:
            return modules
    raise ExportError(
        f"{request.model}: its nodes do not say which torch module they come from; give a "
        "torch.export program (.pt2), or an ONNX model written by torch.onnx.export"
    )


def _of_program(request: ExportRequest) -> TorchModules:
    from graphs.importers.torch_models.exported import parameter_readers, tied_names

    modules = _of_parameters(request.graph) if request.graph.phases.any() else {
        name: name.rpartition("/")[0]
        for name, kind in zip(request.graph.op_names, request.graph.op_types, strict=True)
        if "." in kind
    }  # fmt: skip
    readers = parameter_readers(request.model)
    known = request.graph.op_index
    owners = {
        parameter: tuple(name for name in ops if name in known)
        for parameter, ops in readers.items()
    }
    followers = _followers(list(owners), {name for name, ops in owners.items() if ops},
                           tied_names(request.model))  # fmt: skip
    return TorchModules(modules, {name: ops for name, ops in owners.items() if ops}, followers)


def _of_parameters(graph: Graph) -> dict[str, str]:
    """The module of each forward op of a training step that reads a parameter, or a view of one.

    Ops of a joint program do not say where they were called, but parameters keep their names.
    """
    owners: dict[int, str] = {}
    modules: dict[str, str] = {}
    for op in range(graph.op_count):
        if graph.kinds[op] == OpKind.VARIABLE:
            owners[op] = graph.op_names[op].rpartition(".")[0]
            continue
        sources = [int(source) for source in graph.tensor_producers[graph.inputs_of(op)]]
        found = [owners[source] for source in sources if source in owners]
        if not found or graph.phases[op] != Phase.FORWARD:
            continue
        if graph.kinds[op] in FREE_KINDS or graph.kinds[op] == OpKind.TRANSPOSE:
            owners[op] = found[0]
        else:
            modules[graph.op_names[op]] = found[0]
    return modules


def _followers(
    names: Sequence[str], read: Set[str], tied: Sequence[Sequence[str]]
) -> dict[str, str]:
    """Where each name goes that is not read: with the same tensor, its module, or a neighbour.

    Args:
        names: all parameters and buffers, in the program's order.
        read: those that an op reads.
        tied: names of one and the same tensor.
    """
    same = {name: group for group in tied for name in group}
    places = {name: position for position, name in enumerate(names)}
    followers: dict[str, str] = {}
    for name, position in places.items():
        if name in read or not read:
            continue
        twin = next((other for other in same.get(name, ()) if other in read), None)
        followers[name] = twin or min(
            (other for other in names if other in read),
            key=lambda other: (-_shared_modules(name, other), abs(places[other] - position)),
        )
    return followers


def _shared_modules(first: str, second: str) -> int:
    """How many modules two names have in common, from the root down."""
    count = 0
    for one, other in zip(first.split(".")[:-1], second.split(".")[:-1], strict=False):
        if one != other:
            break
        count += 1
    return count


def _of_onnx(request: ExportRequest) -> TorchModules:
    from graphs.importers.onnx_models.file import read_onnx
    from graphs.importers.onnx_models.steps import onnx_steps

    model = read_onnx(request.model)
    steps = onnx_steps(model, request.dims, str(request.model), request.model.parent)
    modules: dict[str, str] = {}
    owners: dict[str, list[str]] = {}
    for step in steps.steps:
        scopes = next((p.value for p in step.node.metadata_props if p.key == _SCOPES), None)
        if scopes is not None:
            path = _innermost(scopes)
        elif step.name.startswith("/"):
            path = ".".join(PurePosixPath(step.name).parent.parts[1:])
        else:
            continue
        modules[step.name] = path
        if path and any(tensor in steps.weights for tensor in step.reads):
            owners.setdefault(path, []).append(step.name)
    return TorchModules(modules, {path: tuple(ops) for path, ops in owners.items()})


def _innermost(scopes: str) -> str:
    """The module in `['', 'layers.0', 'layers.0.up', 'linear']`, whose last entry is the call."""
    try:
        names = ast.literal_eval(scopes)
    except (ValueError, SyntaxError):
        return ""
    return str(names[-2]) if isinstance(names, list) and len(names) > 1 else ""
