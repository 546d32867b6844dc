"""Stable Diffusion 1.x in a single file: what it is made of is told by the shapes of its tensors.

    model.diffusion_model.*      the UNet
    first_stage_model.*          the autoencoder
    cond_stage_model.*           the text tower, CLIP's

What the shapes do not tell is the same in every published file of this family: 8 heads, 32 groups,
the noise of scheduler_config.json, the factor of the latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from vermilion.errors import ModelError
from vermilion.models.diffusion.config import UNetConfig, VAEConfig
from vermilion.models.diffusion.names import TEXT, UNET, VAE
from vermilion.models.files import TensorFiles

SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
}
_PICTURE = 512
# Names that only the files of other families have.
_OTHERS = {
    "conditioner.embedders.": "Stable Diffusion XL",
    "cond_stage_model.model.": "Stable Diffusion 2",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "Flux",
}


@dataclass(slots=True)
class _Level:
    channels: int = 0
    layers: int = 0
    crosses: bool = False

    @property
    def kind(self) -> str:
        return "CrossAttn" if self.crosses else ""


class Layout:
    """What a single file holds.

    Args:
        path: of the file.

    Attributes:
        tensors: all of them.
        unet: what the UNet is made of.
        vae: what the autoencoder is made of.
        text: config.json of the text tower, as transformers has it; None: there is none.

    Raises:
        UnsafeModelError: it is a pickle.
        ModelError: it is broken, or of another family, which is named.
    """

    def __init__(self, path: Path) -> None:
        self.tensors, self._path = TensorFiles(path), path
        for prefix, family in _OTHERS.items():
            if any(name.startswith(prefix) for name in self.tensors.names):
                raise ModelError(f"{path}: this is {family}, which is not supported; use 1.x")
        for prefix, part in {UNET: "UNet", VAE: "autoencoder"}.items():
            if not any(name.startswith(prefix) for name in self.tensors.names):
                raise ModelError(
                    f"{path}: there is no {part} in this file ({prefix}*); name a whole Stable"
                    " Diffusion checkpoint"
                )
        try:
            self.vae = self._vae()
            self.unet = self._unet(_PICTURE // self.vae.factor)
        except ValueError as error:
            raise ModelError(f"{path}: {error}") from None
        self.text = self._text()

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.tensors.names:
            raise ModelError(f"{self._path}: the tensor {name} is missing; pull the model again")
        return self.tensors.shape(name)

    def _has(self, name: str) -> bool:
        return name in self.tensors.names

    def _count(self, pattern: str) -> int:
        """How many there are of what is numbered; the number stands where the pattern has {}."""
        return next(i for i in count() if not self._has(pattern.format(i)))

    def _unet(self, sample_size: int) -> UNetConfig:
        levels = [_Level()]
        block = UNET + "input_blocks.{}.0.{}"
        for number in count(1):
            if self._has(block.format(number, "op.weight")):
                levels.append(_Level())
            elif self._has(block.format(number, "in_layers.2.weight")):
                levels[-1].channels = self._shape(block.format(number, "in_layers.2.weight"))[0]
                levels[-1].layers += 1
                levels[-1].crosses |= self._has(f"{UNET}input_blocks.{number}.1.proj_in.weight")
            else:
                break
        layers = tuple(level.layers for level in levels)
        middle = f"{UNET}middle_block.1."
        depth = middle + "transformer_blocks.{}.norm1.weight"
        return UNetConfig(
            sample_size=sample_size,
            in_channels=self._shape(f"{UNET}input_blocks.0.0.weight")[1],
            out_channels=self._shape(f"{UNET}out.2.weight")[0],
            block_out_channels=tuple(level.channels for level in levels),
            layers_per_block=layers[0] if len(set(layers)) == 1 else layers,
            down_block_types=tuple(f"{level.kind}DownBlock2D" for level in levels),
            up_block_types=tuple(f"{level.kind}UpBlock2D" for level in reversed(levels)),
            transformer_layers_per_block=self._count(depth),
            cross_attention_dim=self._shape(f"{middle}transformer_blocks.0.attn2.to_k.weight")[1],
            use_linear_projection=len(self._shape(f"{middle}proj_in.weight")) == 2,
        )

    def _vae(self) -> VAEConfig:
        levels = self._count(VAE + "encoder.down.{}.block.0.conv1.weight")
        channels = [
            self._shape(f"{VAE}encoder.down.{level}.block.0.conv1.weight")[0]
            for level in range(levels)
        ]
        return VAEConfig(
            in_channels=self._shape(f"{VAE}encoder.conv_in.weight")[1],
            out_channels=self._shape(f"{VAE}decoder.conv_out.weight")[0],
            latent_channels=self._shape(f"{VAE}decoder.conv_in.weight")[1],
            block_out_channels=tuple(channels),
            layers_per_block=self._count(VAE + "encoder.down.0.block.{}.conv1.weight"),
            down_block_types=levels * ("DownEncoderBlock2D",),
            up_block_types=levels * ("UpDecoderBlock2D",),
            sample_size=_PICTURE,
        )

    def _text(self) -> dict[str, Any] | None:
        whole = f"{TEXT}text_model."
        prefix = whole if any(n.startswith(whole) for n in self.tensors.names) else TEXT
        if not any(name.startswith(prefix) for name in self.tensors.names):
            return None
        vocab, size = self._shape(f"{prefix}embeddings.token_embedding.weight")
        layer = prefix + "encoder.layers.{}.mlp.fc1.weight"
        return {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": vocab,
            "hidden_size": size,
            "intermediate_size": self._shape(layer.format(0))[0],
            "num_hidden_layers": self._count(layer),
            "num_attention_heads": max(1, size // 64),
            "max_position_embeddings": self._shape(f"{prefix}embeddings.position_embedding.weight")[
                0
            ],
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "projection_dim": size,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
        }
