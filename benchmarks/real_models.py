"""Every model of a folder: imported, held against its runtime, placed, exported, run and measured.

    python benchmarks/data/real_models.py FOLDER      # twenty models, where you have none
    python benchmarks/real_models.py FOLDER [--out FILE.md] [--work out/real_models]
        [--no-measure] [--only NAME ...]

One row for each model: how much of it is known; shapes and bytes of all tensors against what
onnxruntime makes, or flops against TensorFlow's profiler or torch's counter; the plan for the two
cores of this machine, calibrated with the ONNX models of the folder (once, kept in --work); the
number of parts as a split, which is run and compared; and the step times that were predicted and
measured. A step that fails is a fault: named and counted, and the rest of the row is made anyway.
Open dimensions are as FOLDER/dims.json says, by file name, else as the import assumes them; inputs
of an ONNX model are those of MODEL.onnx.npz where that is there. Each model is looked at in a
process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import graphs
from benchmarks.checks.onnx_checks import check_shapes, run_split
from benchmarks.checks.tensorflow_checks import profiled_flops
from benchmarks.checks.torch_checks import counted_flops
from benchmarks.rows import commit
from graphs.errors import GraphwrightError
from graphs.graph import Graph
from graphs.import_gaps import import_gaps
from placement import Placement, place
from placement.runtime.calibration.judging import CalibrationConfig, ModelFile
from placement.runtime.comparison import ratio
from placement.runtime.fingerprint import machine_fingerprint
from placement.runtime.measurement import Clock
from placement.runtime.registry import get_calibrator, open_runtime
from placement.runtime.samples import Sampling
from placement.simplicity import complexity_of
from simulator.cluster_file import dump_cluster, load_cluster
from simulator.clusters.cluster import Cluster
from simulator.clusters.kernel_times import kernel_times_to_json
from simulator.clusters.probe import probe_machine
from simulator.plan import Plan

BUDGET_SECONDS = 5.0
ROUNDS = 7
TOLERANCE = 1e-3
#: What counts of flops differ by that follow other conventions for elementwise ops.
FLOPS_TOLERANCE = 0.1
SUFFIXES = (".onnx", ".pb", ".pt2")


@dataclass
class Row:
    """What came of one model; None where it does not apply or failed."""

    model: str
    source: str = ""
    ops: int = 0
    gigaflops: float = 0.0
    parameter_megabytes: float = 0.0
    unknown_share: float = 0.0
    estimated_share: float = 0.0
    composite_ops: int = 0
    tensors: int | None = None
    """Tensors whose shape and type were held against the runtime's."""
    wrong_tensors: int | None = None
    bytes_ratio: float | None = None
    flops_ratio: float | None = None
    devices: int | None = None
    crossings: int | None = None
    parts: int | None = None
    largest_gap: float | None = None
    predicted_seconds: float | None = None
    measured_seconds: float | None = None
    one_core_seconds: float | None = None
    over_one_core: tuple[float, float, float] | None = None
    """Step time over that on one core, with its 95% interval."""
    faults: list[str] = field(default_factory=list)


def step(row: Row, name: str, action: Callable[[], None]) -> None:
    """Do one step; what goes wrong is a fault of the row."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever it is, the row must name it
        kind = "" if isinstance(error, GraphwrightError) else f"{type(error).__name__}: "
        row.faults.append(f"{name}: {kind}{str(error).strip().splitlines()[0][:160]}")


def look_at(path: Path, dims: Mapping[str, int], cluster: Cluster | None, work: Path) -> Row:
    """All steps for one model."""
    row = Row(path.name)
    loaded: list[Graph] = []
    step(row, "import", lambda: loaded.append(graphs.load(path, dims, allow_unknown=True)))
    if not loaded:
        return row
    graph = loaded[0]
    gaps = import_gaps(graph)
    row.source, row.ops = graph.report.source_format, graph.op_count
    row.gigaflops, row.parameter_megabytes = gaps.flops / 1e9, gaps.parameter_bytes / 1e6
    row.unknown_share, row.estimated_share = gaps.unknown_share, gaps.estimated_share
    row.composite_ops = gaps.composite_ops
    sizes = {**graph.report.assumed_dims, **dims}
    step(row, "reference", lambda: _reference(row, path, sizes, graph))
    placed: list[Placement] = []

    def put(form: str | None = None) -> Placement:
        machine = cluster or probe_machine(2)
        return place(graph, machine, "search", budget_seconds=BUDGET_SECONDS, form=form)

    step(row, "place", lambda: placed.append(put()))
    if placed:
        used = complexity_of(graph, placed[0].plan.devices)
        row.devices, row.crossings = used.devices, used.crossings
    if row.source == "onnx":
        step(row, "split", lambda: _split(row, path, sizes, put("onnx-split"), work))
        if cluster is not None and placed:
            plan = placed[0].plan
            step(row, "measure", lambda: _measure(row, path, sizes, graph, cluster, plan))
    elif placed:
        step(row, "export", lambda: _export(placed[0], path, work / f"{path.name}.exports"))
    return row


def _reference(row: Row, path: Path, dims: Mapping[str, int], graph: Graph) -> None:
    if row.source == "onnx":
        found = check_shapes(path, graph, dims)
        row.tensors, row.wrong_tensors = found.tensors, len(found.wrong)
        row.bytes_ratio = found.imported_bytes / max(found.runtime_bytes, 1)
        if found.wrong:
            row.faults.append(f"reference: {len(found.wrong)} tensors, such as {found.wrong[0]}")
        return
    count = profiled_flops if row.source == "tensorflow" else counted_flops
    counted = count(path, dims)
    if counted <= 0:  # TensorFlow's profiler does not look into loops and branches
        return
    row.flops_ratio = float(graph.flops.sum()) / counted
    if abs(row.flops_ratio - 1) > FLOPS_TOLERANCE:
        row.faults.append(f"reference: {row.flops_ratio:.2f} of the framework's own flops")


def _split(row: Row, path: Path, dims: Mapping[str, int], placement: Placement, work: Path) -> None:
    """Export the plan for the form, and, as two cores often need but one part, a cut in two."""
    assert placement.simplified is not None
    row.parts = placement.simplified.complexity.parts
    graph, cluster = placement.problem.graph, placement.problem.given_cluster
    half = Plan.of((np.arange(graph.op_count) >= graph.op_count // 2).astype(np.int32))
    plans = {"planned": placement.plan, "halves": half}
    gaps = [
        run_split(path, graph, cluster, plan, dims, work / f"{path.stem}-{name}")
        for name, plan in plans.items()
    ]
    row.largest_gap = max(gaps)
    if not row.largest_gap <= TOLERANCE:
        row.faults.append(f"split: outputs differ by {row.largest_gap:.2g}")


def _export(placement: Placement, path: Path, out: Path) -> None:
    placement.export(path, out)


def _measure(
    row: Row, path: Path, dims: Mapping[str, int], graph: Graph, cluster: Cluster, plan: Plan
) -> None:
    single = Plan.of(np.zeros(graph.op_count, np.int32))
    with open_runtime("ort", path, graph, cluster, dims=dims, seed=0) as runtime:
        sampling = Sampling(rounds=ROUNDS, clock=Clock.VIRTUAL)
        one, found = runtime.measure([single, plan], sampling)
        row.predicted_seconds = runtime.predicted(plan)
    if not (one.ok and found.ok):
        raise GraphwrightError(str(one.failure or found.failure))
    row.one_core_seconds, row.measured_seconds = one.seconds, found.seconds
    over = ratio(found, one)
    row.over_one_core = (over.value, over.low, over.high)
    if over.low > 1.0:
        row.faults.append(f"measure: {over.value:.3f} of one core's time, slower than one core")


def calibrated(
    models: Mapping[str, Path], dims: Mapping[str, dict[str, int]], work: Path
) -> Cluster:
    """The two cores as measured with the ONNX models, or as they were measured before."""
    path = work / "cluster.yaml"
    if path.is_file():
        return load_cluster(path)
    files = []
    for name, model in models.items():
        graph = graphs.load(model, dims.get(name, {}), allow_unknown=True)
        sizes = {**graph.report.assumed_dims, **dims.get(name, {})}
        files.append(ModelFile(model, graph, sizes))
    config = CalibrationConfig(fitted_plans=3, judged_plans=3, rounds=3)
    cluster, _ = get_calibrator("ort")(
        files, probe_machine(2), machine_fingerprint(), "costs.json", config, lambda _: None, ()
    )
    assert cluster.calibration is not None
    costs = kernel_times_to_json(cluster.calibration.times)
    (work / "costs.json").write_text(costs, encoding="utf-8")
    path.write_text(dump_cluster(cluster), encoding="utf-8")
    return load_cluster(path)


def table(rows: list[Row], at: str, cluster: Cluster | None) -> str:
    """The page."""
    head = [
        "model", "ops", "GFLOP", "params MB", "unknown", "estimated", "tensors wrong",
        "bytes / runtime", "flops / framework", "devices", "crossings", "parts", "split gap",
        "predicted", "measured", "/ one core", "faults",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        over = row.over_one_core
        wrong = "" if row.tensors is None else f"{row.wrong_tensors} of {row.tensors}"
        cells = [
            row.model, str(row.ops), f"{row.gigaflops:.3g}", f"{row.parameter_megabytes:.3g}",
            f"{row.unknown_share:.1%}", f"{row.estimated_share:.1%}", wrong,
            _cell(row.bytes_ratio, ".4f"), _cell(row.flops_ratio, ".3f"), _cell(row.devices, "d"),
            _cell(row.crossings, "d"), _cell(row.parts, "d"), _cell(row.largest_gap, ".1e"),
            _cell(row.predicted_seconds, ".3g", 1e3, " ms"),
            _cell(row.measured_seconds, ".3g", 1e3, " ms"),
            "" if over is None else f"{over[0]:.3f} ({over[1]:.3f}-{over[2]:.3f})",
            "; ".join(row.faults) or "none",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    pairs = [
        abs(row.predicted_seconds / row.measured_seconds - 1)
        for row in rows
        if row.predicted_seconds is not None and row.measured_seconds is not None
    ]
    measured = [row for row in rows if row.over_one_core is not None]
    slower = [row for row in measured if row.over_one_core is not None and row.over_one_core[1] > 1]
    text = [
        "# Real models\n",
        f"`python benchmarks/real_models.py FOLDER`, commit {at}, {machine_fingerprint()}.\n",
        f"{len(rows)} models, {sum(len(row.faults) for row in rows)} faults.",
    ]
    if pairs:
        text.append(
            f"Predicted against measured over {len(pairs)} models: {np.mean(pairs):.1%} off in the "
            f"mean, {max(pairs):.1%} at worst; {len(slower)} of {len(measured)} plans slower than "
            "one core by more than the noise."
        )
    if cluster is not None and cluster.calibration is not None:
        text.append(f"Calibration: {cluster.calibration.error}.")
    return "\n".join([*text, "", *lines, ""])


def _cell(value: float | None, form: str, scale: float = 1.0, unit: str = "") -> str:
    return "" if value is None else f"{value * scale if scale != 1.0 else value:{form}}{unit}"


def models_of(folder: Path) -> dict[str, Path]:
    """Model files and SavedModels of a folder, by name."""
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.suffix in SUFFIXES or (path / "saved_model.pb").exists()
    }


def main() -> int:
    """Look at each model in a process of its own; 1 where there were faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("out/real_models"))
    parser.add_argument("--only", nargs="*", help="names of files")
    parser.add_argument("--no-measure", action="store_true", help="neither calibrate nor measure")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    stated = arguments.folder / "dims.json"
    dims = json.loads(stated.read_text()) if stated.exists() else {}
    models = models_of(arguments.folder)
    cluster = None
    if not arguments.no_measure:
        cluster = calibrated({n: p for n, p in models.items() if p.suffix == ".onnx"}, dims, work)
    if arguments.one:
        row = look_at(models[arguments.one], dims.get(arguments.one, {}), cluster, work)
        print(json.dumps(asdict(row)))
        return 0
    rows = []
    for name in arguments.only or models:
        words = [sys.executable, __file__, *sys.argv[1:], "--one", name]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        try:
            rows.append(Row(**json.loads(done.stdout.strip().splitlines()[-1])))
        except (ValueError, IndexError, TypeError):
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            rows.append(Row(name, faults=[f"process ended with {done.returncode}: {last[:160]}"]))
        print(rows[-1], flush=True)
    text = table(rows, commit(), cluster)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
        lines = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
        arguments.out.with_suffix(".jsonl").write_text(lines, encoding="utf-8")
    print(text)
    return 1 if any(row.faults for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
