"""A plan as a `device_map`, which `accelerate.dispatch_model` and transformers read."""

import json
from collections.abc import Mapping

import numpy as np

from graphs.whole_files import write_whole
from placement.export.errors import ExportError
from placement.export.request import Exported, ExportRequest
from placement.export.torch_modules import TorchModules, torch_modules
from simulator.costs.registry import default_costs


def export_device_map(request: ExportRequest) -> Exported:
    """Write `<model>.device_map.json`: module to GPU number or `cpu`, as coarse as possible.

    `targets` are what accelerate calls a device: a number, `cpu`, `cuda:1`.

    Raises:
        ExportError: a module's own weights are on several devices, so that no map can say it.
    """
    modules = torch_modules(request)
    devices = {
        path: sorted({request.device_of(op) for op in ops}) for path, ops in modules.owners.items()
    }
    names = request.cluster.device_names
    for path, homes in devices.items():
        if len(homes) > 1:
            raise ExportError(
                f"weights of {path!r} are read on {', '.join(names[home] for home in homes)}; a "
                "device map keeps each module on one device: place again with "
                f"--colocate '{_pattern(modules, path)}'"
            )
    homes_of = {path: homes[0] for path, homes in devices.items()}
    homes_of.update((path, homes_of[leader]) for path, leader in modules.followers.items())
    entries = _coarsest(homes_of)
    table = {path: _target(request, device) for path, device in entries.items()}
    file = request.out / f"{request.stem}.device_map.json"
    write_whole(file, (json.dumps(table, indent=1) + "\n").encode())
    share = _share_elsewhere(request, modules, entries)
    notes = [f"{len(table)} entries: accelerate.dispatch_model(model, json.load(open('{file}')))"]
    if modules.followers:
        notes.append(
            f"{len(modules.followers)} parameters and buffers that no op reads stand with their "
            "module or a neighbour."
        )
    if share > 0:
        notes.append(
            f"{share:.1%} of the compute time is in ops that the plan has on another device than "
            "their module: accelerate runs them with the module."
        )
    if len(set(table.values())) > 1:
        notes.append("accelerate runs one device at a time: what the plan overlaps is lost.")
    notes.extend(request.notes_on_holds)
    return Exported("device-map", (file,), tuple(notes))


def _coarsest(devices: Mapping[str, int]) -> dict[str, int]:
    """Modules whose whole content is on one device, as near to the root as possible."""
    result: dict[str, int] = {}

    def descend(prefix: str, members: dict[str, int]) -> None:
        if len(set(members.values())) == 1:
            result[prefix] = next(iter(members.values()))
            return
        children: dict[str, dict[str, int]] = {}
        for path, device in members.items():
            rest = path.removeprefix(prefix).lstrip(".")
            if not rest:
                raise ExportError(
                    f"module {path!r} has weights of its own on another device than its parts; a "
                    "device map cannot tell them apart: give the torch.export program, which names "
                    "each parameter"
                )
            child = f"{prefix}.{rest.split('.')[0]}".lstrip(".")
            children.setdefault(child, {})[path] = device
        for child, inside in children.items():
            descend(child, inside)

    descend("", dict(devices))
    return result


def _target(request: ExportRequest, device: int) -> int | str:
    default = "cpu" if request.is_cpu(device) else str(request.kind_ordinal(device))
    target = request.targets.get(request.cluster.devices[device].name, default)
    return int(target) if target.isdigit() else target


def _share_elsewhere(
    request: ExportRequest, found: TorchModules, entries: Mapping[str, int]
) -> float:
    costs = request.costs or default_costs(request.graph, request.cluster)
    seconds = costs.seconds(request.graph, request.cluster)
    taken = seconds[np.arange(request.graph.op_count), request.plan.devices]
    elsewhere = 0.0
    for name, module in found.modules.items():
        op = request.graph.op_index.get(name)
        home = _home(module, entries)
        if op is not None and home is not None and home != request.plan.devices[op]:
            elsewhere += float(taken[op])
    return elsewhere / max(float(taken.sum()), 1e-300)


def _home(module: str, entries: Mapping[str, int]) -> int | None:
    parts = module.split(".") if module else []
    for length in range(len(parts), -1, -1):
        if ".".join(parts[:length]) in entries:
            return entries[".".join(parts[:length])]
    return None


def _pattern(found: TorchModules, path: str) -> str:
    ops = found.owners[path]
    return "|".join(ops[:3]) if len(ops) <= 3 else f"{path.rpartition('.')[0]}.*"
