"""Tiny text-to-image pipelines of every family, randomly initialised from configs."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

CAPTIONS = ["red", "blue", "green"]
WIDTH = 16


def clip_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows the letters of the captions."""
    from dataunlearn.base_models.tokenizer import train_tokenizer

    return train_tokenizer(CAPTIONS, vocab_size=600, model_max_length=8)


def clip_encoder(tokenizer: CLIPTokenizer, projection: bool = False, width: int = WIDTH) -> Any:
    """A CLIP text encoder of two layers."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def vae(channels: int = 4, shift: float | None = None) -> AutoencoderKL:
    """An autoencoder that halves the picture once."""
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        shift_factor=shift,
    )


def unet(**more: Any) -> UNet2DConditionModel:
    """A conditional unet of two levels at 8x8 latents."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        **{"cross_attention_dim": WIDTH, **more},
    )


def stable_diffusion(prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    """Stable Diffusion 1 (noise) or 2 (v)."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=prediction_type,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def safety_parts() -> dict[str, Any]:
    """A safety checker with random weights, and what shows it pictures."""
    side = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "projection_dim": WIDTH}
    config = CLIPConfig(
        vision_config={**side, **heads, "image_size": 16, "patch_size": 8},
        text_config={**side, **heads},
        projection_dim=WIDTH,
    )
    size = {"shortest_edge": 16}
    return {
        "safety_checker": StableDiffusionSafetyChecker(config),
        "feature_extractor": CLIPImageProcessorPil(size=size, crop_size=16),
    }


def stable_diffusion_v() -> StableDiffusionPipeline:
    """Stable Diffusion 2's prediction type."""
    return stable_diffusion("v_prediction")


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    """Stable Diffusion XL."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip_encoder(tokenizer),
        text_encoder_2=clip_encoder(tokenizer, projection=True),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + WIDTH,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        ),
    )


def t5_parts() -> tuple[T5EncoderModel, Any]:
    """A T5 encoder of one layer, with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    for caption in CAPTIONS:
        for word in caption.split():
            words.setdefault(word, len(words))
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=8,
    )
    config = T5Config(
        vocab_size=len(words), d_model=2 * WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return T5EncoderModel(config).eval(), tokenizer


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    """Stable Diffusion 3."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    t5, t5_tokenizer = t5_parts()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=2 * WIDTH,
            caption_projection_dim=16,
            pooled_projection_dim=2 * WIDTH,
            out_channels=4,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift=0.1),
        text_encoder=clip_encoder(tokenizer, projection=True),
        tokenizer=tokenizer,
        text_encoder_2=clip_encoder(tokenizer, projection=True),
        tokenizer_2=tokenizer,
        text_encoder_3=t5,
        tokenizer_3=t5_tokenizer,
    )


def flux(distilled: bool = True) -> FluxPipeline:
    """Flux, with guidance as an input of the network or without."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    t5, t5_tokenizer = t5_parts()
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift=0.1),
        text_encoder=clip_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=t5,
        tokenizer_2=t5_tokenizer,
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=2 * WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=distilled,
            axes_dims_rope=(4, 4, 8),
        ),
    )
    pipeline.default_sample_size = 8
    return pipeline


FAMILIES = {
    "stable diffusion": stable_diffusion,
    "stable diffusion, v": stable_diffusion_v,
    "stable diffusion xl": stable_diffusion_xl,
    "stable diffusion 3": stable_diffusion_3,
    "flux": flux,
    "flux, not distilled": lambda: flux(distilled=False),
}
