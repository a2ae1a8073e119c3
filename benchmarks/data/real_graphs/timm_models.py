"""Image classifiers of timm: convolutions, attention, and what lies between."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.data.real_graphs.model import RealModel
from benchmarks.data.real_graphs.torchvision_package import torchvision_package

#: Name in timm, family, side of the image, batches of inference and of training (0: no graph).
_ROWS = (
    ("seresnext50_32x4d", "resnext", 224, 0, 48),
    ("resnetv2_50", "resnet", 224, 16, 64),
    ("res2net50_26w_4s", "res2net", 224, 16, 32),
    ("resnest50d", "resnest", 224, 0, 32),
    ("skresnet34", "sknet", 224, 0, 64),
    ("dpn68", "dpn", 224, 16, 48),
    ("hrnet_w18", "hrnet", 224, 8, 32),
    ("dla60", "dla", 224, 0, 48),
    ("ese_vovnet39b", "vovnet", 224, 0, 48),
    ("cspdarknet53", "cspnet", 256, 8, 32),
    ("inception_v4", "inception", 299, 8, 32),
    ("inception_resnet_v2", "inception", 299, 0, 16),
    ("xception41", "xception", 299, 0, 16),
    ("nasnetalarge", "nasnet", 331, 4, 4),
    ("pnasnet5large", "pnasnet", 331, 4, 8),
    ("mixnet_l", "mixnet", 224, 16, 64),
    ("fbnetv3_b", "fbnet", 256, 0, 64),
    ("ghostnet_100", "ghostnet", 224, 32, 128),
    ("rexnet_150", "rexnet", 224, 0, 64),
    ("mobilenetv4_conv_medium", "mobilenet", 256, 32, 64),
    ("repvgg_b0", "repvgg", 224, 0, 64),
    ("dm_nfnet_f0", "nfnet", 256, 8, 24),
    ("convnextv2_tiny", "convnext", 224, 0, 48),
    ("convmixer_768_32", "convmixer", 224, 0, 32),
    ("poolformer_s24", "poolformer", 224, 0, 48),
    ("mixer_b16_224", "mlp-mixer", 224, 32, 64),
    ("gmlp_s16_224", "gmlp", 224, 0, 64),
    ("resmlp_24_224", "resmlp", 224, 0, 64),
    ("deit_small_distilled_patch16_224", "deit", 224, 0, 128),
    ("beit_base_patch16_224", "beit", 224, 8, 32),
    ("cait_s24_224", "cait", 224, 0, 24),
    ("xcit_small_12_p16_224", "xcit", 224, 8, 48),
    ("crossvit_small_240", "crossvit", 240, 16, 48),
    ("coat_lite_small", "coat", 224, 0, 32),
    ("tnt_s_patch16_224", "tnt", 224, 8, 32),
    ("twins_svt_small", "twins", 224, 0, 48),
    ("pvt_v2_b2", "pvt", 224, 16, 48),
    ("levit_256", "levit", 224, 64, 128),
    ("volo_d1_224", "volo", 224, 0, 24),
    ("coatnet_0_rw_224", "coatnet", 224, 8, 32),
    ("efficientvit_b1", "efficientvit", 224, 0, 96),
    ("edgenext_small", "edgenext", 256, 32, 64),
    ("mobilevit_s", "mobilevit", 256, 32, 64),
    ("efficientformer_l3", "efficientformer", 224, 0, 64),
    ("focalnet_tiny_srf", "focalnet", 224, 8, 48),
    ("davit_tiny", "davit", 224, 0, 48),
    ("gcvit_tiny", "gcvit", 224, 8, 32),
    ("hiera_tiny_224", "hiera", 224, 0, 48),
    ("sequencer2d_s", "sequencer", 224, 8, 32),
    ("eva02_small_patch14_224", "eva", 224, 0, 64),
    ("caformer_s18", "metaformer", 224, 0, 48),
    ("tiny_vit_21m_224", "tiny-vit", 224, 16, 64),
    ("fastvit_t12", "fastvit", 256, 0, 64),
    ("mambaout_tiny", "mambaout", 224, 0, 64),
    ("rdnet_tiny", "rdnet", 224, 0, 48),
    ("nextvit_small", "nextvit", 224, 0, 48),
    ("nest_small", "nest", 224, 0, 32),
    ("swin_small_patch4_window7_224", "swin", 224, 0, 32),
)


def timm_models() -> tuple[RealModel, ...]:
    """All models that are taken from timm."""
    return tuple(
        RealModel(
            name.replace("_", "-"), family, "timm", _build(name), _image(side),
            batch=batch, training_batch=training,
        )
        for name, family, side, batch, training in _ROWS
    )  # fmt: skip


def _build(name: str) -> Callable[[], Any]:
    def build() -> Any:
        torchvision_package()
        import timm

        return timm.create_model(name, pretrained=False)

    return build


def _image(side: int) -> Callable[[int], Mapping[str, Any]]:
    return lambda batch: {"x": torch.zeros(batch, 3, side, side)}
