"""Writes three real model graphs as ONNX, with their weights left in a separate file or dropped.

    python benchmarks/export_onnx_models.py FOLDER [--weights]

The models are an encoder of BERT-base's sizes, a decoder of GPT-2's, and a U-Net. Their weights
are random: only the graphs matter. Without `--weights` the `.onnx` files refer to weight files
that are not written, which is all that importing, placing and simulating them needs.
"""

import argparse
import logging
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

OPSET = 20


class Block(nn.Module):
    """A Transformer layer; a decoder normalizes before its two parts, an encoder after."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
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
        if self.causal:
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
        self.blocks = nn.Sequential(*(Block(width, heads, causal) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        order = self.order[: tokens.shape[1]]
        x = self.blocks(self.tokens(tokens) + self.positions(order))
        return self.norm(x) @ self.tokens.weight.T  # [batch, length, vocabulary]


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


def _bert() -> tuple[nn.Module, Tensor]:
    model = LanguageModel(30522, 512, 768, 12, 12, causal=False)
    return model, torch.zeros(1, 128, dtype=torch.int64)


def _gpt2() -> tuple[nn.Module, Tensor]:
    model = LanguageModel(50257, 1024, 768, 12, 12, causal=True)
    return model, torch.zeros(1, 128, dtype=torch.int64)


def _unet() -> tuple[nn.Module, Tensor]:
    return UNet((64, 128, 256, 512, 1024)), torch.zeros(1, 3, 256, 256)


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "bert_base": _bert,
    "gpt2": _gpt2,
    "unet": _unet,
}


def export(name: str, folder: Path, *, weights: bool) -> Path:
    """Write one model with a dynamic batch; returns the path of its `.onnx` file."""
    torch.manual_seed(0)
    model, example = MODELS[name]()
    exported = torch.onnx.export(
        model.eval(),
        (example,),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    proto = exported.model_proto
    path = folder / f"{name}.onnx"
    weight_file = f"{name}.weights"
    onnx.save_model(
        proto, path, save_as_external_data=True, location=weight_file, size_threshold=1024
    )
    if not weights:
        (folder / weight_file).unlink()
    return path


def main() -> None:
    """Write all models, or the named ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--weights", action="store_true", help="keep the weight files (0.5 GB each)"
    )
    parser.add_argument("--model", choices=sorted(MODELS), action="append")
    arguments = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.model or MODELS:
        start = time.perf_counter()
        path = export(name, arguments.folder, weights=arguments.weights)
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
        print(f"{path}: {nodes} nodes, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
