"""What can be set about a diffusion model and its pictures, a sentence a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from vermilion.models.diffusion.loss import Distribution, Weighting
from vermilion.models.diffusion.scheduler_config import PredictionType
from vermilion.train import options
from vermilion.train.options import Training, about


def _listed(value: Any) -> Any:
    """Words or numbers with commas between them, as a command line has them."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Sizes = Annotated[tuple[int, ...], BeforeValidator(_listed)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a new network, in the words of diffusers' config.json."""

    network: Annotated[Literal["unet", "dit"], about("A UNet, or a Transformer (DiT).")] = "unet"
    block_out_channels: Annotated[
        Sizes, about("Of a UNet: channels of each level, the finest first.")
    ] = (
        64,
        128,
        256,
    )
    down_block_types: Annotated[
        Names | None,
        about(
            "Of a UNet: blocks of each level, as DownBlock2D,AttnDownBlock2D (with captions"
            " CrossAttnDownBlock2D); by default attention on 16x16 places and fewer."
        ),
    ] = None
    layers_per_block: Annotated[int, about("Of a UNet: residual blocks of a level.", ge=1)] = 2
    norm_num_groups: Annotated[int, about("Of a UNet: groups of channels of a norm.", ge=1)] = 16
    head_channels: Annotated[int, about("Of a UNet: channels of a head of attention.", ge=1)] = 64
    use_linear_projection: Annotated[
        bool,
        about("Of a UNet: whether Linear layers lead into Transformers, not convolutions."),
    ] = True
    unet_dropout: Annotated[
        float, about("Of a UNet: part of the features left out in training.", ge=0, lt=1)
    ] = 0.0
    num_layers: Annotated[int, about("Of a DiT: blocks.", ge=1)] = 12
    num_attention_heads: Annotated[int, about("Of a DiT: heads of attention.", ge=1)] = 6
    attention_head_dim: Annotated[int, about("Of a DiT: features of a head.", ge=1)] = 64
    patch_size: Annotated[
        int, about("Of a DiT: side of a token, in places of what it sees.", ge=1, le=64)
    ] = 2
    label_map_dim: Annotated[
        int | None,
        about(
            "Of a DiT with pooled: features between the two products that spread a caption's one"
            " vector over the places; by default it is not spread.",
            ge=1,
        ),
    ] = None
    patch: Annotated[
        int, about("On pixels: squares of so many a side become channels.", ge=1, le=64)
    ] = 1


# Fields of `Shape` that one of the two networks has.
OF_UNET = frozenset(
    {
        "block_out_channels",
        "down_block_types",
        "layers_per_block",
        "norm_num_groups",
        "head_channels",
        "use_linear_projection",
        "unet_dropout",
    }
)
OF_DIT = frozenset(
    {
        "num_layers",
        "num_attention_heads",
        "attention_head_dim",
        "patch_size",
        "label_map_dim",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """How files become pictures."""

    size: Annotated[
        int | None,
        about("Side in px that is trained on; by default 64, with --from the model's own.", ge=4),
    ] = None
    channels: Annotated[int, about("3, or 4 with transparency.", ge=3, le=4)] = 3
    buckets: Annotated[
        bool, about("Keep about the proportions, in shapes of one area; else the middle is cut.")
    ] = False
    bucket_step: Annotated[int, about("Steps of the shapes' sides, in px.", ge=8)] = 64
    flip: Annotated[bool, about("Mirror half of the pictures, left to right.")] = False
    validation: Annotated[
        float, about("Fraction that is held back, where the data do not say.", ge=0, lt=1)
    ] = 0.05
    max_faults: Annotated[
        float, about("Fraction of pictures that may be unusable.", ge=0, le=1)
    ] = 0.05
    caption_field: Annotated[str, about("Field of a table that holds the captions.")] = ""
    label_field: Annotated[str, about("Field of a table that holds the classes.")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noising:
    """Along which path a new model is trained, and what it is told."""

    path: Annotated[Literal["flow", "discrete"], about("Rectified flow, or the steps of DDPM.")] = (
        "flow"
    )
    prediction_type: Annotated[
        PredictionType | None,
        about("What it says; by default flow_prediction on a flow, else epsilon."),
    ] = None
    shift: Annotated[float, about("Of a flow: above 1 stays longer where noise is.", gt=0)] = 1.0
    beta_schedule: Annotated[
        Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"],
        about("Of discrete steps."),
    ] = "linear"
    rescale_betas_zero_snr: Annotated[
        bool, about("Of discrete steps: the last is pure noise; not with epsilon.")
    ] = False
    text_encoder: Annotated[
        str,
        about("With captions: a sentence encoder, or a pipeline whose CLIP tower is taken."),
    ] = "all-minilm-l6-v2"
    max_tokens: Annotated[
        int, about("Vectors of a sentence encoder's tokens, ends included.", ge=3, le=512)
    ] = 32
    pooled: Annotated[bool, about("Whether one vector for the whole caption is told too.")] = True
    whiten_text: Annotated[
        float | None,
        about(
            "Captions' vectors are centred and whitened, with so much of their mean variance added"
            " to each, such as 0.1; by default they stay as they are.",
            gt=0,
            le=10,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is minimised, and what is shown on the way."""

    weighting: Annotated[
        Weighting, about("Of levels of noise: simple, min_snr, p2; velocity or power on a flow.")
    ] = "simple"
    weighting_power: Annotated[
        float, about("Of power: the picture's error is divided by level^so much.", ge=0, le=4)
    ] = 1.0
    snr_gamma: Annotated[float, about("Of min_snr.", gt=0)] = 5.0
    p2_gamma: Annotated[float, about("Of p2.", ge=0)] = 1.0
    timestep_sampling: Annotated[
        Distribution | None,
        about("Which levels; by default logit_normal on a flow, else uniform."),
    ] = None
    logit_mean: Annotated[float, about("Of logit_normal; above 0 is more noise.")] = 0.0
    logit_std: Annotated[float, about("Of logit_normal.", gt=0)] = 1.0
    stratified: Annotated[bool, about("Spread a batch evenly over the levels.")] = True
    latent_sample: Annotated[
        bool,
        about("On latents: they are drawn from what the autoencoder says; else its means."),
    ] = True
    cache_latents: Annotated[
        bool, about("On latents: pictures are encoded once, into a file of the run's folder.")
    ] = True
    condition_dropout: Annotated[
        float, about("Items whose caption or class is hidden, for guidance.", ge=0, lt=1)
    ] = 0.1
    style_dropout: Annotated[
        float,
        about("Captions that lose what stands after their last comma, the style.", ge=0, lt=1),
    ] = 0.0
    guidance_scale: Annotated[
        float, about("Of samples, and of the published model.", ge=0, le=50)
    ] = 3.0
    num_inference_steps: Annotated[int | None, about("Likewise; by default 25.", ge=1, le=1000)] = (
        None
    )
    publish: Annotated[
        Literal["last", "best"],
        about(
            "Weights that are published: the last mean, or those with the least validation loss."
        ),
    ] = "last"
    sample_prompts: Annotated[
        str, about("Shown on sample sheets, with | between them; by default of the data.")
    ] = ""
    sample_pictures: Annotated[int, about("Pictures of a sample sheet.", ge=1, le=256)] = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder:
    """The first stage of `--latent`, where no VAE is named."""

    vae_block_out_channels: Annotated[
        Sizes, about("Channels of each level of the VAE; each but the last halves a picture.")
    ] = (32, 64, 128)
    vae_layers_per_block: Annotated[int, about("Its residual blocks of a level.", ge=1)] = 1
    vae_norm_num_groups: Annotated[int, about("Its groups of channels of a norm.", ge=1)] = 16
    vae_patch_size: Annotated[
        int, about("Squares of so many px a side become channels before it.", ge=1, le=64)
    ] = 1
    vae_mid_attention: Annotated[bool, about("Whether its middles have attention.")] = True
    vae_quant_conv: Annotated[
        bool, about("Whether a convolution of size 1 ends its encoder, and one begins its decoder.")
    ] = True
    latent_channels: Annotated[int, about("Channels of a latent.", ge=1, le=64)] = 4
    latent_shift: Annotated[
        bool,
        about(
            "Whether the latents' mean is taken off, which StableDiffusionPipeline and DiTPipeline"
            " of diffusers do not know of."
        ),
    ] = False
    vae_steps: Annotated[int, about("Steps that it is trained.", ge=1)] = 2000
    vae_learning_rate: Annotated[float, about("Its highest learning rate.", gt=0)] = 5e-4
    vae_batch_size: Annotated[
        int | None, about("Pictures of one of its steps; by default batch_size.", ge=1)
    ] = None
    vae_decay_fraction: Annotated[
        float | None, about("Its decay_fraction; by default that.", gt=0, le=1)
    ] = None
    vae_flip: Annotated[
        bool | None, about("Mirror half of the pictures that it sees; by default as flip.")
    ] = None
    edge_weight: Annotated[
        float,
        about("Of the absolute error of differences between neighbours, by row and column.", ge=0),
    ] = 0.0
    coarse_weight: Annotated[float, about("Of the absolute error of means of 4x4 px.", ge=0)] = 0.0
    latent_noise: Annotated[
        float,
        about(
            "Most noise that is added to latents before they are decoded, in units of their"
            " deviation, so that the decoder forgives small errors.",
            ge=0,
            le=10,
        ),
    ] = 0.0
    kl_weight: Annotated[float, about("Of the divergence, in nats a number of a latent.", ge=0)] = (
        1e-4
    )
    adversarial_weight: Annotated[
        float, about("Of a patch discriminator's opinion; 0: there is none.", ge=0)
    ] = 0.0
    adversarial_start: Annotated[
        int, about("Step from which the VAE heeds the discriminator.", ge=0)
    ] = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """LoRA: what is learned beside a frozen model."""

    lora_r: Annotated[int, about("Rank of the adapters.", ge=1, le=4096)] = 8
    lora_alpha: Annotated[float, about("Their scale, in units of the rank.", gt=0)] = 8.0
    lora_dropout: Annotated[float, about("Part of their input that is left out.", ge=0, lt=1)] = 0.0
    lora_targets: Annotated[Names, about("Ends of the names of the layers that get one.")] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
    )


# Other spellings, and defaults of `Training` that pictures want otherwise than texts.
ALIASES = options.ALIASES | {
    "r": "lora_r",
    "rank": "lora_r",
    "target_modules": "lora_targets",
    "resolution": "size",
    "image_size": "size",
    "sample_size": "size",
    "dropout": "unet_dropout",
    "in_channels": "channels",
    "noise_schedule": "beta_schedule",
    "caption_dropout": "condition_dropout",
    "random_flip": "flip",
}
USUAL: dict[str, Any] = {"weight_decay": 0.01, "adam_beta2": 0.99, "ema_decay": 0.999}
_NEW_RATE, _TUNED_RATE, _LORA_RATE = 3e-4, 1e-5, 1e-4

KINDS = (Shape, Dataset, Noising, Objective, Autoencoder, Adapters, Training)


def usual(given: set[str], *, tuned: bool, lora: bool) -> dict[str, Any]:
    """Settings of `Training` where a person says nothing.

    Args:
        given: fields that a person sets.
        tuned: whether a model is trained on.
        lora: whether adapters are.
    """
    rate = _LORA_RATE if lora else _TUNED_RATE if tuned else _NEW_RATE
    found = {**USUAL, "learning_rate": rate}
    if "ema_gamma" in given:
        del found["ema_decay"]
    return {name: value for name, value in found.items() if name not in given}


def diffusion_settings() -> list[tuple[str, str, str]]:
    """Field, default and sentence of everything that can be set."""
    changed = {name: str(value) for name, value in usual(set(), tuned=False, lora=False).items()}
    return [(name, changed.get(name, was), text) for name, was, text in options.described(KINDS)]
