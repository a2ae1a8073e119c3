"""Steps per second of a split model on two cores that works on several requests at once.

    python benchmarks/speed/split_stream.py [--model residual] [--requests 60] [--search 5]

The model is planned for throughput on two cores of this machine, as they are probed. The split that
`place --objective throughput` would take is exported, with one thread for each part. Beside the
stream stand one core, one session on two cores, and what was predicted when the split was exported.
Other work on the machine spoils all of these.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import graphs
from benchmarks.hardware.device_models.export import export
from benchmarks.hardware.device_models.models import MODELS
from placement.export import ExportRequest
from placement.export.onnx_split import export_onnx_split
from placement.export.split_forecast import forecast_split
from placement.placer import Budget
from placement.problem import Problem
from placement.throughput import Throughput, Transfers, pipeline_plan, plan_pipeline
from simulator.clusters.probe import probe_machine
from simulator.units import format_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="residual")
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--search", type=float, default=5.0, help="CPU seconds")
    arguments = parser.parse_args()
    cluster = probe_machine(2)
    with tempfile.TemporaryDirectory() as folder:
        model = export(arguments.model, Path(folder))
        graph = graphs.load(model)
        problem = Problem(graph, cluster)
        hops = Throughput(transfers=Transfers.HOPS)
        pipeline = plan_pipeline(problem, Budget(arguments.search), 0, hops)
        splits = {split.name: split for split in (pipeline.best, *pipeline.others) if split.fits}
        plans = {name: pipeline_plan(problem, split) for name, split in splits.items()}
        forecasts = {name: forecast_split(problem, plan) for name, plan in plans.items()}
        for name, forecast in forecasts.items():
            print(
                f"{name}: {forecast.part_count} parts, a step each "
                f"{format_seconds(splits[name].period_seconds)} as planned, "
                f"{format_seconds(forecast.period_seconds)} as sessions"
            )
        chosen = pipeline.best.name
        print(f"{arguments.model}, by the split {chosen!r}:", flush=True)
        plan = plans[chosen]
        request = ExportRequest(model, graph, cluster, plan, Path(folder) / "out")
        runner = export_onnx_split(request).files[1]
        flags = ["--random", "--check", str(model), "--threads", "1"]
        command = [sys.executable, str(runner), *flags, "--stream", str(arguments.requests)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
