"""Device embeddings from speed, memory, load and links."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agent.policy.inputs import GraphInput


class ClusterEncoder(nn.Module):
    """Each device hears from all others over their links; the order of devices does not matter."""

    def __init__(self, device_columns: int, link_columns: int, width: int) -> None:
        super().__init__()
        self.device = nn.Sequential(nn.Linear(device_columns, width), nn.ReLU())
        self.other = nn.Linear(width, width)
        self.link = nn.Linear(2 * link_columns, width)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, batch: GraphInput) -> Float[Tensor, "graphs devices width"]:
        """Zero for devices that a graph's cluster does not have."""
        devices = self.device(batch.devices)
        both = torch.cat([batch.links, batch.links.transpose(1, 2)], dim=3)
        heard = torch.relu(self.other(devices)[:, None, :, :] + self.link(both))
        count = devices.shape[1]
        exists = batch.device_exists
        pairs = (
            exists[:, :, None]
            & exists[:, None, :]
            & ~torch.eye(count, dtype=torch.bool).to(exists.device)
        )
        total = (heard * pairs[..., None]).sum(dim=2)
        mean = total / pairs.sum(dim=2).clamp(min=1)[..., None]
        return self.update(torch.cat([devices, mean], dim=2)) * exists[..., None]
