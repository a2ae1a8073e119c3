"""Published sizes of the bundled models, with their sources, and why ours differ."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What the literature says of a model; None where it says nothing."""

    parameters_millions: float | None = None
    forward_gmacs: float | None = None
    """Multiply-adds of a forward pass of one sample, in billions."""
    source: str = ""
    reason: str = ""
    """Of any difference over 5%."""


_TORCHVISION = "torchvision's table of weights"
_AUXILIARY = "ours trains the auxiliary classifier"

PUBLISHED: Mapping[str, Published] = {
    "inception-v3": Published(27.16, 5.71, _TORCHVISION),
    "resnet-50": Published(25.56, 4.09, _TORCHVISION),
    "resnet-152": Published(60.19, 11.51, _TORCHVISION),
    "nasnet-large": Published(
        88.9, 23.8, "Zoph et al. 2018, table 2", f"{_AUXILIARY}, {4.57:g} M parameters"
    ),
    "amoebanet-d": Published(82.0, None, "Huang et al. 2019 (GPipe), AmoebaNet-D (18, 208)"),
    "gnmt-8": Published(278.0, None, "Shazeer et al. 2017, table of translation results"),
    "bert-base": Published(
        110.0, 11.25, "Devlin et al. 2019; Jiao et al. 2020 (TinyBERT), 22.5 GFLOP, 128 tokens",
        "the published figure is of the encoder alone; 3.0 GMAC are the projection to the "
        "vocabulary, for every token",
    ),
    "gpt2": Published(124.0, None, "openai/gpt-2, model card"),
    "llama-1b": Published(1230.0, None, "Llama 3.2 model card (1.23 B)"),
    "t5-base": Published(220.0, None, "Raffel et al. 2020, section 3.7"),
    "granite-moe-1b": Published(1300.0, None, "model card of granite-3.0-1b-a400m (1.3 B)"),
    "vit-b16": Published(86.57, 17.56, _TORCHVISION),
    "swin-t": Published(28.29, 4.49, _TORCHVISION),
    "whisper-base": Published(74.0, None, "Radford et al. 2022, table 1"),
    "mamba-130m": Published(130.0, None, "Gu and Dao 2023, table 3"),
}  # fmt: skip

#: Graphs that are another graph at another batch, length or with a backward pass.
SAME_MODEL: Mapping[str, str] = {
    "inception-v3-64": "inception-v3",
    "gnmt-8-35k": "gnmt-8",
    "gnmt-8-80k": "gnmt-8",
}

#: Why a family has no published size beside it.
WITHOUT: Mapping[str, str] = {
    "rnnlm": "GO gives no sizes; ours: 2,048 wide, 40 steps, 10,000 words",
    "gnmt": "published with 8 layers only",
    "transformer-xl": (
        "published with 12 layers: 41 M (Dai et al. 2019, enwik8); ours are its layers, fewer"
    ),
    "unet": "the channels of Ronneberger et al. 2015, which gives no counts",
    "wavenet": "GO gives no sizes; the paper gives none either",
}
