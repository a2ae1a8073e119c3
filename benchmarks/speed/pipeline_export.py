"""Time of a mini-batch in exported stages, on two processes with one thread each and on one.

    python benchmarks/speed/pipeline_export.py [--time 20] [--rounds 3]

A transformer is exported from torch, planned for throughput on two cores of this machine as they
are probed, and its stages run by the exported script, with gloo. Beside them stands the same script
with a single stage, which runs the same micro-batches one after the other, and what the simulator
makes of both. Gradients and outputs are compared with the model in one piece before anything is
timed. Writes `results/pipeline_export.md`. Other work on the machine spoils all of it.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import graphs
from placement.export import ExportError, ExportRequest
from placement.export.pipeline_stages import export_pipeline
from placement.placer import Budget
from placement.problem import Problem
from placement.throughput.pipeline import plan_pipeline
from simulator.clusters.probe import probe_machine
from simulator.plan import Plan

RESULTS = Path(__file__).parents[1] / "results" / "pipeline_export.md"
WIDTH, LAYERS, LENGTH, SAMPLES, MICRO_BATCHES = 256, 8, 64, 4, 8
_TIMED = re.compile(r"mini-batch: ([0-9.]+) s(?: \(predicted ([0-9.]+) s\))?")


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 8, batch_first=True)
        self.second_norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(functional.gelu(self.up(self.second_norm(x))))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@dataclass(frozen=True)
class Timed:
    """One way to run a mini-batch."""

    seconds: float
    predicted_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", type=int, default=20, help="mini-batches of a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cluster = probe_machine(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "transformer.pt2"
        torch.manual_seed(0)
        example = (torch.randn(SAMPLES, LENGTH, WIDTH),)
        torch.export.save(torch.export.export(Transformer(), example), model)
        targets = folder / "targets.pt"
        torch.save(torch.zeros(MICRO_BATCHES * SAMPLES, LENGTH, WIDTH), targets)
        problem = Problem(graphs.load(model), cluster)
        whole = Plan.of(np.zeros(problem.graph.op_count, np.int32))
        ways: Mapping[str, tuple[str, str | None]] = {
            "forward": ("ScheduleGPipe", None),
            "training, GPipe": ("ScheduleGPipe", "sgd"),
            "training, 1F1B": ("Schedule1F1B", "sgd"),
        }
        rows = []
        for way, (schedule, train) in ways.items():
            flags = ["--schedule", schedule]
            if train:
                flags += ["--loss", "torch.nn.functional:mse_loss", "--targets", str(targets)]
            request = ExportRequest(
                model, problem.graph, cluster, whole, folder / f"{way} one",
                micro_batches=MICRO_BATCHES, train=train,
            )  # fmt: skip
            one = export_pipeline(request).files[1]
            two = exported_split(problem, request, folder / f"{way} two")
            rounds = [
                (run(one, 1, flags, arguments.time), run(two, 2, flags, arguments.time))
                for _ in range(arguments.rounds)
            ]
            alone, staged = (
                Timed(statistics.median(side.seconds for side in sides), sides[0].predicted_seconds)
                for sides in zip(*rounds, strict=True)
            )
            rows.append(row(way, alone, staged))
            print(rows[-1], flush=True)
    RESULTS.write_text(report(rows, arguments.rounds, arguments.time))


def exported_split(problem: Problem, request: ExportRequest, out: Path) -> Path:
    """The script of the split with the shortest period that is a pipeline of two stages."""
    pipeline = plan_pipeline(problem, Budget(2.0), seed=0)
    splits = sorted((pipeline.best, *pipeline.others), key=lambda split: split.period_seconds)
    for split in splits:
        plan = Plan.of(split.devices)
        staged = ExportRequest(
            request.model, request.graph, request.cluster, plan, out,
            micro_batches=request.micro_batches, train=request.train,
        )  # fmt: skip
        if len(np.unique(split.devices)) == 2:
            try:
                return export_pipeline(staged).files[1]
            except ExportError as error:
                print(f"{split.name}: {error}")
    raise SystemExit("no split is a pipeline of two stages")


def run(script: Path, stages: int, flags: list[str], count: int) -> Timed:
    """Start the stages, let them check themselves, and time them."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(stages),
        "--standalone", str(script), "--device", "cpu", "--check", "--time", str(count), *flags,
    ]  # fmt: skip
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=one_thread)
    found = _TIMED.search(done.stdout)
    if done.returncode or found is None:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return Timed(float(found[1]), float(found[2] or "nan"))


def row(way: str, one: Timed, two: Timed) -> str:
    return (
        f"| {way} | {one.seconds * 1e3:.0f} | {two.seconds * 1e3:.0f} | "
        f"{one.seconds / two.seconds:.2f} | {one.predicted_seconds / two.predicted_seconds:.2f} |"
    )


def report(rows: list[str], rounds: int, count: int) -> str:
    lines = [
        "# Exported stages on two processes",
        "",
        f"`python benchmarks/speed/pipeline_export.py --time {count} --rounds {rounds}`: "
        "milliseconds for a mini-batch of "
        f"{MICRO_BATCHES} micro-batches of {SAMPLES} samples, a transformer of {LAYERS} layers of "
        f"width {WIDTH} on {LENGTH} positions. One thread in each process, gloo between them; one "
        f"process runs the same micro-batches in a single stage. Medians of {rounds} medians of "
        f"{count}. Outputs, losses and gradients equal those of the model in one piece. The "
        "simulator knows this machine's cores as probed, not calibrated, and takes a backward pass "
        "for twice the forward.",
        "",
        "| | one process | two processes | faster by | simulated |",
        "|---|---:|---:|---:|---:|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
