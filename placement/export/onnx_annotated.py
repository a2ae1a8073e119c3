"""Writes an ONNX model with its plan, in all three ways that tools read.

- `ModelProto.configuration` and `NodeProto.device_configurations` (ONNX IR version 11, multi-device
  proposal): one configuration whose devices are the cluster's; a node's tensors lie whole on one.
- `metadata_props` of model and nodes, which Netron shows.
- `layer_ann` on nodes, which onnxruntime matches against `session.layer_assignment_settings`.
"""

import json
import re
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from graphs.importers.onnx_models.file import read_onnx
from graphs.importers.onnx_models.steps import OnnxSteps, onnx_steps
from graphs.whole_files import write_whole
from placement.export.errors import ExportError
from placement.export.onnx_parts import Part, cut
from placement.export.onnx_weights import WeightFile, weight_file, with_placed_bodies
from placement.export.request import Exported, ExportRequest

CONFIGURATION = "graphwright"
LAYER_KEY = "layer_ann"
#: The first version that knows device configurations.
_FIRST_IR = 11


def export_onnx_annotated(request: ExportRequest) -> Exported:
    """Write `<model>.annotated.onnx` and `<model>.session.json`.

    The latter holds onnxruntime's session option. `targets` name onnxruntime's designator of a
    device (`cpu`, `gpu:1`, `cuda`).

    Raises:
        ModelError: the model cannot be read.
        ExportError: weights would have to be copied.
    """
    model = read_onnx(request.model)
    steps = onnx_steps(model, request.dims, str(request.model), request.model.parent)
    stages = _stages(steps, request)
    with weight_file(request) as weights:
        annotated = _annotate(model, steps, request, stages, weights)
    path = request.out / f"{request.stem}.annotated.onnx"
    write_whole(path, annotated.SerializeToString(deterministic=True))
    settings = session_settings(request)
    session = request.out / f"{request.stem}.session.json"
    entry = {"session.layer_assignment_settings": settings}
    write_whole(session, (json.dumps(entry, indent=1) + "\n").encode())
    notes = [
        "onnxruntime: options.add_session_config_entry("
        f'"session.layer_assignment_settings", "{settings}")',
        *request.notes_on_holds,
    ]
    if sum(not request.is_cpu(index) for index in set(request.plan.devices.tolist())) > 1:
        notes.append("One onnxruntime session uses one GPU: for several, take the form onnx-split.")
    files = (path, session, *((weights.path,) if weights.bytes_written else ()))
    return Exported("onnx-annotated", files, tuple(notes))


def layer_label(request: ExportRequest, device: int) -> str:
    """What a node's layer annotation calls a device; onnxruntime's grammar knows no colons."""
    return re.sub(r"[^A-Za-z0-9]+", "_", request.cluster.devices[device].name)


def session_settings(request: ExportRequest) -> str:
    """The value of `session.layer_assignment_settings`: `cpu(=cpu_0); gpu:0(=v100_0)`."""
    layers: dict[str, list[str]] = {}
    for device in sorted(set(request.plan.devices.tolist())):
        name = request.cluster.devices[device].name
        default = "cpu" if request.is_cpu(device) else f"gpu:{request.kind_ordinal(device)}"
        target = request.targets.get(name, default)
        layers.setdefault(target, []).append(f"={layer_label(request, device)}")
    return "; ".join(f"{target}({', '.join(names)})" for target, names in layers.items())


def _stages(steps: OnnxSteps, request: ExportRequest) -> dict[str, Part]:
    try:
        parts = cut(steps, request)
    except ExportError:  # a model that cannot be cut can be annotated all the same
        return {}
    return {step.name: part for part in parts for step in part.steps}


def _annotate(
    model: ModelProto,
    steps: OnnxSteps,
    request: ExportRequest,
    parts: dict[str, Part],
    weights: WeightFile,
) -> ModelProto:
    result = ModelProto()
    for field, value in model.ListFields():
        if field.name not in {"graph", "functions", "opset_import"}:
            _assign(result, field.name, value)
    result.ir_version = max(model.ir_version, _FIRST_IR)
    result.opset_import.extend(steps.opsets)
    configuration = result.configuration.add(
        name=CONFIGURATION, num_devices=request.cluster.device_count
    )
    configuration.device.extend(request.cluster.device_names)
    for key, text in (
        ("graphwright.cluster", request.cluster.name),
        ("graphwright.graph_digest", request.graph.digest),
        ("graphwright.plan_digest", request.plan.digest),
    ):
        result.metadata_props.add(key=key, value=text)
    graph = result.graph
    for field, value in model.graph.ListFields():
        if field.name not in {"node", "initializer", "value_info"}:
            _assign(graph, field.name, value)
    if not model.functions:  # inlining renames tensors
        graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        outside = tensor.data_location == TensorProto.EXTERNAL
        graph.initializer.append(weights.placed(tensor) if outside else tensor)
    _add_nodes(graph, steps, request, parts, weights)
    return result


def _add_nodes(
    graph: GraphProto,
    steps: OnnxSteps,
    request: ExportRequest,
    parts: dict[str, Part],
    weights: WeightFile,
) -> None:
    graph.node.extend(steps.constants.values())
    readers = _first_readers(steps)
    folded = list({step.name: step for step in steps.folded.values()}.values())
    for step in (*folded, *steps.steps):
        node = NodeProto()
        node.CopyFrom(with_placed_bodies(step.node, weights))
        node.name = step.name
        op_name = readers.get(step.name, step.name)
        part = parts.get(op_name)
        device = request.device_of(op_name)
        del node.device_configurations[:]
        placed = node.device_configurations.add(configuration_id=CONFIGURATION)
        if part is not None:
            placed.pipeline_stage = part.stage
        for tensor in dict.fromkeys(name for name in (*node.input, *node.output) if name):
            placed.sharding_spec.add(tensor_name=tensor).device.append(device)
        op = request.graph.op_index[op_name]
        notes = {
            "graphwright.device": request.cluster.devices[device].name,
            "graphwright.priority": f"{request.plan.priorities[op]:g}",
            LAYER_KEY: layer_label(request, device),
        }
        if request.plan.fusion[op] >= 0:
            notes["graphwright.fusion_group"] = str(request.plan.fusion[op])
        kept = [item for item in node.metadata_props if item.key not in notes]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        for key, text in notes.items():
            node.metadata_props.add(key=key, value=text)
        graph.node.append(node)


def _first_readers(steps: OnnxSteps) -> dict[str, str]:
    """Of each step that is computed at load, the first op that reads what comes of it."""
    readers: dict[str, str] = {}
    for step in steps.steps:
        folded, _ = steps.made_of(name for name in step.reads if name in steps.folded)
        for made in folded:
            readers.setdefault(made.name, step.name)
    return readers


def _assign(message: Any, name: str, value: Any) -> None:
    target = getattr(message, name)
    if hasattr(target, "MergeFrom") and hasattr(value, "__len__") and not isinstance(value, str):
        target.MergeFrom(value)
    elif hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    else:
        setattr(message, name, value)
