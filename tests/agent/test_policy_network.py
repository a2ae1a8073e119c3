"""The network: indifferent to device numbers and to its batch, linear in segments."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from graph_samples import random_graph, toy_cluster

from agent.policy.attention import SegmentAttention
from agent.policy.config import PolicyConfig
from agent.policy.heads import DeviceHead
from agent.policy.inputs import PolicyInput, collate
from agent.policy.network import Policy
from agent.policy.state import begin
from agent.policy.superposition import Gate
from agent.policy.view import View, group_instance, look
from envs.episodes import Prepared
from envs.instance import Instance
from envs.rules import Rules
from envs.tasks import LEVELS, Task
from graphs.errors import GraphwrightError
from placement.problem import Problem
from simulator.clusters.cluster import Cluster
from simulator.plan import Plan

ALL = ("placement", "scheduling", "fusion")
PLACING = Rules((Task.PLACEMENT,))


@pytest.fixture(scope="module")
def batch() -> PolicyInput:
    return collate([view(seed, ops) for seed, ops in ((0, 40), (1, 70))], segment_ops=16)


def view(seed: int, ops: int, devices: int = 3) -> View:
    instance = Instance("sample", Problem(random_graph(seed, ops), toy_cluster(devices)))
    subject = group_instance(Prepared(instance), (4, 12), 0)
    rng = np.random.default_rng(seed)
    units = rng.integers(devices, size=instance.problem.unit_count)
    plan = Plan.of(units[instance.problem.unit_of])
    return begin(subject, PLACING, plan).view(True)


def policy(seed: int = 0, **config: Any) -> Policy:
    torch.manual_seed(seed)
    made = Policy(PolicyConfig(width=16, pair_width=8, segment_ops=16, **config))
    with torch.no_grad():  # far from where it begins, so that every part matters
        for values in made.parameters():
            values.add_(0.1 * torch.randn_like(values))
    return made.eval()


def test_scores_have_a_row_per_group_and_none_where_a_device_is_not_allowed(
    batch: PolicyInput,
) -> None:
    scores = policy(tasks=ALL)(batch)
    groups = len(batch.graph_of_group)
    assert scores["placement"].shape == (groups, 3)
    assert scores["scheduling"].shape == scores["fusion"].shape == (groups, LEVELS)
    assert torch.isinf(scores["placement"]).equal(~batch.allowed)


def test_a_graph_scores_the_same_alone_and_in_a_batch(batch: PolicyInput) -> None:
    network = policy(tasks=ALL)
    together = network(batch)
    first = 0
    for seed, ops in ((0, 40), (1, 70)):
        alone = network(collate([view(seed, ops)], 16))
        last = first + len(alone["placement"])
        for task in ALL:
            assert torch.allclose(together[task][first:last], alone[task], atol=1e-4)
        first = last


def test_a_smaller_cluster_in_the_batch_changes_nothing() -> None:
    network = policy()
    few, many = view(0, 40, devices=2), view(1, 40, devices=4)
    alone = network(collate([few], 16))["placement"]
    padded = network(collate([few, many], 16))["placement"][: len(alone)]
    assert torch.allclose(padded[:, :2], alone, atol=1e-4)
    assert torch.isinf(padded[:, 2:]).all()


def test_renumbering_devices_renumbers_the_scores() -> None:
    order = [2, 0, 1]
    graph = random_graph(3, 60)
    named = toy_cluster(3)
    links = tuple(
        replace(link, bytes_per_second=1.0 + 3 * int(link.source[1]) + int(link.target[1]))
        for link in named.links
    )
    devices = tuple(
        replace(d, memory_bytes=d.memory_bytes // (i + 1), flops_per_second={"float32": 1.0 + i})
        for i, d in enumerate(named.devices)
    )
    cluster = Cluster("unlike", devices, links)
    renumbered = Cluster("renumbered", tuple(devices[i] for i in order), links)
    network = policy()
    plan = np.random.default_rng(0).integers(3, size=graph.op_count)
    found = []
    for where, numbers in ((cluster, np.arange(3)), (renumbered, np.argsort(order))):
        problem = Problem(graph, where)
        first = np.unique(problem.unit_of, return_index=True)[1]
        subject = group_instance(Prepared(Instance("sample", problem)), (4, 12), 0)
        assigned = numbers[plan[first][problem.unit_of]]
        seen = begin(subject, PLACING, Plan.of(assigned)).view(True)
        found.append(network(collate([seen], 16))["placement"])
    assert found[0].std() > 0.01
    assert torch.allclose(found[0][:, order], found[1], atol=1e-3)


def test_numbered_heads_are_not_indifferent() -> None:
    seen = view(0, 40)
    network = policy(device_embeddings=False, max_devices=4)
    assert network(collate([seen], 16))["placement"].shape[1] == 3


def attention_inputs(
    batch: PolicyInput, network: SegmentAttention, changed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    ops = torch.randn(len(batch.kinds), 16)
    other = ops.clone()
    other[changed] += 5.0
    context = torch.zeros(batch.graph_count, 16)
    network.norm = _Untouched()  # the norm is over the whole graph, and not what is tested here
    return network(ops, batch, context), network(other, batch, context)


class _Untouched(torch.nn.Module):
    def forward(self, values: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return values


def test_a_segment_sees_itself_and_the_one_before(batch: PolicyInput) -> None:
    torch.manual_seed(1)
    before, after = attention_inputs(batch, SegmentAttention(16, 2, False), changed=20)
    moved = ((before - after).abs() > 1e-6).any(dim=1)
    assert moved[16:40].all()  # its own segment, 16 to 31, and the rest of the graph in the next
    assert not moved[:16].any()
    assert not moved[40:].any()  # the other graph


def test_the_cache_passes_no_gradient(batch: PolicyInput) -> None:
    torch.manual_seed(1)
    network = SegmentAttention(16, 2, False)
    network.norm = _Untouched()
    ops = torch.randn(len(batch.kinds), 16, requires_grad=True)
    context = torch.zeros(batch.graph_count, 16)
    network(ops, batch, context)[16:32].sum().backward()
    assert ops.grad is not None
    assert ops.grad[:16].abs().max() == 0
    assert ops.grad[16:32].abs().max() > 0


def test_gates_begin_open_and_can_close() -> None:
    gate = Gate(4, enabled=True)
    values, context = torch.ones(3, 4), torch.randn(2, 4)
    of = torch.tensor([0, 0, 1])
    assert torch.equal(gate(values, context, of), values)
    assert gate.scale is not None
    with torch.no_grad():
        gate.scale.bias.fill_(-50.0)
    assert gate(values, context, of).abs().max() < 1e-6
    assert torch.equal(Gate(4, enabled=False)(values, context, of), values)


@pytest.mark.parametrize(
    "switch",
    [
        {"sequential_attention": False},
        {"superposition": False},
        {"cross_task": False},
        {"device_embeddings": False},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_every_switch_changes_the_scores(batch: PolicyInput, switch: dict[str, bool]) -> None:
    full, less = policy(tasks=ALL), policy(tasks=ALL, **switch)
    kept = {name: value for name, value in full.state_dict().items() if name in less.state_dict()}
    shapes = less.state_dict()
    kept = {name: value for name, value in kept.items() if value.shape == shapes[name].shape}
    less.load_state_dict(kept, strict=False)
    for task in ("scheduling",):
        assert not torch.allclose(full(batch)[task], less(batch)[task], atol=1e-5) or (
            "device_embeddings" in switch
        )
    if "device_embeddings" in switch:
        assert not torch.allclose(
            full(batch)["placement"][batch.allowed], less(batch)["placement"][batch.allowed]
        )


def test_a_policy_that_does_not_read_the_trace_sees_the_plan_alone() -> None:
    instance = Instance("sample", Problem(random_graph(0, 50), toy_cluster(3)))
    subject = group_instance(Prepared(instance), (4,), 0)
    first = np.zeros(50, np.int32)
    seen = begin(subject, PLACING, Plan.of(first))
    late = begin(subject, PLACING, Plan.of(first, np.arange(50.0)))
    assert not np.array_equal(seen.view(True).observation.ops, late.view(True).observation.ops)
    blind, other = seen.view(False), late.view(False)
    for name in ("ops", "edges", "devices", "links", "graph", "pairs", "previous"):
        assert np.array_equal(getattr(blind.observation, name), getattr(other.observation, name))


def test_nothing_is_seen_of_a_plan_before_there_is_one() -> None:
    instance = Instance("sample", Problem(random_graph(0, 50), toy_cluster(3)))
    seen = look(group_instance(Prepared(instance), (), 0), None)
    assert (seen.observation.previous == -1).all()


def device_head(network: Policy) -> DeviceHead:
    head = network.heads["placement"]
    assert isinstance(head, DeviceHead)
    return head


def test_later_tasks_see_earlier_ones(batch: PolicyInput) -> None:
    network = policy(tasks=ALL)
    before = network(batch)["scheduling"]
    with torch.no_grad():
        device_head(network).device.weight.add_(1.0)
    assert not torch.allclose(before, network(batch)["scheduling"], atol=1e-6)
    apart = policy(tasks=ALL, cross_task=False)
    before = apart(batch)["scheduling"]
    with torch.no_grad():
        device_head(apart).device.weight.add_(1.0)
    assert torch.equal(before, apart(batch)["scheduling"])


@pytest.mark.parametrize(
    "tasks", [("fusion", "placement"), ("scheduling", "placement"), ("scheduling", "fusion")]
)
def test_tasks_are_decided_in_the_order_given(batch: PolicyInput, tasks: tuple[str, str]) -> None:
    network = policy(tasks=tasks)
    with torch.no_grad():
        network.before.weight.normal_()
        before = network(batch)
        assert tuple(before) == tasks
        for parameter in network.heads[tasks[0]].parameters():
            parameter.add_(torch.randn_like(parameter))
        after = network(batch)
    first, second = tasks
    assert not torch.allclose(before[first], after[first], atol=1e-6)
    assert not torch.allclose(before[second], after[second], atol=1e-6)


def test_batches_move_between_torch_devices(batch: PolicyInput) -> None:
    moved = batch.to("meta")
    assert all(getattr(moved, item.name).is_meta for item in fields(moved))


def test_mistaken_sizes_are_refused() -> None:
    with pytest.raises(GraphwrightError, match="not a multiple of 5 heads"):
        PolicyConfig(width=16, heads=5)
    with pytest.raises(GraphwrightError, match="choose from placement, scheduling, fusion"):
        PolicyConfig(tasks=("parking",))
