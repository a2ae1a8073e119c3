"""Encoders, decoders and sequence-to-sequence models of text, of transformers."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.data.real_graphs.inputs import text, text_pair
from benchmarks.data.real_graphs.model import RealModel
from benchmarks.data.real_graphs.transformers_build import transformers_model as model

_HALF = torch.bfloat16
_LARGE: Mapping[str, Any] = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096,
}  # fmt: skip


def _sized(hidden: int, layers: int, heads: int, inner: int, **more: Any) -> Mapping[str, Any]:
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": inner, **more,
    }  # fmt: skip


def _grouped(
    hidden: int, layers: int, heads: int, shared: int, inner: int, **more: Any
) -> Mapping[str, Any]:
    """Sizes of decoders whose heads share keys and values."""
    return _sized(hidden, layers, heads, inner, num_key_value_heads=shared, **more)


def text_models() -> tuple[RealModel, ...]:
    """All models that read nothing but text."""
    return (*_ENCODERS, *_DECODERS, *_EXPERTS, *_RECURRENT, *_PAIRS)


_ENCODERS = (
    model("bert-base", "bert", "BertForMaskedLM", text(128), (16, 32)),
    model("bert-base-512", "bert", "BertForSequenceClassification", text(512), (0, 8)),
    model("bert-large", "bert", "BertForMaskedLM", text(384), (4, 8), _LARGE),
    model("roberta-base", "roberta", "RobertaForMaskedLM", text(256), (0, 16),
          {"vocab_size": 50265, "max_position_embeddings": 514}),
    model("distilbert", "distilbert", "DistilBertForMaskedLM", text(256), (0, 32)),
    model("albert-base", "albert", "AlbertForMaskedLM", text(256), (0, 16),
          _sized(768, 12, 12, 3072)),
    model("electra-small", "electra", "ElectraForPreTraining", text(128), (0, 128)),
    model("deberta-v3-base", "deberta", "DebertaV2ForSequenceClassification", text(256), (8, 16),
          _sized(768, 12, 12, 3072, relative_attention=True, pos_att_type=["p2c", "c2p"],
                 position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True)),
    model("deberta-base", "deberta", "DebertaForSequenceClassification", text(128), (0, 32),
          {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    model("xlnet-base", "xlnet", "XLNetLMHeadModel", text(256), (8, 16),
          {"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}),
    model("mpnet-base", "mpnet", "MPNetForMaskedLM", text(256), (0, 16)),
    model("funnel-small", "funnel", "FunnelForMaskedLM", text(256), (8, 16)),
    model("longformer-base", "longformer", "LongformerForMaskedLM", text(1024), (0, 2),
          {"attention_window": 256, "max_position_embeddings": 1030}),
    model("bigbird-base", "bigbird", "BigBirdForMaskedLM", text(1024), (0, 2)),
    model("fnet-base", "fnet", "FNetForMaskedLM", text(256), (16, 32)),
    model("nystromformer", "nystromformer", "NystromformerForMaskedLM", text(512), (4, 8),
          {"max_position_embeddings": 512}),
    model("squeezebert", "squeezebert", "SqueezeBertForMaskedLM", text(128), (0, 32)),
    model("convbert-base", "convbert", "ConvBertForMaskedLM", text(128), (8, 16)),
    model("canine-s", "canine", "CanineForSequenceClassification", text(512), (0, 8)),
    model("mobilebert", "mobilebert", "MobileBertForMaskedLM", text(128), (16, 32)),
    model("modernbert-base", "modernbert", "ModernBertForMaskedLM", text(512), (4, 8)),
    model("roformer-base", "roformer", "RoFormerForMaskedLM", text(256), (0, 16)),
    model("esm2-150m", "esm", "EsmForMaskedLM", text(256), (0, 8),
          _sized(640, 30, 20, 2560, vocab_size=33, pad_token_id=0, mask_token_id=32,
                 position_embedding_type="rotary")),
)  # fmt: skip

_DECODERS = (
    model("gpt2", "gpt2", "GPT2LMHeadModel", text(256), (8, 16)),
    model("gpt2-medium", "gpt2", "GPT2LMHeadModel", text(512), (0, 8),
          {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    model("gpt2-large", "gpt2", "GPT2LMHeadModel", text(1024), (1, 2),
          {"n_embd": 1280, "n_layer": 36, "n_head": 20}),
    model("gpt-neo-125m", "gpt-neo", "GPTNeoForCausalLM", text(256), (0, 16),
          {"hidden_size": 768, "num_layers": 12, "num_heads": 12,
           "attention_types": [[["global", "local"], 6]]}),
    model("pythia-410m", "gpt-neox", "GPTNeoXForCausalLM", text(512), (2, 4),
          {**_LARGE, "vocab_size": 50304}),
    model("gptj-small", "gptj", "GPTJForCausalLM", text(512), (0, 4),
          {"n_embd": 1024, "n_layer": 12, "n_head": 16, "rotary_dim": 32}),
    model("opt-350m", "opt", "OPTForCausalLM", text(512), (4, 8),
          {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
           "ffn_dim": 4096, "word_embed_proj_dim": 512, "do_layer_norm_before": False}),
    model("bloom-560m", "bloom", "BloomForCausalLM", text(512), (0, 4),
          {"hidden_size": 1024, "n_layer": 24, "n_head": 16}),
    model("falcon-small", "falcon", "FalconForCausalLM", text(512), (0, 4),
          {"hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16}),
    model("llama-1b", "llama", "LlamaForCausalLM", text(1024), (1, 2),
          _grouped(2048, 16, 32, 8, 8192, vocab_size=128256), dtype=_HALF),
    model("tinyllama-1b", "llama", "LlamaForCausalLM", text(512), (0, 4),
          _grouped(2048, 22, 32, 4, 5632)),
    model("mistral-small", "mistral", "MistralForCausalLM", text(1024), (1, 0),
          _grouped(4096, 12, 32, 8, 14336), dtype=_HALF),
    model("qwen2-0.5b", "qwen", "Qwen2ForCausalLM", text(512), (4, 4),
          _grouped(896, 24, 14, 2, 4864)),
    model("qwen3-0.6b", "qwen", "Qwen3ForCausalLM", text(1024), (0, 2),
          _grouped(1024, 28, 16, 8, 3072, head_dim=128), dtype=_HALF),
    model("gemma2-small", "gemma", "Gemma2ForCausalLM", text(512), (1, 2),
          _grouped(1152, 18, 4, 1, 6912, vocab_size=64000)),
    model("phi-1.5", "phi", "PhiForCausalLM", text(512), (0, 2), _sized(2048, 24, 32, 8192)),
    model("olmo2-small", "olmo", "Olmo2ForCausalLM", text(512), (0, 2),
          _sized(2048, 16, 16, 8192)),
    model("stablelm-small", "stablelm", "StableLmForCausalLM", text(512), (0, 2),
          _grouped(2048, 12, 32, 32, 5632)),
    model("cohere-small", "cohere", "CohereForCausalLM", text(512), (0, 2),
          _grouped(2048, 12, 16, 16, 8192, vocab_size=64000)),
)  # fmt: skip

_EXPERTS = (
    model("mixtral-small", "mixtral", "MixtralForCausalLM", text(512), (1, 2),
          _grouped(1024, 12, 16, 4, 3584, num_local_experts=8), dtype=_HALF),
    model("qwen3-moe-small", "qwen-moe", "Qwen3MoeForCausalLM", text(512), (1, 2),
          _grouped(1024, 12, 16, 4, 3072, num_experts=16, num_experts_per_tok=4,
                   moe_intermediate_size=768), dtype=_HALF),
    model("olmoe-small", "olmoe", "OlmoeForCausalLM", text(512), (0, 2),
          _sized(1024, 8, 16, 1024, num_experts=16), dtype=_HALF),
    model("gpt-oss-small", "gpt-oss", "GptOssForCausalLM", text(512), (1, 2),
          _grouped(1024, 12, 16, 4, 1024, num_local_experts=8, head_dim=64), dtype=_HALF),
    model("granite-moe-small", "granite-moe", "GraniteMoeForCausalLM", text(512), (1, 2),
          _grouped(1024, 12, 16, 8, 512, num_local_experts=16, num_experts_per_tok=4),
          dtype=_HALF),
    model("deepseek-v3-small", "deepseek", "DeepseekV3ForCausalLM", text(512), (1, 2),
          _grouped(1024, 8, 16, 16, 2048, n_routed_experts=16, n_group=4, topk_group=2,
                   moe_intermediate_size=512, num_experts_per_tok=4, q_lora_rank=384,
                   kv_lora_rank=256)),
    model("switch-base-8", "switch", "SwitchTransformersForConditionalGeneration",
          text_pair(256, 64), (4, 8)),
)  # fmt: skip

_RECURRENT = (
    model("mamba-130m", "mamba", "MambaForCausalLM", text(64), (4, 8),
          {"hidden_size": 768, "num_hidden_layers": 12}),
    model("mamba-370m-short", "mamba", "MambaForCausalLM", text(32), (0, 16),
          {"hidden_size": 1024, "num_hidden_layers": 16}),
    model("mamba2-130m", "mamba2", "Mamba2ForCausalLM", text(512), (2, 4),
          {"hidden_size": 768, "num_hidden_layers": 24, "num_heads": 24, "head_dim": 64,
           "n_groups": 1, "vocab_size": 50288}),
    model("rwkv-169m", "rwkv", "RwkvForCausalLM", text(64), (4, 8),
          {"hidden_size": 768, "num_hidden_layers": 12, "attention_hidden_size": 768,
           "vocab_size": 50277}),
    model("recurrent-gemma-small", "recurrent-gemma", "RecurrentGemmaForCausalLM", text(64),
          (2, 4), _grouped(1024, 9, 8, 1, 3072, lru_width=1024, vocab_size=32000)),
    model("jamba-small", "jamba", "JambaForCausalLM", text(64), (2, 0),
          _grouped(1024, 8, 16, 8, 2048, use_mamba_kernels=False, num_experts=4)),
    model("zamba2-small", "zamba", "Zamba2ForCausalLM", text(256), (2, 4),
          _grouped(1024, 12, 16, 16, 4096, use_mamba_kernels=False, vocab_size=32000)),
    model("xlstm-small", "xlstm", "xLSTMForCausalLM", text(128), (2, 4),
          {"hidden_size": 768, "num_hidden_layers": 12, "num_heads": 4, "vocab_size": 50304}),
)  # fmt: skip

_PAIRS = (
    model("t5-small", "t5", "T5ForConditionalGeneration", text_pair(256, 64), (16, 32)),
    model("t5-base", "t5", "T5ForConditionalGeneration", text_pair(512, 128), (0, 8),
          {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}),
    model("umt5-small", "umt5", "UMT5ForConditionalGeneration", text_pair(256, 64), (0, 8),
          {"vocab_size": 64000}),
    model("longt5-base", "longt5", "LongT5ForConditionalGeneration", text_pair(1024, 128), (0, 2)),
    model("bart-base", "bart", "BartForConditionalGeneration", text_pair(256, 64), (8, 16),
          {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072,
           "decoder_ffn_dim": 3072, "encoder_attention_heads": 12,
           "decoder_attention_heads": 12}),
    model("bart-large", "bart", "BartForConditionalGeneration", text_pair(512, 128), (0, 4)),
    model("mbart-large", "mbart", "MBartForConditionalGeneration", text_pair(128, 128), (0, 8)),
    model("pegasus-large", "pegasus", "PegasusForConditionalGeneration", text_pair(512, 64),
          (2, 0), {"encoder_layers": 16, "decoder_layers": 16}),
    model("marian", "marian", "MarianMTModel", text_pair(96, 96), (16, 32),
          {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 2048,
           "decoder_ffn_dim": 2048, "encoder_attention_heads": 8, "decoder_attention_heads": 8}),
    model("prophetnet", "prophetnet", "ProphetNetForConditionalGeneration", text_pair(256, 64),
          (2, 4)),
    model("led-base", "led", "LEDForConditionalGeneration", text_pair(1024, 64), (0, 2),
          {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072,
           "decoder_ffn_dim": 3072, "encoder_attention_heads": 12,
           "decoder_attention_heads": 12, "attention_window": 256}),
)  # fmt: skip
