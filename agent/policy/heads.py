"""From op embeddings to scores of decisions, per group of ops."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.utils import segment

from agent.policy.inputs import PolicyInput
from envs.features.groups import GROUP_COLUMNS, GROUP_PAIR_COLUMNS
from envs.tasks import LEVELS


def pool_members(
    ops: Float[Tensor, "ops width"], batch: PolicyInput
) -> Float[Tensor, "groups 2*width"]:
    """Mean and maximum over the members of each group."""
    members = ops[batch.members]
    return torch.cat(
        [
            segment(members, batch.member_offsets, "mean"),
            segment(members, batch.member_offsets, "max"),
        ],
        dim=1,
    )


class DeviceHead(nn.Module):
    """Scores every group on every device, and leaving the group where it is.

    Groups meet *device embeddings* and what is known of the pair, so that any number and mix of
    devices is served and renumbering devices renumbers the scores.
    """

    def __init__(self, width: int, pair_width: int) -> None:
        super().__init__()
        self.group = nn.Linear(2 * width + len(GROUP_COLUMNS), pair_width)
        self.device = nn.Linear(width, pair_width)
        self.pair = nn.Linear(len(GROUP_PAIR_COLUMNS), pair_width)
        self.score = nn.Sequential(
            nn.ReLU(), nn.Linear(pair_width, pair_width), nn.ReLU(), nn.Linear(pair_width, 1)
        )
        self.query = nn.Linear(2 * width, pair_width)
        self.key = nn.Linear(width, pair_width)
        _begin_indifferent(self.score[-1])

    def forward(
        self,
        groups: Float[Tensor, "groups group_width"],
        devices: Float[Tensor, "graphs devices width"],
        batch: PolicyInput,
    ) -> Float[Tensor, "groups devices"]:
        affinity = torch.einsum(
            "gw,gdw->gd", self.query(groups), self.key(devices)[batch.graph_of_group]
        )
        own = self.group(torch.cat([groups, batch.groups], dim=1))
        there = self.device(devices)[batch.graph_of_group]
        known = self.score(own[:, None, :] + there + self.pair(batch.group_pairs)).squeeze(2)
        return known + affinity / affinity.new_tensor(self.query.out_features).sqrt()


class NumberedDeviceHead(nn.Module):
    """One output per device number, as GDP has: tied to the clusters that it was trained on."""

    def __init__(self, width: int, max_devices: int) -> None:
        super().__init__()
        self.score = nn.Linear(2 * width, max_devices)
        _begin_indifferent(self.score)

    def forward(
        self,
        groups: Float[Tensor, "groups group_width"],
        devices: Float[Tensor, "graphs devices width"],
        batch: PolicyInput,
    ) -> Float[Tensor, "groups devices"]:
        scores = self.score(groups)
        count = devices.shape[1]
        if count > scores.shape[1]:
            raise ValueError(f"{count} devices, but outputs for {scores.shape[1]}")
        return scores[:, :count]


class LevelHead(nn.Module):
    """Scores the levels of scheduling or fusion for every group."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(2 * width + len(GROUP_COLUMNS), width), nn.ReLU(), nn.Linear(width, LEVELS)
        )
        _begin_indifferent(self.score[-1])

    def forward(
        self, groups: Float[Tensor, "groups group_width"], batch: PolicyInput
    ) -> Float[Tensor, "groups levels"]:
        return self.score(torch.cat([groups, batch.groups], dim=1))


def _begin_indifferent(layer: nn.Module) -> None:
    assert isinstance(layer, nn.Linear)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
