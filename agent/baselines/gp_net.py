"""GiPH's network: all that could be chosen as one graph, and scores of it (`giph`).

A node of gpNet is an *option*: a group on a device that it may go to. Options that the placement
has taken are *pivots*. For every edge of the graph each option of one end is joined to the pivot of
the other, so that a node sees its neighbours where they are.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from agent.baselines.group_graph import GroupGraph
from agent.baselines.group_schedule import start_potentials
from simulator.log_scale import log_share

#: Of an option: seconds there, over the fastest device's, is it a pivot, start-time potential.
OPTION_COLUMNS = 4
#: Of an edge: seconds to send its bytes, its bytes, seconds of a byte, latency.
EDGE_COLUMNS = 4


class GpNet(nn.Module):
    """Scores of all options of many placements, by messages that go both ways along edges.

    Args:
        groups: the graph.
        width: of embeddings.
        hops: how often messages are passed in each direction.
    """

    def __init__(self, groups: GroupGraph, width: int, hops: int) -> None:
        super().__init__()
        self.groups, self.hops = groups, hops
        self.embed = nn.Sequential(nn.Linear(OPTION_COLUMNS, width), nn.ReLU())
        self.source = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.link = nn.ModuleList([nn.Linear(EDGE_COLUMNS, width, bias=False) for _ in range(2)])
        self.taken = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(2)]
        )
        self.score = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 1))
        self.ends = torch.from_numpy(groups.edges)
        self.edge_columns = torch.from_numpy(_edge_columns(groups)).float()

    def forward(
        self,
        options: Float[Tensor, "states groups devices columns"],
        pivots: Int64[Tensor, "states groups"],
    ) -> Float[Tensor, "states groups devices"]:
        first = self.embed(options)
        earlier, later = self.ends
        edges = torch.arange(len(earlier))
        told = [first]
        for way, (source, target) in enumerate(((earlier, later), (later, earlier))):
            columns = self.link[way](self.edge_columns)
            # Devices of the edge's earlier and later end come second and third.
            from_earlier = columns[edges, pivots[:, earlier]]
            to_later = columns.transpose(1, 2)[edges, pivots[:, later]]
            near, far = (from_earlier, to_later) if way == 0 else (to_later, from_earlier)
            now = first
            for _ in range(self.hops):
                heard = _heard(self.source[way](now), pivots, source, target, near, far)
                now = first + self.taken[way](heard)
            told.append(now)
        return torch.as_tensor(self.score(torch.cat(told, dim=3))[:, :, :, 0])


def _heard(
    sent: Float[Tensor, "states groups devices width"],
    pivots: Int64[Tensor, "states groups"],
    source: Int64[Tensor, " edges"],
    target: Int64[Tensor, " edges"],
    near: Float[Tensor, "states edges devices width"],
    far: Float[Tensor, "states edges devices width"],
) -> Float[Tensor, "states groups devices width"]:
    """The mean of the messages that each option gets.

    Args:
        near: of the edge from a source's pivot to each option of the target.
        far: of the edge from each option of a source to the target's pivot.
    """
    states, groups, devices, width = sent.shape
    index = pivots[:, :, None, None].expand(-1, -1, 1, width)
    of_pivots = sent.gather(2, index)
    to_options = torch.relu(of_pivots[:, source] + near)
    is_other = torch.arange(devices) != pivots[:, source, None]
    to_pivots = (torch.relu(sent[:, source] + far) * is_other[..., None]).sum(dim=2)
    heard = torch.zeros_like(sent).index_add(1, target, to_options)
    added = torch.zeros(states, groups, width).index_add(1, target, to_pivots)
    heard = heard.scatter_add(2, index, added[:, :, None])
    degree = torch.bincount(target, minlength=groups).float().clamp(min=1.0)
    is_pivot = torch.arange(devices) == pivots[:, :, None]
    return heard / (degree[:, None] * torch.where(is_pivot, float(devices), 1.0))[..., None]


def options_of(
    groups: GroupGraph, devices: Int64[np.ndarray, "placements groups"]
) -> Float[Tensor, "placements groups devices columns"]:
    """The columns of all options."""
    fastest = np.maximum(groups.seconds.min(axis=1, keepdims=True), 1e-15)
    pace = np.log10(np.maximum(groups.seconds, 1e-15) / fastest)
    own = np.stack([log_share(groups.seconds / groups.span_seconds), pace], axis=2)
    is_pivot = np.eye(groups.device_count)[devices]
    potential = np.clip(start_potentials(groups, devices) / groups.span_seconds, -2.0, 2.0)
    columns = [np.tile(own, (len(devices), 1, 1, 1)), is_pivot[..., None], potential[..., None]]
    return torch.from_numpy(np.concatenate(columns, axis=3)).float()


def _edge_columns(groups: GroupGraph) -> Float[np.ndarray, "edges devices devices columns"]:
    links, span = groups.links, groups.span_seconds
    sizes = groups.edge_bytes[:, None, None]
    seconds = sizes * links.seconds_per_byte + links.latency_seconds
    most = max(float(groups.edge_bytes.max(initial=0.0)), 1.0)
    columns = (
        log_share(seconds / span),
        log_share(sizes / most),
        log_share(most * links.seconds_per_byte / span),
        log_share(links.latency_seconds / span),
    )
    return np.stack([np.broadcast_to(column, seconds.shape) for column in columns], axis=3)
