"""Image, segmentation, video and optical flow models of torchvision."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks.data.real_graphs.model import Loss, RealModel
from benchmarks.data.real_graphs.torchvision_package import torchvision_package


def _image(side: int) -> Callable[[int], Mapping[str, Any]]:
    return lambda batch: {"x": torch.zeros(batch, 3, side, side)}


def _build(name: str, **more: Any) -> Callable[[], Any]:
    return lambda: torchvision_package().models.get_model(name, weights=None, **more)


def _classifier(
    name: str, family: str, side: int, batch: int, training: int, outputs: Sequence[str] = ()
) -> RealModel:
    return RealModel(
        name.replace("_", "-"), family, "torchvision",
        _build(name),
        _image(side), batch=batch, training_batch=training, optimizer="momentum",
        outputs=outputs,
    )  # fmt: skip


_CLASSIFIERS = (
    ("resnet18", "resnet", 224, 16, 128),
    ("resnet50", "resnet", 224, 32, 64),
    ("resnet101", "resnet", 256, 8, 32),
    ("resnet152", "resnet", 224, 0, 48),
    ("wide_resnet50_2", "resnet", 224, 16, 32),
    ("resnext50_32x4d", "resnext", 224, 16, 64),
    ("resnext101_64x4d", "resnext", 224, 0, 32),
    ("densenet121", "densenet", 224, 16, 64),
    ("densenet161", "densenet", 224, 0, 24),
    ("densenet201", "densenet", 256, 8, 32),
    ("vgg16_bn", "vgg", 224, 0, 64),
    ("vgg19_bn", "vgg", 224, 16, 32),
    ("mobilenet_v2", "mobilenet", 224, 64, 128),
    ("mobilenet_v3_large", "mobilenet", 224, 64, 128),
    ("mnasnet1_0", "mnasnet", 224, 32, 128),
    ("efficientnet_b0", "efficientnet", 224, 32, 96),
    ("efficientnet_b4", "efficientnet", 380, 8, 16),
    ("efficientnet_v2_s", "efficientnet", 384, 8, 24),
    ("regnet_y_800mf", "regnet", 224, 32, 128),
    ("regnet_x_8gf", "regnet", 224, 16, 64),
    ("regnet_y_16gf", "regnet", 224, 0, 32),
    ("shufflenet_v2_x1_0", "shufflenet", 224, 64, 256),
    ("shufflenet_v2_x2_0", "shufflenet", 224, 0, 128),
    ("squeezenet1_1", "squeezenet", 224, 0, 128),
    ("googlenet", "googlenet", 224, 0, 64),
    ("convnext_tiny", "convnext", 224, 32, 64),
    ("convnext_base", "convnext", 224, 0, 32),
    ("vit_b_16", "vit", 224, 32, 64),
    ("vit_l_16", "vit", 224, 0, 16),
    ("swin_t", "swin", 224, 16, 64),
    ("swin_v2_s", "swin", 256, 8, 16),
    ("maxvit_t", "maxvit", 224, 16, 32),
)

_SEGMENTATION = (
    ("deeplabv3_resnet50", "deeplab", 512, 4, 8),
    ("fcn_resnet101", "fcn", 512, 0, 8),
    ("lraspp_mobilenet_v3_large", "lraspp", 512, 8, 16),
)


def torchvision_models() -> tuple[RealModel, ...]:
    """All models that are taken from torchvision."""
    classifiers = [_classifier(*row) for row in _CLASSIFIERS]
    segmentation = [
        RealModel(
            name.replace("_", "-"), family, "torchvision",
            _build(name, weights_backbone=None),
            _image(side), Loss.PIXELS, ("out",), batch, training, "momentum",
        )
        for name, family, side, batch, training in _SEGMENTATION
    ]  # fmt: skip
    return (*classifiers, *segmentation, *_VIDEO, *_FLOW)


def _video(frames: int, side: int) -> Callable[[int], Mapping[str, Any]]:
    return lambda batch: {"x": torch.zeros(batch, 3, frames, side, side)}


_VIDEO = tuple(
    RealModel(
        name.replace("_", "-"), family, "torchvision",
        _build(name),
        _video(frames, side), batch=batch, training_batch=training, optimizer="momentum",
    )
    for name, family, frames, side, batch, training in (
        ("r3d_18", "resnet-3d", 16, 112, 8, 16),
        ("r2plus1d_18", "resnet-3d", 16, 112, 0, 16),
        ("s3d", "s3d", 32, 224, 2, 8),
        ("mvit_v2_s", "mvit", 16, 224, 2, 4),
        ("swin3d_t", "swin-3d", 16, 224, 2, 4),
    )
)  # fmt: skip

_FLOW = (
    RealModel(
        "raft-small", "raft", "torchvision",
        _build("raft_small"),
        lambda batch: {
            "image1": torch.zeros(batch, 3, 256, 320), "image2": torch.zeros(batch, 3, 256, 320),
        },
        Loss.VALUES, batch=1, training_batch=2,
    ),
)  # fmt: skip
