"""The convolutional U-Net."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Encoder and decoder of convolutions, joined at every resolution."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.head = _convolutions(3, channels[0])
        steps = list(pairwise(channels))
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in steps)
        self.lift = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(steps))
        self.up = nn.ModuleList(_convolutions(2 * a, a) for a, _ in reversed(steps))
        self.tail = nn.Conv2d(channels[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = [self.head(image)]
        for block in self.down:
            skips.append(block(nn.functional.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for lift, block in zip(self.lift, self.up, strict=True):
            x = block(torch.cat([skips.pop(), lift(x)], dim=1))
        return self.tail(x)
