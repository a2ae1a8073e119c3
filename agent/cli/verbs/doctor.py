"""`graphwright doctor`: whether everything that graphwright needs is there and works."""

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from agent.cli.output import prepare, print_json, print_table

if TYPE_CHECKING:
    from placement.plug_ins import PlugIn

_PACKAGES = (
    "graphwright",
    "torch",
    "torch-geometric",
    "gymnasium",
    "onnx",
    "tensorflow",
    "wandb",
    "numpy",
    "numba",
    "pymetis",
    "vl-convert-python",
)


def doctor(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Check the installation: versions, devices, kernels, a placement of a bundled graph.

    Parameters
    ----------
    json
        Print one JSON object instead of a table.
    """
    checks: list[tuple[str, bool, str]] = [
        ("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    ]
    for name in _PACKAGES:
        try:
            checks.append((name, True, version(name)))
        except PackageNotFoundError:
            checks.append((name, False, "not installed; run `pip install graphwright` again"))
    for label, check in (
        ("packages", _own_packages),
        ("devices", _devices),
        ("kernels", _kernels),
        ("placement", _placement),
    ):
        checks.append((label, *check()))
    checks += _plug_ins()
    healthy = all(fine for _, fine, _ in checks)
    if json:
        print_json(
            {
                "healthy": healthy,
                "checks": [
                    {"name": name, "ok": fine, "detail": detail} for name, fine, detail in checks
                ],
            }
        )
    else:
        rows = [[name, "ok" if fine else "FAULT", detail] for name, fine, detail in checks]
        print_table("", ["check", "", "detail"], rows, left=3)
    return 0 if healthy else 1


Check = Callable[[], tuple[bool, str]]


def _own_packages() -> tuple[bool, str]:
    from importlib.metadata import packages_distributions

    from graphs.own_packages import ROOT, foreign_claims

    claims = foreign_claims(packages_distributions())
    remedy = "install graphwright in a virtual environment of its own"
    return not claims, f"{'; '.join(claims)}: {remedy}" if claims else f"graphwright's, in {ROOT}"


def _devices() -> tuple[bool, str]:
    import os

    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return True, f"{cores} CPU cores, " + (", ".join(gpus) if gpus else "no CUDA device")


def _plug_ins() -> list[tuple[str, bool, str]]:
    """What other distributions add, each imported."""
    from placement.heuristics.registry import HEURISTICS
    from placement.placers.added import AddedPlacers
    from placement.placers.registry import SEARCHES
    from placement.plug_ins import PLACER_GROUP, plug_ins
    from placement.suites import SUITES, added_suites, get_suite

    taken = {*HEURISTICS, *SEARCHES}
    of_placers = [
        _plug_in(plug_in, AddedPlacers().__getitem__, taken)
        for plug_in in plug_ins(PLACER_GROUP).values()
    ]
    of_suites = [_plug_in(plug_in, get_suite, set(SUITES)) for plug_in in added_suites().values()]
    return of_placers + of_suites


def _plug_in(
    plug_in: "PlugIn", load: Callable[[str], object], taken: set[str]
) -> tuple[str, bool, str]:
    from graphs.errors import GraphwrightError

    label = f"{plug_in.group.rpartition('.')[2]}: {plug_in.name}"
    if plug_in.name in taken:
        detail = f"{plug_in.distribution}: out of reach, for graphwright has one of that name"
        return label, False, detail
    try:
        load(plug_in.name)
    except GraphwrightError as error:
        return label, False, str(error)
    return label, True, f"{plug_in.distribution}, {plug_in.target}"


def _kernels() -> tuple[bool, str]:
    prepare(quiet=True)
    return True, "compiled"


def _placement() -> tuple[bool, str]:
    from graphs.bundled_graphs import bundled_names, load_bundled
    from placement.place import place
    from simulator.clusters.presets import preset
    from simulator.units import format_seconds

    graph = load_bundled(bundled_names()[0])
    placement = place(graph, preset("2xv100-pcie"))
    step = format_seconds(placement.trace.makespan_seconds)
    return placement.feasible, f"{graph.name} on 2xv100-pcie: {step} (simulated)"
