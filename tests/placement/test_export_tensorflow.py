"""Plans as TensorFlow graphs: run by TensorFlow, where and in the order that the plan says."""

import contextlib
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from exported_models import request_for, scattered
from tensorflow.core.protobuf import config_pb2, saved_model_pb2
from tensorflow_samples import feeds, training_graph

from graphs import ModelError, load
from graphs.importers.tensorflow_models.control_flow import LOOP_FRAME
from graphs.importers.tensorflow_models.nodes import split_input
from graphs.importers.tensorflow_models.prune import FETCH_MARK
from placement.export import ExportError, ExportRequest
from placement.export.tensorflow_model import export_graph_def, export_saved_model
from placement.export.tensorflow_schedule import start_order
from simulator.clusters.presets import preset
from simulator.costs.registry import default_costs
from simulator.errors import PlanError
from simulator.fusion import xla_like_groups
from simulator.plan import Plan
from simulator.simulator import Simulator

tf1 = tf.compat.v1
CLUSTER = preset("3xv100-pcie")
ON_CPUS = {f"v100:{index}": f"/device:CPU:{index}" for index in range(3)}


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training step, its results marked, with deterministic initialisers beside it."""
    graph, train_op = training_graph()
    definition = graph.as_graph_def()
    for node in definition.node:
        if node.name in (train_op, "loss"):
            node.attr[FETCH_MARK].b = True
        if node.op in {"TruncatedNormal", "RandomUniform", "RandomStandardNormal"}:
            node.attr["seed"].i = node.attr["seed2"].i = 7
    path = tmp_path_factory.mktemp("tf") / "training.pb"
    path.write_bytes(definition.SerializeToString())
    return path


def request_of(model: Path, out: Path, plan: Plan | None = None, **options: Any) -> ExportRequest:
    plan = scattered(load(model), CLUSTER) if plan is None else plan
    return request_for(model, out, plan, CLUSTER, targets=ON_CPUS, **options)


def read(path: Path) -> Any:
    return tf1.GraphDef.FromString(path.read_bytes())


def run_steps(definition: Any, steps: int = 3) -> tuple[list[float], Any]:
    """Losses of a few steps, and where everything ran in the last."""
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(definition, name="")
    config = tf1.ConfigProto(device_count={"CPU": 3}, allow_soft_placement=False)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    config.experimental.disable_optimize_for_static_graph = True
    options = config_pb2.RunOptions(trace_level=config_pb2.RunOptions.FULL_TRACE)
    metadata = config_pb2.RunMetadata()
    with tf1.Session(graph=graph, config=config) as session:
        session.run("init")
        losses = [
            float(session.run(["loss:0", "train_op"], feeds(graph), options, metadata)[0])
            for _ in range(steps)
        ]
    return losses, metadata.step_stats


def ran_on(stats: Any) -> dict[str, list[str]]:
    """Device to its kernels, in the order in which they started."""
    found: dict[str, list[tuple[int, str]]] = {}
    for device in stats.dev_stats:
        name = "/" + device.device.rpartition("/")[2]
        for node in device.node_stats:
            if not node.node_name.startswith(("_", "edge")) and ":" not in node.node_name:
                start = node.all_start_nanos or node.all_start_micros * 1000
                found.setdefault(name, []).append((start, node.node_name))
    return {device: [name for _, name in sorted(nodes)] for device, nodes in found.items()}


@pytest.fixture(scope="module")
def wanted(training: Path) -> list[float]:
    """Losses of the model as it was given."""
    return run_steps(read(training))[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_nodes_run_where_the_plan_says(
    training: Path, wanted: list[float], tmp_path: Path, seed: int
) -> None:
    request = request_of(training, tmp_path, scattered(load(training), CLUSTER, seed))
    (path,) = export_graph_def(request).files
    losses, stats = run_steps(read(path))
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    placed = 0
    for device, names in ran_on(stats).items():
        for name in names:
            if name in request.graph.op_index:
                assert device == f"/device:CPU:{request.device_of(name)}", name
                placed += 1
    assert placed > 100


def test_the_schedule_is_obeyed(training: Path, wanted: list[float], tmp_path: Path) -> None:
    request = request_of(training, tmp_path, schedule=True)
    (path,) = export_graph_def(request).files
    losses, stats = run_steps(read(path))
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    order = ran_on(stats)
    chains = start_order(request, Plan.of(request.plan.devices, request.plan.priorities))
    checked = 0
    for device, chain in enumerate(chains):
        ran = {name: index for index, name in enumerate(order[f"/device:CPU:{device}"])}
        positions = [ran[name] for name in chain if name in ran]
        assert positions == sorted(positions)
        checked += len(positions)
    assert checked > 80


def held_plan(request: ExportRequest, count: int, seed: int) -> Plan:
    """The plan with early ops held for late ones that do not wait for them."""
    graph, plan = request.graph, request.plan
    costs = default_costs(graph, CLUSTER)
    trace = Simulator(graph, CLUSTER, costs).trace(plan)
    order = np.argsort(trace.start, kind="stable")
    kernels = [op for op in order.tolist() if trace.end[op] > trace.start[op]]
    random = np.random.default_rng(seed)
    holds = np.full(graph.op_count, -1, np.int32)
    while (holds >= 0).sum() < count:
        early, late = sorted(random.choice(len(kernels), 2, replace=False).tolist())
        tried = holds.copy()
        tried[kernels[early]] = kernels[late]
        held = replace(plan, holds=tried)
        with contextlib.suppress(PlanError):
            held.check(graph, CLUSTER)
            holds = tried
    return replace(plan, holds=holds)


def spans(stats: Any) -> dict[str, tuple[int, int]]:
    """When each node started and ended, in nanoseconds."""
    return {
        node.node_name: (node.all_start_nanos, node.all_start_nanos + node.op_end_rel_nanos)
        for device in stats.dev_stats
        for node in device.node_stats
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ops_that_are_held_back_wait(
    training: Path, wanted: list[float], tmp_path: Path, seed: int
) -> None:
    request = request_of(training, tmp_path, schedule=True)
    plan = held_plan(request, 25, seed)
    exported = export_graph_def(replace(request, plan=plan))
    definition = read(exported.files[0])
    graph = request.graph
    whole = [
        op
        for op in np.flatnonzero(plan.holds >= 0)
        if "/chain_" not in graph.op_names[op] + graph.op_names[plan.holds[op]]
    ]
    assert f"; {len(whole)} ops are held back by them" in exported.notes[1]
    nodes = {node.name: node for node in definition.node}
    TopologicalSorter(
        {name: [split_input(text)[0] for text in node.input] for name, node in nodes.items()}
    ).prepare()  # no cycle
    losses, stats = run_steps(definition)
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    ran = spans(stats)
    pairs = [(graph.op_names[op], graph.op_names[plan.holds[op]]) for op in whole]
    seen = [(held, source) for held, source in pairs if held in ran and source in ran]
    assert len(seen) > 15
    for held, source in seen:
        assert ran[held][0] >= ran[source][1], (held, source)


def test_what_is_not_held_is_said(training: Path, tmp_path: Path) -> None:
    request = request_of(training, tmp_path)
    plan = held_plan(request, 3, 0)
    exported = export_graph_def(replace(request, plan=plan))
    assert exported.notes[-1].startswith("The plan holds 3 ops back to save memory.")
    assert exported.notes[-1].endswith("--schedule does.")
    assert len(export_graph_def(request).notes) == 1


def test_a_loop_cannot_be_held(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf1.disable_control_flow_v2()
        x = tf1.placeholder(tf.float32, (8, 8), "x")
        first = tf.matmul(x, x, name="first")
        turned = tf.while_loop(lambda y: tf.reduce_sum(y) < 0, lambda y: [tf.tanh(y)], [x])
        tf1.enable_control_flow_v2()
        tf.add(first, turned, name="sum")
    definition = graph.as_graph_def()
    next(n for n in definition.node if n.name == "sum").attr[FETCH_MARK].b = True
    model = tmp_path / "model.pb"
    model.write_bytes(definition.SerializeToString())
    step = load(model)
    (loop,) = [op for op, kind in enumerate(step.op_types) if kind == LOOP_FRAME]
    holds = np.full(step.op_count, -1, np.int32)
    holds[loop] = step.op_index["first"]
    plan = replace(Plan.of(np.zeros(step.op_count, np.int32)), holds=holds)
    exported = export_graph_def(request_of(model, tmp_path / "out", plan, schedule=True))
    assert exported.notes[1].endswith("; 1 more are not: one of the two is no node that can wait.")


@pytest.mark.parametrize("schedule", [False, True])
def test_fusion_groups_become_xla_clusters(
    training: Path, wanted: list[float], tmp_path: Path, schedule: bool
) -> None:
    graph = load(training)
    devices = scattered(graph, CLUSTER).devices
    plan = Plan.of(devices, None, xla_like_groups(graph, devices))
    exported = export_graph_def(
        request_of(training, tmp_path, plan, fusion=True, schedule=schedule)
    )
    definition = read(exported.files[0])
    calls = [node for node in definition.node if node.attr["_XlaMustCompile"].b]
    assert len(calls) > 5
    assert f"{len(calls)} of" in exported.notes[1]
    losses, stats = run_steps(definition)
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)
    kernels = [name for names in ran_on(stats).values() for name in names]
    assert all(any(node.name in name for name in kernels) for node in calls)


class _Model(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 8))])
    def __call__(self, x: Any) -> Any:
        return self._layer(self._layer(x)) + 1.0

    @tf.function
    def _layer(self, x: Any) -> Any:
        return tf.nn.relu(tf.matmul(x, self.kernel))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = _Model()
    tf.saved_model.save(model, str(tmp_path / "saved"), signatures=model.__call__)
    return tmp_path / "saved"


def devices_inside(definition: Any) -> dict[str, set[str]]:
    """Device of each product, by the function that holds it."""
    return {
        function.signature.name: {n.device for n in function.node_def if n.op == "MatMul"}
        for function in definition.library.function
        if any(node.op == "MatMul" for node in function.node_def)
    }


def test_a_saved_model_is_placed_inside_its_functions(saved: Path, tmp_path: Path) -> None:
    graph = load(saved)
    devices = np.zeros(graph.op_count, np.int64)
    devices[[op for op, kind in enumerate(graph.op_types) if kind == "MatMul"][1]] = 1
    request = request_of(saved, tmp_path / "out", Plan.of(devices))
    (folder,) = export_saved_model(request).files
    loaded = tf.saved_model.load(str(folder))
    original = tf.saved_model.load(str(saved))
    x = tf.constant(np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32))
    wanted = original.signatures["serving_default"](x)
    got = loaded.signatures["serving_default"](x)
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-6)
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    definition = model.meta_graphs[0].graph_def
    placed = {device for found in devices_inside(definition).values() for device in found}
    assert placed >= {"/device:CPU:0", "/device:CPU:1"}
    weights = "variables/variables.data-00000-of-00001"
    assert (saved / weights).samefile(folder / weights)
    with pytest.raises(ExportError, match="remove it or export elsewhere"):
        export_saved_model(request)
    assert not list((tmp_path / "out").glob("*.partial"))


def test_what_cannot_be_said_is_refused(saved: Path, training: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="inside of functions"):
        export_saved_model(request_of(saved, tmp_path / "a", schedule=True))
    with pytest.raises(ExportError, match="export it as saved-model"):
        export_graph_def(request_of(saved, tmp_path / "b"))
    with pytest.raises(ExportError, match="export it as graph-def"):
        export_saved_model(request_of(training, tmp_path / "c"))
    request = request_of(training, tmp_path / "d")
    (tmp_path / "empty.pb").write_bytes(b"")
    lost = ExportRequest(
        tmp_path / "empty.pb", request.graph, CLUSTER, request.plan, tmp_path / "d"
    )
    with pytest.raises(ModelError, match="empty"):
        export_graph_def(lost)
    assert not any((tmp_path / name).exists() for name in "abcd")


def test_dead_nodes_may_read_what_is_fused(tmp_path: Path) -> None:
    """A node that no step runs reads the inside of a group; the graph must stay valid."""
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, (4, 8), "x")
        inner = tf.tanh(x, name="inner")
        loss = tf.reduce_sum(tf.square(inner, name="outer"), name="loss")
        tf.identity(inner, name="dead")
    definition = graph.as_graph_def()
    next(n for n in definition.node if n.name == loss.op.name).attr[FETCH_MARK].b = True
    model = tmp_path / "model.pb"
    model.write_bytes(definition.SerializeToString())
    step = load(model)
    devices = np.zeros(step.op_count, np.int64)
    plan = Plan.of(devices, None, xla_like_groups(step, devices.astype(np.int32)))
    assert plan.is_fused
    exported = export_graph_def(request_of(model, tmp_path / "out", plan, fusion=True))
    placed = read(exported.files[0])
    assert {"dead", "loss"} <= {node.name for node in placed.node}
    values = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(placed, name="")
        with tf1.Session() as session:
            got, dead = session.run(["loss:0", "dead:0"], {"x:0": values})
    np.testing.assert_allclose(got, np.square(np.tanh(values)).sum(), rtol=1e-5)
    np.testing.assert_allclose(dead, np.tanh(values), rtol=1e-5)
