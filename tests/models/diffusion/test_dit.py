"""The DiT against diffusers, and what diffusers has no class for by what must be true of it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, DiTPipeline, DiTTransformer2DModel
from torch.nn import functional as F

from tests.models.diffusion.reference import distance, noise, our_vae, their_vae
from tests.tiny import draw_weights
from vermilion.errors import InputError, ModelError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.dit import DiT, DiTConfig
from vermilion.models.diffusion.names import dit_from_diffusers, dit_to_diffusers
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SMALL: dict[str, Any] = {
    "sample_size": 8,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_embeds_ada_norm": 5,
}
TIMES, LABELS = torch.tensor([3, 700]), torch.tensor([4, 5])


def their_dit(**fields: Any) -> DiTTransformer2DModel:
    """With weights as the published ones have them: one embedding of time, copied to all blocks."""
    net = DiTTransformer2DModel(**{**SMALL, **fields}).eval()
    draw_weights(net, 0)
    first = net.transformer_blocks[0].norm1.emb.state_dict()
    for block in net.transformer_blocks:
        block.norm1.emb.load_state_dict(first)
    return net


def our_dit(theirs: DiTTransformer2DModel) -> DiT:
    config = {**theirs.config, "_class_name": "DiTTransformer2DModel"}
    net = DiT(DiTConfig.from_diffusers(config)).eval()
    names = dit_from_diffusers(net.state_dict())
    net.load_state_dict({ours: theirs.state_dict()[name] for ours, name in names.items()})
    return net


@pytest.mark.parametrize(
    "fields",
    [{}, {"patch_size": 1}, {"patch_size": 4, "in_channels": 3}, {"out_channels": 8},
     {"norm_eps": 1e-2}],
)  # fmt: skip
@pytest.mark.parametrize("side", [8, 16])
def test_it_is_that_of_diffusers(fields: dict[str, Any], side: int) -> None:
    theirs = their_dit(**fields)
    ours = our_dit(theirs)
    x = noise(2, theirs.config.in_channels, side, side)
    with torch.no_grad():
        found = ours(x, TIMES, labels=LABELS)
        assert distance(found, theirs(x, TIMES, LABELS).sample) < 1e-5
        assert distance(ours(x[1:], TIMES[1:], labels=LABELS[1:]), found[1:]) < 1e-5
    assert found.std() > 0.05


def test_diffusers_has_the_same_weights_again() -> None:
    theirs = their_dit()
    state = dit_to_diffusers(our_dit(theirs).state_dict())
    assert state.keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(state[name], weight), name


def test_every_default_is_that_of_diffusers() -> None:
    config = DiTConfig.from_diffusers({"_class_name": "DiTTransformer2DModel"}).to_diffusers()
    assert config.pop("_class_name") == "DiTTransformer2DModel"
    theirs = inspect.signature(DiTTransformer2DModel.__init__).parameters
    assert {name: theirs[name].default for name in config} == config
    for name in theirs.keys() - config.keys() - {"self"}:
        with pytest.raises(ValueError, match=f"^{name}: .* is not supported"):
            DiTConfig.from_diffusers({"_class_name": "DiTTransformer2DModel", name: "strange"})


def test_text_and_vectors() -> None:
    config = DiTConfig(
        **{**SMALL, "num_embeds_ada_norm": None},
        cross_attention_dim=12,
        projection_class_embeddings_input_dim=6,
    )
    net = DiT(config).eval()
    draw_weights(net, 0)
    x, context, pooled = noise(2, 4, 8, 12), noise(2, 5, 12), noise(2, 6)
    with torch.no_grad():
        found = net(x, TIMES, context, pooled)
        assert found.shape == x.shape
        assert distance(net(x[1:], TIMES[1:], context[1:], pooled[1:]), found[1:]) < 1e-5
        # Each thing that it is told matters, and the order of the text's tokens does not.
        assert distance(net(x, TIMES, context.flip(1), pooled), found) < 1e-5
        assert distance(net(x, TIMES, context + 1, pooled), found) > 1e-3
        assert distance(net(x, TIMES, context, pooled + 1), found) > 1e-3
        assert distance(net(x, TIMES + 100, context, pooled), found) > 1e-3
    assert DiTConfig.from_diffusers(config.to_diffusers()) == config
    assert config.to_diffusers()["_class_name"] == "VermilionDiT"
    with pytest.raises(InputError, match="context: is for a network that reads text"):
        net(x, TIMES, None, pooled)
    with pytest.raises(InputError, match="labels: are for a network that is told a class"):
        net(x, TIMES, context)


def test_a_label_is_spread_over_the_places() -> None:
    config = DiTConfig(
        **{**SMALL, "num_embeds_ada_norm": None},
        cross_attention_dim=12,
        projection_class_embeddings_input_dim=6,
        label_map_dim=10,
    )
    net = DiT(config).eval()
    draw_weights(net, 0)
    side = config.sample_size
    x, context, pooled = noise(2, 4, side, side), noise(2, 5, 12), noise(2, 6)
    with torch.no_grad():
        found = net(x, TIMES, context, pooled)
        # By the equations at the top of the file, with all that the blocks add taken away.
        bare = DiT(replace(config, num_layers=1)).eval()
        state = {
            k: v for k, v in net.state_dict().items() if not k.startswith("transformer_blocks")
        }
        bare.load_state_dict(state, strict=False)
        for block in bare.transformer_blocks:
            for weight in (*block.norm1.parameters(), *block.attn2.to_out.parameters()):
                weight.zero_()
        bare.proj_out_1.weight.zero_()
        bare.proj_out_1.bias.zero_()
        m = bare.label_map.linear_2(F.silu(bare.label_map.linear_1(pooled))).view(
            2, -1, config.features
        )
        h = bare.pos_embed.proj(x).flatten(2).transpose(1, 2) + m
        places = side // config.patch_size
        h = h + bare._positions(places, places, x)
        wanted = bare.proj_out_2(
            F.layer_norm(h, (config.features,), eps=1e-6)
        ) + bare.label_map.draft(m)
        wanted = wanted.view(2, places, places, 2, 2, 4).permute(0, 5, 1, 3, 2, 4)
        assert distance(bare(x, TIMES, context, pooled), wanted.reshape(x.shape)) < 1e-5
        assert distance(net(x[1:], TIMES[1:], context[1:], pooled[1:]), found[1:]) < 1e-5
        wide = noise(2, 4, side, 2 * side)
        assert net(wide, TIMES, context, pooled).shape == wide.shape
    assert DiTConfig.from_diffusers(config.to_diffusers()) == config
    net.init_weights(seed=1)
    with torch.no_grad():
        assert net(x, TIMES, context, pooled).abs().max() == 0


def test_it_begins_by_saying_nothing() -> None:
    net = DiT(DiTConfig(**SMALL))
    net.init_weights(seed=1)
    with torch.no_grad():
        assert net(noise(2, 4, 8, 8), TIMES, labels=LABELS).abs().max() == 0
    assert net.transformer_blocks[0].attn1.to_q.weight.std() > 0.05


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_size": 0}, "patch_size: must be a whole number above 0"),
        ({"num_attention_heads": 1, "attention_head_dim": 6}, "attention_head_dim: heads and it"),
        ({"projection_class_embeddings_input_dim": 3}, "num_embeds_ada_norm: a label is"),
        ({"label_map_dim": 8}, "label_map_dim: only a label that is a vector"),
    ],
)
def test_what_does_not_fit_together(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiTConfig(**{**SMALL, **fields})


def test_diffusers_opens_a_dit_of_ours_and_we_theirs(tmp_path: Path) -> None:
    theirs, vae = their_dit(), our_vae(their_vae())
    io.save_pipeline(
        tmp_path / "dit", net=our_dit(theirs), codec=vae,
        scheduler=SchedulerConfig(class_name="DDIMScheduler"),
    )  # fmt: skip
    opened = DiffusionPipeline.from_pretrained(tmp_path / "dit")
    assert type(opened) is DiTPipeline
    state = theirs.state_dict()
    for name, weight in opened.transformer.state_dict().items():
        assert torch.equal(weight, state.pop(name)), name
    assert not state
    again = io.open_pipeline(tmp_path / "dit").net
    assert isinstance(again, DiT)
    x = noise(2, 4, 8, 8)
    with torch.no_grad():
        assert distance(again(x, TIMES, labels=LABELS), theirs(x, TIMES, LABELS).sample) < 1e-5
    with torch.no_grad():
        theirs.transformer_blocks[1].norm1.emb.timestep_embedder.linear_1.bias += 1
    theirs.save_pretrained(tmp_path / "dit" / "transformer")
    with pytest.raises(ModelError, match="differs from that of the first block"):
        io.open_pipeline(tmp_path / "dit")


def test_a_dit_that_reads_text_comes_back(tmp_path: Path) -> None:
    net = DiT(DiTConfig(**{**SMALL, "num_embeds_ada_norm": None}, cross_attention_dim=12)).eval()
    draw_weights(net, 0)
    io.save_pipeline(
        tmp_path / "dit", net=net, codec=PixelCodec(1, 4),
        scheduler=SchedulerConfig.rectified_flow(),
    )  # fmt: skip
    again = io.open_pipeline(tmp_path / "dit").net
    x, context = noise(2, 4, 8, 8), noise(2, 5, 12)
    with torch.no_grad():
        assert torch.equal(again(x, TIMES, context), net(x, TIMES, context))
    found = io.needs(tmp_path / "dit")
    assert found.parameters == sum(weight.numel() for weight in net.parameters())
