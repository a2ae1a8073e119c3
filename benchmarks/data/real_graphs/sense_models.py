"""Models of speech, images, video, several of these together, and of series, of transformers."""

from benchmarks.data.real_graphs.inputs import (
    channels,
    frames,
    image,
    image_and_text,
    named,
    sound,
    spectrum,
)
from benchmarks.data.real_graphs.model import Loss, RealModel
from benchmarks.data.real_graphs.transformers_build import transformers_model as model

_SECOND = 16_000
_BOXES = ("logits", "pred_boxes")


def sense_models() -> tuple[RealModel, ...]:
    """All models that read more than text."""
    return (*_SPEECH, *_IMAGES, *_SEVERAL, *_SERIES)


_SPEECH = (
    model("whisper-tiny", "whisper", "WhisperForConditionalGeneration", spectrum(80, 3000, 64),
          (8, 16), {"d_model": 384, "encoder_layers": 4, "decoder_layers": 4,
                    "encoder_attention_heads": 6, "decoder_attention_heads": 6,
                    "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536}),
    model("whisper-small", "whisper", "WhisperForConditionalGeneration", spectrum(80, 3000, 128),
          (0, 4), {"d_model": 768, "encoder_layers": 12, "decoder_layers": 12,
                   "encoder_attention_heads": 12, "decoder_attention_heads": 12,
                   "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}),
    model("wav2vec2-base", "wav2vec", "Wav2Vec2ForCTC", sound(5 * _SECOND), (4, 8)),
    model("hubert-base", "hubert", "HubertForCTC", sound(10 * _SECOND), (0, 4)),
    model("wavlm-base", "wavlm", "WavLMForCTC", sound(5 * _SECOND), (0, 4)),
    model("wav2vec2-conformer", "conformer", "Wav2Vec2ConformerForCTC", sound(5 * _SECOND),
          (0, 4), {"position_embeddings_type": "rotary"}),
    model("sew-small", "sew", "SEWForCTC", sound(5 * _SECOND), (4, 0)),
    model("speech-to-text", "speech-to-text", "Speech2TextForConditionalGeneration",
          spectrum(80, 584, 64, last=True), (4, 8)),
    model("moonshine-tiny", "moonshine", "MoonshineForConditionalGeneration",
          named(input_values=(5 * _SECOND,), decoder_input_ids=(64,)), (0, 8)),
    model("ast-base", "ast", "ASTForAudioClassification", named(input_values=(1024, 128)),
          (0, 4)),
    model("encodec-24khz", "encodec", "EncodecModel", named(input_values=(1, 24_000)), (4, 0),
          loss=Loss.VALUES, outputs=("audio_values",)),
    model("vits", "vits", "VitsModel", named(input_ids=(64,)), (1, 0), loss=Loss.VALUES,
          outputs=("waveform",)),
)  # fmt: skip

_IMAGES = (
    model("detr-resnet50", "detr", "DetrForObjectDetection", image(512), (2, 4),
          loss=Loss.VALUES, outputs=_BOXES),
    model("conditional-detr", "conditional-detr", "ConditionalDetrForObjectDetection", image(512),
          (0, 2), loss=Loss.VALUES, outputs=_BOXES),
    model("deformable-detr", "deformable-detr", "DeformableDetrForObjectDetection", image(512),
          (1, 2), loss=Loss.VALUES, outputs=_BOXES),
    model("rt-detr-r50", "rt-detr", "RTDetrForObjectDetection", image(640), (2, 0),
          loss=Loss.VALUES, outputs=_BOXES),
    model("yolos-small", "yolos", "YolosForObjectDetection", image(512), (0, 4),
          {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
          loss=Loss.VALUES, outputs=_BOXES),
    model("segformer-b0", "segformer", "SegformerForSemanticSegmentation", image(512), (8, 8),
          loss=Loss.PIXELS),
    model("segformer-b2", "segformer", "SegformerForSemanticSegmentation", image(512), (0, 4),
          {"depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 320, 512],
           "decoder_hidden_size": 768}, loss=Loss.PIXELS),
    model("maskformer-swin", "maskformer", "MaskFormerForInstanceSegmentation", image(384), (1, 0),
          loss=Loss.VALUES, outputs=("class_queries_logits", "masks_queries_logits")),
    model("mask2former-swin", "mask2former", "Mask2FormerForUniversalSegmentation", image(384),
          (1, 0), loss=Loss.VALUES, outputs=("class_queries_logits", "masks_queries_logits")),
    model("dpt-large", "dpt", "DPTForDepthEstimation", image(384), (0, 2), loss=Loss.VALUES,
          outputs=("predicted_depth",)),
    model("glpn", "glpn", "GLPNForDepthEstimation", image(480), (0, 2), loss=Loss.VALUES,
          outputs=("predicted_depth",)),
    model("sam-base", "sam", "SamVisionModel", image(1024), (1, 0), loss=Loss.VALUES,
          outputs=("last_hidden_state",)),
    model("swin2sr", "swin2sr", "Swin2SRForImageSuperResolution", image(64), (2, 4),
          loss=Loss.VALUES, outputs=("reconstruction",)),
    model("upernet-convnext", "upernet", "UperNetForSemanticSegmentation", image(512), (2, 4),
          loss=Loss.PIXELS),
    model("videomae-base", "videomae", "VideoMAEForVideoClassification", frames(16, 224), (0, 4)),
    model("timesformer-base", "timesformer", "TimesformerForVideoClassification", frames(8, 224),
          (0, 4)),
    model("dinov2-small", "dinov2", "Dinov2ForImageClassification", image(224), (0, 32),
          {"hidden_size": 384, "num_attention_heads": 6}),
    model("cvt-13", "cvt", "CvtForImageClassification", image(224), (8, 32)),
    model("superpoint", "superpoint", "SuperPointForKeypointDetection", image(480), (1, 0),
          outputs=()),
    model("pvt-tiny", "pvt", "PvtForImageClassification", image(224), (0, 32)),
    model("perceiver-image", "perceiver", "PerceiverForImageClassificationLearned",
          named(inputs=(3, 224, 224)), (4, 8), {"num_labels": 1000}),
)  # fmt: skip

_SEVERAL = (
    model("clip-b32", "clip", "CLIPModel", image_and_text(224, 77), (16, 32), loss=Loss.VALUES,
          outputs=("logits_per_image",)),
    model("clip-l14", "clip", "CLIPModel", image_and_text(224, 77), (0, 8),
          {"projection_dim": 768,
           "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24,
                             "num_attention_heads": 16, "intermediate_size": 4096,
                             "patch_size": 14},
           "text_config": {"hidden_size": 768, "num_attention_heads": 12,
                           "intermediate_size": 3072}},
          loss=Loss.VALUES, outputs=("logits_per_image",)),
    model("siglip-base", "siglip", "SiglipModel", image_and_text(224, 64), (8, 16),
          loss=Loss.VALUES, outputs=("logits_per_image",)),
    model("align-base", "align", "AlignModel", image_and_text(289, 64), (4, 0),
          loss=Loss.VALUES, outputs=("logits_per_image",)),
    model("blip-base", "blip", "BlipForConditionalGeneration", image_and_text(384, 32), (0, 4)),
    model("clipseg", "clipseg", "CLIPSegForImageSegmentation", image_and_text(352, 77), (0, 4),
          loss=Loss.VALUES),
    model("owlvit-base", "owlvit", "OwlViTForObjectDetection", image_and_text(768, 16), (1, 2),
          loss=Loss.VALUES, outputs=("logits", "pred_boxes")),
    model("groupvit", "groupvit", "GroupViTModel", image_and_text(224, 77), (4, 0),
          loss=Loss.VALUES, outputs=("logits_per_image",)),
    model("lxmert-base", "lxmert", "LxmertModel",
          named(input_ids=(20,), visual_feats=(36, 2048), visual_pos=(36, 4)), (8, 0),
          loss=Loss.VALUES, outputs=("pooled_output",)),
)  # fmt: skip

_SERIES = (
    model("patchtst", "patchtst", "PatchTSTForPrediction", channels(512, 7), (32, 64),
          {"num_input_channels": 7, "context_length": 512, "prediction_length": 96,
           "patch_length": 16, "patch_stride": 16, "num_hidden_layers": 6, "d_model": 256,
           "num_attention_heads": 8, "ffn_dim": 1024},
          loss=Loss.VALUES, outputs=("prediction_outputs",)),
    model("patchtsmixer", "patchtsmixer", "PatchTSMixerForPrediction", channels(512, 7),
          (0, 64), {"num_input_channels": 7, "context_length": 512, "prediction_length": 96,
                    "patch_length": 16, "patch_stride": 16, "num_layers": 8, "d_model": 64},
          loss=Loss.VALUES, outputs=("prediction_outputs",)),
)  # fmt: skip
