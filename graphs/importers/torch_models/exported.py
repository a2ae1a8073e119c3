"""Imports `torch.export` programs, from `.pt2` files and from memory.

A `.pt2` file is a zip archive whose `models/<name>.json` holds the whole program: operators,
shapes, signature. Only that member is read. Weights, sample inputs and anything pickled in the
archive stay untouched, so that opening a file runs none of its code; torch itself is not needed.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.importers.torch_models.data_sizes import DataSizes
from graphs.importers.torch_models.document import parameter_names, read_document
from graphs.importers.torch_models.graph import build_exported, dataflow

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_LARGEST_DOCUMENT = 1 << 30
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError)
#: RuntimeError: an encrypted member.
_PROGRAM_ERRORS = (ValueError, RecursionError, RuntimeError)
_WANTED = "a torch.export program holds models/<name>.json (torch 2.8 or newer)"


def import_torch_export(path: Path, dims: Mapping[str, int]) -> Graph:
    """Read a `.pt2` file without loading weights or unpickling anything.

    Args:
        path: what `torch.export.save` wrote.
        dims: sizes of symbolic dimensions: by torch's own symbol (`s77`) or as `input[axis]`.
            Open ones keep the size of the example that the program was exported with.

    Raises:
        ModelError: not such an archive, a damaged program, or an unknown dimension.
    """
    document = _document(path)
    exported, assumed, data_sizes = read_document(document, dims, str(path))
    return build_exported(exported, str(path), _report(assumed, data_sizes, dims))


def parameter_readers(path: Path) -> Mapping[str, list[str]]:
    """The ops that read each parameter and buffer of a `.pt2` file, by its name in its module.

    Raises:
        ModelError: as for `import_torch_export`.
    """
    document = _document(path)
    exported, _, _ = read_document(document, {}, str(path))
    readers: dict[str, list[str]] = {name: [] for name in parameter_names(document).values()}
    names = parameter_names(document)
    for op in dataflow(exported).ops:
        for tensor in (*op.inputs, *op.carried):
            if tensor in names:
                readers[names[tensor]].append(op.name)
    return readers


def tied_names(path: Path) -> list[list[str]]:
    """Parameters and buffers of a `.pt2` file that are one tensor under several names.

    Raises:
        ModelError: as for `import_torch_export`.
    """
    origin = str(path)
    names: dict[str, list[str]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith("_weights_config.json"):
                    for name, stored in json.loads(archive.read(member))["config"].items():
                        names.setdefault(str(stored["path_name"]), []).append(name)
    except (*_ARCHIVE_ERRORS, *_PROGRAM_ERRORS, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{origin}: its list of weights is damaged ({error})") from error
    return [group for group in names.values() if len(group) > 1]


def _document(path: Path) -> Any:
    origin = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(_program_member(archive, origin))
    except _ARCHIVE_ERRORS as error:
        raise ModelError(f"{origin}: not a readable .pt2 archive ({error}); {_WANTED}") from error
    except _PROGRAM_ERRORS as error:
        raise ModelError(f"{origin}: its program is damaged ({error})") from error


def import_exported_program(
    program: "ExportedProgram", name: str, dims: Mapping[str, int] | None = None
) -> Graph:
    """Turn a program in memory into a `Graph`; the program is not changed.

    Args:
        program: what `torch.export.export` returned.
        name: the graph's name.
        dims: as for `import_torch_export`.

    Raises:
        ModelError: an unknown dimension, or no operators.
    """
    from graphs.importers.torch_models.program import read_program

    exported, assumed, data_sizes = read_program(program, dims or {}, name)
    return build_exported(exported, name, _report(assumed, data_sizes, dims or {}))


def import_training_program(
    program: "ExportedProgram", name: str, optimizer: str = "adam"
) -> Graph:
    """Turn a joint program, which returns a loss and the gradients of parameters, into a step.

    An update of the optimizer is added for each gradient.

    Args:
        program: what `torch.export.experimental._export_forward_backward` returned.
        name: the graph's name.
        optimizer: `sgd`, `momentum` or `adam`.

    Raises:
        ModelError: a program without gradients, or an unknown optimizer.
    """
    from graphs.importers.torch_models.program import read_gradients, read_program
    from graphs.importers.torch_models.training import build_training

    exported, assumed, data_sizes = read_program(program, {}, name)
    gradients = read_gradients(program, name)
    report = _report(assumed, data_sizes, {})
    return build_training(exported, gradients, optimizer, name, report)


def _program_member(archive: zipfile.ZipFile, origin: str) -> bytes:
    members = [
        item
        for item in archive.infolist()
        if "models/" in item.filename and item.filename.endswith(".json")
    ]
    if not members:
        legacy = any(
            i.filename.endswith("serialized_exported_program.json") for i in archive.infolist()
        )
        hint = " (an older torch wrote it: save it again with torch 2.8 or newer)" if legacy else ""
        raise ModelError(f"{origin}: no exported program inside{hint}; {_WANTED}")
    if len(members) > 1:
        listed = ", ".join(item.filename for item in members[:5])
        raise ModelError(f"{origin}: holds several programs ({listed}); one per file is read")
    if members[0].file_size > _LARGEST_DOCUMENT:
        raise ModelError(f"{origin}: the program takes {members[0].file_size} bytes, over 1 GiB")
    return archive.read(members[0])


def _report(
    assumed: Mapping[str, int], data_sizes: DataSizes, dims: Mapping[str, int]
) -> ImportReport:
    notes = data_sizes.notes()
    if assumed:
        notes.insert(0, "Open dimensions of inputs have the size of the program's example inputs.")
    return ImportReport(
        "torch-export",
        assumed_dims={**assumed, **data_sizes.estimated},
        bound_dims=dict(dims),
        notes=tuple(notes),
    )
