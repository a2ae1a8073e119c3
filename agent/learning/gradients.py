"""Gradients of several workers as one."""

import torch
from torch import Tensor, nn


def sum_over_workers(policy: nn.Module, totals: Tensor) -> Tensor:
    """Add up gradients and figures of all workers in one exchange; alone, nothing changes.

    Returns:
        The figures, summed.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return totals
    learning = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    parts = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in learning
    ]
    bucket = torch.cat([part.flatten() for part in (*parts, totals.to(parts[0]))])
    torch.distributed.all_reduce(bucket)
    sizes = [part.numel() for part in parts]
    *sums, figures = torch.split(bucket, [*sizes, totals.numel()])
    for parameter, summed in zip(learning, sums, strict=True):
        parameter.grad = summed.view_as(parameter)
    return figures.view_as(totals)
