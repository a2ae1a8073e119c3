"""Splits an ONNX model into models for single devices, with a manifest and a runner script."""

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto

from graphs.importers.onnx_models.file import read_onnx
from graphs.importers.onnx_models.steps import OnnxSteps, onnx_steps
from graphs.whole_files import write_whole
from placement.export.errors import ExportError
from placement.export.onnx_parts import Part, cut
from placement.export.onnx_types import TensorTypes
from placement.export.onnx_weights import (
    WeightFile,
    constant_tensor,
    weight_file,
    weights_by_name,
    with_placed_bodies,
)
from placement.export.request import Exported, ExportRequest
from placement.export.split_forecast import forecast_split
from placement.problem import Problem
from simulator.units import format_seconds

MANIFEST_VERSION = 2
_LARGEST_PROTOBUF = 2**31 - 1
#: An execution provider, the number of its device, and options.
_TARGET = re.compile(r"[^,=]+(,[^,=]+=[^,]*)*")


def export_onnx_split(request: ExportRequest) -> Exported:
    """Write one model per part, `<model>.split.json` and `<model>.run.py`.

    Each weight is written once, however many parts read it; weights that lie in files already are
    not written at all. `targets` say which execution provider a device is, and its options:
    `NAME[:NUMBER][,KEY=VALUE...]`, such as `cpu`, `cuda:1,arena_extend_strategy=kSameAsRequested`
    or `OpenVINOExecutionProvider`.

    Raises:
        ModelError: the model cannot be read.
        ExportError: it cannot be cut, its weights would have to be copied, or a target is no
            execution provider.
    """
    model = read_onnx(request.model)
    steps = onnx_steps(model, request.dims, str(request.model), request.model.parent)
    devices = _devices(request)
    parts = cut(steps, request)
    forecast = _forecast(request, len(parts))
    with weight_file(request) as weights:
        writer = _Writer(model, steps, request, weights)
        models = [writer.part(part, first=not index) for index, part in enumerate(parts)]
        for part, made in zip(parts, models, strict=True):
            if made.ByteSize() > _LARGEST_PROTOBUF:
                raise ExportError(
                    f"{request.model}: a part on {request.cluster.devices[part.device].name} is "
                    "over 2 GiB with tensors that ONNX cannot keep in another file"
                )
    names = [_file_name(request, index, part) for index, part in enumerate(parts)]
    for name, made in zip(names, models, strict=True):
        write_whole(request.out / name, made.SerializeToString(deterministic=True))
    manifest = request.out / f"{request.stem}.split.json"
    document = _manifest(request, steps, model, parts, names, weights)
    document |= {"devices": devices, **forecast.as_dict()}
    write_whole(manifest, (json.dumps(document, indent=1) + "\n").encode())
    runner = request.out / f"{request.stem}.run.py"
    script = Path(__file__).with_name("split_runner.py").read_bytes()
    write_whole(runner, script.replace(b"MANIFEST.split.json", manifest.name.encode()))
    files = [manifest, runner, *(request.out / name for name in names)]
    if weights.bytes_written:
        files.append(weights.path)
    stages = parts[-1].stage + 1
    used = {part.device for part in parts}
    cpu = "" if all(request.is_cpu(device) for device in used) else " --cpu"
    notes = [
        f"{len(parts)} models on {len(used)} devices, {stages} stages; "
        f"try it: python {runner}{cpu} --random --check {request.model}",
        forecast.sentence(),
        *request.notes_on_holds,
    ]
    if request.plan.is_fused:
        notes.append("Fusion groups are not exported: onnxruntime fuses inside each part itself.")
    return Exported("onnx-split", tuple(files), tuple(notes))


@dataclass(frozen=True)
class _Forecast:
    """What a step will take, in seconds."""

    predicted_seconds: float
    """As a split: parts as sessions, tensors through the host."""
    predicted_period_seconds: float
    """Between the ends of steps that overlap."""
    simulated_seconds: float
    """As placed."""
    costs: str
    """The cost model behind both."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        return (
            f"predicted as a split: about {format_seconds(self.predicted_seconds)} a step, with "
            f"tensors through the host; simulated as placed: "
            f"{format_seconds(self.simulated_seconds)}"
        )


def _forecast(request: ExportRequest, parts: int) -> _Forecast:
    """What the split model will take.

    Raises:
        ExportError: so many parts that the split is not worth having.
    """
    problem = Problem(request.graph, request.cluster, given_costs=request.costs)
    plan = replace(request.plan, fusion=np.full(len(request.plan.devices), -1, np.int32))
    split = forecast_split(problem, plan)
    forecast = _Forecast(
        split.makespan_seconds,
        split.period_seconds,
        problem.simulator.evaluate(request.plan).makespan_seconds,
        problem.costs.name,
    )
    if parts > request.max_parts:
        raise ExportError(
            f"{request.model}: the plan cuts it into {parts} models, at most {request.max_parts} "
            "are written: run one after the other, with tensors through the host, they would take "
            f"about {format_seconds(forecast.predicted_seconds)} a step where "
            f"{format_seconds(forecast.simulated_seconds)} were simulated; make a plan for this "
            "form (graphwright place --for onnx-split), or allow more with --max-parts"
        )
    return forecast


class _Writer:
    """Makes the models of parts; the weight file grows while they are made."""

    def __init__(
        self, model: ModelProto, steps: OnnxSteps, request: ExportRequest, weights: WeightFile
    ) -> None:
        self.model = model
        self.steps = steps
        self.request = request
        self.weights = weights
        self.stored = weights_by_name(model)
        self.sparse = {item.values.name: item for item in model.graph.sparse_initializer}
        self.types = TensorTypes(model, steps)
        self.overridable = overridable(model)

    def part(self, part: Part, *, first: bool) -> ModelProto:
        """One part; the first also gives the model outputs that are weights."""
        name = self.request.cluster.devices[part.device].name
        graph = GraphProto(name=f"{self.model.graph.name or 'graph'} on {name}")
        given = weight_outputs(self.steps) if first else []
        for weight in dict.fromkeys([*part.weights, *given]):
            self._add_weight(weight, graph)
        for step in (*part.folded, *part.steps):
            graph.node.append(with_placed_bodies(step.node, self.weights))
        optional = [weight for weight in part.weights if weight in self.overridable]
        graph.input.extend(self.types.declare(n) for n in (*part.inputs, *optional))
        graph.output.extend(self.types.declare(n) for n in (*part.outputs, *given))
        return ModelProto(
            ir_version=max(self.model.ir_version, 4),
            producer_name="graphwright",
            opset_import=self.steps.opsets,
            graph=graph,
        )

    def _add_weight(self, name: str, graph: GraphProto) -> None:
        tensor: TensorProto | None = self.stored.get(name)
        if name in self.steps.constants:
            tensor = constant_tensor(self.steps.constants[name])
            if tensor is None:  # a number, a list or a sparse tensor: the node itself
                graph.node.append(self.steps.constants[name])
                return
        if tensor is None:
            graph.sparse_initializer.append(self.sparse[name])
        else:
            graph.initializer.append(self.weights.placed(tensor))


def overridable(model: ModelProto) -> frozenset[str]:
    """Weights that callers may feed; before IR version 4 all had to be listed as inputs."""
    if model.ir_version < 4:
        return frozenset()
    weights = set(weights_by_name(model))
    return frozenset(value.name for value in model.graph.input if value.name in weights)


def weight_outputs(steps: OnnxSteps) -> list[str]:
    """Outputs of the model that are stored tensors."""
    return [n for n in steps.outputs if n in steps.weights and n not in steps.parameters]


def _file_name(request: ExportRequest, index: int, part: Part) -> str:
    device = re.sub(r"[^A-Za-z0-9]+", "_", request.cluster.devices[part.device].name)
    return f"{request.stem}.part{index:02d}-{device}.onnx"


def _devices(request: ExportRequest) -> list[dict[str, Any]]:
    """Name, kind and execution provider of each device, as the runner reads them.

    Raises:
        ExportError: a target is not `NAME[:NUMBER][,KEY=VALUE...]`.
    """
    devices: list[dict[str, Any]] = []
    for index, device in enumerate(request.cluster.devices):
        default = (
            "CPUExecutionProvider"
            if request.is_cpu(index)
            else f"CUDAExecutionProvider:{request.kind_ordinal(index)}"
        )
        target = request.targets.get(device.name, default)
        if not _TARGET.fullmatch(target):
            raise ExportError(
                f"--on {device.name}={target}: write NAME[:NUMBER][,KEY=VALUE...], an execution "
                "provider and its options, such as cuda:1,arena_extend_strategy=kSameAsRequested"
            )
        devices.append({"name": device.name, "kind": device.kind, "provider": target})
    return devices


def _manifest(
    request: ExportRequest,
    steps: OnnxSteps,
    model: ModelProto,
    parts: list[Part],
    names: list[str],
    weights: WeightFile,
) -> dict[str, Any]:
    outputs = weight_outputs(steps)
    free = overridable(model)
    return {
        "schema_version": MANIFEST_VERSION,
        "model": request.model.name,
        "graph_digest": request.graph.digest,
        "plan_digest": request.plan.digest,
        "inputs": list(steps.binding.inputs),
        "optional_inputs": sorted(free),
        "example_shapes": {n: list(v.spec.shape) for n, v in steps.binding.inputs.items()},
        "outputs": list(steps.outputs),
        "weight_files": [*([weights.name] if weights.bytes_written else []), *weights.referred],
        "parts": [
            {
                "file": name,
                "device": request.cluster.devices[part.device].name,
                "stage": part.stage,
                "nodes": len(part.steps),
                "inputs": list(part.inputs),
                "optional_inputs": [w for w in part.weights if w in free],
                "outputs": [*part.outputs, *([] if index else outputs)],
            }
            for index, (part, name) in enumerate(zip(parts, names, strict=True))
        ],
    }
