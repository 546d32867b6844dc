"""Stable Diffusion in one file, against diffusers' own conversion of such files.

The file is written by our names; diffusers reads it by its own, another piece of code, and
has to find every weight of the folder again. Published names are also given one by one.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.diffusion.reference import distance, noise
from tests.models.diffusion.their_pipelines import tiny_stable_diffusion
from vermilion.errors import ModelError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.config import UNetConfig, VAEConfig
from vermilion.models.diffusion.names import TEXT, UNET, VAE, unet_to_ldm, vae_to_ldm
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.single_file import Layout
from vermilion.models.diffusion.vae import AutoencoderKL as OurAutoencoderKL

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SD_UNET: dict[str, Any] = {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768}
SD_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": 4 * ["DownEncoderBlock2D"],
    "up_block_types": 4 * ["UpDecoderBlock2D"],
    "layers_per_block": 2,
    "sample_size": 512,
}
# Of the published v1-5-pruned-emaonly.safetensors, each with its shape there.
PUBLISHED: dict[str, tuple[int, ...]] = {
    "model.diffusion_model.time_embed.0.weight": (1280, 320),
    "model.diffusion_model.time_embed.2.bias": (1280,),
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.0.in_layers.2.weight": (320, 320, 3, 3),
    "model.diffusion_model.input_blocks.1.0.emb_layers.1.weight": (320, 1280),
    "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
    "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
    "model.diffusion_model.input_blocks.8.1.transformer_blocks.0.ff.net.0.proj.weight": (
        10240,
        1280,
    ),
    "model.diffusion_model.input_blocks.11.0.out_layers.3.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.middle_block.1.norm.weight": (1280,),
    "model.diffusion_model.middle_block.2.out_layers.0.bias": (1280,),
    "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.output_blocks.8.2.conv.bias": (640,),
    "model.diffusion_model.output_blocks.11.0.in_layers.0.weight": (640,),
    "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm3.bias": (320,),
    "model.diffusion_model.out.0.weight": (320,),
    "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
    "first_stage_model.encoder.down.0.block.0.norm1.weight": (128,),
    "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
    "first_stage_model.encoder.down.2.downsample.conv.weight": (512, 512, 3, 3),
    "first_stage_model.encoder.mid.block_2.conv2.weight": (512, 512, 3, 3),
    "first_stage_model.encoder.norm_out.weight": (512,),
    "first_stage_model.encoder.conv_out.weight": (8, 512, 3, 3),
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    "first_stage_model.decoder.up.3.block.2.conv1.weight": (512, 512, 3, 3),
    "first_stage_model.decoder.up.1.block.0.nin_shortcut.weight": (256, 512, 1, 1),
    "first_stage_model.decoder.up.1.upsample.conv.weight": (256, 256, 3, 3),
    "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
    "first_stage_model.quant_conv.weight": (8, 8, 1, 1),
    "first_stage_model.post_quant_conv.bias": (4,),
    "first_stage_model.decoder.mid.attn_1.proj_out.weight": (512, 512, 1, 1),
    "first_stage_model.encoder.mid.attn_1.norm.weight": (512,),
    "first_stage_model.encoder.mid.attn_1.q.bias": (512,),
}


def to_ldm(unet: dict[str, Tensor], vae: dict[str, Tensor], configs: Any) -> dict[str, Tensor]:
    """As such files have it: attention of the autoencoder as convolutions of size 1."""
    ours = unet_to_ldm(configs[0], unet)
    assert ours.keys() == unet.keys()
    state = {UNET + ours[name]: weight for name, weight in unet.items()}
    ours = vae_to_ldm(configs[1], vae)
    assert ours.keys() == vae.keys()
    for name, weight in vae.items():
        product = ".attentions." in name and weight.dim() == 2
        state[VAE + ours[name]] = weight[:, :, None, None] if product else weight
    assert len(state) == len(unet) + len(vae)  # no two have the same name
    return state


@pytest.fixture(scope="module", params=[{}, {"in_channels": 9}, {"use_linear_projection": True}])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StableDiffusionPipeline, Path, Path]:
    """Diffusers' object, its folder, and the file of the same weights."""
    work = tmp_path_factory.mktemp("single")
    theirs = tiny_stable_diffusion(work, **request.param)
    theirs.save_pretrained(work / "sd")
    configs = (
        UNetConfig.from_diffusers({**theirs.unet.config, "_class_name": "UNet2DConditionModel"}),
        VAEConfig.from_diffusers({**theirs.vae.config, "_class_name": "AutoencoderKL"}),
    )
    state = to_ldm(theirs.unet.state_dict(), theirs.vae.state_dict(), configs)
    for name, weight in theirs.text_encoder.state_dict().items():
        state[f"{TEXT}text_model.{name.removeprefix('text_model.')}"] = weight
    # What such files have besides.
    state[f"{TEXT}text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["betas"] = state["model_ema.num_updates"] = torch.ones(3)
    save_file({k: v.clone().contiguous() for k, v in state.items()}, work / "v1.safetensors")
    return theirs, work / "sd", work / "v1.safetensors"


def test_diffusers_finds_every_weight(both: tuple[StableDiffusionPipeline, Path, Path]) -> None:
    theirs, _, file = both
    state = load_file(file)
    for convert, part in (
        (convert_ldm_unet_checkpoint, theirs.unet),
        (convert_ldm_vae_checkpoint, theirs.vae),
    ):
        found = convert(dict(state), dict(part.config))
        assert found.keys() == part.state_dict().keys()
        for name, weight in part.state_dict().items():
            assert torch.equal(found[name], weight), name


def test_the_file_is_the_folder(both: tuple[StableDiffusionPipeline, Path, Path]) -> None:
    theirs, folder, file = both
    ours, same = io.open_pipeline(file), io.open_pipeline(folder)
    for part in ("net", "codec"):
        for name, weight in getattr(same, part).state_dict().items():
            assert torch.equal(getattr(ours, part).state_dict()[name], weight), name
        assert getattr(ours, part).config == getattr(same, part).config
    assert ours.scheduler == same.scheduler
    assert ours.text_encoder is not None
    assert same.text_encoder is not None
    config, wanted = ours.text_encoder.config, theirs.text_encoder.config
    for field in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                  "num_attention_heads", "max_position_embeddings", "hidden_act",
                  "layer_norm_eps", "eos_token_id", "model_type"):  # fmt: skip
        assert config[field] == getattr(wanted, field), field
    for name, weight in theirs.text_encoder.state_dict().items():
        plain = name.removeprefix("text_model.")
        assert torch.equal(ours.text_encoder.tensors.load(f"text_model.{plain}"), weight)
    assert ours.tokenizer is None
    inside = io.needs(file).parameters - io.needs(folder).parameters
    assert inside == 77  # the numbers of the positions


def test_diffusers_paints_the_same_from_the_file(
    both: tuple[StableDiffusionPipeline, Path, Path],
) -> None:
    theirs, folder, file = both
    channels = theirs.unet.config.in_channels
    kind = StableDiffusionInpaintPipeline if channels == 9 else StableDiffusionPipeline
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = kind.from_single_file(str(file), config=str(folder), local_files_only=True)
    x, t, c = noise(1, channels, 8, 8), torch.tensor([500]), noise(1, 77, 64)
    z = noise(1, 4, 8, 8)
    ours = io.open_pipeline(file)
    with torch.no_grad():
        assert distance(ours.net(x, t, c), opened.unet(x, t, c).sample) < 1e-5
        assert isinstance(ours.codec, OurAutoencoderKL)
        assert distance(ours.codec.decode(z), opened.vae.decode(z).sample) < 1e-5


def test_the_published_shapes() -> None:
    """All of Stable Diffusion 1.5, without its numbers."""
    configs = UNetConfig.from_diffusers(SD_UNET), VAEConfig.from_diffusers(SD_VAE)
    with torch.device("meta"):
        unet, vae = UNet(configs[0]).state_dict(), OurAutoencoderKL(configs[1]).state_dict()
        theirs = UNet2DConditionModel.from_config(SD_UNET), AutoencoderKL.from_config(SD_VAE)
    assert sum(weight.numel() for weight in unet.values()) == 859_520_964
    assert sum(weight.numel() for weight in vae.values()) == 83_653_863
    for ours, part in zip((unet, vae), theirs, strict=True):
        wanted = {name: weight.shape for name, weight in part.state_dict().items()}
        assert {name: weight.shape for name, weight in ours.items()} == wanted
    state = to_ldm(unet, vae, configs)
    assert sum(name.startswith(UNET) for name in state) == 686
    assert sum(name.startswith(VAE) for name in state) == 248
    for name, shape in PUBLISHED.items():
        assert state[name].shape == shape, name
    for convert, wanted, config in (
        (convert_ldm_unet_checkpoint, unet, theirs[0].config),
        (convert_ldm_vae_checkpoint, vae, theirs[1].config),
    ):
        found = convert(dict(state), dict(config))
        assert {name: weight.shape for name, weight in found.items()} == {
            name: weight.shape for name, weight in wanted.items()
        }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["conditioner.embedders.0.x"], "this is Stable Diffusion XL, which is not supported"),
        (["cond_stage_model.model.x"], "this is Stable Diffusion 2, which is not supported"),
        (["model.diffusion_model.joint_blocks.0.x"], "this is Stable Diffusion 3, which is"),
        (["lora_unet_x.alpha"], "there is no UNet in this file"),
        (["model.diffusion_model.out.2.weight"], "there is no autoencoder in this file"),
        (
            ["model.diffusion_model.out.2.weight", "first_stage_model.quant_conv.weight"],
            "the tensor first_stage_model.* is missing",
        ),
    ],
)
def test_files_of_others(tmp_path: Path, names: list[str], message: str) -> None:
    save_file({name: torch.ones(2, 2) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=message) as caught:
        Layout(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)
