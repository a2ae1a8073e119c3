"""What a checkpoint's JSON and weights must be before a network is made of them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graphs.errors import GraphwrightError

Network = TypeVar("Network", bound=nn.Module)


def stored_settings(meta: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A group of settings in a checkpoint's JSON.

    Raises:
        GraphwrightError: there is none.
    """
    settings = meta.get(key)
    if not isinstance(settings, dict):
        raise GraphwrightError(f"it has no settings: {key!r} is {settings!r:.40}")
    return settings


def stored_notes(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a checkpoint says of where it comes from; nothing where that is no object."""
    about = meta.get("about", {})
    return about if isinstance(about, dict) else {}


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
    for name, weight in weights.items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise GraphwrightError(
                f"weights of {name:.80} are not finite: the training that wrote them diverged; "
                "take an earlier policy, or train with a lower learning rate"
            )
    with torch.random.fork_rng(devices=[]):
        network = make()
    network.load_state_dict(weights)
    return network
