"""Adapters against those that diffusers and peft load from the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from tests.models.diffusion.reference import TEXT, distance, noise, our_unet, their_unet
from tests.tiny import draw_weights
from vermilion.errors import ModelError
from vermilion.models.contrast.net import TextTransformer
from vermilion.models.diffusion.adapters import Adapter, Merged, applied
from vermilion.models.diffusion.net import UNet

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
ALL = [*ATTENTION, "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "conv", "conv_in"]
ALL += ["ff.net.0.proj", "ff.net.2", "time_emb_proj", "linear_1"]
TOWER = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]

Save = Callable[..., Path]


def their_tower(seed: int = 0) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=50,
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=10,
        bos_token_id=0,
        eos_token_id=49,
    )
    tower = CLIPTextModel(config).eval()
    draw_weights(tower, seed)
    return tower


class Pair:
    """The same networks, theirs and ours, and what they make of the same input."""

    def __init__(self, path: Path) -> None:
        unet, tower = their_unet(UNet2DConditionModel, **TEXT), their_tower()
        tower.save_pretrained(path / "tower")
        self.pipe: Any = StableDiffusionPipeline(
            vae=None,
            text_encoder=tower,
            tokenizer=None,
            unet=unet,
            scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self.unet: UNet = our_unet(unet)
        self.tower = TextTransformer.from_folder(path / "tower")
        self.x, self.t, self.context = noise(2, 4, 8, 8), torch.tensor([3, 500]), noise(2, 5, 12)
        self.ids = torch.tensor([[0, 7, 9, 49, 49], [0, 30, 2, 5, 49]])

    @torch.no_grad()
    def theirs(self) -> tuple[Tensor, Tensor]:
        seen = self.pipe.unet(self.x, self.t, self.context).sample
        return seen, self.pipe.text_encoder(self.ids).last_hidden_state

    @torch.no_grad()
    def ours(self) -> tuple[Tensor, Tensor]:
        return self.unet(self.x, self.t, self.context), self.tower.hidden(self.ids)

    def agree(self) -> None:
        for mine, reference in zip(self.ours(), self.theirs(), strict=True):
            assert distance(mine, reference) < 1e-5


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def drawn(net: nn.Module, targets: list[str], rank: int, seed: int, **fields: Any) -> Any:
    """A network's adapters as peft makes and names them, with random numbers in both matrices."""
    net.add_adapter(LoraConfig(r=rank, target_modules=targets, **fields), adapter_name="made")
    draw = torch.Generator().manual_seed(seed)
    for name, weight in net.named_parameters():
        if "lora_" in name:
            weight.data.normal_(0, 0.3, generator=draw)
    state = get_peft_model_state_dict(net, adapter_name="made")
    config = net.peft_config["made"].to_dict()
    return {name: tensor.clone() for name, tensor in state.items()}, config


def in_diffusers(path: Path, seed: int = 1, alpha: float | None = None) -> Path:
    """A file as `StableDiffusionPipeline.save_lora_weights` writes it."""
    rank, fields = 3, {} if alpha is None else {"lora_alpha": alpha}
    unet, unet_config = drawn(their_unet(UNet2DConditionModel, **TEXT), ALL, rank, seed, **fields)
    tower, tower_config = drawn(their_tower(), TOWER, 2, seed + 100, **fields)
    told = {} if alpha is None else {"unet": unet_config, "text_encoder": tower_config}
    StableDiffusionPipeline.save_lora_weights(
        path.parent,
        unet_lora_layers=unet,
        text_encoder_lora_layers=tower,
        weight_name=path.name,
        unet_lora_adapter_metadata=told.get("unet"),
        text_encoder_lora_adapter_metadata=told.get("text_encoder"),
    )
    return path


def in_kohya(path: Path, source: Path, alpha: float) -> Path:
    """The same matrices in kohya's layout."""
    tensors = {}
    for name, tensor in load_file(source).items():
        name = name.replace("text_encoder.", "lora_te_", 1).replace("unet.", "lora_unet_", 1)
        layer, _, end = name.rpartition(".lora_")
        layer = layer.replace(".", "_")
        if "lora_te_" in layer and "text_model" not in layer:  # the name since transformers 5
            layer = layer.replace("lora_te_", "lora_te_text_model_")
        end = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}[end]
        tensors[f"{layer}.{end}"] = tensor
        tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


def test_files_of_diffusers(pair: Pair, tmp_path: Path) -> None:
    before = pair.ours()
    path = in_diffusers(tmp_path / "a.safetensors")
    adapter = Adapter.read(path)
    pair.pipe.load_lora_weights(path)
    Merged(pair.unet, "unet").use([(adapter, 1.0)])
    Merged(pair.tower, "tower").use([(adapter, 1.0)])
    pair.agree()
    for old, new in zip(before, pair.ours(), strict=True):
        assert distance(old, new) > 0.01


def test_alpha_in_the_metadata_of_peft(pair: Pair, tmp_path: Path) -> None:
    path = in_diffusers(tmp_path / "a.safetensors", alpha=1.5)
    adapter = Adapter.read(path)
    assert {found.scale for found in adapter.unet.values()} == {0.5}
    assert {found.scale for found in adapter.tower.values()} == {0.75}
    pair.pipe.load_lora_weights(path)
    Merged(pair.unet, "unet").use([(adapter, 1.0)])
    Merged(pair.tower, "tower").use([(adapter, 1.0)])
    pair.agree()


def test_files_of_kohya(pair: Pair, tmp_path: Path) -> None:
    source = in_diffusers(tmp_path / "a.safetensors")
    path = in_kohya(tmp_path / "kohya.safetensors", source, 1.2)
    adapter, same = Adapter.read(path), Adapter.read(source)
    assert adapter.unet.keys() == same.unet.keys()
    assert adapter.tower.keys() == same.tower.keys()
    pair.pipe.load_lora_weights(path)
    Merged(pair.unet, "unet").use([(adapter, 1.0)])
    Merged(pair.tower, "tower").use([(adapter, 1.0)])
    pair.agree()


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # of a second adapter
def test_several_with_weights(pair: Pair, tmp_path: Path) -> None:
    paths = [in_diffusers(tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate("ab")]
    for name, path in zip("ab", paths, strict=True):
        pair.pipe.load_lora_weights(path, adapter_name=name)
    pair.pipe.set_adapters(["a", "b"], adapter_weights=[0.7, -0.4])
    wanted = list(zip(map(Adapter.read, paths), (0.7, -0.4), strict=True))
    Merged(pair.unet, "unet").use(wanted)
    Merged(pair.tower, "tower").use(wanted)
    pair.agree()


def test_applied_equals_merged(pair: Pair, tmp_path: Path) -> None:
    paths = [in_diffusers(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    wanted = list(zip(map(Adapter.read, paths), (0.7, 0.5), strict=True))
    before = pair.ours()
    with applied(pair.unet, "unet", wanted), applied(pair.tower, "tower", wanted):
        beside = pair.ours()
    assert all(map(torch.equal, pair.ours(), before))
    Merged(pair.unet, "unet").use(wanted)
    Merged(pair.tower, "tower").use(wanted)
    for one, other in zip(beside, pair.ours(), strict=True):
        assert distance(one, other) < 1e-5


def test_what_was_merged_comes_out_bit_for_bit(pair: Pair, tmp_path: Path) -> None:
    first, second = (
        Adapter.read(in_diffusers(tmp_path / f"{seed}.safetensors", seed)) for seed in (1, 2)
    )
    before = {name: weight.clone() for name, weight in pair.unet.state_dict().items()}
    merged = Merged(pair.unet, "unet")
    merged.use([(second, 1.0)])
    alone = pair.unet.state_dict()["conv_in.weight"].clone()
    merged.use([(first, 0.3), (second, 1.0)])
    merged.use([(second, 1.0)])
    assert torch.equal(pair.unet.state_dict()["conv_in.weight"], alone)
    merged.use([])
    for name, weight in pair.unet.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_older_names_of_diffusers(pair: Pair, tmp_path: Path) -> None:
    block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    a, b = noise(2, 16, seed=5), noise(16, 2, seed=6)
    layouts = (
        (f"unet.{block}.to_out.0.lora_A.weight", f"unet.{block}.to_out.0.lora_B.weight"),
        (f"unet.{block}.processor.to_out_lora.down.weight",) * 2,
        (f"{block}.processor.to_out_lora.down.weight",) * 2,
        (f"unet.{block}.to_out.0.lora.down.weight",) * 2,
    )
    for number, (down, up) in enumerate(layouts):
        path = tmp_path / f"{number}.safetensors"
        save_file({down: a, up.replace(".down.", ".up."): b}, path)
        assert list(Adapter.read(path).unet) == [f"{block}.to_out.0".replace(".", "_")]
    q_proj = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer"
    save_file({f"{q_proj}.down.weight": a, f"{q_proj}.up.weight": b}, path)
    assert list(Adapter.read(path).tower) == ["encoder_layers_0_self_attn_q_proj"]


LAYER = "lora_unet_down_blocks_0_attentions_0_proj_in"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_unet_x.hada_w1_a": (2, 2)}, "another kind than LoRA"),
        ({f"{LAYER}.lora_down.weight": (2, 4), f"{LAYER}.dora_scale": (4,)}, "another kind"),
        ({"vae.weight": (2, 2)}, "vae.weight is no part of a LoRA"),
        ({f"{LAYER}.lora_down.weight": (2, 4)}, "one of its two matrices"),
        (
            {f"{LAYER}.lora_down.weight": (2, 4), f"{LAYER}.lora_up.weight": (4, 3)},
            "do not fit together",
        ),
        (
            {"lora_te2_x.lora_down.weight": (2, 4), "lora_te2_x.lora_up.weight": (4, 2)},
            "a larger model than Stable Diffusion 1",
        ),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], message: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, path)
    with pytest.raises(ModelError, match=message) as found:
        Adapter.read(path)
    assert str(path) in str(found.value)


@pytest.mark.parametrize(
    ("layer", "size", "message"),
    [("lora_unet_mid_block_x", 4, "no layer mid_block_x"), (LAYER, 5, "is of another size")],
)
def test_adapters_of_another_model(
    pair: Pair, tmp_path: Path, layer: str, size: int, message: str
) -> None:
    path = tmp_path / "x.safetensors"
    state = {f"{layer}.lora_down.weight": noise(2, size), f"{layer}.lora_up.weight": noise(size, 2)}
    save_file(state, path)
    before = pair.unet.state_dict()["conv_in.weight"].clone()
    good = Adapter.read(in_diffusers(tmp_path / "good.safetensors"))
    with pytest.raises(ModelError, match=message):
        Merged(pair.unet, "unet").use([(good, 1.0), (Adapter.read(path), 1.0)])
    assert torch.equal(pair.unet.state_dict()["conv_in.weight"], before)


def test_a_file_that_is_no_file_of_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_text(json.dumps({}))
    with pytest.raises(ModelError, match="cannot be read"):
        Adapter.read(path)
