"""Shapes and types of a torch model's inputs, for a script that makes some up."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphs.kinds import DType
from placement.export.request import ExportRequest

#: ONNX's numbers of element types, as torch calls them.
_ONNX_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 16: "bfloat16",
}  # fmt: skip
_TORCH_TYPES = {
    DType.FLOAT32: "float32", DType.TF32: "float32", DType.FLOAT16: "float16",
    DType.BFLOAT16: "bfloat16", DType.FLOAT64: "float64", DType.INT8: "int8",
    DType.INT16: "int16", DType.INT32: "int32", DType.INT64: "int64", DType.BOOL: "bool",
    DType.COMPLEX64: "complex64", DType.COMPLEX128: "complex128",
}  # fmt: skip


def model_inputs(request: ExportRequest) -> list[dict[str, Any]]:
    """Name, shape and torch's dtype of each input tensor, in the order of the arguments."""
    if request.graph.report.source_format == "onnx":
        return _of_onnx(request.model, request.dims)
    return _of_program(request.model, request.dims)


def _of_program(path: Path, dims: Mapping[str, int]) -> list[dict[str, Any]]:
    from graphs.importers.torch_models.document import read_document

    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist()
                      if "models/" in name and name.endswith(".json"))  # fmt: skip
        document = json.loads(archive.read(member))
    program = read_document(document, dims, str(path))[0]
    return [
        {"name": name, "shape": list(spec.shape), "dtype": _TORCH_TYPES.get(spec.dtype, "float32")}
        for name, spec in program.inputs.items()
    ]


def _of_onnx(path: Path, dims: Mapping[str, int]) -> list[dict[str, Any]]:
    from graphs.importers.onnx_models.file import parse_onnx

    graph = parse_onnx(path).graph
    weights = {weight.name for weight in graph.initializer}
    return [
        {
            "name": item.name,
            "shape": [
                int(dims.get(size.dim_param, 1)) if size.dim_param else int(size.dim_value)
                for size in item.type.tensor_type.shape.dim
            ],
            "dtype": _ONNX_TYPES.get(item.type.tensor_type.elem_type, "float32"),
        }
        for item in graph.input
        if item.name not in weights
    ]
