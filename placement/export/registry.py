"""The forms that a plan can take; each exporter is imported when it is asked for."""

from collections.abc import Mapping
from importlib import import_module

from placement.export.errors import ExportError
from placement.export.request import Exported, Exporter, ExportRequest

#: Form to the module and function that write it.
FORMS: Mapping[str, tuple[str, str]] = {
    "plan": ("placement.export.plan_document", "export_plan_file"),
    "onnx-split": ("placement.export.onnx_split", "export_onnx_split"),
    "onnx-annotated": ("placement.export.onnx_annotated", "export_onnx_annotated"),
    "graph-def": ("placement.export.tensorflow_model", "export_graph_def"),
    "saved-model": ("placement.export.tensorflow_model", "export_saved_model"),
    "device-map": ("placement.export.device_map", "export_device_map"),
    "pipeline": ("placement.export.pipeline_stages", "export_pipeline"),
}

#: Forms that make sense for what a graph was imported from.
_BY_SOURCE: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx-split", "onnx-annotated", "device-map", "pipeline"),
    "torch-export": ("device-map", "pipeline"),
    "tensorflow": ("graph-def", "saved-model"),
}


def get_exporter(form: str) -> Exporter:
    """An exporter by the name of its form.

    Raises:
        ExportError: no such form; the message lists them.
    """
    if form not in FORMS:
        raise ExportError(f"no form {form!r}; there are {', '.join(FORMS)}")
    module, name = FORMS[form]
    found: Exporter = getattr(import_module(module), name)
    return found


def forms_of(request: ExportRequest) -> tuple[str, ...]:
    """The forms that may apply to a model."""
    return ("plan", *_BY_SOURCE.get(request.graph.report.source_format, ()))


def export_all(request: ExportRequest) -> tuple[list[Exported], dict[str, str]]:
    """Write every form that the plan can take; returns what was refused and why as well."""
    done: list[Exported] = []
    refused: dict[str, str] = {}
    for form in forms_of(request):
        try:
            done.append(get_exporter(form)(request))
        except ExportError as error:
            refused[form] = str(error)
    return done, refused
