"""The models by name, with the batches for which they are exported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.data.torch_models.llama import Llama, LlamaConfig
from benchmarks.data.torch_models.mamba import Mamba
from benchmarks.data.torch_models.moe import granite_moe
from benchmarks.data.torch_models.swin import Swin
from benchmarks.data.torch_models.t5 import T5
from benchmarks.data.torch_models.transformers import LanguageModel, VisionTransformer
from benchmarks.data.torch_models.unet import UNet
from benchmarks.data.torch_models.whisper import Whisper

MOE_TOKENS = 2048


@dataclass(frozen=True)
class TorchModel:
    """A model, what it is run on and what it is trained towards."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Tensor, ...]]
    """Examples for a batch."""
    labels: Callable[[int], Tensor]
    """Classes or values for a batch, the size of the output without its classes."""
    batch: int = 8
    """Samples of the bundled inference graph."""
    training_batch: int = 8
    """Samples of the bundled training step."""
    any_batch: bool = False
    """Whether the ONNX file leaves the batch open."""


def _tokens(length: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.zeros(batch, length, dtype=torch.int64)


def _text(length: int) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda batch: (_tokens(length)(batch),)


def _image(side: int) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda batch: (torch.zeros(batch, 3, side, side),)


def _class(batch: int) -> Tensor:
    return torch.zeros(batch, dtype=torch.int64)


MODELS: Mapping[str, TorchModel] = {
    "bert-base": TorchModel(
        lambda: LanguageModel(30522, 512, 768, 12, 12, causal=False),
        _text(128), _tokens(128), training_batch=32, any_batch=True,
    ),
    "gpt2": TorchModel(
        lambda: LanguageModel(50257, 1024, 768, 12, 12, causal=True),
        _text(128), _tokens(128), training_batch=32, any_batch=True,
    ),
    "llama-1b": TorchModel(
        lambda: Llama(LlamaConfig()), _text(1024), _tokens(1024), batch=1, training_batch=2,
    ),
    "t5-base": TorchModel(
        T5, lambda batch: (_tokens(512)(batch), _tokens(128)(batch)), _tokens(128),
        training_batch=16,
    ),
    "granite-moe-1b": TorchModel(
        lambda: granite_moe(MOE_TOKENS), _text(MOE_TOKENS), _tokens(MOE_TOKENS),
        batch=1, training_batch=1,
    ),
    "vit-b16": TorchModel(
        lambda: VisionTransformer(224, 768, 12, 12, 1000), _image(224), _class, training_batch=64,
    ),
    "swin-t": TorchModel(Swin, _image(224), _class, training_batch=64),
    "unet": TorchModel(
        lambda: UNet((64, 128, 256, 512, 1024)), _image(256),
        lambda batch: torch.zeros(batch, 1, 256, 256), any_batch=True,
    ),
    "whisper-base": TorchModel(
        Whisper, lambda batch: (torch.zeros(batch, 80, 3000), _tokens(128)(batch)), _tokens(128),
        training_batch=16,
    ),
    "mamba-130m": TorchModel(Mamba, _text(256), _tokens(256), training_batch=4),
}  # fmt: skip
