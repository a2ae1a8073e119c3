"""Measures thousands of kernels on a core: single ops, and groups that onnxruntime may fuse.

    python benchmarks/measure_kernels.py --out kernels.npz [--models 60] [--seed 0]

Shapes are drawn from the seed. The models of `device_models` follow, at several sizes, as examples
of what real graphs hold; `benchmarks/train_costs.py` holds families of them out.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from device_models.kernels import write_kernels
from device_models.models import (
    MODELS,
    Branches,
    Inception,
    Recurrent,
    Residual,
    TrainingStep,
    Transformer,
)

import graphs
from graphs.graph import Graph
from graphs.kinds import OpKind
from placement.runtime.device_program import Run
from placement.runtime.measurement import Clock
from placement.runtime.ort_runtime import OrtRuntime
from placement.runtime.samples import Sampling
from simulator.cluster import Cluster
from simulator.costs import RooflineCosts
from simulator.fusion import xla_like_groups
from simulator.kernel_features import KernelBatch, joined, kernel_batch
from simulator.plan import Plan
from simulator.probe import probe_machine

SIZES = {
    "residual": (lambda s: Residual(3, s), (24, 48, 96)),
    "inception": (lambda s: Inception(2, s), (64, 128, 192)),
    "branches": (lambda s: Branches(2, 3, s), (24, 48, 96)),
    "lstm": (lambda s: Recurrent(2, s), (128, 256, 512)),
    "transformer": (lambda s: Transformer(2, s), (128, 256, 384)),
    "training-step": (lambda s: TrainingStep(3, s), (192, 384, 640)),
}


def measure(path: Path, graph: Graph, cluster: Cluster) -> tuple[KernelBatch, list, list, list]:
    """Kernels of a model, each alone and then fused: batch, seconds, kind, roofline seconds."""
    devices = np.zeros(graph.op_count, np.int32)
    plans = [Plan.of(devices)]
    fused = Plan.of(devices, fusion=xla_like_groups(graph, devices))
    plans += [fused] if fused.is_fused else []
    roofline = RooflineCosts().seconds(graph, cluster)[:, 0]
    kernels, seconds, kinds, guesses = [], [], [], []
    with OrtRuntime.of(path, graph, cluster) as runtime:
        for plan in plans:
            found = runtime.measure(
                [plan],
                Sampling(rounds=3, iterations=3, hot=5, clock=Clock.VIRTUAL),
                single_ops=True,
            )[0]
            if not found.ok:
                print(f"{path.name}: {found.failure}")
                continue
            program = runtime.program(plan, single_ops=True)
            for step, taken in zip(program.steps[0], found.step_seconds[0], strict=True):
                if isinstance(step, Run) and (step.fused or plan is plans[0]):
                    kernels.append(sorted(step.ops))
                    seconds.append(float(taken))
                    heavy = max(step.ops, key=lambda op: graph.flops[op])
                    kinds.append(OpKind(graph.kinds[heavy]).name.lower())
                    guesses.append(float(roofline[list(step.ops)].sum()))
    batches = [kernel_batch(graph, [kernel]) for kernel in kernels]
    return joined(batches), seconds, kinds, guesses


def export(name: str, size: int, folder: Path) -> Path:
    """A model of a family at another size."""
    path = folder / f"{name}-{size}.onnx"
    inputs = MODELS[name][1]()
    if name == "lstm":
        inputs = (torch.randn(3, 32, size),)
    if name == "transformer":
        inputs = (torch.randn(2, 96, size),)
    if name == "training-step":
        inputs = (torch.randn(96, size), torch.randn(96, size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build = SIZES[name][0]
        torch.onnx.export(build(size).eval(), inputs, str(path), dynamo=False, opset_version=17)
    return path


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cluster = probe_machine(1)
    begun = time.perf_counter()
    parts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [("generated", number) for number in range(arguments.models)]
        jobs += [(family, size) for family, (_, sizes) in SIZES.items() for size in sizes]
        for source, number in jobs:
            if source == "generated":
                path = write_kernels(folder / f"k{number}.onnx", arguments.seed * 1000 + number)
            else:
                path = export(source, number, folder)
            try:
                graph = graphs.load(path)
                batch, seconds, kinds, guesses = measure(path, graph, cluster)
            except graphs.GraphwrightError as error:
                print(f"{path.name}: {error}", flush=True)
                continue
            parts.append((source, batch, seconds, kinds, guesses))
            print(
                f"{path.name}: {len(seconds)} kernels, {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    batch = joined([part[1] for part in parts])
    np.savez_compressed(
        arguments.out,
        kinds=batch.kinds,
        op_types=batch.op_types,
        features=batch.features,
        edges=batch.edges,
        kernel_of=batch.kernel_of,
        seconds=np.array([value for part in parts for value in part[2]]),
        kind=np.array([value for part in parts for value in part[3]]),
        roofline=np.array([value for part in parts for value in part[4]]),
        source=np.array([part[0] for part in parts for _ in part[2]]),
    )


if __name__ == "__main__":
    main()
