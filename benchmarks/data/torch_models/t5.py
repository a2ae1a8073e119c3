"""T5: an encoder and a decoder with learned relative position biases; sizes of T5-base."""

import math

import torch
from torch import Tensor, nn

_BUCKETS, _FARTHEST = 32, 128


def position_buckets(queries: int, keys: int, *, both_ways: bool) -> Tensor:
    """The bucket of each distance, [queries, keys]: exact when near, logarithmic when far."""
    distance = torch.arange(keys)[None] - torch.arange(queries)[:, None]
    buckets = _BUCKETS
    offset = torch.zeros_like(distance)
    if both_ways:
        buckets //= 2
        offset = (distance > 0) * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    ratio = (distance.clamp(min=1) / exact).log() / math.log(_FARTHEST / exact)
    far = (exact + ratio * (buckets - exact)).long().clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


class Attention(nn.Module):
    """Attention without scaling; a bias is added to the scores."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor | None) -> Tensor:
        query, key = self.split(self.query(x)), self.split(self.key(memory))
        scores = query @ key.transpose(-1, -2)  # [batch, heads, queries, keys]
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(-1) @ self.split(self.value(memory))
        return self.out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Self-attention, in a decoder attention to the encoder, and a feed-forward part."""

    def __init__(self, width: int, heads: int, feed_width: int, *, decoder: bool) -> None:
        super().__init__()
        self.own, self.own_norm = Attention(width, heads), nn.RMSNorm(width)
        self.other = Attention(width, heads) if decoder else None
        self.other_norm = nn.RMSNorm(width) if decoder else None
        self.feed_norm = nn.RMSNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, feed_width, bias=False),
            nn.ReLU(),
            nn.Linear(feed_width, width, bias=False),
        )

    def forward(self, x: Tensor, bias: Tensor, memory: Tensor | None) -> Tensor:
        normed = self.own_norm(x)
        x = x + self.own(normed, normed, bias)
        if self.other is not None and self.other_norm is not None and memory is not None:
            x = x + self.other(self.other_norm(x), memory, None)
        return x + self.feed(self.feed_norm(x))


class Stack(nn.Module):
    """Layers that share the position bias."""

    def __init__(self, layers: int, width: int, heads: int, feed: int, *, decoder: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.bias = nn.Embedding(_BUCKETS, heads)
        self.layers = nn.ModuleList(
            Layer(width, heads, feed, decoder=decoder) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        buckets = position_buckets(length, length, both_ways=not self.decoder)
        bias = self.bias(buckets).permute(2, 0, 1)[None]  # [1, heads, length, length]
        if self.decoder:
            bias = bias + torch.full((length, length), float("-inf")).triu(1)
        for layer in self.layers:
            x = layer(x, bias, memory)
        return self.norm(x)


class T5(nn.Module):
    """Encoder, decoder, and one embedding for both and for the output."""

    def __init__(
        self,
        vocabulary: int = 32_128,
        width: int = 768,
        heads: int = 12,
        layers: int = 12,
        feed_width: int = 3072,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.encoder = Stack(layers, width, heads, feed_width, decoder=False)
        self.decoder = Stack(layers, width, heads, feed_width, decoder=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.encoder(self.tokens(source))
        x = self.decoder(self.tokens(target), memory) * self.tokens.weight.shape[1] ** -0.5
        return nn.functional.linear(x, self.tokens.weight)  # [batch, length, vocabulary]
