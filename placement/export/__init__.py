"""Plans in the forms of other tools: ONNX, onnxruntime, TensorFlow, torch."""

from placement.export.errors import ExportError
from placement.export.registry import FORMS, export_all, get_exporter, judge_of
from placement.export.request import Exported, Exporter, ExportRequest

__all__ = [
    "FORMS",
    "ExportError",
    "ExportRequest",
    "Exported",
    "Exporter",
    "export_all",
    "get_exporter",
    "judge_of",
]
