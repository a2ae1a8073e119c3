"""Steps per second of a split model on two cores that works on several requests at once.

    python benchmarks/speed/split_stream.py [--model residual] [--requests 60] [--search 5]

The model is planned for throughput on two cores of this machine, as they are probed, and split
with one thread for each part. Beside the stream stand one core, one session on two cores, and what
was predicted when the split was exported. Other work on the machine spoils all of these.
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
from placement.placer import Budget
from placement.problem import Problem
from placement.throughput.pipeline import pipeline_plan, plan_pipeline
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
        pipeline = plan_pipeline(problem, Budget(arguments.search), seed=0)
        print(
            f"{arguments.model}, {pipeline.best.name}: a step each "
            f"{format_seconds(pipeline.best.period_seconds)} as planned, at least "
            f"{format_seconds(pipeline.bound_seconds)} by any plan",
            flush=True,
        )
        plan = pipeline_plan(problem, pipeline.best)
        request = ExportRequest(model, graph, cluster, plan, Path(folder) / "out")
        runner = export_onnx_split(request).files[1]
        flags = ["--random", "--check", str(model), "--threads", "1"]
        command = [sys.executable, str(runner), *flags, "--stream", str(arguments.requests)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
