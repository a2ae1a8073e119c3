"""Denoisers and autoencoders of diffusers: U-Nets and diffusion transformers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.data.real_graphs.inputs import Inputs, named
from benchmarks.data.real_graphs.model import Loss, RealModel
from benchmarks.data.real_graphs.torchvision_package import torchvision_package


def diffusers_models() -> tuple[RealModel, ...]:
    """All models that are taken from diffusers."""
    return _MODELS


def _build(model_class: str, changes: Mapping[str, Any]) -> Callable[[], Any]:
    def build() -> Any:
        torchvision_package()
        import diffusers

        return getattr(diffusers, model_class)(**changes)

    return build


def _model(
    name: str,
    family: str,
    model_class: str,
    inputs: Inputs,
    batches: tuple[int, int],
    changes: Mapping[str, Any],
) -> RealModel:
    return RealModel(
        name, family, "diffusers", _build(model_class, changes), inputs, Loss.VALUES, ("sample",),
        *batches,
    )  # fmt: skip


def _noisy(*shape: int, context: tuple[int, int] | None = None) -> Inputs:
    """A noisy sample at a step, and what the denoiser attends to."""

    def examples(batch: int) -> Mapping[str, Any]:
        values = {"sample": torch.zeros(batch, *shape), "timestep": torch.ones(batch)}
        if context is None:
            return values
        return {**values, "encoder_hidden_states": torch.zeros(batch, *context)}

    return examples


def _latents(*shape: int, **more: tuple[int, ...]) -> Inputs:
    """Noisy latents at a step, and further inputs behind the batch."""

    def examples(batch: int) -> Mapping[str, Any]:
        return {
            "hidden_states": torch.zeros(batch, *shape),
            "timestep": torch.ones(batch),
            **named(**more)(batch),
        }

    return examples


def _dit(batch: int) -> Mapping[str, Any]:
    return {
        "hidden_states": torch.zeros(batch, 4, 32, 32),
        "timestep": torch.ones(batch, dtype=torch.int64),
        "class_labels": torch.ones(batch, dtype=torch.int64),
    }


_MODELS = (
    _model("ddpm-cifar", "unet", "UNet2DModel", _noisy(3, 32, 32), (32, 128),
           {"sample_size": 32, "block_out_channels": (128, 256, 256, 256)}),
    _model("ddpm-256", "unet", "UNet2DModel", _noisy(3, 256, 256), (0, 4),
           {"sample_size": 256, "layers_per_block": 2,
            "block_out_channels": (128, 128, 256, 256, 512, 512),
            "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4}),
    _model("sd15-unet", "conditional-unet", "UNet2DConditionModel",
           _noisy(4, 64, 64, context=(77, 768)), (2, 2), {"cross_attention_dim": 768}),
    _model("sd-small-unet", "conditional-unet", "UNet2DConditionModel",
           _noisy(4, 64, 64, context=(77, 768)), (0, 8),
           {"cross_attention_dim": 768, "layers_per_block": 1,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}),
    _model("sd-vae", "vae", "AutoencoderKL",
           lambda batch: {"sample": torch.zeros(batch, 3, 256, 256)}, (4, 4),
           {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4}),
    _model("vq-model", "vq", "VQModel", lambda batch: {"sample": torch.zeros(batch, 3, 256, 256)},
           (2, 0), {"block_out_channels": (128, 256, 512),
                    "down_block_types": ("DownEncoderBlock2D",) * 3,
                    "up_block_types": ("UpDecoderBlock2D",) * 3, "layers_per_block": 2}),
    _model("dit-b2", "dit", "DiTTransformer2DModel", _dit, (8, 16),
           {"num_attention_heads": 12, "attention_head_dim": 64, "num_layers": 12,
            "in_channels": 4, "sample_size": 32, "patch_size": 2}),
    _model("dit-xl2", "dit", "DiTTransformer2DModel", _dit, (2, 4),
           {"num_attention_heads": 16, "attention_head_dim": 72, "num_layers": 28,
            "in_channels": 4, "out_channels": 8, "sample_size": 32, "patch_size": 2}),
    _model("pixart-small", "pixart", "PixArtTransformer2DModel",
           _latents(4, 64, 64, encoder_hidden_states=(120, 4096)), (2, 4),
           {"num_layers": 14, "sample_size": 64, "cross_attention_dim": 1152,
            "caption_channels": 4096, "use_additional_conditions": False}),
    _model("sd3-small", "sd3", "SD3Transformer2DModel",
           _latents(16, 64, 64, encoder_hidden_states=(154, 4096),
                    pooled_projections=(2048,)), (1, 2),
           {"num_layers": 12, "num_attention_heads": 12, "caption_projection_dim": 768,
            "sample_size": 64}),
)  # fmt: skip
