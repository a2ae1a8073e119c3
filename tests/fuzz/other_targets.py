"""Targets besides models: plans, clusters, measurements, suites and checkpoints."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from .mutate_bytes import mutate_bytes, mutate_text
from .mutate_documents import JSON, Codec, document_mutator
from .target import Mutate, OpenTarget


def open_plan(folder: Path) -> OpenTarget:
    """Plan files, which are then simulated and fused."""
    import numpy as np

    from graphs.catalogue import resolve
    from placement.plan_file import PlanDocument, dimensions_of, plan_to_json, read_plan
    from simulator import load_cluster
    from simulator.errors import PlanError
    from simulator.fusion import xla_like_groups
    from simulator.plan import Plan
    from simulator.simulator import Simulator

    graph, cluster = resolve("rnnlm:1:100"), load_cluster("2xv100-pcie")
    simulator = Simulator.of(graph, cluster)
    one = np.zeros(graph.op_count, np.int32)
    halves = (np.arange(graph.op_count) >= graph.op_count // 2).astype(np.int32)
    halves = np.where(graph.colocation >= 0, 0, halves).astype(np.int32)
    held = np.full(graph.op_count, -1, np.int32)
    held[-1] = 0
    fused = Plan.of(one, fusion=xla_like_groups(graph, one))
    waiting = Plan(halves, np.arange(graph.op_count, dtype=np.float64), np.full_like(one, -1), held)
    path = folder / "plan.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        dimensions_of(path)
        plan = read_plan(path, graph, cluster).plan
        try:
            simulator.evaluate(plan)
        except PlanError as error:
            raise AssertionError(f"a plan that was read cannot be simulated: {error}") from error

    samples = [
        plan_to_json(PlanDocument(plan, {"placer": "x", "dims": {"batch": 8}}), graph, cluster)
        for plan in (Plan.of(halves), fused, waiting)
    ]
    return OpenTarget(read, [text.encode() for text in samples], document_mutator())


def open_cluster(folder: Path) -> OpenTarget:
    """Cluster files in YAML, which are then written and read again."""
    from simulator import load_cluster
    from simulator.cluster_file import dump_cluster, parse_cluster

    (folder / "times.json").write_bytes(_kernel_times())
    path = folder / "cluster.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        cluster = load_cluster(path)
        _ = cluster.link_arrays
        assert parse_cluster(dump_cluster(cluster), str(path)).digest == cluster.digest

    by_hand = (
        "name: box\ndevices:\n"
        "  - {name: a, like: v100, memory: 8GiB, efficiency: {matmul: 0.5}, unsupported: [conv]}\n"
        "  - {name: b, memory: 1e9, flops_per_second: 15.7TFLOP/s, memory_bandwidth: 900GB/s,\n"
        "     launch: 5us, host: {launch_seconds: 1us, contention: 0.2}}\n"
        "links:\n  - {between: [a, b], bandwidth: 100Gbit/s, latency: 2us, channels: [net]}\n"
        "calibration:\n  machine: m\n  runtime: ort\n  costs: times.json\n  step_seconds: 0.001\n"
        "  error: {plans: 3, mape: 0.1, mape_relative: 0.1, worst: 0.2, worst_plan: p,"
        " pearson: 0.9,\n    kendall: 0.8, kendall_clear: 0.9, regret: 0.0}\n"
        "notes: &n [x, y]\nschema_version: 1\n"
    )
    samples = [dump_cluster(load_cluster("2xv100-pcie")).encode(), by_hand.encode()]
    return OpenTarget(read, samples, _yaml_mutator())


def _yaml_mutator() -> Mutate:
    import yaml

    def parse(data: bytes) -> Any:
        try:
            return yaml.safe_load(data)
        except (yaml.YAMLError, AttributeError, TypeError, LookupError, ArithmeticError) as error:
            raise ValueError(str(error)) from error

    def write(value: Any) -> bytes:
        try:
            return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode()
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error

    codec: Codec = (parse, write)
    values = document_mutator(codec)

    def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
        kind = values if random.random() < 0.7 else mutate_text
        return kind(data, others, random)

    return mutate


def _kernel_times() -> bytes:
    document = {
        "schema_version": 1,
        "machine": "m",
        "device_kind": "cpu",
        "graphs": {"0123456789abcdef": [0.0, 1e-3, 2e-3]},
        "samples": [["MatMul", 5, 1, 1e6, 1e3, 1e3, [1, 1, 4, 4], 1e-3]],
    }
    return json.dumps(document).encode()


def open_kernel_times(folder: Path) -> OpenTarget:
    """Measured kernel times, as a calibration writes them."""
    from simulator.clusters.kernel_times import kernel_times_to_json, read_kernel_times

    path = folder / "times.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        kernel_times_to_json(read_kernel_times(path))

    return OpenTarget(read, [_kernel_times()], document_mutator())


def open_topology(folder: Path) -> OpenTarget:
    """What `nvidia-smi topo -m` prints."""
    from simulator import load_cluster

    header = "\x1b[4m\tGPU0\tGPU1\tGPU2\tCPU Affinity\tNUMA Affinity\x1b[0m"
    rows = ["GPU0\t X \tNV2\tSYS\t0-19\t0", "GPU1\tNV2\t X \tPHB\t0-19\t0",
            "GPU2\tSYS\tPHB\t X \t20-39\t1"]  # fmt: skip
    text = "\n".join([header, *rows, "", "Legend:", "  X    = Self", "  SYS  = Connection"])
    path = folder / "topology.txt"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _ = load_cluster(path).link_arrays

    def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
        spaced = data.replace(b"\t", b" ")
        return mutate_text(spaced if random.random() < 0.8 else data, others, random)

    return OpenTarget(read, [text.encode()], mutate)


def open_suite(folder: Path) -> OpenTarget:
    """Suites in YAML, pinned or not."""
    from placement.suites.suite_file import read_suite
    from simulator import load_cluster

    base = load_cluster("2xv100-pcie")
    pair = {
        "graph": "rnnlm:1:100", "cluster": "2xv100-pcie", "headroom": "ample",
        "graph_digest": "0123456789abcdef", "cluster_digest": base.digest,
        "memory_bytes": base.memory_bytes.tolist(),
    }  # fmt: skip
    pinned = {"format": 1, "name": "own", "version": "1", "description": "d", "pairs": [pair]}
    plain = "- {graph: gpt2, cluster: 4xv100-pcie}\n- [bert, '2xv100-pcie@tight:1.3']\n"
    path = folder / "suite.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(OSError):  # of names that are too long for a file, which commands tell
            _ = read_suite(path).digest

    samples = [json.dumps(pinned).encode(), plain.encode()]
    return OpenTarget(read, samples, _yaml_mutator())


def open_constraints(folder: Path) -> OpenTarget:
    """Constraints in YAML, held against a graph."""
    from graphs.catalogue import resolve
    from placement.constraints import load_constraints
    from simulator import load_cluster

    graph, cluster = resolve("rnnlm:1:100"), load_cluster("2xv100-pcie")
    name = graph.op_names[3]
    text = (
        f"pins: {{{name}: 'v100:0'}}\nforbidden: {{'.*': ['v100:1'], {name}: 'v100:1'}}\n"
        f"colocated: ['{name}']\nmemory: {{'v100:0': 8GiB}}\n"
    )
    path = folder / "rules.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        rules = load_constraints(path)
        rules.allowed(graph, rules.capped(cluster))

    return OpenTarget(read, [text.encode()], _yaml_mutator())


def open_checkpoint(folder: Path) -> OpenTarget:
    """Policies: their JSON, and their weights in safetensors."""
    from agent.config import AgentConfig
    from agent.policy.config import PolicyConfig
    from agent.policy.network import Policy
    from agent.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

    small = PolicyConfig(width=8, heads=2, sage_layers=1, pair_width=4, move_widths=(4, 4))
    config = AgentConfig(policy=small)
    place = folder / "policy"
    save_checkpoint(place, Checkpoint(Policy(small), config, {"round": 1}))
    return _two_files(place, ("policy.json", "policy.safetensors"), lambda: load_checkpoint(place))


def open_one_shot(folder: Path) -> OpenTarget:
    """The same of policies that decide a graph from one look."""
    from agent.decoding.checkpoint import OneShotCheckpoint, load_one_shot, save_one_shot
    from agent.decoding.config import OneShotConfig, OneShotTraining
    from agent.decoding.network import OneShotPolicy

    training = OneShotTraining(policy=OneShotConfig(width=8, heads=2))
    place = folder / "policy"
    policy = OneShotPolicy(training.policy)
    save_one_shot(place, OneShotCheckpoint(policy, training, {"round": 1}))
    names = tuple(sorted(path.name for path in place.iterdir()))
    return _two_files(place, (names[0], names[1]), lambda: load_one_shot(place))


def _two_files(place: Path, names: tuple[str, str], load: Callable[[], object]) -> OpenTarget:
    """A folder of JSON and safetensors as one input: the length of the first, then both."""

    def joined(first: bytes, second: bytes) -> bytes:
        return len(first).to_bytes(4, "big") + first + second

    def apart(data: bytes) -> tuple[bytes, bytes]:
        length = int.from_bytes(data[:4], "big")
        return data[4 : 4 + length], data[4 + length :]

    def read(data: bytes) -> None:
        for name, content in zip(names, apart(data), strict=True):
            (place / name).write_bytes(content)
        load()

    def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
        document, weights = apart(data)
        if random.random() < 0.7:
            documents = [apart(other)[0] for other in others]
            return joined(document_mutator()(document, documents, random), weights)
        return joined(document, _mutate_safetensors(weights, random))

    return OpenTarget(read, [joined(*((place / name).read_bytes() for name in names))], mutate)


def _mutate_safetensors(data: bytes, random: Random) -> bytes:
    """Change the header, of which the first eight bytes give the length, or any bytes."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    if random.random() < 0.3:
        return mutate_bytes(data, [data], random)
    changed = document_mutator(JSON)(header, [header], random)
    return len(changed).to_bytes(8, "little") + changed + rest
