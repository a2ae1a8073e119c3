"""torchvision, also where the wheel's compiled ops do not load beside a CPU build of torch."""

import contextlib
from typing import Any

import torch

#: torchvision registers shapes of these when it is imported, compiled or not.
_DECLARED = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def torchvision_package() -> Any:
    """The package, which timm and transformers import, too; no model here calls what is compiled.

    The wheel for GPUs declares its ops only if it finds CUDA's libraries, and cannot be imported
    without. What it needs declared is declared first.
    """
    try:
        import torchvision
    except RuntimeError:
        for schema in _DECLARED:
            with contextlib.suppress(RuntimeError):
                torch.library.define(
                    f"torchvision::{schema.partition('(')[0]}", "(" + schema.partition("(")[2]
                )
        import torchvision
    return torchvision
