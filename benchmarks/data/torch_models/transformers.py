"""BERT-style encoders, GPT-2-style decoders and Vision Transformers from one kind of layer."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A Transformer layer; `norm_first` normalizes before its two parts, otherwise after."""

    def __init__(self, width: int, heads: int, *, causal: bool, norm_first: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.norm_first = heads, causal, norm_first
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project_in, self.project_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape  # [batch, length, width]
        parts = self.project_in(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # [batch, heads, length, size]
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5
        if self.causal:
            mask = torch.full((length, length), float("-inf"), device=x.device).triu(1)
            scores = scores + mask
        mixed = scores.softmax(-1) @ value
        return self.project_out(mixed.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.attend(self.attention_norm(x))
            return x + self.feed(self.feed_norm(x))
        x = self.attention_norm(x + self.attend(x))
        return self.feed_norm(x + self.feed(x))


class LanguageModel(nn.Module):
    """Token and position embeddings, blocks, and a projection to the vocabulary."""

    def __init__(
        self, vocabulary: int, length: int, width: int, heads: int, layers: int, *, causal: bool
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.register_buffer("order", torch.arange(length))
        self.blocks = nn.Sequential(
            *(Block(width, heads, causal=causal, norm_first=causal) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        order = self.order[: tokens.shape[1]]
        x = self.blocks(self.tokens(tokens) + self.positions(order))
        return self.norm(x) @ self.tokens.weight.T  # [batch, length, vocabulary]


class VisionTransformer(nn.Module):
    """Patches of 16 x 16 pixels, a class token, learned positions."""

    def __init__(self, side: int, width: int, heads: int, layers: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.summary = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (side // 16) ** 2 + 1, width))
        self.blocks = nn.Sequential(
            *(Block(width, heads, causal=False, norm_first=True) for _ in range(layers))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)  # [batch, patches, width]
        x = torch.cat([self.summary.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])  # [batch, classes]
