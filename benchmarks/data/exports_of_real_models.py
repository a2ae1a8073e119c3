"""Real models placed, exported in every form, run, and compared with themselves.

    python benchmarks/data/exports_of_real_models.py FOLDER --out FILE.md

Models with trained weights are fetched into FOLDER by pip, see `benchmarks/data/trained_models.py`.
The training graphs are the workloads at sizes that a CPU runs in seconds. Exports run with
onnxruntime and TensorFlow on this machine's CPU, whatever devices a plan is for.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import onnxruntime as ort

import graphs
from benchmarks.data.trained_models import MODELS, TrainedModel, fetch
from benchmarks.rows import commit
from graphs.graph import Graph
from placement import Placement, Problem, place, read_plan
from placement.export import ExportError, ExportRequest, get_exporter
from placement.placers.tight_memory import tighten_memory
from simulator.clusters.cluster import Cluster
from simulator.clusters.presets import preset
from simulator.fusion import xla_like_groups
from simulator.plan import Plan

SEED = 0
BUDGET_SECONDS = 3.0
TOLERANCE = 1e-3
_HEAD = "| model | ops | plan | devices | form | came of it | largest difference |"


@dataclass(frozen=True)
class Row:
    """One form of one plan of one model."""

    model: str
    ops: int
    plan: str
    devices: int
    form: str
    result: str
    gap: float | None

    @property
    def fine(self) -> bool:
        return self.gap is None or self.gap <= TOLERANCE

    def __str__(self) -> str:
        gap = "" if self.gap is None else f"{self.gap:.1e}{'' if self.fine else ' TOO LARGE'}"
        cells = (self.model, self.ops, self.plan, self.devices, self.form, self.result, gap)
        return f"| {' | '.join(map(str, cells))} |"


def plans_of(graph: Graph, name: str) -> Iterator[tuple[str, Cluster, Plan]]:
    """A plan by search where memory is so tight that one device is not enough, and a device drawn
    for each unit: the plan with the most borders."""
    cluster = tighten_memory(Problem(graph, preset(name)), 1.3)
    found: Placement = place(graph, cluster, "search", budget_seconds=BUDGET_SECONDS, seed=SEED)
    yield "search", cluster, found.plan
    unit_of = found.problem.unit_of
    drawn = np.random.default_rng(SEED).integers(0, cluster.device_count, unit_of.max() + 1)
    yield "scattered", cluster, Plan.of(drawn[unit_of])


def gap_of(got: Any, wanted: Any) -> float:
    """The largest absolute difference, over the largest value where that is above one."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - wanted).max(initial=0) / max(1.0, np.abs(wanted).max(initial=0)))


def onnx_rows(model: TrainedModel, path: Path, folder: Path) -> Iterator[Row]:
    graph = graphs.load(path, model.dims)
    feeds = dict(model.feeds(np.random.default_rng(SEED)))
    whole = _session(path)
    names = [item.name for item in whole.get_outputs()]
    wanted = dict(zip(names, whole.run(names, feeds), strict=True))
    for plan_name, cluster, plan in plans_of(graph, "3xv100-pcie"):
        out = folder / f"{model.name}-{plan_name}"
        request = ExportRequest(
            path, graph, cluster, plan, out, dims=model.dims,
            targets=dict.fromkeys(cluster.device_names, "cpu"),
        )  # fmt: skip
        used = len(set(plan.devices.tolist()))
        for form in ("plan", "onnx-split", "onnx-annotated", "device-map", "pipeline"):
            gap: float | None = None
            try:
                done = get_exporter(form)(request)
            except ExportError as error:
                result = f"refused: {str(error).split(': ', 1)[-1].split(';')[0][:60]}"
            else:
                result = "equal"
                if form == "plan":
                    result = "reads back" if _same_plan(request) else "DIFFERS"
                elif form == "onnx-split":
                    parts = json.loads(done.files[0].read_text())["parts"]
                    outputs = runpy.run_path(str(done.files[1]))["SplitModel"](cpu=True).run(feeds)
                    gap = max(gap_of(outputs[name], wanted[name]) for name in names)
                    result = f"{len(parts)} models run"
                elif form == "onnx-annotated":
                    (settings,) = json.loads(done.files[1].read_text()).values()
                    outputs = _session(done.files[0], settings).run(names, feeds)
                    gap = max(gap_of(a, wanted[n]) for a, n in zip(outputs, names, strict=True))
                    result = "runs, settings taken"
            yield Row(model.name, graph.op_count, plan_name, used, form, result, gap)


def _same_plan(request: ExportRequest) -> bool:
    document = read_plan(request.out / "plan.json", request.graph, request.cluster)
    return document.plan == request.plan


def _session(path: Path, settings: str | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if settings is not None:
        options.add_session_config_entry("session.layer_assignment_settings", settings)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def training_rows(name: str, folder: Path) -> Iterator[Row]:
    from benchmarks.data.graph_def_runs import build, run_graph_def, run_saved_model, write_models

    workload = build(name)
    graph_def, saved = write_models(workload, folder / name)
    wanted = run_graph_def(graph_def, workload)
    for source, run in ((graph_def, run_graph_def), (saved, run_saved_model)):
        graph = graphs.load(source)
        for plan_name, cluster, plan in plans_of(graph, "2xv100-pcie"):
            used = len(set(plan.devices.tolist()))
            forms = ("graph-def",) if source == graph_def else ("saved-model",)
            variants: list[tuple[str, Plan, dict[str, bool]]] = [
                ("", plan, {}),
                (", order", plan, {"schedule": True}),
            ]
            if plan_name == "search":
                groups = xla_like_groups(graph, plan.devices)
                fused = Plan.of(plan.devices, plan.priorities, groups)
                variants.append((", order, fusion", fused, {"schedule": True, "fusion": True}))
            for suffix, variant, options in variants:
                for form in forms:
                    out = folder / f"{name}-{plan_name}-{form}{suffix.replace(', ', '-')}"
                    request = ExportRequest(
                        source, graph, cluster, variant, out, **options,
                        targets={d: f"/device:CPU:{i}" for i, d in enumerate(cluster.device_names)},
                    )  # fmt: skip
                    done = get_exporter(form)(request)
                    gap = gap_of(run(done.files[0], workload), wanted)
                    result = "runs" if not variant.is_fused else done.notes[1].rstrip(".")
                    yield Row(
                        workload.name, graph.op_count, plan_name, used, form + suffix, result, gap
                    )


def torch_rows(folder: Path) -> Iterator[Row]:
    from benchmarks.data.torch_program_runs import NAME, run_device_map, run_pipeline, write_program

    path = write_program(folder / NAME)
    graph = graphs.load(path)
    for placer in ("human-expert", "round-robin"):
        cluster = preset("3xv100-pcie")
        found = place(graph, cluster, placer, seed=SEED)
        used = len(set(found.plan.devices.tolist()))
        for form, run in (("device-map", run_device_map), ("pipeline", run_pipeline)):
            gap: float | None = None
            try:
                (done,) = found.export(path, folder / f"{NAME}-{placer}", form)
            except ExportError as error:
                result = f"refused: {str(error)[:60]}"
            else:
                gap = gap_of(*run(done.files[0]))
                result = done.notes[0].split(":")[0]
            yield Row(NAME, graph.op_count, placer, used, form, result, gap)


def main() -> int:
    """Print the table, write it where asked; 1 where outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", help="names of models")
    arguments = parser.parse_args()
    at = commit()
    rows: list[Row] = []
    exports = arguments.folder / "exports"
    subprocess.run(["rm", "-rf", str(exports)], check=True)
    paths = fetch(arguments.folder)
    print(_HEAD)
    for model in MODELS:
        if not arguments.only or model.name in arguments.only:
            for row in onnx_rows(model, paths[model.name], exports):
                rows.append(row)
                print(row)
    for name in ("rnnlm", "inception-v3", "transformer-xl"):
        if not arguments.only or name in arguments.only:
            for row in training_rows(name, exports):
                rows.append(row)
                print(row)
    if not arguments.only or "vit-small" in arguments.only:
        for row in torch_rows(exports):
            rows.append(row)
            print(row)
    bad = [row for row in rows if not row.fine or "DIFFERS" in row.result]
    text = [
        "# Real models in every form",
        "",
        f"`python benchmarks/data/exports_of_real_models.py FOLDER`, seed {SEED}, commit {at}, "
        f"onnxruntime {ort.__version__}. Plans: `search` with {BUDGET_SECONDS:g} CPU seconds on "
        "three (ONNX) or two (TensorFlow) V100s with 1.3 times the least memory that any "
        "heuristic needs, so that one device is not enough; `scattered`: a device drawn for each "
        "unit. Run on a CPU; differences are absolute, over the largest value where that is "
        f"above one; {len(bad)} of {len(rows)} rows above {TOLERANCE:g}.",
        "",
        "Trained weights: "
        + "; ".join(f"{m.name} ({m.what}): {m.requirement}, {m.licence}" for m in MODELS)
        + ". Training graphs: the workloads at small sizes (`benchmarks/data/graph_def_runs.py`), "
        "losses of three steps compared. vit-small: a Vision Transformer from "
        "`benchmarks/data/torch_models` with random weights; plans by `human-expert` (contiguous "
        "layers) and by `round-robin`.",
        "",
        _HEAD,
        "|---|---|---|---|---|---|---|",
        *map(str, rows),
    ]
    if arguments.out:
        arguments.out.write_text("\n".join(text) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
