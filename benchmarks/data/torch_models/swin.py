"""Swin: attention inside windows that shift by half a window in every other layer; Swin-T."""

import torch
from torch import Tensor, nn

_WINDOW = 7


def windows(x: Tensor) -> Tensor:
    """[batch, height, width, channels] as [batch x windows, 49, channels]."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // _WINDOW, _WINDOW, width // _WINDOW, _WINDOW, channels)
    return x.transpose(2, 3).reshape(-1, _WINDOW**2, channels)


def joined(x: Tensor, batch: int, side: int) -> Tensor:
    """The opposite of `windows`."""
    count = side // _WINDOW
    x = x.view(batch, count, count, _WINDOW, _WINDOW, x.shape[-1])
    return x.transpose(2, 3).reshape(batch, side, side, x.shape[-1])


def relative_index() -> Tensor:
    """The row of the bias table for each pair of positions in a window, [49 x 49]."""
    places = torch.cartesian_prod(torch.arange(_WINDOW), torch.arange(_WINDOW))
    apart = places[:, None] - places[None] + _WINDOW - 1
    return (apart[..., 0] * (2 * _WINDOW - 1) + apart[..., 1]).flatten()


def shift_mask(side: int, shift: int) -> Tensor:
    """-100 between positions that only the shift has brought together, [windows, 49, 49]."""
    bounds = (slice(0, -_WINDOW), slice(-_WINDOW, -shift), slice(-shift, None))
    region = torch.zeros(1, side, side, 1)
    for number, (rows, columns) in enumerate((r, c) for r in bounds for c in bounds):
        region[:, rows, columns] = number
    parts = windows(region).squeeze(-1)
    return (parts[:, None] != parts[:, :, None]) * -100.0


class Block(nn.Module):
    """Window attention and a feed-forward part."""

    def __init__(self, width: int, heads: int, side: int, *, shifted: bool) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.shift = _WINDOW // 2 if shifted and side > _WINDOW else 0
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project_in, self.project_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * _WINDOW - 1) ** 2, heads))
        self.register_buffer("index", relative_index())
        if self.shift:
            self.register_buffer("mask", shift_mask(side, self.shift))
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def attend(self, x: Tensor) -> Tensor:
        count, places, width = x.shape
        parts = self.project_in(x).view(count, places, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5
        bias = self.bias[self.index].view(places, places, self.heads).permute(2, 0, 1)
        scores = scores + bias[None]
        if self.shift:
            split = scores.view(-1, self.mask.shape[0], self.heads, places, places)
            scores = (split + self.mask[None, :, None]).view(count, self.heads, places, places)
        mixed = scores.softmax(-1) @ value
        return self.project_out(mixed.transpose(1, 2).reshape(count, places, width))

    def forward(self, x: Tensor) -> Tensor:  # [batch, side, side, width]
        y = self.attention_norm(x)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = joined(self.attend(windows(y)), x.shape[0], self.side)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + y
        return x + self.feed(self.feed_norm(x))


class Merge(nn.Module):
    """Four neighbours become one position of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduce(self.norm(torch.cat(corners, -1)))


class Swin(nn.Module):
    """Four stages of blocks on patches of 4 x 4 pixels."""

    def __init__(
        self,
        side: int = 224,
        width: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.patches, self.patch_norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        stages: list[nn.Module] = []
        side //= 4
        for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            if stage:
                stages.append(Merge(width))
                side, width = side // 2, 2 * width
            stages += [Block(width, count, side, shifted=bool(i % 2)) for i in range(depth)]
        self.stages = nn.Sequential(*stages)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_norm(self.patches(image).permute(0, 2, 3, 1))
        return self.head(self.norm(self.stages(x)).mean((1, 2)))  # [batch, classes]
