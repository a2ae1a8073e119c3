"""The whole network: graph and cluster encoders, attention per task, heads."""

from collections.abc import Mapping
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.nn import GraphNorm

from agent.policy.attention import SegmentAttention
from agent.policy.cluster_encoder import ClusterEncoder
from agent.policy.config import PolicyConfig
from agent.policy.graph_encoder import GraphEncoder
from agent.policy.heads import DeviceHead, LevelHead, NumberedDeviceHead, pool_members
from agent.policy.inputs import PolicyInput
from agent.policy.move_network import MoveNetwork
from envs.features.observation import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    LINK_COLUMNS,
    OP_COLUMNS,
)
from envs.tasks import LEVELS, Task

#: Scores of each task's decisions; minus infinity where a device is not allowed.
Scores = Mapping[str, Float[Tensor, "groups choices"]]

#: Rows of the tasks' embedding, which do not depend on the order in which they are decided.
_NUMBERS = {task: number for number, task in enumerate(Task)}


class Policy(nn.Module):
    """GO's network (Zhou et al., arXiv 2010.12438, section 3) with heads for any cluster.

    GraphSAGE embeds the ops; for every task the same segment-recurrent attention layers run over
    them, in the order of `config.tasks`, from the states that the task before left and with the
    expectation of what it decided, so that one forward pass serves many samples. `moves` is a
    network of its own, for single moves inside a search, where a forward pass of the large one
    would take longer than trying the move.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.encoder = GraphEncoder(
            len(OP_COLUMNS),
            len(EDGE_COLUMNS),
            len(GRAPH_COLUMNS),
            width,
            config.sage_layers,
            config.superposition,
        )
        self.cluster = ClusterEncoder(len(DEVICE_COLUMNS), len(LINK_COLUMNS), width)
        layers = config.attention_layers if config.sequential_attention else 0
        self.attention = nn.ModuleList(
            SegmentAttention(width, config.heads, config.superposition) for _ in range(layers)
        )
        self.task = nn.Embedding(len(Task), width)
        self.level = nn.Embedding(LEVELS + 1, width)
        self.before = nn.Linear(width, width)
        self.among_groups = GraphNorm(2 * width)
        self.heads = nn.ModuleDict()
        for task in config.tasks:
            if task != Task.PLACEMENT:
                self.heads[task] = LevelHead(width)
            elif config.device_embeddings:
                self.heads[task] = DeviceHead(width, config.pair_width)
            else:
                self.heads[task] = NumberedDeviceHead(width, config.max_devices)
        nn.init.zeros_(self.before.weight)
        nn.init.zeros_(self.before.bias)
        nn.init.normal_(self.level.weight, std=0.02)
        nn.init.normal_(self.task.weight, std=0.02)
        self.moves = MoveNetwork((config.move_widths[0], config.move_widths[1]), config.reads_trace)

    def forward(self, batch: PolicyInput) -> Scores:
        """Scores for every group of every graph of the batch."""
        encoded, context = self.encoder(batch)
        devices = self.cluster(batch)
        state = encoded + self._decided_before(batch, devices)
        scores: dict[str, Tensor] = {}
        for task in map(Task, self.config.tasks):
            if not self.config.cross_task:
                state = encoded
            state = state + self.task.weight[_NUMBERS[task]]
            for layer in self.attention:
                state = layer(state, batch, context)
            groups = self.among_groups(pool_members(state, batch), batch.level_of_group)
            if task == Task.PLACEMENT:
                raw = self.heads[task](groups, devices, batch)
                scores[task] = raw.masked_fill(~batch.allowed, -torch.inf)
            else:
                scores[task] = self.heads[task](groups, batch)
            if self.config.cross_task and len(scores) < len(self.config.tasks):
                state = state + self.before(self._expect(scores[task], task, devices, batch))
        return scores

    def _decided_before(
        self, batch: PolicyInput, devices: Float[Tensor, "graphs devices width"]
    ) -> Float[Tensor, "ops width"]:
        """Embedding of the previous pass's decisions; zero where there were none."""
        columns = {task: batch.previous[:, column] for column, task in enumerate(Task)}
        device = columns.pop(Task.PLACEMENT)
        where = devices[batch.graph_of_op, device.clamp(min=0)] * (device >= 0)[:, None]
        levels = reduce(torch.add, [self.level(choices + 1) for choices in columns.values()])
        return self.before(where + levels)

    def _expect(
        self,
        scores: Float[Tensor, "groups choices"],
        task: Task,
        devices: Float[Tensor, "graphs devices width"],
        batch: PolicyInput,
    ) -> Float[Tensor, "ops width"]:
        """The mean embedding of a task's decision for each op, by its unit's scores."""
        chances = torch.softmax(scores[batch.unit_group], dim=1)
        if task == Task.PLACEMENT:
            return torch.einsum("od,odw->ow", chances, devices[batch.graph_of_op])
        return chances @ self.level.weight[1:]
