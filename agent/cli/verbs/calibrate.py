"""`graphwright calibrate`: measure this machine, and say how far off predictions for it are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from agent.cli.options import GUARDED, ImportFlags, read_model, target_of
from agent.cli.output import (
    prepare,
    print_json,
    print_table,
    print_text,
    progress,
    say_waiting,
)
from graphs.errors import GraphwrightError
from graphs.file_presence import is_file
from graphs.whole_files import write_whole

if TYPE_CHECKING:
    from placement.runtime.calibration.judging import Judged, ModelFile


def calibrate(
    models: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    *,
    out: Path,
    dim: tuple[str, ...] = (),
    sizes: tuple[str, ...] = (),
    reading: ImportFlags = GUARDED,
    runtime: str = "ort",
    devices: int = 0,
    plans: int = 8,
    judged: int = 10,
    repeats: int = 7,
    seed: int = 0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Measure this machine's cores with models, and say how far off its predictions are.

    Writes cluster.yaml and costs.json. What is placed or simulated on that cluster later uses the
    measured times, and every prediction carries the error.

    Parameters
    ----------
    models
        ONNX models, weights not needed, or GraphDefs (tf); those that matter to you, or several
        sizes of their kinds.
    out
        Folder for cluster.yaml and costs.json.
    dim
        Size of a symbolic dimension, such as batch=8, in every model that has it.
    sizes
        Further sizes of symbolic dimensions, such as batch=4,16: kernels are measured at them too,
        so that those of other sizes lie between measured ones (ort).
    runtime
        ort: device programs on onnxruntime. tf: a TensorFlow server per core; by wall time, so that
        the machine should be quiet.
    devices
        Cores to use; all by default.
    plans
        Plans per model that overheads are fitted to.
    judged
        Other plans per model that the error is worked out from.
    repeats
        Rounds of each measurement.
    seed
        Of inputs, missing weights and plans.
    json
        Print one JSON object instead of text.
    """
    from agent.runs.device_lock import exclusive
    from placement.runtime.calibration.judging import CalibrationConfig, ModelFile
    from placement.runtime.fingerprint import machine_fingerprint
    from placement.runtime.processes.workers import usable_cores
    from placement.runtime.registry import check_runs, get_calibrator
    from simulator.cluster_file import dump_cluster
    from simulator.clusters.kernel_times import kernel_times_to_json
    from simulator.clusters.probe import probe_machine

    if plans < 2 or judged < 2 or repeats < 2 or devices < 0:
        raise GraphwrightError(
            "--plans, --judged and --repeats are at least 2, --devices at least 0"
        )
    calibrator = get_calibrator(runtime)
    target = target_of(reading, dim)
    loaded = []
    for model in models:
        if not is_file(model):
            raise GraphwrightError(f"{model}: no such file; calibration runs model files")
        graph = read_model(model, target)
        check_runs(runtime, model, graph)
        loaded.append(ModelFile(Path(model), graph, target.sizes))
    further = _further_sizes(models, dim, sizes, reading)
    prepare(quiet=json)
    config = CalibrationConfig(plans, judged, repeats, seed)
    cores = [f"core-{core}" for core in usable_cores()[: devices or None]]
    with exclusive(cores, say_waiting), progress("measuring", quiet=json) as on_progress:
        cluster = probe_machine(devices or 64)
        machine = machine_fingerprint()
        found, results = calibrator(
            loaded, cluster, machine, "costs.json", config, on_progress, further
        )
    assert found.calibration is not None
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("costs.json", kernel_times_to_json(found.calibration.times)),
        ("cluster.yaml", dump_cluster(found)),
    ):
        write_whole(out / name, text)
    if json:
        print_json(_document(results, out, machine_fingerprint()))
    else:
        _show(results, out)
        print_text(f"overall: {found.calibration.error}")
    return 0


def _further_sizes(
    models: tuple[str, ...], dim: tuple[str, ...], sizes: tuple[str, ...], reading: ImportFlags
) -> "list[ModelFile]":
    """The models at other sizes of their symbolic dimensions."""
    from placement.runtime.calibration.judging import ModelFile

    files: list[ModelFile] = []
    for text in sizes:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise GraphwrightError(f"--sizes {text!r}: write a dimension's sizes as batch=4,16")
        others = tuple(item for item in dim if item.partition("=")[0] != name)
        for value in values.split(","):
            target = target_of(reading, (*others, f"{name}={value}"))
            files += [
                ModelFile(Path(model), read_model(model, target), target.sizes) for model in models
            ]
    return files


def _document(results: "list[Judged]", out: Path, machine: str) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "machine": machine,
        "cluster": str(out / "cluster.yaml"),
        "models": [{"graph": item.graph.name, **asdict(item.error)} for item in results],
    }


def _show(results: "list[Judged]", out: Path) -> None:
    rows = [
        [
            item.graph.name,
            str(item.error.plans),
            f"{item.error.mape:.1%}",
            f"{item.error.mape_relative:.1%}",
            f"{item.error.worst:.1%}",
            item.error.worst_plan,
            f"{item.error.pearson:.3f}",
            f"{item.error.kendall_clear:.2f}",
            f"{item.error.regret:.1%}",
        ]
        for item in results
    ]
    columns = [
        "model",
        "plans",
        "MAPE",
        "relative",
        "worst",
        "worst plan",
        "Pearson",
        "tau",
        "regret",
    ]
    print_table("predicted against measured, plans not used to calibrate", columns, rows)
    print_text(f"cluster: {out / 'cluster.yaml'}")
