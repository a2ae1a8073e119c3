"""Measures thousands of kernels: single ops, and groups that onnxruntime may fuse.

    python benchmarks/hardware/measure_kernels.py FOLDER [--models 60] [--rounds 2] [--minutes 10]
        [--prepare] [--only MODEL] [--provider CUDAExecutionProvider]

FOLDER keeps the models, and the kernels of each model and round in a file of its own: started
again, the command goes on where it stopped, also after `--minutes`. `--prepare` only writes the
models. Kernels that are equal within a model, or that an earlier model had, are measured once in a
round; two rounds show how well a measurement repeats. `benchmarks/hardware/train_costs.py` reads
the folder.

One process, pinned to a core, on a machine that is otherwise idle if it can be.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import graphs
from benchmarks.hardware.device_models.kernel_sources import sources, write_source
from benchmarks.hardware.kernel_timing import KernelClock, placed
from benchmarks.rows import commit
from graphs.graph import Graph
from graphs.kinds import FREE_KINDS
from placement.runtime.fingerprint import machine_fingerprint
from placement.runtime.ort.messages import RunWhole, Segment
from placement.runtime.ort.onnx_source import RunnableModel, load_runnable
from placement.runtime.ort.segments import segment_of
from placement.runtime.ort.sessions import SessionMaker
from placement.runtime.ort.shared_tensors import SharedTensors
from placement.runtime.processes.messages import TensorType
from simulator.cluster_file import dump_cluster
from simulator.clusters.probe import probe_machine
from simulator.fusion import greedy_groups, xla_like_groups

#: Constants up to this size are part of what a kernel is.
_FEW_BYTES = 16


@dataclass(frozen=True, eq=False)
class Runnable:
    """A model whose tensors all have their values, so that any part of it can be run."""

    graph: Graph
    model: RunnableModel
    make: SessionMaker
    types: dict[str, TensorType]

    @staticmethod
    def of(path: Path) -> "Runnable":
        """Run the model once, and keep what it computes."""
        graph = graphs.load(path)
        model = load_runnable(path, graph, {}, 0)
        arrays = {**model.weights, **model.inputs}
        shared = SharedTensors()
        shared.arrays.update(arrays)
        make = SessionMaker(shared)
        types = {name: TensorType(a.dtype.name, a.shape) for name, a in arrays.items()}
        written = [tensor for work in model.work.values() for tensor in work.writes]
        segment = segment_of(model, list(model.nodes), list(model.inputs), written, types)
        whole = make.whole(RunWhole(segment, tuple(written)))
        shared.arrays.update(whole.values)
        return Runnable(graph, model, make, {**types, **whole.types})

    def kernels(self) -> list[tuple[list[int], bool]]:
        """Ops that have a kernel, each alone; then groups, as XLA would form them and by chance."""
        graph, work = self.graph, self.model.work
        free = np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS])
        usable = [
            op
            for op, name in enumerate(graph.op_names)
            if not free[op] and name in work and work[name].reads
        ]
        found = {((op,), False): None for op in usable}
        devices = np.zeros(graph.op_count, np.int32)
        random = np.random.default_rng(0)
        drawn = random.uniform(-1, 1, graph.op_count)
        for groups in (xla_like_groups(graph, devices), greedy_groups(graph, drawn, devices)):
            for group in np.unique(groups[groups >= 0]).tolist():
                ops = tuple(op for op in np.flatnonzero(groups == group).tolist())
                if sum(op in set(usable) for op in ops) > 1:
                    found[ops, True] = None
        return [(list(ops), fused) for ops, fused in found]

    def segment(self, ops: list[int], fused: bool) -> Segment | None:
        """A session of these ops that hands out what is read elsewhere; None without work."""
        work, names = self.model.work, [self.graph.op_names[op] for op in ops]
        if any(name not in work for name in names):
            return None
        inside = set(names)
        written = [tensor for name in names for tensor in work[name].writes]
        read = dict.fromkeys(tensor for name in names for tensor in work[name].reads)
        wanted = {t for name, item in work.items() if name not in inside for t in item.reads}
        wanted.update(self.model.outputs)
        inputs = [tensor for tensor in read if tensor not in set(written)]
        outputs = [tensor for tensor in written if tensor in wanted] or written[-1:]
        return segment_of(self.model, names, inputs, outputs, self.types, fused=fused)


@dataclass
class Measured:
    """The kernels of a model, in order."""

    kernels: list[list[int]]
    fused: list[bool]
    seconds: list[float]
    call_seconds: list[float]
    signatures: list[str]


def signature(segment: Segment, runnable: Runnable) -> str:
    """Equal for kernels that do the same with tensors of equal shapes, whatever their values; only
    constants of a few numbers count by value, since kernels look at them."""
    model = onnx.ModelProto.FromString(segment.model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    number: dict[str, int] = {}
    state = hashlib.blake2b(str(segment.fused).encode(), digest_size=12)
    for node in model.graph.node:
        state.update(repr((node.op_type, sorted(map(str, node.attribute)))).encode())
        for name in (*node.input, *node.output):
            tensor = weights.get(name)
            state.update(repr(number.setdefault(name, len(number))).encode())
            if tensor is not None:
                few = tensor.raw_data if len(tensor.raw_data) <= _FEW_BYTES else b""
                state.update(repr((list(tensor.dims), tensor.data_type, few)).encode())
    for value in (*model.graph.input, *model.graph.output):
        kind = runnable.types[segment.inputs.get(value.name) or segment.outputs[value.name]]
        state.update(repr((number[value.name], kind.dtype, kind.shape)).encode())
    return state.hexdigest()


def measured(runnable: Runnable, clock: KernelClock, known: set[str]) -> Measured:
    """Time every kernel that is not known yet."""
    result = Measured([], [], [], [], [])
    arrays = runnable.make.shared.arrays
    for ops, fused in runnable.kernels():
        segment = runnable.segment(ops, fused)
        if segment is None or (key := signature(segment, runnable)) in known:
            continue
        known.add(key)
        names = [*segment.inputs.items(), *segment.outputs.items()]
        tensors = {name: placed(arrays[tensor], at) for at, (name, tensor) in enumerate(names)}
        inputs = {name: tensors[name] for name in segment.inputs}
        outputs = {name: tensors[name] for name in segment.outputs}
        run = clock.session(segment, arrays, inputs, outputs)
        timing = clock.time(run, len(inputs) + len(outputs))
        for values, value in (
            (result.kernels, ops),
            (result.fused, fused),
            (result.seconds, timing.seconds),
            (result.call_seconds, timing.call_seconds),
            (result.signatures, key),
        ):
            values.append(value)  # type: ignore[attr-defined]
    return result


def save(path: Path, family: str, found: Measured, seconds: float) -> None:
    """Write at once or not at all. Features are not kept: model and ops say them."""
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        family=family,
        seconds=np.array(found.seconds),
        call_seconds=np.array(found.call_seconds),
        fused=np.array(found.fused, bool),
        signatures=np.array(found.signatures),
        ops=np.array([",".join(map(str, kernel)) for kernel in found.kernels]),
        measuring_seconds=seconds,
    )
    partial.rename(path)


def spoken(arguments: list[str]) -> str:
    """A command line without the folders of the machine that it ran on."""
    parts = (part.rpartition("=/") if "=/" in part else ("", "", part) for part in arguments)
    return " ".join(
        f"{flag}{equals and '='}{Path(value).name if equals or value.startswith('/') else value}"
        for flag, equals, value in parts
    )


def describe(folder: Path, provider: str) -> None:
    """Keep what is measured: the machine's roofline, versions, the commit."""
    import onnxruntime

    if (folder / "about.json").exists():
        return
    (folder / "cluster.yaml").write_text(dump_cluster(probe_machine(1)), encoding="utf-8")
    at = commit()
    about = {
        "commit": at or "unknown",
        "command": spoken(sys.argv),
        "machine": machine_fingerprint(),
        "provider": provider,
        "onnxruntime": onnxruntime.__version__,
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def jobs(
    folder: Path, chosen: list[tuple[str, str, int]], rounds: int
) -> Iterator[tuple[str, Path, Path]]:
    """Family, model and file of what is not measured yet; all of one round, then the next."""
    for turn in range(rounds):
        for family, name, _ in chosen:
            path = folder / "kernels" / f"{name}.{turn}.npz"
            if not path.exists():
                yield family, folder / "models" / f"{name}.onnx", path


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=60, help="generated ones")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e6, help="after which to stop")
    parser.add_argument("--only", action="append", help="these models, such as resnet50")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--provider", default="CPUExecutionProvider")
    parser.add_argument("--core", type=int, default=0)
    arguments = parser.parse_args()
    for part in ("models", "kernels"):
        (arguments.folder / part).mkdir(parents=True, exist_ok=True)
    wanted = [
        item
        for item in sources(arguments.models)
        if not arguments.only or item[1] in arguments.only
    ]
    for family, name, number in wanted:
        write_source(family, name, number, arguments.folder / "models")
    if arguments.prepare:
        return
    describe(arguments.folder, arguments.provider)
    os.sched_setaffinity(0, {arguments.core})
    begun = time.perf_counter()
    clock = KernelClock(arguments.provider)
    print(f"an empty call takes {clock.call[0] * 1e6:.1f} us and {clock.call[1] * 1e6:.2f} us")
    known: dict[str, set[str]] = {}
    for family, model, path in jobs(arguments.folder, wanted, arguments.rounds):
        if time.perf_counter() - begun > 60 * arguments.minutes:
            break
        turn = path.name.split(".")[-2]
        if turn not in known:
            parts = (arguments.folder / "kernels").glob(f"*.{turn}.npz")
            known[turn] = {key for part in parts for key in np.load(part)["signatures"].tolist()}
        start = time.perf_counter()
        runnable = Runnable.of(model)
        loaded = time.perf_counter()
        found = measured(runnable, clock, known[turn])
        taken = time.perf_counter() - start
        save(path, family, found, taken)
        print(
            f"{path.stem}: {len(found.seconds)} kernels, {taken:.1f} s, of which "
            f"{loaded - start:.1f} to load; {time.perf_counter() - begun:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
