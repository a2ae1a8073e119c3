"""The forms that a plan can take; each exporter is imported when it is asked for."""

from dataclasses import dataclass
from importlib import import_module

from placement.export.errors import ExportError
from placement.export.request import Exported, Exporter, ExportRequest
from placement.problem import Problem
from placement.simplicity import Judge


@dataclass(frozen=True)
class ExportForm:
    """One form that a plan can take."""

    exporter: str
    """`module:function` of an `Exporter`."""
    sources: tuple[str, ...] | None = None
    """Formats of models that it makes sense for; None: all."""
    judge: str | None = None
    """`module:class` of a `placement.simplicity.Judge` that is made of a problem, for a form that
    runs otherwise than simulated."""


#: By name; what `export` writes where no form is named, in this order.
FORMS: dict[str, ExportForm] = {
    "plan": ExportForm("placement.export.plan_document:export_plan_file"),
    "onnx-split": ExportForm(
        "placement.export.onnx_split:export_onnx_split",
        ("onnx",),
        "placement.export.split_forecast:SplitJudge",
    ),
    "onnx-annotated": ExportForm(
        "placement.export.onnx_annotated:export_onnx_annotated", ("onnx",)
    ),
    "graph-def": ExportForm("placement.export.tensorflow_model:export_graph_def", ("tensorflow",)),
    "saved-model": ExportForm(
        "placement.export.tensorflow_model:export_saved_model", ("tensorflow",)
    ),
    "device-map": ExportForm(
        "placement.export.device_map:export_device_map", ("onnx", "torch-export")
    ),
    "pipeline": ExportForm(
        "placement.export.pipeline_stages:export_pipeline", ("onnx", "torch-export")
    ),
}


def get_exporter(form: str) -> Exporter:
    """An exporter by the name of its form.

    Raises:
        ExportError: no such form; the message lists them.
    """
    if form not in FORMS:
        raise ExportError(f"no form {form!r}; there are {', '.join(FORMS)}")
    module, _, name = FORMS[form].exporter.partition(":")
    exporter: Exporter = getattr(import_module(module), name)
    return exporter


def judge_of(form: str, problem: Problem) -> Judge | None:
    """What says how a form runs; None where it runs as simulated.

    Raises:
        ExportError: no such form; the message lists them.
    """
    get_exporter(form)
    named = FORMS[form].judge
    if named is None:
        return None
    module, _, name = named.partition(":")
    judge: Judge = getattr(import_module(module), name)(problem)
    return judge


def forms_of(request: ExportRequest) -> tuple[str, ...]:
    """The forms that may apply to a model."""
    source = request.graph.report.source_format
    return tuple(
        name for name, form in FORMS.items() if form.sources is None or source in form.sources
    )


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
