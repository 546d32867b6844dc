"""Pipelines of diffusers with random weights, in folders and single files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import (
    DDPMPipeline,
    DDPMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.models.diffusion.reference import PLAIN, their_unet, their_vae
from tests.tiny import draw_weights

# Widths that 32 groups divide, as all of Stable Diffusion's.
WIDE: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "layers_per_block": 2,
    "cross_attention_dim": 64,
    "attention_head_dim": 8,
    "sample_size": 64,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
WIDE_VAE: dict[str, Any] = {
    "block_out_channels": (32, 32, 64, 64),
    "down_block_types": 4 * ("DownEncoderBlock2D",),
    "up_block_types": 4 * ("UpDecoderBlock2D",),
    "norm_num_groups": 32,
    "layers_per_block": 2,
    "sample_size": 512,
}


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with letters alone."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz,."
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def tiny_text_tower(vocab: int, seed: int = 0) -> CLIPTextModel:
    """CLIP's text tower with random weights."""
    tower = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=1,
            projection_dim=64,
            eos_token_id=2,
        )
    ).eval()
    draw_weights(tower, seed)
    return tower


def tiny_stable_diffusion(work: Path, **unet: Any) -> StableDiffusionPipeline:
    """All the parts of a StableDiffusionPipeline, small."""
    tokenizer = tiny_tokenizer(work / "letters")
    return StableDiffusionPipeline(
        vae=their_vae(**WIDE_VAE),
        text_encoder=tiny_text_tower(len(tokenizer)),
        tokenizer=tokenizer,
        unet=their_unet(UNet2DConditionModel, **{**WIDE, **unet}),
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_ddpm() -> DDPMPipeline:
    """A DDPMPipeline on pixels."""
    return DDPMPipeline(their_unet(UNet2DModel, **PLAIN), DDPMScheduler())
