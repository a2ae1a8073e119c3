"""`graphwright export`: a plan as files that other tools run."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from agent.cli.import_text import import_values, print_import
from agent.cli.options import Target, of_plan, read_cluster, read_model
from agent.cli.output import print_json, print_text
from graphs.errors import GraphwrightError
from graphs.file_presence import is_there


def export(
    model: Path,
    *,
    plan: Path,
    out: Path,
    form: tuple[str, ...] = (),
    target: Target = Target(),
    on: tuple[str, ...] = (),
    schedule: Annotated[bool, Parameter(negative=())] = False,
    fusion: Annotated[bool, Parameter(negative=())] = False,
    copy_weights: Annotated[bool, Parameter(negative=())] = False,
    max_parts: int = 24,
    micro_batches: int | None = None,
    batch: int | None = None,
    train: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a plan in the forms of other tools.

    Forms: plan (plan.json); for ONNX models onnx-split (a model per part, a manifest and a script
    that runs them) and onnx-annotated (one model that names each node's device); for TensorFlow
    graph-def or saved-model (node.device); for torch.export programs and ONNX models from torch
    device-map (as accelerate reads it) and pipeline (stages for torch.distributed.pipelining, the
    schedule that the simulator finds the faster, and a script that runs them).

    Parameters
    ----------
    model
        The model file or SavedModel folder that the plan was made for.
    plan
        A plan.json.
    out
        Folder to write into. Weights that lie in files of their own are not copied: export into
        the model's own folder, or allow --copy-weights.
    form
        One of the forms; repeat for several. None: all that the plan can take.
    on
        DEVICE=NAME: what a device is called where the export runs, such as
        v100:0=/job:worker/task:1/device:GPU:0 or cpu:0=CPUExecutionProvider. For onnx-split
        options of the execution provider may follow:
        v100:0=cuda:1,arena_extend_strategy=kSameAsRequested.
    schedule
        Pin the order too, where the form can: control dependencies in TensorFlow.
    fusion
        Make each fusion group one kernel, where the form can: XLA clusters in TensorFlow.
    copy_weights
        Copy weights that lie outside the folder.
    max_parts
        Refuse a plan that would be cut into more models; each is a session of its own.
    micro_batches
        For pipeline: how many make a mini-batch; the planned graph is one. Left out, 8, or twice
        the number of stages if that is more.
    batch
        For pipeline: samples of a mini-batch; the micro-batches must divide it.
    train
        For pipeline: sgd, momentum or adam: plan a training step of a forward pass, with a backward
        pass that takes twice as long. Left out, the forward pass alone.
    json
        Print one JSON object instead of text.
    """
    from placement.export import ExportRequest, export_all, get_exporter
    from placement.plan_file import read_plan

    exporters = [get_exporter(name) for name in form]
    if not is_there(model):
        raise GraphwrightError(
            f"{model}: no such file; only a model file or folder can be exported (bundled and "
            "generated graphs have no weights)"
        )
    target = of_plan(plan, target)
    graph, cluster = read_model(str(model), target), read_cluster(str(model), target)
    document = read_plan(plan, graph, cluster)
    request = ExportRequest(
        model=model,
        graph=graph,
        cluster=cluster,
        plan=document.plan,
        out=out,
        dims=target.sizes,
        targets=dict(_target(text) for text in on),
        schedule=schedule,
        fusion=fusion,
        copy_weights=copy_weights,
        max_parts=max_parts,
        micro_batches=micro_batches,
        batch=batch,
        train=train,
        provenance=document.provenance,
    )
    if exporters:
        done = [exporter(request) for exporter in exporters]
        refused: dict[str, str] = {}
    else:
        done, refused = export_all(request)
    if json:
        print_json(
            {
                "graph": graph.name,
                "digest": graph.digest,
                "import": import_values(graph),
                "cluster": cluster.name,
                "forms": [
                    {"form": item.form, "files": [str(p) for p in item.files], "notes": item.notes}
                    for item in done
                ],
                "refused": refused,
            }
        )
        return 0
    print_import(graph)
    for item in done:
        print_text(f"{item.form}: {item.files[0]}" + _more(len(item.files) - 1))
        for note in item.notes:
            print_text(f"  {note}")
    for name, reason in refused.items():
        print_text(f"{name}: not written. {reason}")
    return 0


def _more(count: int) -> str:
    return f" and {count} files beside it" if count > 1 else " and one beside it" if count else ""


def _target(text: str) -> tuple[str, str]:
    """Split DEVICE=NAME at the first equals sign: options of the name may hold more."""
    device, separator, name = text.partition("=")
    if not separator or not device or not name:
        raise GraphwrightError(f"--on {text}: write --on DEVICE=NAME")
    return device, name
