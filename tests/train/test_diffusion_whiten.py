"""Whitened captions: what they are, and that a published model reads plain ones."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vermilion as vm
from tests.train.pictures import DIT, SMALL, discs, engine, put_encoder
from tests.train.runs import weights
from vermilion.data.pictures import Batches, Cache, CacheSettings, Decoding, read
from vermilion.models.diffusion import io
from vermilion.models.diffusion.config import UNET_CONDITION, UNetConfig
from vermilion.models.diffusion.dit import DiT, DiTConfig
from vermilion.models.diffusion.guidance import Condition
from vermilion.models.diffusion.net import UNet
from vermilion.models.lm.encode import Encoder
from vermilion.runtime.engines.towers import SentenceTower
from vermilion.train.diffusion.whiten import Affine, Whitening, captions_of, fold, whitening_of
from vermilion.train.diffusion.words import Reader
from vermilion.train.loop import Event

TEXTS = [f"{colour} {thing}" for colour in ("red", "blue", "a", "the") for thing in
         ("seal", "shop", "cat", "dog", "sun")]  # fmt: skip


@pytest.fixture
def encoder(home: Path, tmp_path: Path) -> Path:
    name = put_encoder(home, tmp_path)
    return vm.Store(home / "models").locate(name)[1]


def reader_of(encoder: Path) -> Reader:
    return Reader(SentenceTower(Encoder.from_folder(encoder), 8, pooled=True))


def test_vectors_are_centred_and_of_unit_covariance(encoder: Path) -> None:
    reader = reader_of(encoder)
    plain = reader.condition(TEXTS)
    told: list[tuple[int, int]] = []
    shrinkage = 0.1
    white = whitening_of(reader, TEXTS, shrinkage, lambda *n: told.append(n))
    assert told[-1] == (len(TEXTS), len(TEXTS))
    assert plain.context is not None
    assert plain.pooled is not None
    there = plain.context.abs().sum(dim=-1) > 0  # (N, T)
    assert 0 < int(there.sum()) < there.numel()
    for affine, x in ((white.context, plain.context[there]), (white.pooled, plain.pooled)):
        assert affine is not None
        x = x.double().numpy()
        s, u = np.linalg.eigh(np.cov(x, rowvar=False, bias=True))
        matrix = u @ np.diag((s.clip(0) + shrinkage * s.mean()) ** -0.5) @ u.T
        np.testing.assert_allclose(affine.mean, x.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(affine.matrix, matrix, rtol=1e-3, atol=1e-3 * abs(matrix).max())
        mapped = affine(torch.from_numpy(x).float()).numpy()
        np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-4)
        found = np.linalg.eigvalsh(np.cov(mapped, rowvar=False, bias=True))
        np.testing.assert_allclose(found.max(), (s / (s + shrinkage * s.mean())).max(), rtol=1e-3)


def test_how_long_vectors_are_does_not_matter() -> None:
    """The pooled vectors of a sentence encoder are of length 1; others scale them by sqrt(D)."""

    class Scaled:
        parameters, guides = 0, True

        def __init__(self, scale: float) -> None:
            self.scale = scale

        def chunks(self, text: str) -> int:
            return 1

        def use(self, wanted: Any, learnt: Any) -> None:
            raise NotImplementedError

        def condition(self, texts: Any, *, chunks: int = 1, skip: int = 0) -> Condition:
            draws = [torch.Generator().manual_seed(sum(text.encode())) for text in texts]
            x = torch.stack([torch.randn(6, generator=draw) for draw in draws])
            return Condition(pooled=self.scale * x / x.norm(dim=-1, keepdim=True))

    found = []
    for scale in (1.0, 19.6):
        reader = Reader(Scaled(scale))
        reader.change(whitening_of(Reader(Scaled(scale)), TEXTS, 0.1))
        found.append(reader.condition(TEXTS).pooled)
    assert found[0] is not None
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_a_reader_changes_what_it_remembers_and_what_it_reads(
    encoder: Path, tmp_path: Path
) -> None:
    one, two = reader_of(encoder), reader_of(encoder)
    white = whitening_of(one, TEXTS[:5], 0.1)
    white.write(tmp_path / "white.safetensors")
    again = Whitening.read(tmp_path / "white.safetensors")
    one.change(white)
    two.change(again)
    for text in (TEXTS[0], TEXTS[-1]):
        first, second = one.condition([text]), two.condition([text])
        assert first.context is not None
        assert second.context is not None
        assert first.pooled is not None
        assert second.pooled is not None
        assert torch.equal(first.context, second.context)
        assert torch.equal(first.pooled, second.pooled)


def net_of(kind: str) -> UNet | DiT:
    if kind == "dit":
        return DiT(
            DiTConfig(
                sample_size=8, num_layers=2, num_attention_heads=2, attention_head_dim=8,
                num_embeds_ada_norm=None, cross_attention_dim=12,
                projection_class_embeddings_input_dim=12, label_map_dim=10,
            )
        )  # fmt: skip
    return UNet(
        UNetConfig(
            architecture=UNET_CONDITION, sample_size=8, block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=4,
            layers_per_block=1, cross_attention_dim=12, attention_head_dim=2,
            class_embed_type="projection", projection_class_embeddings_input_dim=12,
        )
    )  # fmt: skip


def affine(seed: int) -> Affine:
    draw = torch.Generator().manual_seed(seed)
    root = torch.randn(12, 12, generator=draw)
    return Affine(torch.randn(12, generator=draw), root @ root.T / 12 + 0.3 * torch.eye(12))


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_a_folded_network_says_of_plain_vectors_what_it_said_of_whitened_ones(kind: str) -> None:
    net = net_of(kind).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw) * 0.2)
    x, t = torch.randn(3, 4, 8, 8, generator=draw), torch.tensor([10.0, 400.0, 990.0])
    context, pooled = torch.randn(3, 5, 12, generator=draw), torch.randn(3, 12, generator=draw)
    context[:, 3:] = 0  # padding
    white = Whitening(affine(1), affine(2))
    assert white.context is not None
    assert white.pooled is not None

    def said(one: Tensor, label: Tensor) -> Tensor:
        with torch.no_grad():
            return net(x, t, one, label)

    wanted = said(white.context(context), white.pooled(pooled))
    before = said(context, pooled)
    fold(net, white)
    found = said(context, pooled)
    size = float(wanted.abs().max())
    assert float((before - wanted).abs().max()) > 0.01 * size
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * max(size, 1))


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_a_published_model_is_an_ordinary_one(
    kind: str, home: Path, encoder: Path, tmp_path: Path
) -> None:
    pictures = discs(tmp_path / "discs")
    settings: dict[str, Any] = {
        **(DIT | {"label_map_dim": 8} if kind == "dit" else SMALL), "max_steps": 6,
        "whiten_text": 0.1, "text_encoder": "tiny-encoder", "max_tokens": 8, "ema_decay": 0,
        "learning_rate": 0.02, "style_dropout": 0.5,
    }  # fmt: skip
    order: dict[str, Any] = {"text": str(tmp_path / "told.jsonl"), "settings": settings}
    vm.train_diffusion(pictures, name="straight", **order)

    def watch(event: Event) -> None:
        if event.kind == "step" and event.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    vm.train_diffusion(pictures, name="half", watch=watch, **order)
    vm.train_diffusion(pictures, name="half", **order)
    one, two = weights("straight", home), weights("half", home)
    assert all(torch.equal(one[key], two[key]) for key in one)
    _, folder = vm.Store(home / "models").locate("half")
    published = io.open_pipeline(folder)
    assert "whiten" not in json.dumps(json.loads((folder / "vermilion.json").read_text()))
    net = io.open_pipeline(folder).net
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.copy_(two.get(f"weights/{name}", weight))
    reader, whitened = reader_of(encoder), reader_of(encoder)
    whitened.change(Whitening.read(home / "runs" / "half" / "white.safetensors"))
    texts = ["red seal 1, flat", "", "blue"]
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([10.0, 400.0, 990.0])

    def said(of: UNet | DiT, by: Reader) -> Tensor:
        told = by.condition(texts)
        with torch.no_grad():
            return of(x, t, told.context, told.pooled)

    wanted = said(net, whitened)
    assert float((said(net, reader) - wanted).abs().max()) > 1e-3
    torch.testing.assert_close(said(published.net, reader), wanted, rtol=1e-4, atol=1e-4)
    prompt = vm.Prompt(kind="picture", text="red seal", model="half", seed=3)
    ((_, sample),) = engine("half").generate([prompt])
    assert sample.content.shape == (16, 16, 3)


def test_captions_are_each_read_once(home: Path, tmp_path: Path) -> None:
    pictures = discs(tmp_path / "discs")
    found = read(pictures, captions=str(tmp_path / "told.jsonl"), how=Decoding())
    data = Batches(Cache.open(found, CacheSettings(size=16), tmp_path / "cache"), 4, seed=0)
    every = {found.captions(i)[0] for i in range(len(found))}
    plain, short = captions_of(data, shortened=False), captions_of(data, shortened=True)
    assert sorted(plain) == sorted(every)
    assert sorted(short) == sorted(every | {text.removesuffix(", flat") for text in every})
