"""The network of the one-shot policy: one look at a graph, and what its decoder scores with.

GO's encoder (Zhou et al., arXiv 2010.12438, section 3: GraphSAGE, segment-recurrent attention,
superposition) embeds every op; what it says of a choice and of a device goes into the first layer
of a small network that the compiled decoder runs for each choice and device.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch_geometric.utils import segment

from agent.decoding.config import OneShotConfig
from agent.decoding.levels import FIRST_SHARE, FUSION_LEVELS, SCHEDULE_LEVELS, LevelChances
from agent.policy.attention import SegmentAttention
from agent.policy.cluster_encoder import ClusterEncoder
from agent.policy.graph_encoder import GraphEncoder
from agent.policy.inputs import GraphInput
from envs.features.observation import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    LINK_COLUMNS,
    OP_COLUMNS,
)
from placement.decoding.columns import DECISION_COLUMNS
from placement.decoding.decoder import DecisionScorer
from placement.decoding.style_weights import STYLE_WEIGHTS

#: What the names of weights begin with that decide priorities and kernels.
LEVEL_HEADS = ("schedule.", "fusion.")


@dataclass(frozen=True, eq=False)
class ChoiceInput:
    """Several graphs, and the choices of each."""

    graphs: GraphInput
    members: Int[Tensor, " ops"]
    """Ops by choice, all graphs end to end."""
    member_offsets: Int[Tensor, " choices_1"]
    decider: Int[Tensor, " choices"]
    graph_of_choice: Int[Tensor, " choices"]

    def to(self, device: str | torch.device) -> "ChoiceInput":
        """The same on another torch device."""
        return ChoiceInput(
            **{item.name: getattr(self, item.name).to(device) for item in fields(self)}
        )


@dataclass(frozen=True, eq=False)
class Said:
    """What the network says of some graphs; choices are laid end to end."""

    style_weights: Float[Tensor, "styles columns"]
    style_chances: Float[Tensor, "graphs styles"]
    """Logarithms of how likely each style gives the best of a graph's greedy plans."""
    choice_weights: Float[Tensor, "choices columns"]
    choice_hidden: Float[Tensor, "choices width"]
    device_hidden: Float[Tensor, "graphs devices width"]
    affinity: Float[Tensor, "choices devices"]
    schedule: Float[Tensor, "ops schedule_levels"]
    """Logarithms of how likely each op has each level of priority."""
    fusion: Float[Tensor, "ops fusion_levels"]
    """The same of its level of fusion."""
    columns: Float[Tensor, "columns width"]
    out: Float[Tensor, " width"]

    def level_chances(self, ops: slice) -> LevelChances:
        """What is drawn from for one graph's priorities and kernels."""
        return LevelChances(
            *(table[ops].detach().float().cpu().numpy() for table in (self.schedule, self.fusion))
        )

    def scorer(self, graph: int, choices: slice, devices: int) -> DecisionScorer:
        """The weights for the decoder of one graph."""

        def plain(values: Tensor) -> np.ndarray:
            return np.array(values.detach().float().cpu().numpy(), np.float32, order="C")

        return DecisionScorer(
            plain(self.style_weights),
            np.ones(len(self.style_weights), np.float32),
            plain(self.choice_weights[choices]),
            plain(self.choice_hidden[choices]),
            plain(self.device_hidden[graph, :devices]),
            plain(self.affinity[choices, :devices]),
            plain(self.columns),
            plain(self.out),
        )

    def score(
        self,
        graph: int,
        choices: slice | Int[Tensor, " choices"],
        styles: Int[Tensor, " plans"],
        seen: Float[Tensor, "plans choices devices columns"],
        considered: Bool[Tensor, "plans choices devices"],
    ) -> Float[Tensor, "plans choices devices"]:
        """What the decoder scored, with gradients; minus infinity for what was not considered."""
        devices = seen.shape[2]
        hidden = seen @ self.columns
        hidden = hidden + self.choice_hidden[choices][None, :, None, :]
        hidden = torch.relu(hidden + self.device_hidden[graph, :devices])
        weights = self.style_weights[styles][:, None] + self.choice_weights[choices][None]
        score = torch.einsum("pcdk,pck->pcd", seen, weights)
        score = score + hidden @ self.out + self.affinity[choices, :devices]
        return score.masked_fill(~considered, -torch.inf)


class OneShotPolicy(nn.Module):
    """Embeds graphs and clusters; the heads are what the decoder needs.

    Before anything is learned all heads are silent, and the decoder goes by the styles' weights.
    """

    def __init__(self, config: OneShotConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden, columns = config.width, config.decoder_width, len(DECISION_COLUMNS)
        self.encoder = GraphEncoder(
            len(OP_COLUMNS),
            len(EDGE_COLUMNS),
            len(GRAPH_COLUMNS),
            width,
            config.sage_layers,
            config.superposition,
        )
        self.cluster = ClusterEncoder(len(DEVICE_COLUMNS), len(LINK_COLUMNS), width)
        self.attention = nn.ModuleList(
            SegmentAttention(width, config.heads, config.superposition)
            for _ in range(config.attention_layers)
        )
        self.norm = nn.LayerNorm(2 * width)
        self.weights = nn.Linear(2 * width, columns)
        self.choice = nn.Linear(2 * width, hidden)
        self.device = nn.Linear(width, hidden)
        self.query = nn.Linear(2 * width, config.affinity_width)
        self.key = nn.Linear(width, config.affinity_width)
        self.style_of = nn.Linear(width, len(STYLE_WEIGHTS))
        self.columns = nn.Parameter(torch.randn(columns, hidden) * 0.3)
        self.out = nn.Parameter(torch.randn(hidden) * 0.01)
        self.style_weights = nn.Parameter(torch.tensor(STYLE_WEIGHTS))
        for silent in (self.weights, self.query, self.style_of):
            nn.init.normal_(silent.weight, std=0.002)
            nn.init.zeros_(silent.bias)
        self.schedule = _mostly_first(width, len(SCHEDULE_LEVELS))
        self.fusion = _mostly_first(width, len(FUSION_LEVELS))

    def forward(self, batch: ChoiceInput) -> Said:
        """One look at some graphs."""
        graphs = batch.graphs
        ops, context = self.encoder(graphs)
        for layer in self.attention:
            ops = layer(ops, graphs, context)
        devices = self.cluster(graphs)
        pooled = segment(ops[batch.members], batch.member_offsets, "mean")
        choices = self.norm(torch.cat([pooled, ops[batch.decider]], dim=1))
        keys = self.key(devices)[batch.graph_of_choice]
        affinity = torch.einsum("cw,cdw->cd", self.query(choices), keys)
        return Said(
            self.style_weights,
            torch.log_softmax(self.style_of(context), dim=1),
            self.weights(choices),
            self.choice(choices),
            self.device(devices),
            affinity / self.query.out_features**0.5,
            # What these two heads learn is faint beside devices: it does not shape the encoder.
            torch.log_softmax(self.schedule(ops.detach()), dim=1),
            torch.log_softmax(self.fusion(ops.detach()), dim=1),
            self.columns,
            self.out,
        )


def _mostly_first(width: int, levels: int) -> nn.Linear:
    """A head that says the first level of nearly all ops, before anything is learned."""
    head = nn.Linear(width, levels)
    nn.init.normal_(head.weight, std=0.002)
    with torch.no_grad():
        head.bias.copy_(first_chances(levels))
    return head


def first_chances(levels: int) -> Float[Tensor, " levels"]:
    """Logarithms of what is likely before anything is learned: nearly always the first level."""
    logs = torch.full((levels,), math.log(FIRST_SHARE / (levels - 1)))
    logs[0] = math.log(1 - FIRST_SHARE)
    return logs
