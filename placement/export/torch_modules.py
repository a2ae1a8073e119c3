"""Which module of a torch model an op belongs to, and which ops read each parameter."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

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
    from graphs.importers.torch_models.exported import parameter_readers

    modules = {
        name: name.rpartition("/")[0]
        for name, kind in zip(request.graph.op_names, request.graph.op_types, strict=True)
        if "." in kind
    }
    readers = parameter_readers(request.model)
    known = request.graph.op_index
    owners = {
        parameter: tuple(name for name in ops if name in known)
        for parameter, ops in readers.items()
    }
    return TorchModules(modules, {name: ops for name, ops in owners.items() if ops})


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
