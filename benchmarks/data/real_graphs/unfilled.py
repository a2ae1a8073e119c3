"""Models built without drawing their weights: no graph depends on a weight's value."""

from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode

#: Calls that fill a tensor with random numbers, in place.
_DRAWS = frozenset(
    {
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
        torch.Tensor.erfinv_,
        torch.Tensor.exponential_,
    }
)
_INIT = "torch.nn.init"


class _Unfilled(TorchFunctionMode):
    """Leaves memory as it comes: pages that nobody writes take no memory."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWS or getattr(func, "__module__", None) == _INIT:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def built_unfilled(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """The model that `build` returns, its random weights not drawn.

    Truncated draws are passed over as a whole: they try again until all numbers are in range.
    """
    with patch("torch.nn.init._no_grad_trunc_normal_", _as_it_is), _Unfilled():
        return build()


def _as_it_is(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return tensor
