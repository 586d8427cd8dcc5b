"""Small networks of many families, with random weights: by name, how each is built and what it is called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn
from torchvision import models as torchvision_models
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from torchvision.models.video import resnet as video

Inputs = dict[str, Any] | tuple[Any, ...]
Architecture = tuple[Callable[[], nn.Module], Inputs]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


SMALL = {"img_size": 64}
SHALLOW = {"depth": 2, "embed_dim": 48, "num_heads": 4, **SMALL}
STAGES: dict[str, Any] = {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 48, 64)}

TIMM: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": SHALLOW,
    "cait_xxs24_224": SHALLOW,
    "coat_lite_tiny": {"embed_dims": [16, 32, 48, 64], "serial_depths": [1, 1, 1, 1], **SMALL},
    "convit_tiny": {"depth": 2, "embed_dim": 12, "local_up_to_layer": 1, **SMALL},
    "cs3darknet_focus_s": {},
    "davit_tiny": {"num_heads": (1, 2, 3, 4), **STAGES},
    "deit_tiny_distilled_patch16_224": {"depth": 2, **SMALL},
    "densenet121": {"growth_rate": 8, "block_config": (1, 1, 1, 1)},
    "dla46x_c": {},
    "edgenext_xx_small": {},
    "efficientvit_b0": {},
    "ese_vovnet19b_slim_dw": {},
    "eva02_tiny_patch14_224": {"depth": 2, "img_size": 56},
    "fasternet_t0": {},
    "hgnetv2_b0": {},
    "hiera_tiny_224": {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 1, 1), **SMALL},
    "inception_next_atto": {},
    "lcnet_035": {},
    "levit_128s": SMALL,
    "mobilevit_xxs": {},
    "pvt_v2_b0": {},
    "regnetx_002": {},
    "repvgg_a0": {},
    "resnetv2_18": {"layers": (1, 1, 1, 1)},
    "samvit_base_patch16_224": {"global_attn_indexes": (1,), **SHALLOW},
    "starnet_s050": {},
    "swin_tiny_patch4_window7_224": {
        **{"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4},
        **SMALL,
    },
    "swinv2_cr_tiny_224": {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), **SMALL},
    "swinv2_tiny_window8_256": {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), **SMALL},
    "test_byobnet": {},
    "test_coatnet": SMALL,
    "test_convnext": {},
    "test_efficientnet": {},
    "test_mambaout": {},
    "test_maxvit": SMALL,
    "test_nfnet": {},
    "test_resnet": {},
    "test_vit": SMALL,
    "test_vit_relpos": SMALL,
    "tiny_vit_5m_224": {"num_heads": (1, 2, 3, 4), **STAGES},
    "tnt_s_patch16_224": {"depth": 2, **SMALL},
    "twins_svt_small": {"depths": [1, 1, 1, 1], "embed_dims": [16, 32, 48, 64], **SMALL},
    "visformer_tiny": {"embed_dim": 48, "num_heads": 2, "depth": (1, 1, 1), **SMALL},
    "vit_tiny_r_s16_p8_224": {"depth": 2, **SMALL},
    "xcit_nano_12_p8_224": {"depth": 2, **SMALL},
}

TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "lraspp_mobilenet_v3_large": lambda: lraspp_mobilenet_v3_large(weights_backbone=None),
    "mnasnet0_5": torchvision_models.mnasnet0_5,
    "mobilenet_v2": lambda: torchvision_models.mobilenet_v2(width_mult=0.25),
    "shufflenet_v2_x0_5": torchvision_models.shufflenet_v2_x0_5,
    "squeezenet1_1": torchvision_models.squeezenet1_1,
    "swin": lambda: torchvision_models.SwinTransformer([4, 4], 16, [1, 1], [1, 2], [4, 4], num_classes=10),
    "vit": lambda: torchvision_models.VisionTransformer(64, 16, 2, 2, 32, 64),
}


def video_resnet() -> nn.Module:
    return video.VideoResNet(video.BasicBlock, [video.Conv3DSimple] * 4, [1, 1, 1, 1], video.BasicStem, num_classes=10)


def of_timm(name: str) -> Architecture:
    settings = TIMM[name]
    size = settings.get("img_size", 64)
    return lambda: timm.create_model(name, num_classes=10, **settings), (noise(2, 3, size, size),)


def of_torchvision(name: str) -> Architecture:
    return TORCHVISION[name], (noise(2, 3, 64, 64),)


# --- transformers: models of two layers by the names of their classes -----------------------------------------------

TOKENS = torch.randint(3, 32, (2, 8), generator=torch.Generator().manual_seed(1))
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"max_position_embeddings": 64, **ENDS}
GROUPED = {"num_key_value_heads": 2, **SIZES}
EIGHT = {"head_dim": 8, **GROUPED}
PIXELS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PIXELS |= {"image_size": 32, "patch_size": 8}
BOTH_WAYS = {"vocab_size": 32, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2}
BOTH_WAYS |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, **ENDS}
BOTH_WAYS |= {"decoder_start_token_id": 1}
LATENT = {"kv_lora_rank": 4, "q_lora_rank": 4, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
SPACE = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}

WORDS: dict[str, dict[str, Any]] = {
    "AlbertModel": {"embedding_size": 8, **SIZES},
    "BertForSequenceClassification": SIZES,
    "BigBirdModel": {"attention_type": "original_full", **SIZES},
    "BloomForCausalLM": {"vocab_size": 32, "hidden_size": 16, "n_layer": 2, "n_head": 2},
    "DebertaV2Model": SIZES,
    "DeepseekV3ForCausalLM": {
        **{"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 8},
        **{"first_k_dense_replace": 1, **LATENT, **GROUPED},
    },
    "DistilBertModel": {"vocab_size": 32, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    "ElectraModel": {"embedding_size": 8, **SIZES},
    "FNetModel": SIZES,
    "FalconForCausalLM": SIZES,
    "FunnelModel": {
        **{"vocab_size": 32, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 16, "n_head": 2, "d_head": 8},
        **{"d_inner": 32},
    },
    "GPT2LMHeadModel": SIZES,
    "GPTNeoXForCausalLM": SIZES,
    "Gemma2ForCausalLM": EIGHT,
    "GptOssForCausalLM": {
        **{"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["sliding_attention", "full_attention"]},
        **EIGHT,
    },
    "LlamaForCausalLM": GROUPED,
    "LongformerModel": {"attention_window": 4, **SIZES},
    "MPNetModel": SIZES,
    "Mamba2ForCausalLM": {"num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 4, **SPACE},
    "MambaForCausalLM": SPACE,
    "MixtralForCausalLM": {"num_local_experts": 4, **GROUPED},
    "MobileBertModel": {
        **{"embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 1},
        **SIZES,
    },
    "OPTForCausalLM": {"ffn_dim": 32, "word_embed_proj_dim": 16, **SIZES},
    "OlmoeForCausalLM": {"num_experts": 4, "num_experts_per_tok": 2, **GROUPED},
    "PhiForCausalLM": SIZES,
    "Qwen2ForCausalLM": GROUPED,
    "Qwen3ForCausalLM": EIGHT,
    "ReformerModel": {  # which seeds its dropout by the clock
        **{"attn_layers": ["local", "local"], "attention_head_size": 8, "feed_forward_size": 32, "hash_seed": 0},
        **{"axial_pos_embds": False, "local_attn_chunk_length": 4, "is_decoder": False, "hidden_dropout_prob": 0.0},
        **{"local_attention_probs_dropout_prob": 0.0, **SIZES},
    },
    "RobertaForMaskedLM": SIZES,
    "RwkvModel": {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "context_length": 64},
    "XLNetModel": {"vocab_size": 32, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
}
FROM_WORDS_TO_WORDS: dict[str, dict[str, Any]] = {
    "BartForConditionalGeneration": {"max_position_embeddings": 64, "forced_eos_token_id": None, **BOTH_WAYS},
    "T5ForConditionalGeneration": {
        **{"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
        **{"decoder_start_token_id": 0},
    },
}
IMAGES: dict[str, dict[str, Any]] = {
    "CLIPVisionModel": PIXELS,
    "ConvNextV2ForImageClassification": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "Dinov2Model": PIXELS,
    "ResNetForImageClassification": {
        **{"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    },
    "SegformerForSemanticSegmentation": {
        **{"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16], "strides": [2, 2]},
        **{"patch_sizes": [3, 3], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 16},
    },
    "ViTForImageClassification": PIXELS,
}
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CLIPModel": (
        {"text_config": SIZES, "vision_config": PIXELS, "projection_dim": 8},
        {"input_ids": TOKENS, "pixel_values": noise(2, 3, 32, 32)},
    ),
    "PerceiverModel": (
        {
            **{"num_latents": 4, "d_latents": 16, "d_model": 16, "num_blocks": 1, "num_self_attends_per_block": 1},
            **{"num_self_attention_heads": 2, "num_cross_attention_heads": 2},
        },
        {"inputs": noise(2, 6, 16)},
    ),
    "Wav2Vec2Model": (
        {
            **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
            **{"conv_dim": [8, 8], "conv_stride": [2, 2], "conv_kernel": [3, 3], "num_conv_pos_embeddings": 8},
            **{"num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0},
        },
        {"input_values": noise(2, 200)},
    ),
    "WhisperModel": (
        {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 20, **BOTH_WAYS},
        {"input_features": noise(2, 8, 40), "decoder_input_ids": TOKENS},
    ),
}
TRANSFORMERS = [*WORDS, *FROM_WORDS_TO_WORDS, *IMAGES, *OTHERS]


def of_transformers(name: str) -> Architecture:
    import transformers  # type: ignore[import-not-found]

    kind: Any = getattr(transformers, name)
    if name in WORDS:
        settings, inputs = WORDS[name], {"input_ids": TOKENS}
    elif name in FROM_WORDS_TO_WORDS:
        settings, inputs = FROM_WORDS_TO_WORDS[name], {"input_ids": TOKENS, "decoder_input_ids": TOKENS}
    elif name in IMAGES:
        settings, inputs = IMAGES[name], {"pixel_values": noise(2, 3, 32, 32)}
    else:
        settings, inputs = OTHERS[name]
    return lambda: kind(kind.config_class(**settings)), inputs
