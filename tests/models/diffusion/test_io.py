"""Folders of diffusers, both ways; variants, shards, older names; what is refused, and how."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from safetensors.torch import load_file, save_file

from tests.models.diffusion.reference import (
    PLAIN,
    TEXT,
    distance,
    noise,
    our_unet,
    our_vae,
    their_unet,
    their_vae,
)
from tests.models.diffusion.their_pipelines import tiny_ddpm, tiny_stable_diffusion
from vermilion.errors import ModelError, UnsafeModelError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.models.diffusion.vae import AutoencoderKL as OurAutoencoderKL

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> tuple[StableDiffusionPipeline, Path]:
    """Stable Diffusion, small: diffusers' object and the folder that it wrote."""
    work = tmp_path_factory.mktemp("latent")
    theirs = tiny_stable_diffusion(work)
    theirs.save_pretrained(work / "sd")
    return theirs, work / "sd"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[DDPMPipeline, Path]:
    """A DDPMPipeline on pixels, likewise."""
    theirs, folder = tiny_ddpm(), tmp_path_factory.mktemp("plain") / "ddpm"
    theirs.save_pretrained(folder)
    return theirs, folder


def test_a_latent_model_opens(latent: tuple[StableDiffusionPipeline, Path]) -> None:
    theirs, folder = latent
    ours = io.open_pipeline(folder)
    x, t, c = noise(2, 4, 8, 8), torch.tensor([3, 700]), noise(2, 5, 64)
    assert isinstance(ours.codec, OurAutoencoderKL)
    with torch.no_grad():
        assert distance(ours.net(x, t, c), theirs.unet(x, t, c).sample) < 1e-5
        assert distance(ours.codec.decode(x), theirs.vae.decode(x).sample) < 1e-5
    assert ours.scheduler.class_name == "PNDMScheduler"
    assert ours.text_encoder is not None
    assert ours.text_encoder.config["hidden_size"] == 64
    for name, weight in theirs.text_encoder.state_dict().items():
        assert torch.equal(ours.text_encoder.tensors.load(name), weight)
    assert ours.tokenizer == folder / "tokenizer"
    assert ours.safety_checker is None
    assert not ours.net.training
    assert not any(p.requires_grad for p in ours.net.parameters())


def test_a_model_on_pixels_opens(plain: tuple[DDPMPipeline, Path]) -> None:
    theirs, folder = plain
    ours = io.open_pipeline(folder)
    x, t = noise(2, 3, 8, 8), torch.tensor([3, 700])
    with torch.no_grad():
        assert distance(ours.net(x, t), theirs.unet(x, t).sample) < 1e-5
    assert isinstance(ours.codec, PixelCodec)
    assert (ours.codec.patch, ours.codec.channels) == (1, 3)
    assert ours.text_encoder is ours.tokenizer is None


@pytest.mark.parametrize("width", [4, 9])
def test_diffusers_opens_a_latent_model_of_ours(
    latent: tuple[StableDiffusionPipeline, Path], tmp_path: Path, width: int
) -> None:
    theirs, _ = latent
    if width == 9:
        theirs = tiny_stable_diffusion(tmp_path, in_channels=9)
    ours = our_unet(theirs.unet), our_vae(theirs.vae)
    io.save_pipeline(
        tmp_path / "sd",
        net=ours[0],
        codec=ours[1],
        scheduler=SchedulerConfig.from_json(json.loads(theirs.scheduler.to_json_string())),
        texts={
            "text_encoder": ("CLIPTextModel", theirs.text_encoder.save_pretrained),
            "tokenizer": ("CLIPTokenizer", theirs.tokenizer.save_pretrained),
        },
    )
    opened = DiffusionPipeline.from_pretrained(tmp_path / "sd")
    wanted = StableDiffusionInpaintPipeline if width == 9 else StableDiffusionPipeline
    assert type(opened) is wanted
    for part in ("unet", "vae", "text_encoder"):
        state = getattr(theirs, part).state_dict()
        for name, weight in getattr(opened, part).state_dict().items():
            assert torch.equal(weight, state.pop(name)), name
        assert not state
    again = io.open_pipeline(tmp_path / "sd")
    assert again.net.config == ours[0].config
    assert again.scheduler.class_name == "PNDMScheduler"
    if width == 4:  # the same picture, by the same class of theirs
        pictures = []
        for pipeline in (theirs, opened):
            pipeline.set_progress_bar_config(disable=True)
            seed = torch.Generator().manual_seed(5)
            pictures.append(
                pipeline(
                    "a fox", num_inference_steps=2, height=64, width=64, generator=seed,
                    output_type="pt",
                ).images
            )  # fmt: skip
        assert distance(*pictures) < 1e-4


def test_diffusers_opens_a_model_on_pixels_of_ours(tmp_path: Path) -> None:
    theirs = tiny_ddpm()
    io.save_pipeline(
        tmp_path / "ddpm",
        net=our_unet(theirs.unet),
        codec=PixelCodec(1, 3),
        scheduler=SchedulerConfig.from_json(json.loads(theirs.scheduler.to_json_string())),
    )
    opened = DiffusionPipeline.from_pretrained(tmp_path / "ddpm")
    assert type(opened) is DDPMPipeline
    opened.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(0)
    made = opened(num_inference_steps=2, generator=seed, output_type="np").images
    theirs.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(0)
    wanted = theirs(num_inference_steps=2, generator=seed, output_type="np").images
    assert np.abs(made - wanted).max() < 1e-4
    assert DDIMPipeline.from_pretrained(tmp_path / "ddpm").unet.config.in_channels == 3


def test_what_diffusers_has_no_class_for_opens_part_by_part(tmp_path: Path) -> None:
    """Pixels in squares of two, with a text: the pipeline is ours, its parts are diffusers'."""
    fields = {**TEXT, "in_channels": 16, "out_channels": 16}
    theirs = their_unet(UNet2DConditionModel, **fields)
    manifest = Manifest(text_encoder="all-minilm-l6-v2", max_tokens=24, styles=("flat",))
    io.save_pipeline(
        tmp_path / "own",
        net=our_unet(theirs),
        codec=PixelCodec(2, 4),
        scheduler=SchedulerConfig.rectified_flow(),
        manifest=manifest,
    )
    opened = UNet2DConditionModel.from_pretrained(tmp_path / "own", subfolder="unet")
    x, t, c = noise(2, 16, 8, 8), torch.tensor([3, 700]), noise(2, 5, 12)
    with torch.no_grad():
        assert torch.equal(opened(x, t, c).sample, theirs(x, t, c).sample)
    again = io.open_pipeline(tmp_path / "own")
    assert isinstance(again.codec, PixelCodec)
    assert (again.codec.patch, again.codec.channels) == (2, 4)
    assert again.manifest.text_encoder == "all-minilm-l6-v2"
    index = json.loads((tmp_path / "own" / "model_index.json").read_text())
    assert index["_class_name"] == io.OWN_PIPELINE


def test_a_model_that_is_written_over_another(tmp_path: Path) -> None:
    """What belongs to somebody else stays; of the old model no file is left."""
    folder = tmp_path / "model"
    scheduler = SchedulerConfig(class_name="DDPMScheduler")
    for seed, shard in ((1, 20_000), (2, 10**9)):
        theirs = their_unet(UNet2DModel, seed, **PLAIN)
        (folder / "README.md").write_text("mine") if folder.exists() else None
        io.save_pipeline(
            folder, net=our_unet(theirs), codec=PixelCodec(), scheduler=scheduler,
            max_shard_bytes=shard,
        )  # fmt: skip
        if seed == 1:
            assert len(list((folder / "unet").glob("*.safetensors"))) > 3
    assert (folder / "README.md").read_text() == "mine"
    assert {f.name for f in (folder / "unet").iterdir()} == {"config.json", WEIGHTS}
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]
    for name, weight in io.open_pipeline(folder).net.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name])


@pytest.mark.parametrize("way", ["shards", "fp16", "fp16 shards", "both"])
def test_shards_and_variants(tmp_path: Path, way: str) -> None:
    theirs = their_unet(UNet2DModel, **PLAIN)
    size = "20KB" if "shards" in way else "10GB"
    if "fp16" in way or way == "both":
        theirs.half().save_pretrained(tmp_path, variant="fp16", max_shard_size=size)
        theirs = theirs.float()
    if way in ("shards", "both"):
        full = their_unet(UNet2DModel, **PLAIN)
        full.save_pretrained(tmp_path, max_shard_size=size)
        theirs = full  # the full weights come first
    files = len(list(tmp_path.glob("*.safetensors")))
    assert files > 3 if "shards" in way else files == (2 if way == "both" else 1)
    net = io.open_unet(tmp_path)
    assert net.dtype == torch.float32
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name])


def test_half_precision_in_and_out(tmp_path: Path) -> None:
    theirs = their_unet(UNet2DModel, **PLAIN)
    scheduler = SchedulerConfig(class_name="DDPMScheduler")
    io.save_pipeline(
        tmp_path / "half", net=our_unet(theirs), codec=PixelCodec(), scheduler=scheduler,
        dtype=torch.float16,
    )  # fmt: skip
    stored = load_file(tmp_path / "half" / "unet" / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    net = io.open_pipeline(tmp_path / "half", dtype=torch.bfloat16).net
    with torch.no_grad():
        found = net(noise(1, 3, 8, 8).bfloat16(), torch.tensor([5]))
        wanted = theirs(noise(1, 3, 8, 8), torch.tensor([5])).sample
    assert found.dtype == torch.bfloat16
    assert distance(found.float(), wanted) < 0.05


def test_names_that_attention_had_before(tmp_path: Path) -> None:
    """As the published autoencoder of Stable Diffusion 1.4 and the first DDPMs have them."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for theirs, again, opened in (
        (their_vae(), AutoencoderKL, io.open_vae),
        (their_unet(UNet2DModel, **PLAIN), UNet2DModel, io.open_unet),
    ):
        folder = tmp_path / again.__name__
        theirs.save_pretrained(folder)
        state = {}
        for name, weight in theirs.state_dict().items():
            for new, word in old.items():
                name = name.replace(f".{new}.", f".{word}.")
            state[name] = weight
        assert any(".query." in name for name in state)
        save_file(state, folder / WEIGHTS)
        ours: Any = opened(folder)  # type: ignore[operator]
        for name, weight in again.from_pretrained(folder).state_dict().items():
            assert torch.equal(ours.state_dict()[name], weight), name


def test_memory_is_known_before_loading(
    latent: tuple[StableDiffusionPipeline, Path], tmp_path: Path
) -> None:
    theirs, folder = latent
    parts = (theirs.unet, theirs.vae, theirs.text_encoder)
    wanted = sum(p.numel() for part in parts for p in part.parameters())
    found = io.needs(folder)
    assert (found.parameters, found.weights) == (wanted, 4 * wanted)
    assert io.needs(folder, dtype=torch.float16).weights == 2 * wanted
    small, large = (io.needs(folder, height=side, width=side).working for side in (256, 1024))
    assert 15 < large / small < 17
    # Nothing but headers is read: without the numbers the answer is the same.
    copy = shutil.copytree(folder, tmp_path / "copy")
    for file in copy.rglob("*.safetensors"):
        length = int.from_bytes(file.read_bytes()[:8], "little")
        size = file.stat().st_size
        with file.open("r+b") as stream:
            stream.truncate(8 + length)
            stream.truncate(size)
    assert io.needs(copy) == found


def edit(file: str, **fields: Any) -> Callable[[Path], None]:
    """Change fields of a JSON file of a folder."""

    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def drop(tensor: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        state = load_file(folder / "unet" / WEIGHTS)
        del state[tensor]
        save_file(state, folder / "unet" / WEIGHTS)

    return change


def add(folder: Path) -> None:
    state = load_file(folder / "unet" / WEIGHTS)
    save_file(state | {"sparkle.weight": torch.ones(1)}, folder / "unet" / WEIGHTS)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "model_index.json is missing"),
    "no unet": (
        edit("model_index.json", unet=[None, None]),
        "model_index.json: there is no unet and",
    ),
    "a strange class": (
        edit("unet/config.json", _class_name="UNet3DConditionModel"),
        "unet/config.json: _class_name: 'UNet3DConditionModel' is not supported",
    ),
    "a field that changes the result": (
        edit("unet/config.json", dual_cross_attention=True),
        "unet/config.json: dual_cross_attention: True is not supported, only False is",
    ),
    "SDXL": (
        edit("unet/config.json", addition_embed_type="text_time"),
        "unet/config.json: addition_embed_type: 'text_time' is not supported",
    ),
    "a field that nobody knows": (
        edit("vae/config.json", sparkle=1),
        "vae/config.json: sparkle: this field is not supported",
    ),
    "a number as a string": (
        edit("unet/config.json", in_channels="4"),
        "unet/config.json: in_channels: must be a whole number above 0",
    ),
    "an absurd size": (
        edit("unet/config.json", layers_per_block=10**6),
        "there are fewer tensors than layers",
    ),
    "an absurd width": (
        edit("unet/config.json", block_out_channels=[2**23, 2**23], norm_num_groups=1),
        "unet: .* has the shape|unet: config.json",
    ),
    "another width": (
        edit("unet/config.json", block_out_channels=[32, 32]),
        "has the shape .* where the config asks for",
    ),
    "a tensor is missing": (drop("conv_in.bias"), "the tensor conv_in.bias is missing"),
    "a tensor too many": (add, "no place for sparkle.weight"),
    "channels that do not meet": (
        edit("vae/config.json", latent_channels=8),
        "the network goes from 4 channels to 4 where there are 8",
    ),
    "a strange scheduler": (
        edit("scheduler/scheduler_config.json", _class_name="SparkleScheduler"),
        "SparkleScheduler",
    ),
    "a truncated file": (
        lambda f: (f / "vae" / WEIGHTS).write_bytes((f / "vae" / WEIGHTS).read_bytes()[:900]),
        "cannot be read",
    ),
    "no weights": (lambda f: (f / "vae" / WEIGHTS).unlink(), r"there is no \*.safetensors file"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_folders(
    latent: tuple[StableDiffusionPipeline, Path],
    tmp_path: Path,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    copy = shutil.copytree(latent[1], tmp_path / "copy")
    damage(copy)
    with pytest.raises(ModelError, match=message) as caught:
        io.open_pipeline(copy)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_opened(
    latent: tuple[StableDiffusionPipeline, Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(latent[1], tmp_path / "copy")
    (copy / "unet" / WEIGHTS).unlink()
    latent[0].unet.save_pretrained(copy / "unet", safe_serialization=False)
    with pytest.raises(UnsafeModelError, match=r"model\.bin is a pickle, which may run code"):
        io.open_pipeline(copy)
    torch.save({"model.diffusion_model.out.2.bias": torch.ones(4)}, tmp_path / "v1-5.ckpt")
    with pytest.raises(UnsafeModelError, match=r"v1-5\.ckpt is a pickle, which may run code"):
        io.open_pipeline(tmp_path / "v1-5.ckpt")


def test_only_a_ddpm_scheduler_is_needed(plain: tuple[DDPMPipeline, Path]) -> None:
    assert io.open_pipeline(plain[1]).scheduler == SchedulerConfig.from_json(
        json.loads(DDPMScheduler().to_json_string())
    )
