"""Several processes that train one policy on different graphs of each batch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Workers:
    """How many there are and which one this is; alone unless started by `torchrun`."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and tracks the run."""
        return self.rank == 0

    def mean(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Means over workers that hold equally many graphs."""
        if self.count == 1:
            return dict(figures)
        totals = torch.tensor([figures[key] for key in sorted(figures)], dtype=torch.float64)
        torch.distributed.all_reduce(totals)
        means = (totals / self.count).tolist()
        return dict(zip(sorted(figures), means, strict=True))


def join_workers(device: str) -> Workers:
    """Join the group that `torchrun` made, over NCCL for CUDA and gloo otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Workers()
    backend = "nccl" if device.startswith("cuda") else "gloo"
    torch.distributed.init_process_group(backend)
    return Workers(torch.distributed.get_rank(), torch.distributed.get_world_size())
