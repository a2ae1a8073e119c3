"""A plan as stages for `torch.distributed.pipelining`, which cuts a program at modules."""

import json
import re

import numpy as np

from placement.export.errors import ExportError
from placement.export.request import Exported, ExportRequest, write_whole
from placement.export.torch_modules import torch_modules
from simulator.costs.registry import default_costs


def export_pipeline(request: ExportRequest) -> Exported:
    """Write `<model>.pipeline.json`: the stages, their devices and the modules where they begin.

    Raises:
        ExportError: the plan is no pipeline (a device's turn comes twice), or a stage begins in
            the middle of a module.
    """
    graph, names = request.graph, request.cluster.device_names
    modules = torch_modules(request)
    costs = request.costs or default_costs(graph, request.cluster)
    seconds = costs.seconds(graph, request.cluster)
    taken = seconds[np.arange(graph.op_count), request.plan.devices]
    ops = [
        op
        for op in range(graph.op_count)
        if taken[op] > 0 and graph.op_names[op] in modules.modules
    ]
    order: list[int] = []
    begins: list[int] = []
    for position, op in enumerate(ops):
        device = int(request.plan.devices[op])
        if order and device == order[-1]:
            continue
        if device in order:
            before = graph.op_names[ops[position - 1]]
            raise ExportError(
                f"the plan is no pipeline: after {before!r} on {names[order[-1]]} the turn is "
                f"{names[device]}'s again, with {graph.op_names[op]!r}; place with "
                "--placer human-expert for contiguous stages, or export another form"
            )
        order.append(device)
        begins.append(position)
    paths = [modules.modules[graph.op_names[op]] for op in ops]
    splits = [_module_at(paths, begin, graph.op_names[ops[begin]]) for begin in begins[1:]]
    document = {
        "schema_version": 1,
        "graph_digest": graph.digest,
        "plan_digest": request.plan.digest,
        "split_spec": dict.fromkeys(splits, "BEGINNING"),
        "stages": [
            {
                "stage": stage,
                "device": names[device],
                "begins_at": splits[stage - 1] if stage else None,
                "seconds": float(
                    sum(taken[op] for op in ops if request.plan.devices[op] == device)
                ),
            }
            for stage, device in enumerate(order)
        ],
    }
    path = request.out / f"{request.stem}.pipeline.json"
    write_whole(path, (json.dumps(document, indent=1) + "\n").encode())
    return Exported(
        "pipeline",
        (path,),
        (
            f"{len(order)} stages: torch.distributed.pipelining.pipeline(model, example, "
            "split_spec={name: SplitPoint.BEGINNING for name in document['split_spec']})",
            *request.notes_on_holds,
        ),
    )


def _module_at(paths: list[str], begin: int, op: str) -> str:
    """The outermost module whose first op is the one at `begin`."""
    parts = paths[begin].split(".") if paths[begin] else []
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        inside = [p == module or p.startswith(f"{module}.") for p in paths]
        if not any(inside[:begin]):
            return module
    raise ExportError(
        f"a stage would begin at {op!r}, in the middle of module {paths[begin]!r}; torch cuts "
        f"programs where a module begins only{_remedy(paths[begin])}"
    )


def _remedy(module: str) -> str:
    """How to keep a module whole."""
    return f": place again with --colocate '{re.escape(module)}[./].*'" if module else ""
