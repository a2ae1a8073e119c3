"""What a checkpoint's weights must be before a network is made of them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from graphs.errors import GraphwrightError

Network = TypeVar("Network", bound=nn.Module)


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite, where they are written and where they are read.

    Raises:
        GraphwrightError: there are some.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise GraphwrightError(
                f"weights of {name:.80} are not finite: the training that made them diverged; "
                "take an earlier policy, or train with a lower learning rate"
            )


def network_of(make: Callable[[], Network], weights: Mapping[str, Tensor]) -> Network:
    """A network with stored weights; memory is only taken for as many as are stored.

    Args:
        make: makes the network as its settings say.
        weights: by name.

    Raises:
        GraphwrightError: the network has other weights than are stored, or of other sizes; or
            weights are not finite, as a training that diverged leaves them.
    """
    with torch.device("meta"):
        planned = make().state_dict()
    wrong = [
        name
        for name in sorted({*planned, *weights})
        if name not in planned or name not in weights or planned[name].shape != weights[name].shape
    ]
    if wrong:
        raise GraphwrightError(f"weights and configuration disagree about {wrong[0]:.80}")
    require_finite(weights)
    with torch.random.fork_rng(devices=[]):
        network = make()
    network.load_state_dict(weights)
    return network
