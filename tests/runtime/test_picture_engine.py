"""The engine against whole pipelines of diffusers, and with models of our own kinds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from tests.models.diffusion.folders import tiny_pipeline_folder
from tests.models.diffusion.reference import noise
from tests.models.diffusion.test_single_file import to_ldm
from tests.models.diffusion.their_pipelines import tiny_stable_diffusion, tiny_text_tower
from tests.tiny import tiny_encoder_folder
from vermilion.errors import InputError, ModelError, NotFoundError
from vermilion.models.diffusion.config import UNetConfig, VAEConfig
from vermilion.models.diffusion.io import save_pipeline
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.names import TEXT
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.runtime.cards import Card
from vermilion.runtime.engines.picture import PictureEngine
from vermilion.runtime.loader import Loader
from vermilion.runtime.shipped import WEIGHTS
from vermilion.runtime.store import Store
from vermilion.settings import Settings
from vermilion.types import Prompt, Sample

Pixels = NDArray[np.uint8]
WORDS = "a small (red:1.0) seal"
ASKED = {"width": 32, "height": 48, "num_inference_steps": 5, "guidance_scale": 4.0}
SAMPLER = {"sampler": "ddim"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline_folder(tmp_path_factory.mktemp("sd") / "tiny")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", device="cpu")


def opened(path: Path, settings: Settings) -> PictureEngine:
    card, place = Store(settings.models_dir).locate(str(path))
    assert card.family == "diffusion"
    assert PictureEngine.memory(card, place) > 0
    return PictureEngine.open(card, place, settings)


@pytest.fixture
def engine(folder: Path, settings: Settings) -> PictureEngine:
    return opened(folder, settings)


def asked(text: str = WORDS, seed: int = 3, negative_text: str = "", **settings: Any) -> Prompt:
    return Prompt(
        kind="picture",
        text=text,
        negative_text=negative_text,
        model="tiny",
        seed=seed,
        settings={**ASKED, **SAMPLER, **settings},
    )


def painted(
    engine: PictureEngine, *prompts: Prompt, pictures: Mapping[str, Pixels] | None = None
) -> list[Pixels]:
    made: dict[int, Sample] = dict(engine.generate(prompts, pictures=pictures))
    found = []
    for number in range(len(prompts)):
        content = made[number].content
        assert isinstance(content, np.ndarray)
        assert content.dtype == np.uint8
        found.append(content)
    return found


def apart(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def theirs(folder: Path, kind: Any = StableDiffusionPipeline) -> Any:
    pipe = kind(
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def reference(pipe: Any, text: str, seed: int, **settings: Any) -> Pixels:
    generator = torch.Generator().manual_seed(seed)
    found = pipe(text, generator=generator, output_type="np", **settings).images[0]
    return np.asarray((found * 255).round().astype(np.uint8))


def pixels(seed: int = 0, height: int = 48, width: int = 32) -> Pixels:
    found = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    found[..., 3] = 255
    return found


def test_words_become_the_picture_of_diffusers(folder: Path, engine: PictureEngine) -> None:
    mine = painted(engine, asked(), asked("ink", seed=0, negative_text="tea"))
    pipe = theirs(folder)
    assert apart(mine[0], reference(pipe, "a small red seal", 3, **ASKED)) <= 1
    other = reference(pipe, "ink", 0, **ASKED, negative_prompt="tea")
    assert apart(mine[1], other) <= 1
    assert apart(*mine) > 20


def test_a_picture_to_start_from(folder: Path, engine: PictureEngine) -> None:
    first = pixels()
    (mine,) = painted(engine, asked(image="a", strength=0.6), pictures={"a": first})
    pipe = theirs(folder, StableDiffusionImg2ImgPipeline)
    settings = {name: ASKED[name] for name in ("num_inference_steps", "guidance_scale")}
    given = torch.from_numpy(first[..., :3].astype(np.float32) / 255).permute(2, 0, 1)[None]
    assert (
        apart(mine, reference(pipe, "a small red seal", 3, image=given, strength=0.6, **settings))
        <= 1
    )


def test_one_seed_one_picture_in_any_company(engine: PictureEngine) -> None:
    long = "The painter mixes the red ink and signs the paper with a small seal. " * 2
    prompts = [asked(seed=seed, text=text) for seed in (1, 2) for text in (WORDS, long, "")]
    together = painted(engine, *prompts)
    for prompt, picture in zip(prompts, together, strict=True):
        assert apart(painted(engine, prompt)[0], picture) <= 1


def test_a_single_file_paints_the_same(settings: Settings, tmp_path: Path) -> None:
    theirs = tiny_stable_diffusion(tmp_path)
    theirs.tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "clip-tokenizer")
    theirs.text_encoder = tiny_text_tower(len(theirs.tokenizer))
    theirs.save_pretrained(tmp_path / "sd")
    configs = (
        UNetConfig.from_diffusers({**theirs.unet.config, "_class_name": "UNet2DConditionModel"}),
        VAEConfig.from_diffusers({**theirs.vae.config, "_class_name": "AutoencoderKL"}),
    )
    state = to_ldm(theirs.unet.state_dict(), theirs.vae.state_dict(), configs)
    for name, weight in theirs.text_encoder.state_dict().items():
        state[f"{TEXT}text_model.{name.removeprefix('text_model.')}"] = weight
    save_file({k: v.clone().contiguous() for k, v in state.items()}, tmp_path / "v1.safetensors")
    ask = asked("a photo of an astronaut riding a horse", width=32, height=32, sampler="")
    one, other = (
        painted(opened(tmp_path / name, settings), ask)[0] for name in ("sd", "v1.safetensors")
    )
    assert apart(one, other) <= 1
    assert one.std() > 5


def test_what_is_kept_of_a_masked_picture_is_kept(engine: PictureEngine) -> None:
    before, mask = pixels(height=96, width=64), np.zeros((96, 64, 4), dtype=np.uint8)
    mask[..., 3] = 255
    mask[40:56, 24:40] = 255
    asks = asked(image="a", mask="m", strength=1.0, width=64, height=96)
    (after,) = painted(engine, asks, pictures={"a": before, "m": mask})
    kept = np.ones((96, 64), dtype=bool)
    kept[34:62, 18:46] = False
    assert (after[kept] == before[kept][:, :3]).all()
    assert apart(after[44:52, 28:36], before[44:52, 28:36, :3]) > 20
    clear = mask.copy()
    clear[..., 3] = 0
    (same,) = painted(engine, asks, pictures={"a": before, "m": clear})
    assert (same == before[..., :3]).all()


def test_between_two_pictures(engine: PictureEngine) -> None:
    given = {"a": pixels(1), "b": pixels(2)}
    prompts = [asked(image="a", blend="b", strength=strength) for strength in (0.0, 0.5, 1.0)]
    first, half, last = painted(engine, *prompts, pictures=given)
    assert apart(first, half) > 5
    assert apart(half, last) > 5


def test_progress_previews_and_an_end_before_the_end(engine: PictureEngine) -> None:
    steps: list[tuple[int, int, int]] = []
    previews: list[tuple[int, ...]] = []

    def on_piece(number: int, piece: Any) -> None:
        assert piece.dtype == np.uint8
        previews.append((number, *piece.shape))

    list(engine.generate([asked()], on_piece, on_step=lambda *told: steps.append(told)))
    assert steps == [(0, done, 5) for done in range(1, 6)]
    assert previews == [(0, 32, 22, 3)] * 4
    steps.clear()

    def stop(number: int, done: int, total: int) -> None:
        steps.append((number, done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine.generate([asked()], on_step=stop))
    assert len(steps) == 2


def test_adapters_come_and_go(engine: PictureEngine, settings: Settings, tmp_path: Path) -> None:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {f"{layer}.lora_down.weight": noise(4, 16), f"{layer}.lora_up.weight": noise(16, 4)}
    save_file(tensors, tmp_path / "Style.safetensors")
    save_file({"emb_params": 3 * noise(2, 12)}, tmp_path / "word.safetensors")
    store = Store(settings.models_dir)
    store.pull(str(tmp_path / "Style.safetensors"))
    store.pull(str(tmp_path / "word.safetensors"), name="vermeer")
    plain, styled, worded, named, again = painted(
        engine,
        asked("a vermeer"),
        asked("a vermeer", loras=[["style", 1.0]]),
        asked("a vermeer", loras=[["vermeer", 1.0]]),
        asked("a word", loras=[["vermeer", 1.0]]),
        asked("a vermeer"),
    )
    assert apart(plain, again) <= 1
    assert apart(plain, styled) > 3
    assert apart(plain, worded) > 3
    assert apart(worded, named) > 3
    ((_, sample),) = engine.generate([asked(loras=(("style", 0.5),))])
    assert sample.notes["adapters"] == {"style": store.locate("style")[0].weights_sha256}
    for loras, error, words in (
        ([["nothing", 1.0]], NotFoundError, "there is no model 'nothing'"),
        ([["vermeer", 0.5]], InputError, r"write \(vermeer:0.5\) there"),
    ):
        with pytest.raises(error, match=words):
            painted(engine, asked(loras=loras))
    save_file(
        {f"{layer}_x.lora_down.weight": noise(4, 16), f"{layer}_x.lora_up.weight": noise(16, 4)},
        tmp_path / "x.safetensors",
    )
    with pytest.raises(ModelError, match="the adapter was made for another"):
        painted(engine, asked(loras=[[str(tmp_path / "x.safetensors"), 1.0]]))
    assert apart(painted(engine, asked("a vermeer"))[0], plain) <= 1


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"width": 30}, "width: must be a multiple of 4"),
        ({"image": "zz"}, "image: the picture zz was not given"),
        ({"clip_skip": 5}, "clip_skip: must be 0 to 1"),
    ],
)
def test_settings_that_cannot_be_used(
    engine: PictureEngine, settings_: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        painted(engine, asked(**settings_))


def own_model(path: Path, manifest: Manifest, channels: int = 4, **fields: Any) -> Path:
    """A model on pixels as it is trained here."""
    codec = PixelCodec(manifest.patch, channels)
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": 8,
        "in_channels": codec.latent_channels,
        "out_channels": codec.latent_channels,
        "block_out_channels": [8, 16],
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        **fields,
    }
    net = UNet(UNetConfig.from_diffusers(config))
    draw = torch.Generator().manual_seed(0)
    for weight in net.parameters():
        weight.data.normal_(0, 0.1, generator=draw)
    scheduler = SchedulerConfig(class_name="DDIMScheduler", beta_schedule="squaredcos_cap_v2")
    save_pipeline(path, net=net, codec=codec, scheduler=scheduler, manifest=manifest)
    return path


def test_a_model_of_stickers(settings: Settings, tmp_path: Path) -> None:
    manifest = Manifest(
        patch=2,
        channels=4,
        text_encoder="toy-encoder",
        max_tokens=8,
        pooled=True,
        styles=("flat", "line"),
        num_inference_steps=4,
        guidance_scale=3.0,
    )
    reads = {
        "_class_name": "UNet2DConditionModel",
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "attention_head_dim": 2,
        "cross_attention_dim": 32,
        "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": 32,
    }
    path = own_model(tmp_path / "stickers", manifest, **reads)
    with pytest.raises(NotFoundError, match="there is no model 'toy-encoder'"):
        opened(path, settings)
    encoder = tiny_encoder_folder(tmp_path / "encoder")
    store = Store(settings.models_dir)
    store.publish(
        encoder,
        Card(name="toy-encoder", kind="embedding", family="encoder", source="trained here"),
    )
    card, engine = Loader(store, settings).open(str(path))
    assert isinstance(engine, PictureEngine)
    assert card.kind == "picture"
    plain = Prompt(kind="picture", text="a red seal", model="stickers", seed=0)
    flat = Prompt(
        kind="picture", text="a red seal", model="stickers", seed=0, settings={"style": "flat"}
    )
    ((_, sample),) = engine.generate([plain])
    assert sample.notes["num_inference_steps"] == 4
    assert sample.notes["guidance_scale"] == 3.0
    one, other = painted(engine, plain, flat)
    assert one.shape == (16, 16, 4)
    assert apart(one, other) > 0
    given = {"a": pixels(height=30, width=20)}
    start = Prompt(kind="picture", text="seal", model="x", seed=0, settings={"image": "a"})
    assert painted(engine, start, pictures=given)[0].shape == (16, 16, 4)
    # With a table beside it, Chinese words are the English ones.
    (path / "words.zh.tsv").write_text("红色\ta red\n海豹\tseal\n", encoding="utf-8")
    _, engine = Loader(store, settings).open(str(path))
    assert isinstance(engine, PictureEngine)
    chinese = Prompt(kind="picture", text="红色的海豹", model="stickers", seed=0)
    assert apart(*painted(engine, plain, chinese)) == 0
    with pytest.raises(InputError, match="text: the model does not know '鲸' of '红色的鲸'"):
        painted(engine, Prompt(kind="picture", text="红色的鲸", model="stickers", seed=0))
    with pytest.raises(InputError, match="style: 'oil'"):
        painted(
            engine, Prompt(kind="picture", text="a", model="x", seed=0, settings={"style": "oil"})
        )


def test_classes_and_nothing_at_all(settings: Settings, tmp_path: Path) -> None:
    manifest = Manifest(classes=("cat", "dog"), null_class=2)
    classes = opened(own_model(tmp_path / "classes", manifest, 3, num_class_embeds=3), settings)
    ask = Prompt(kind="picture", text="cat", model="x", seed=0)
    cat, dog = painted(classes, ask, Prompt(kind="picture", text="dog", model="x", seed=0))
    assert cat.shape == (8, 8, 3)
    assert apart(cat, dog) > 0
    with pytest.raises(InputError, match="the model knows no 'cow'"):
        painted(classes, Prompt(kind="picture", text="cow", model="x", seed=0))
    free = opened(own_model(tmp_path / "free", Manifest(), 3), settings)
    assert apart(*painted(free, ask, Prompt(kind="picture", text="", model="x", seed=0))) == 0
    for change in ({"settings": {"guidance_scale": 2.0}}, {"negative_text": "dog"}):
        with pytest.raises(InputError, match="cannot be guided"):
            painted(free, Prompt(kind="picture", text="", model="x", seed=0, **change))
