"""A learned cost model: features, training on a known law, saving, and use as a cost model."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from device_models import core_cluster
from graph_samples import random_graph
from onnx import TensorProto, helper

import graphs
from graphs.graph import Graph
from graphs.kinds import OpKind
from placement.annealing.fusing.fused_problem import fuse_problem
from placement.problem import Problem
from simulator.costs.contractions import matrix_products, op_inputs
from simulator.costs.cost_model import CostModel, KernelCostModel, RooflineCosts
from simulator.costs.cost_training import CostTrainingConfig, cost_loss, train_costs, train_ensemble
from simulator.costs.kernel_features import (
    FEATURES,
    KernelBatch,
    chosen,
    join_batches,
    kernel_batch,
    kernel_totals,
    op_features,
    transposition,
)
from simulator.costs.learned_costs import (
    CostEnsemble,
    CostNetwork,
    CostNetworkConfig,
    LearnedCosts,
    load_learned_costs,
    predicted_seconds,
    save_network,
)
from simulator.errors import ClusterError
from simulator.fusion import fuse, xla_like_groups
from simulator.plan import Plan
from simulator.simulator import Simulator

QUICK = CostTrainingConfig(
    network=CostNetworkConfig(width=32), epochs=40, batch_kernels=64, members=1
)


def law(seed: int) -> tuple[KernelBatch, np.ndarray]:
    """Kernels of one op whose time is their roofline's on a made-up device."""
    graph = random_graph(seed, 300, groups=False)
    kernels = [[op] for op in range(graph.op_count)]
    work = graph.bytes_read + graph.bytes_written + graph.flops
    return kernel_batch(graph, kernels), 1e-6 + work * 1e-9


def contractions(folder: Path) -> Graph:
    """Products and convolutions whose dimensions are known."""
    inputs = {
        "image": (2, 24, 20, 20), "line": (1, 16, 50), "rows": (4, 10, 32), "left": (3, 5, 6),
        "right": (3, 6, 7),
    }  # fmt: skip
    weights = {
        "strided": (48, 24, 3, 3), "grouped": (32, 6, 3, 3), "alone": (24, 1, 5, 5),
        "along": (8, 16, 3), "square": (32, 40),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "strided"], ["a"], "strided", pads=[1] * 4,
                         strides=[2, 2]),
        helper.make_node("Conv", ["image", "grouped"], ["b"], "grouped", pads=[1] * 4, group=4),
        helper.make_node("Conv", ["image", "alone"], ["c"], "alone", pads=[2] * 4, group=24),
        helper.make_node("Conv", ["line", "along"], ["d"], "along", pads=[1, 1]),
        helper.make_node("MatMul", ["rows", "square"], ["e"], "weighted"),
        helper.make_node("MatMul", ["left", "right"], ["f"], "batched"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "contractions",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in "abcdef"],
        [
            helper.make_tensor(n, TensorProto.FLOAT, s, np.zeros(s, np.float32).tobytes(), raw=True)
            for n, s in weights.items()
        ],
    )
    path = folder / "contractions.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return graphs.load(path)


def test_contractions_are_matrix_products_of_known_size(tmp_path: Path) -> None:
    graph = contractions(tmp_path)
    product = matrix_products(graph, op_inputs(graph))
    found = {
        graph.op_names[op]: tuple(
            float(values[op])
            for values in (product.rows, product.columns, product.inner, product.count)
        )
        for op in range(graph.op_count)
        if product.rows[op]
    }
    assert found == {
        "strided": (48, 100, 216, 2),
        "grouped": (8, 400, 54, 8),
        "alone": (1, 400, 25, 48),
        "along": (8, 50, 48, 1),
        "weighted": (40, 40, 32, 1),
        "batched": (5, 7, 6, 3),
    }
    at = graph.op_index
    assert product.stride[at["strided"]] == 4
    windows = [product.window[at[name]] for name in ("strided", "grouped", "alone", "along")]
    assert windows == [9, 9, 25, 3]
    assert [product.groups[at[name]] for name in ("strided", "grouped", "alone")] == [1, 4, 24]


def test_a_transposition_says_how_far_it_jumps(tmp_path: Path) -> None:
    orders = {"heads": (0, 2, 1, 3), "channels last": (0, 2, 3, 1), "square": (0, 1, 3, 2)}
    shapes = {"heads": (2, 12, 8, 64), "channels last": (1, 5, 6, 7), "square": (2, 3, 9, 9)}
    graph = helper.make_graph(
        [helper.make_node("Transpose", [f"{n} in"], [n], n, perm=p) for n, p in orders.items()],
        "orders",
        [helper.make_tensor_value_info(f"{n} in", TensorProto.FLOAT, s) for n, s in shapes.items()],
        [onnx.ValueInfoProto(name=name) for name in orders],
    )
    path = tmp_path / "orders.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    read = graphs.load(path)
    jumps = 2 ** (10 * transposition(read, op_inputs(read).shapes[0])) - 1
    assert jumps[:, read.op_index["heads"]] == pytest.approx([64, 8 * 64, 12 * 64])
    assert jumps[:, read.op_index["channels last"]] == pytest.approx([1, 42, 5])
    assert jumps[:, read.op_index["square"]] == pytest.approx([1, 9, 9])
    assert not jumps[:, read.kinds != OpKind.TRANSPOSE].any()


def test_totals_of_groups_are_those_of_the_fused_graph() -> None:
    graph = random_graph(5, 120, groups=False)
    devices = np.zeros(graph.op_count, np.int32)
    groups = xla_like_groups(graph, devices)
    assert (groups >= 0).any()
    fused = fuse(graph, groups, devices)
    members = [np.flatnonzero(fused.kernel_of == k).tolist() for k in range(len(fused.root_of))]
    flops, read, written, _, _, ops = kernel_totals(graph, members).T
    assert flops == pytest.approx(fused.graph.flops)
    assert ops.tolist() == [len(group) for group in members]
    assert read == pytest.approx(fused.graph.bytes_read)
    assert written == pytest.approx(fused.graph.bytes_written)


def test_batches_keep_kernels_apart() -> None:
    graph = random_graph(0, 40, groups=False)
    first = kernel_batch(graph, [[0], list(range(5, 12))])
    assert first.features.shape == (8, FEATURES)
    assert np.isfinite(op_features(graph)).all()
    assert first.kernel_of.tolist() == [0] + [1] * 7
    assert (first.kernel_of[first.edges[0]] == first.kernel_of[first.edges[1]]).all()
    both = join_batches([first, first])
    assert both.count == 4
    back = chosen(both, np.array([3, 2]))
    assert back.kernel_of.tolist() == [1] + [0] * 7
    assert np.array_equal(back.features, first.features)
    assert np.array_equal(back.totals, first.totals[::-1])
    assert back.edges.shape[1] == first.edges.shape[1]


def test_a_law_is_learned_and_the_model_survives_a_file(tmp_path: Path) -> None:
    batch, seconds = law(1)
    network = train_ensemble(batch, seconds, QUICK)
    other, truth = law(2)
    guess = predicted_seconds(network, other)
    assert np.median(np.abs(guess / truth - 1)) < 0.35
    save_network(network, tmp_path / "model.safetensors", "cpu-core")
    again = load_learned_costs(tmp_path / "model.safetensors")
    assert again.device_kind == "cpu-core"
    assert predicted_seconds(again.network, other) == pytest.approx(guess, rel=0.02)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ClusterError):
        load_learned_costs(tmp_path / "model.safetensors")


def test_the_order_of_kernels_does_not_matter() -> None:
    graph = random_graph(3, 30, groups=False)
    model = LearnedCosts(CostEnsemble([train_costs(*law(1), config=CostTrainingConfig(epochs=1))]))
    forward = model.kernel_seconds(graph, [[1, 2, 3], [7], [9, 10]])
    backward = model.kernel_seconds(graph, [[9, 10], [7], [1, 2, 3]])
    assert forward[::-1] == pytest.approx(backward, rel=1e-5)


def test_before_training_a_kernel_takes_the_sum_of_its_ops() -> None:
    graph = random_graph(3, 30, groups=False)
    model = LearnedCosts(CostEnsemble([CostNetwork(CostNetworkConfig(width=16))]))
    alone = model.kernel_seconds(graph, [[1], [2], [3]])
    assert model.kernel_seconds(graph, [[1, 2, 3]])[0] == pytest.approx(alone.sum(), rel=1e-4)


def test_wrong_order_costs_more() -> None:
    config = CostTrainingConfig(ranking_weight=1.0)
    target = torch.tensor([0.0, 1.0, 2.0])
    right = cost_loss(torch.tensor([0.0, 1.0, 2.0]), target, config)
    wrong = cost_loss(torch.tensor([2.0, 1.0, 0.0]), target, config)
    assert right < wrong


def test_the_model_that_ships_is_a_cost_model() -> None:
    model = load_learned_costs()
    assert isinstance(model, CostModel)
    assert isinstance(model, KernelCostModel)
    graph, cluster = random_graph(4, 30, groups=False), core_cluster()
    seconds = model.seconds(graph, cluster)
    roofline = RooflineCosts().seconds(graph, cluster)
    assert seconds.shape == roofline.shape
    assert ((seconds == 0) == (roofline == 0)).all()
    assert (seconds >= 0).all()


def test_the_model_that_ships_knows_that_larger_products_take_longer(tmp_path: Path) -> None:
    graph = contractions(tmp_path)
    seconds = load_learned_costs().seconds(graph, core_cluster())[:, 0]
    at = graph.op_index
    assert seconds[at["strided"]] > seconds[at["batched"]]
    assert seconds[at["strided"]] < 1e-3  # 2 Mflop: neither seconds nor nanoseconds
    assert seconds[at["strided"]] > 1e-6


def test_fused_kernels_cost_what_the_model_says_of_their_ops() -> None:
    graph, cluster = random_graph(5, 120, groups=False), core_cluster()
    devices = np.zeros(graph.op_count, np.int32)
    plan = Plan.of(devices, fusion=xla_like_groups(graph, devices))
    model = load_learned_costs()
    fused = fuse(graph, plan.fusion, plan.devices)
    seconds = model.fused_seconds(graph, fused, cluster)[:, 0]
    kernel = int(np.bincount(fused.kernel_of).argmax())
    members = np.flatnonzero(fused.kernel_of == kernel).tolist()
    assert seconds[kernel] == pytest.approx(model.kernel_seconds(graph, [members])[0], rel=1e-5)
    simulated = Simulator(graph, cluster, model).evaluate(plan)
    assert simulated.makespan_seconds >= seconds.max()
    placed = fuse_problem(Problem(graph, cluster, given_costs=model), plan)
    assert np.array_equal(placed.fusion, plan.fusion)
    assert placed.kernels.seconds[:, 0] == pytest.approx(seconds)
