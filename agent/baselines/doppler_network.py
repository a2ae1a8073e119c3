"""Doppler's two policies (`doppler`): which group is placed next, and on which device."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from agent.baselines.group_graph import GroupGraph
from simulator.log_scale import log_share

#: Of a group: mean seconds, seconds to receive and to send, to the end of the step and to its
#: beginning along the longest chain.
GROUP_COLUMNS = 5
#: Of a group on a device: seconds there, when its inputs are there, when the device is free, when
#: it would begin and end, what the device has been given.
DEVICE_COLUMNS = 6


class DopplerNetwork(nn.Module):
    """Embeddings of groups, scores of groups to come next, and scores of devices.

    Args:
        groups: the graph.
        width: of embeddings.
        hops: how often messages are passed, along edges both ways.
    """

    def __init__(self, groups: GroupGraph, width: int, hops: int) -> None:
        super().__init__()
        self.hops = hops
        columns, to_end, to_beginning = _described(groups)
        self.columns = torch.from_numpy(columns).float()
        self.paths = (_shares(to_end), _shares(to_beginning))
        edges = torch.from_numpy(groups.adjacency > 0).float()
        self.neighbours = [
            each / each.sum(dim=1, keepdim=True).clamp(min=1.0) for each in (edges, edges.T)
        ]
        self.embed = nn.Sequential(nn.Linear(GROUP_COLUMNS, width), nn.ReLU())
        self.passed = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU())
        self.select = nn.Sequential(
            nn.Linear(3 * width + GROUP_COLUMNS, width), nn.ReLU(), nn.Linear(width, 1)
        )
        self.place = nn.Sequential(
            nn.Linear(2 * width + DEVICE_COLUMNS, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def embedded(self) -> Float[Tensor, "groups width"]:
        """Embeddings, worked out once for an episode."""
        now = self.embed(self.columns)
        for _ in range(self.hops):
            heard = [near @ now for near in self.neighbours]
            now = now + self.passed(torch.cat([now, *heard], dim=1))
        return torch.as_tensor(now)

    def selecting(self, embedded: Float[Tensor, "groups width"]) -> Float[Tensor, " groups"]:
        """SEL: a score of each group, of which the policy takes one that is ready."""
        along = [path @ embedded for path in self.paths]
        return torch.as_tensor(
            self.select(torch.cat([embedded, *along, self.columns], dim=1))[:, 0]
        )

    def placing(
        self,
        embedded: Float[Tensor, "groups width"],
        group: Tensor,
        there: Float[Tensor, "states devices groups"],
        columns: Float[Tensor, "states devices columns"],
    ) -> Float[Tensor, "states devices"]:
        """PLC: a score of each device for a group of each state.

        Args:
            embedded: of all groups.
            group: the one to be placed in each state.
            there: the share that each group has in what is on a device.
            columns: see `DEVICE_COLUMNS`.
        """
        own = embedded[group][:, None].expand(-1, columns.shape[1], -1)
        told = torch.cat([own, there @ embedded, columns], dim=2)
        return torch.as_tensor(self.place(told)[:, :, 0])


def chain_seconds(groups: GroupGraph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean seconds of groups, of the longest chain from each on to the end, and of what is sent.

    Returns:
        Mean seconds of each group, seconds to the end with its own, and mean seconds to send what
        each edge carries.
    """
    own = groups.seconds.mean(axis=1)
    sending = _mean_sending(groups)
    to_end = own.copy()
    for group in range(groups.count - 1, -1, -1):
        following = np.flatnonzero(groups.adjacency[group])
        if following.size:
            to_end[group] += (sending[group, following] + to_end[following]).max()
    return own, to_end, sending


def _described(
    groups: GroupGraph,
) -> tuple[Float64[np.ndarray, "groups columns"], np.ndarray, np.ndarray]:
    """Columns of groups, and who lies on each one's longest chain to the end and from the
    beginning."""
    own, to_end, sending = chain_seconds(groups)
    to_beginning = own.copy()
    ahead, behind = np.eye(groups.count), np.eye(groups.count)
    for group in range(groups.count):
        before = np.flatnonzero(groups.adjacency[:, group])
        if before.size:
            chains = sending[before, group] + to_beginning[before]
            to_beginning[group] += chains.max()
            behind[group] += behind[before[int(chains.argmax())]]
    for group in range(groups.count - 1, -1, -1):
        following = np.flatnonzero(groups.adjacency[group])
        if following.size:
            chains = sending[group, following] + to_end[following]
            ahead[group] += ahead[following[int(chains.argmax())]]
    longest = max(float(to_end.max()), 1e-15)
    seconds = (own, sending.sum(axis=0), sending.sum(axis=1))
    columns = [log_share(each / groups.span_seconds) for each in seconds]
    columns += [to_end / longest, to_beginning / longest]
    return np.stack(columns, axis=1), ahead, behind


def _mean_sending(groups: GroupGraph) -> Float64[np.ndarray, "groups groups"]:
    """Seconds to send what an edge carries, the mean over pairs of devices; 0 without an edge."""
    others = ~np.eye(groups.device_count, dtype=bool)
    sending = np.zeros((groups.count, groups.count))
    if others.any():
        pace = float(groups.links.seconds_per_byte[others].mean())
        latency = float(groups.links.latency_seconds[others].mean())
        sending[groups.edges[0], groups.edges[1]] = groups.edge_bytes * pace + latency
    return sending


def _shares(members: Float64[np.ndarray, "groups groups"]) -> Float[Tensor, "groups groups"]:
    return torch.from_numpy(members / members.sum(axis=1, keepdims=True)).float()
