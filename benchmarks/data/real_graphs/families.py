"""Architecture families, which of them are kin, and the split that goes by it.

Kin share their blocks: a policy that has seen one has, in a way, seen the others. The split of a
kin is a draw from its name, so that new models change nobody's split.
"""

from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256


class Split(StrEnum):
    """What graphs may be used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    """For choices made during development."""
    TEST = "test"


#: Kin to their families; a family that is not named is kin to none.
KIN: Mapping[str, tuple[str, ...]] = {
    "residual": (
        "resnet",
        "resnext",
        "res2net",
        "resnest",
        "sknet",
        "regnet",
        "dla",
        "cspnet",
        "fcn",
        "deeplab",
        "resnet-3d",
        "nfnet",
        "hrnet",
        "upernet",
    ),
    "plain": ("vgg", "repvgg", "squeezenet", "superpoint"),
    "dense": ("densenet", "dpn", "vovnet", "rdnet"),
    "mobile": (
        "mobilenet",
        "mnasnet",
        "efficientnet",
        "mixnet",
        "fbnet",
        "ghostnet",
        "rexnet",
        "lraspp",
        "shufflenet",
    ),
    "inception": ("inception", "googlenet", "s3d", "xception"),
    "cells": ("nasnet", "pnasnet"),
    "convnext": ("convnext", "mambaout", "poolformer", "metaformer", "focalnet", "convmixer"),
    "vit": (
        "vit",
        "deit",
        "beit",
        "eva",
        "cait",
        "hiera",
        "dinov2",
        "videomae",
        "timesformer",
        "ast",
        "yolos",
        "dpt",
        "sam",
        "vilt",
        "crossvit",
        "tnt",
        "volo",
    ),
    "windows": (
        "swin",
        "swin-3d",
        "nest",
        "davit",
        "gcvit",
        "maxvit",
        "coatnet",
        "tiny-vit",
        "swin2sr",
    ),
    "pyramid": ("pvt", "twins", "segformer", "mvit", "coat", "glpn", "cvt"),
    "mixer": ("mlp-mixer", "gmlp", "resmlp"),
    "hybrid": (
        "mobilevit",
        "edgenext",
        "efficientformer",
        "levit",
        "efficientvit",
        "fastvit",
        "nextvit",
    ),
    "encoder": (
        "bert",
        "roberta",
        "distilbert",
        "albert",
        "electra",
        "mpnet",
        "esm",
        "roformer",
        "modernbert",
        "canine",
        "mobilebert",
        "squeezebert",
        "lxmert",
        "convbert",
        "fnet",
    ),
    "relative": ("deberta", "xlnet"),
    "sparse": ("longformer", "bigbird", "reformer", "nystromformer", "funnel"),
    "decoder": ("gpt2", "gpt-neo", "gptj", "gpt-neox", "opt", "bloom", "falcon", "mpt"),
    "llama": (
        "llama",
        "mistral",
        "qwen",
        "gemma",
        "phi",
        "olmo",
        "stablelm",
        "starcoder",
        "cohere",
        "granite",
    ),
    "moe": ("mixtral", "qwen-moe", "olmoe", "switch", "deepseek", "gpt-oss", "granite-moe"),
    "seq2seq": (
        "t5",
        "umt5",
        "longt5",
        "bart",
        "mbart",
        "pegasus",
        "marian",
        "blenderbot",
        "prophetnet",
        "led",
        "m2m",
        "whisper",
        "speech-to-text",
        "moonshine",
        "speecht5",
    ),
    "wav2vec": ("wav2vec", "hubert", "wavlm", "sew", "unispeech", "conformer"),
    "mamba": ("mamba", "mamba2", "falcon-mamba", "jamba", "zamba"),
    "recurrent": ("rwkv", "recurrent-gemma", "xlstm"),
    "towers": ("clip", "siglip", "align", "blip", "clipseg", "owlvit", "flava", "groupvit"),
    "detr": ("detr", "conditional-detr", "deformable-detr", "rt-detr", "mask2former", "maskformer"),
    "u-net": ("unet", "conditional-unet", "vae", "controlnet", "vq", "unet-1d", "uvit"),
    "dit": ("dit", "pixart", "sd3", "flux", "hunyuan-dit", "auraflow", "ltx-video", "lumina"),
    "series": ("autoformer", "informer", "patchtst", "patchtsmixer", "time-series", "timesfm"),
}

_KIN_OF = {family: kin for kin, families in KIN.items() for family in families}
#: Held out of training wherever the project has them (`placement/suites/catalogue.py`).
_HELD_OUT = frozenset({"cells", "moe"})
_SALT = "real-graphs-0"


def kin_of(family: str) -> str:
    """The kin of a family; its own name where it has none."""
    return _KIN_OF.get(family, family)


def split_of(family: str) -> Split:
    """The split of a family: 60% of kin train, 15% validate, 25% test, by their names."""
    kin = kin_of(family)
    if kin in _HELD_OUT:
        return Split.TEST
    drawn = int.from_bytes(sha256(f"{_SALT}:{kin}".encode()).digest()[:8], "big") / 2**64
    if drawn < 0.6:
        return Split.TRAIN
    return Split.VALIDATION if drawn < 0.75 else Split.TEST
