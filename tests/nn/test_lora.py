"""LoRA against the `peft` library, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from tests.tiny import tiny_lm_folder
from vermilion.errors import InputError, ModelError
from vermilion.models.lm import io
from vermilion.models.lm.adapters import adapt, load_adapters, save_adapters
from vermilion.models.lm.net import LM
from vermilion.nn.linear import Linear
from vermilion.nn.lora import LoRALinear, merge

# peft asks transformers in its old words.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

IDS = torch.arange(3, 35).view(2, 16)


@pytest.fixture(params=["llama", "qwen2", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny_lm_folder(tmp_path / "model", model_type=request.param)


def learned(net: LM) -> None:
    """As if something had been learned: B is 0 at first."""
    draw = torch.Generator().manual_seed(5)
    for layer in net.modules():
        if isinstance(layer, LoRALinear):
            for _, _, b in layer.pairs():
                b.data.normal_(0, 0.1, generator=draw)


@torch.no_grad()
def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-4)


@torch.no_grad()
def test_peft_opens_our_adapters(folder: Path, tmp_path: Path) -> None:
    net, _ = io.load(folder)
    plain = net(IDS)
    adapt(net, rank=4, alpha=8.0, seed=1)
    assert close(net(IDS), plain)
    learned(net)
    ours = net(IDS)
    assert not close(ours, plain)
    save_adapters(net, tmp_path / "adapter", base=str(folder), rank=4, alpha=8.0)
    theirs = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter"
    ).eval()
    assert close(theirs(IDS).logits, ours)


@torch.no_grad()
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["k_proj", "up_proj", "down_proj"]])
def test_adapters_of_some_projections_go_to_peft_and_back(
    tmp_path: Path, targets: list[str]
) -> None:
    folder = tiny_lm_folder(tmp_path / "model")
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM")
    theirs: Any = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).eval()
    for name, weight in theirs.named_parameters():
        if "lora_B" in name:
            weight.normal_(0, 0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    net, _ = io.load(folder)
    load_adapters(net, tmp_path / "adapter")
    ours = net(IDS)
    assert close(ours, theirs(IDS).logits)
    save_adapters(net, tmp_path / "again", base=str(folder), rank=3, alpha=5.0)
    reopened = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder), tmp_path / "again"
    )
    assert close(reopened.eval()(IDS).logits, ours)


@torch.no_grad()
def test_merged_layers_give_the_same(folder: Path, tmp_path: Path) -> None:
    net, tokenizer = io.load(folder)
    adapt(net, rank=4, alpha=8.0)
    learned(net)
    adapted = net(IDS)
    merge(net)
    assert not any(isinstance(layer, LoRALinear) for layer in net.modules())
    assert close(net(IDS), adapted)
    io.save(net, tokenizer, tmp_path / "merged")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert close(theirs(IDS).logits, adapted)


def test_only_adapters_learn() -> None:
    layer = LoRALinear(Linear(6, 10), (4, 6), (True, False), rank=2, alpha=4.0)
    layer.draw(torch.Generator().manual_seed(0))
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["a.0", "b.0"]
    layer(torch.ones(3, 6)).sum().backward()
    assert layer.b["0"].grad is not None
    assert layer.base.weight.grad is None


def test_dropout_of_adapters_is_for_training_only() -> None:
    layer = LoRALinear(Linear(6, 4), (4,), (True,), rank=2, alpha=4.0, dropout=0.5)
    layer.draw(torch.Generator().manual_seed(0))
    nn.init.ones_(layer.b["0"])
    x = torch.ones(1, 6)
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


def test_what_cannot_be_adapted_is_said(tmp_path: Path) -> None:
    net, _ = io.load(tiny_lm_folder(tmp_path / "model"))
    with pytest.raises(InputError, match="no c_attn; it has down_proj, gate_proj"):
        adapt(net, rank=2, alpha=2.0, targets=["c_attn"])
    with pytest.raises(ValueError, match="add up"):
        LoRALinear(Linear(6, 10), (4, 4), (True, True), rank=2, alpha=4.0)


def test_broken_adapters_are_refused(tmp_path: Path) -> None:
    net, _ = io.load(tiny_lm_folder(tmp_path / "model"))
    adapt(net, rank=2, alpha=2.0)
    save_adapters(net, tmp_path / "adapter", base="x", rank=2, alpha=2.0)
    other, _ = io.load(tiny_lm_folder(tmp_path / "other", hidden_size=32))
    with pytest.raises(ModelError, match="does not fit"):
        load_adapters(other, tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"LORA"', '"IA3"'))
    with pytest.raises(ModelError, match="another kind than LoRA"):
        load_adapters(net, tmp_path / "adapter")
