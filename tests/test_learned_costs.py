"""A learned cost model: features, training on a known law, saving, and use as a cost model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from device_models import core_cluster
from graph_samples import random_graph

from simulator.cost_training import CostTrainingConfig, cost_loss, train_costs
from simulator.costs import CostModel, RooflineCosts
from simulator.errors import ClusterError
from simulator.kernel_features import FEATURES, chosen, joined, kernel_batch
from simulator.learned_costs import LearnedCosts, load_learned_costs, save_network

QUICK = CostTrainingConfig(epochs=40, batch_kernels=64)


def law(seed: int) -> tuple:
    """Kernels of one op whose time is their roofline's on a made-up device."""
    graph = random_graph(seed, 300, groups=False)
    kernels = [[op] for op in range(graph.op_count)]
    work = graph.bytes_read + graph.bytes_written + graph.flops
    return kernel_batch(graph, kernels), 1e-6 + work * 1e-9


def test_batches_keep_kernels_apart() -> None:
    graph = random_graph(0, 40, groups=False)
    first = kernel_batch(graph, [[0], list(range(5, 12))])
    assert first.features.shape == (8, FEATURES)
    assert first.kernel_of.tolist() == [0] + [1] * 7
    assert (first.kernel_of[first.edges[0]] == first.kernel_of[first.edges[1]]).all()
    both = joined([first, first])
    assert both.count == 4
    back = chosen(both, np.array([3, 2]))
    assert back.kernel_of.tolist() == [1] + [0] * 7
    assert np.array_equal(back.features, first.features)
    assert back.edges.shape[1] == first.edges.shape[1]


def test_a_law_is_learned_and_the_model_survives_a_file(tmp_path: Path) -> None:
    batch, seconds = law(1)
    network = train_costs(batch, seconds, QUICK)
    other, truth = law(2)
    with torch.inference_mode():
        guess = np.exp(network(other).double().numpy()) * 1e-6
    assert np.median(np.abs(guess / truth - 1)) < 0.35
    save_network(network, tmp_path / "model.safetensors", "cpu-core")
    again = load_learned_costs(tmp_path / "model.safetensors")
    with torch.inference_mode():
        assert torch.equal(again.network(other), network(other))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ClusterError):
        load_learned_costs(tmp_path / "model.safetensors")


def test_the_order_of_kernels_does_not_matter() -> None:
    graph = random_graph(3, 30, groups=False)
    model = LearnedCosts(train_costs(*law(1), CostTrainingConfig(epochs=1)))
    forward = model.kernel_seconds(graph, [[1, 2, 3], [7], [9, 10]])
    backward = model.kernel_seconds(graph, [[9, 10], [7], [1, 2, 3]])
    assert forward[::-1] == pytest.approx(backward, rel=1e-5)


def test_wrong_order_costs_more() -> None:
    target = torch.tensor([0.0, 1.0, 2.0])
    right = cost_loss(torch.tensor([0.0, 1.0, 2.0]), target, 1.0)
    wrong = cost_loss(torch.tensor([2.0, 1.0, 0.0]), target, 1.0)
    assert right < wrong


def test_the_model_that_ships_is_a_cost_model() -> None:
    model = load_learned_costs()
    assert isinstance(model, CostModel)
    graph, cluster = random_graph(4, 30, groups=False), core_cluster()
    seconds = model.seconds(graph, cluster)
    roofline = RooflineCosts().seconds(graph, cluster)
    assert seconds.shape == roofline.shape
    assert ((seconds == 0) == (roofline == 0)).all()
    assert (seconds >= 0).all()
