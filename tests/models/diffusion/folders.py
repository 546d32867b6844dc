"""Whole Stable Diffusion pipelines at toy size, as diffusers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.models.diffusion.reference import TEXT, their_unet
from tests.tiny import SENTENCES, draw_weights
from vermilion.models.contrast.tokenizer import Tokenizer

LENGTH = 24
NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


def tiny_vae(seed: int = 3) -> AutoencoderKL:
    """An autoencoder that halves a picture's sides."""
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    ).eval()
    draw_weights(vae, seed)
    return vae


def tiny_pipeline_folder(path: Path, *, holes: bool = False, **scheduler: Any) -> Path:
    """Write a pipeline with random weights.

    Args:
        path: of the folder.
        holes: whether its UNet is one that fills holes, with nine channels in.
        scheduler: fields of its DDIM scheduler that are to differ.
    """
    tokens = Tokenizer.train(SENTENCES, 600, max_length=LENGTH)
    (path / "words").mkdir(parents=True)
    tokens.save(path / "words")
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokens.bos_id,
        eos_token_id=tokens.eos_id,
    )
    tower = CLIPTextModel(config).eval()
    draw_weights(tower, 2)
    kind = StableDiffusionInpaintPipeline if holes else StableDiffusionPipeline
    fields = {**TEXT, "sample_size": 16, "in_channels": 9 if holes else 4}
    pipe = kind(
        vae=tiny_vae(),
        text_encoder=tower,
        tokenizer=CLIPTokenizer.from_pretrained(path / "words"),
        unet=their_unet(UNet2DConditionModel, **fields),
        scheduler=DDIMScheduler(**{**NOISE, **scheduler}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(path)
    for file in (path / "words").iterdir():
        file.unlink()
    (path / "words").rmdir()
    return path
