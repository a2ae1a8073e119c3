"""Whisper: convolutions and an encoder over a spectrogram, a decoder over text; Whisper-base."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed positions, [length, width]."""
    rates = torch.exp(-math.log(10_000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    """Attention to `memory`; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor, *, causal: bool = False) -> Tensor:
        mixed = functional.scaled_dot_product_attention(
            self.split(self.query(x)),
            self.split(self.key(memory)),
            self.split(self.value(memory)),
            is_causal=causal,
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Self-attention, in a decoder attention to the encoder, and a feed-forward part."""

    def __init__(self, width: int, heads: int, *, decoder: bool) -> None:
        super().__init__()
        self.own, self.own_norm = Attention(width, heads), nn.LayerNorm(width)
        self.other = Attention(width, heads) if decoder else None
        self.other_norm = nn.LayerNorm(width) if decoder else None
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        normed = self.own_norm(x)
        x = x + self.own(normed, normed, causal=self.other is not None)
        if self.other is not None and self.other_norm is not None and memory is not None:
            x = x + self.other(self.other_norm(x), memory)
        return x + self.feed(self.feed_norm(x))


class Whisper(nn.Module):
    """3,000 frames of 80 mel bands become 1,500 positions; text attends to them."""

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        layers: int = 6,
        vocabulary: int = 51_865,
        bands: int = 80,
        audio_length: int = 1500,
        text_length: int = 448,
    ) -> None:
        super().__init__()
        self.first = nn.Conv1d(bands, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("audio_positions", sinusoids(audio_length, width))
        self.encoder = nn.ModuleList(Layer(width, heads, decoder=False) for _ in range(layers))
        self.encoder_norm = nn.LayerNorm(width)
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(text_length, width))
        self.decoder = nn.ModuleList(Layer(width, heads, decoder=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, spectrogram: Tensor, text: Tensor) -> Tensor:
        memory = functional.gelu(self.second(functional.gelu(self.first(spectrogram))))
        memory = memory.transpose(1, 2) + self.audio_positions  # [batch, 1500, width]
        for layer in self.encoder:
            memory = layer(memory)
        memory = self.encoder_norm(memory)
        x = self.tokens(text) + self.positions[: text.shape[1]]
        for layer in self.decoder:
            x = layer(x, memory)
        return functional.linear(self.norm(x), self.tokens.weight)  # [batch, length, vocabulary]
