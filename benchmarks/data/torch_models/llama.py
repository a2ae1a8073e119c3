"""LLaMA-style decoders: rotary positions, grouped queries, RMS normalization, gated feed-forward.

The default sizes are those of Llama 3.2 1B.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a decoder."""

    vocabulary: int = 128_256
    width: int = 2048
    layers: int = 16
    heads: int = 32
    key_value_heads: int = 8
    feed_width: int = 8192
    length: int = 2048
    """Tokens for which the rotation tables are made."""
    rotation_base: float = 500_000.0


def rotation_tables(length: int, size: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions, each [length, size]."""
    rates = base ** (-torch.arange(0, size, 2) / size)
    angles = torch.arange(length)[:, None] * rates[None].repeat(1, 2)
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Heads [batch, heads, length, size] turned by their position."""
    low, high = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-high, low], dim=-1) * sines


class GroupedAttention(nn.Module):
    """Causal attention in which several query heads share a key and a value head."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads, self.shared = config.heads, config.key_value_heads
        size = config.width // config.heads
        self.query = nn.Linear(config.width, config.heads * size, bias=False)
        self.key = nn.Linear(config.width, self.shared * size, bias=False)
        self.value = nn.Linear(config.width, self.shared * size, bias=False)
        self.out = nn.Linear(config.heads * size, config.width, bias=False)

    def split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)

    def repeat(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.heads // self.shared, dim=1)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        query = rotated(self.split(self.query(x), self.heads), cosines, sines)
        key = rotated(self.split(self.key(x), self.shared), cosines, sines)
        value = self.split(self.value(x), self.shared)
        mixed = functional.scaled_dot_product_attention(
            query, self.repeat(key), self.repeat(value), is_causal=True
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


class GatedFeed(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, feed_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, feed_width, bias=False)
        self.up = nn.Linear(width, feed_width, bias=False)
        self.down = nn.Linear(feed_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class DecoderLayer(nn.Module):
    """Attention and a feed-forward part, each behind its normalization."""

    def __init__(self, config: LlamaConfig, feed: nn.Module) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = nn.RMSNorm(config.width), nn.RMSNorm(config.width)
        self.attention, self.feed = GroupedAttention(config), feed

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cosines, sines)
        return x + self.feed(self.feed_norm(x))


class Llama(nn.Module):
    """A decoder whose output projection is its embedding."""

    def __init__(self, config: LlamaConfig, feed: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        feed = feed or (lambda: GatedFeed(config.width, config.feed_width))
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config, feed()) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        size = config.width // config.heads
        cosines, sines = rotation_tables(config.length, size, config.rotation_base)
        self.register_buffer("cosines", cosines)
        self.register_buffer("sines", sines)

    def forward(self, tokens: Tensor) -> Tensor:
        cosines, sines = self.cosines[: tokens.shape[1]], self.sines[: tokens.shape[1]]
        x = self.tokens(tokens)
        for layer in self.layers:
            x = layer(x, cosines, sines)
        return functional.linear(self.norm(x), self.tokens.weight)  # [batch, length, vocabulary]
