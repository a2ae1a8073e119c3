"""A plan as stages for `torch.distributed.pipelining`, with their schedule and a script to run."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from graphs.whole_files import write_whole
from placement.export.errors import ExportError
from placement.export.pipeline_cuts import Cut, ModelOrder, staged_devices
from placement.export.pipeline_inputs import model_inputs
from placement.export.pipeline_schedule import SCHEDULES, Choice, MiniBatch, micro_batch_count
from placement.export.request import Exported, ExportRequest
from placement.export.torch_modules import torch_modules
from simulator.costs.registry import default_costs
from simulator.units import format_seconds

#: A cut is moved to where a module begins if the mini-batch takes less than that share more.
_MOST_SLOWDOWN = 0.05


@dataclass(frozen=True)
class _Stages:
    """How the model is cut, and what that comes to."""

    devices: tuple[int, ...]
    cuts: tuple[Cut, ...]
    choice: Choice
    seconds: tuple[float, ...]
    """Forward compute time of each stage."""
    moved: str | None = None
    """What was moved, for the user."""


def export_pipeline(request: ExportRequest) -> Exported:
    """Write `<model>.pipeline.json` and a script that runs what it says.

    The manifest has the stages, their devices and the modules where they begin; torch's schedule
    and the number of micro-batches; and what the simulator makes of these. The graph that was
    planned is one micro-batch.

    Raises:
        ExportError: the plan is no pipeline (a device's turn comes twice), a stage begins in the
            middle of a module with no other near, the micro-batches do not fit in memory, or the
            samples of a mini-batch do not divide into them.
        GraphwrightError: the model cannot be read, or trained.
    """
    names = request.cluster.device_names
    modules = torch_modules(request)
    inputs = model_inputs(request)
    seconds = _forward_seconds(request)
    order = ModelOrder.of(request.graph, modules.modules, seconds)
    devices, begins = order.turns(request.plan.devices, names)
    samples = next((spec["shape"][0] for spec in inputs if spec["shape"]), None)
    batch = MiniBatch.of(request, micro_batch_count(request, len(devices), samples))
    stages = _cut(request, batch, order, devices, begins)
    best = stages.choice.best
    document = {
        "schema_version": 2,
        "graph_digest": request.graph.digest,
        "plan_digest": request.plan.digest,
        "program": _program(request),
        "inputs": inputs,
        "split_spec": {cut.module: "BEGINNING" for cut in stages.cuts},
        "stages": [
            {
                "stage": stage,
                "device": names[device],
                "begins_at": stages.cuts[stage - 1].module if stage else None,
                "seconds": stages.seconds[stage],
                "peak_bytes": best.peak_bytes[device],
            }
            for stage, device in enumerate(stages.devices)
        ],
        "schedule": SCHEDULES[stages.choice.order],
        "n_microbatches": batch.micro_batches,
        "training": batch.is_training,
        "predicted": stages.choice.as_dict(),
        "assumed": _assumed(request, batch),
    }
    path = request.out / f"{request.stem}.pipeline.json"
    runner = request.out / f"{request.stem}.run_pipeline.py"
    script = Path(__file__).with_name("pipeline_runner.py").read_bytes()
    write_whole(path, (json.dumps(document, indent=1) + "\n").encode())
    write_whole(runner, script.replace(b"MANIFEST.pipeline.json", path.name.encode()))
    return Exported(
        "pipeline", (path, runner), _notes(request, batch, stages, runner, document["program"])
    )


def _cut(
    request: ExportRequest,
    batch: MiniBatch,
    order: ModelOrder,
    devices: list[int],
    begins: list[int],
) -> _Stages:
    """Cut where the plan does, or where the nearest modules begin if that is about as fast.

    Raises:
        ExportError: a stage begins in the middle of a module and no border near is as fast.
    """
    borders = order.borders()
    places = begins[1:]
    planned = _devices(request, batch, order, devices, places)
    torn = [place for place in places if place not in borders]
    if not torn:
        choice = batch.fastest(planned, len(devices))
        return _Stages(tuple(devices), _cuts(order, borders, places), choice,
                       _stage_seconds(request, planned, devices))  # fmt: skip
    if batch.is_training and request.train is None:
        raise order.refusal(torn[0])  # the backward ops of a module could not be moved with it
    before = batch.fastest(planned, len(devices)).best
    for index, place in enumerate(places):
        if place in borders:
            continue
        low = places[index - 1] if index else 0
        high = places[index + 1] if index + 1 < len(places) else len(order.ops)
        between = sorted(border for border in borders if low < border < high)
        near = [*[b for b in between if b < place][-1:], *[b for b in between if b > place][:1]]
        tried = []
        for border in near:
            others = [*places[:index], border, *places[index + 1 :]]
            assigned = _devices(request, batch, order, devices, others)
            if run := batch.run(assigned, before.schedule.order, batch.micro_batches):
                tried.append((not run.feasible, run.makespan_seconds, border))
        if not tried:
            raise order.refusal(place)
        places[index] = min(tried)[2]
    assigned = _devices(request, batch, order, devices, places)
    try:
        choice = batch.fastest(assigned, len(devices))
    except ExportError:
        raise order.refusal(torn[0]) from None
    slowdown = choice.best.makespan_seconds / before.makespan_seconds - 1.0
    if slowdown >= _MOST_SLOWDOWN:
        raise order.refusal(torn[0])
    cuts = _cuts(order, borders, places)
    moved = [f"the stage planned to begin at {request.graph.op_names[order.ops[was]]!r} begins at "
             f"module {cut.module!r}" for was, cut in zip(begins[1:], cuts, strict=True)
             if order.ops[was] != cut.op]  # fmt: skip
    return _Stages(
        tuple(devices), cuts, choice, _stage_seconds(request, assigned, devices),
        f"Plan and export differ, for torch cuts where a module begins: {'; '.join(moved)}. A "
        f"mini-batch takes {slowdown:+.1%} by that.",
    )  # fmt: skip


def _cuts(order: ModelOrder, borders: dict[int, str], places: list[int]) -> tuple[Cut, ...]:
    return tuple(Cut(order.ops[place], borders[place]) for place in places)


def _devices(
    request: ExportRequest,
    batch: MiniBatch,
    order: ModelOrder,
    devices: list[int],
    places: list[int],
) -> Int32[np.ndarray, " ops"]:
    """Each op where torch runs it; ops of a planned training step where they were planned."""
    if batch.is_training and request.train is None:
        return request.plan.devices
    return staged_devices(request.graph, devices, [order.ops[place] for place in places])


def _forward_seconds(request: ExportRequest) -> np.ndarray:
    """Seconds of each op on its device."""
    costs = request.costs or default_costs(request.graph, request.cluster)
    seconds = costs.seconds(request.graph, request.cluster)
    return seconds[np.arange(request.graph.op_count), request.plan.devices]


def _stage_seconds(
    request: ExportRequest, devices: Int32[np.ndarray, " ops"], order: list[int]
) -> tuple[float, ...]:
    graph = request.graph
    costs = request.costs or default_costs(graph, request.cluster)
    taken = costs.seconds(graph, request.cluster)[np.arange(graph.op_count), devices]
    forward = np.where(graph.phases == 0, taken, 0.0)
    return tuple(float(forward[devices == device].sum()) for device in order)


def _program(request: ExportRequest) -> str | None:
    """Where the exported program lies, as seen from the folder."""
    if request.graph.report.source_format != "torch-export":
        return None
    return Path(os.path.relpath(request.model.resolve(), request.out.resolve())).as_posix()


def _assumed(request: ExportRequest, batch: MiniBatch) -> list[str]:
    assumed = [
        "The planned graph is one micro-batch.",
        f"Compute times are {batch.simulator.costs.name}; transfers run beside compute.",
    ]
    if batch.is_training and request.train is not None:
        assumed.append(
            "The backward pass of each op takes twice its forward pass, and what the op read is "
            f"kept until then; {request.train} updates all weights once for a mini-batch."
        )
    if not batch.is_training:
        assumed.append("There is no backward pass: --train OPTIMIZER plans one.")
    return assumed


def _notes(
    request: ExportRequest, batch: MiniBatch, stages: _Stages, runner: Path, program: Any
) -> tuple[str, ...]:
    best, count = stages.choice.best, len(stages.devices)
    chosen = SCHEDULES[stages.choice.order]
    others = [
        f"{SCHEDULES[order]} {format_seconds(run.makespan_seconds)}"
        + ("" if run.feasible else ", which does not fit")
        for order, run in stages.choice.runs.items()
        if order != stages.choice.order
    ]
    module = "" if program else " --module package.module:factory"
    return (
        f"{count} stages, {chosen} with {batch.micro_batches} micro-batches "
        f"of the planned graph: {format_seconds(best.makespan_seconds)} for a mini-batch, of which "
        f"devices wait {best.bubble:.0%}" + (f" ({'; '.join(others)})" if others else ""),
        f"try it: torchrun --nproc-per-node {count} {runner}{module} --check",
        *(
            (
                "train: --loss package.module:function --targets FILE, or --train where the model "
                "returns its loss, and --optimizer package.module:function",
            )
            if batch.is_training
            else ()
        ),
        *(() if count > 1 else ("One stage: nothing overlaps.",)),
        *((stages.moved,) if stages.moved else ()),
        *request.notes_on_holds,
    )
