"""Gradients of several workers as one, and of a size that can be followed."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from graphs.errors import GraphwrightError


class DivergedError(GraphwrightError):
    """A training whose loss is not finite any more: nothing that comes after it is of use."""


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Scale gradients down to a norm of at most `most`.

    Returns:
        The norm before.

    Raises:
        DivergedError: a gradient is not finite. No parameter has been changed by it.
    """
    norm = float(nn.utils.clip_grad_norm_(parameters, most))
    if not math.isfinite(norm):
        raise DivergedError(
            "training diverged: the loss or its gradients are not finite; train with a lower "
            "learning rate. What was saved before is as it was, and can be gone on from"
        )
    return norm


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
