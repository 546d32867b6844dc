"""Whole runs: taken up bit for bit, over two processes, published."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import vermilion as vm
from tests.tiny import SENTENCES, tiny_lm_folder
from tests.train.runs import SMALL, column, weights
from vermilion.errors import InputError
from vermilion.models.lm import io
from vermilion.models.lm.tokenizer import Tokenizer
from vermilion.models.lm.train_tokenizer import byte_level_bpe, characters
from vermilion.train import checkpoint
from vermilion.train.lm.prepare import encode_chat
from vermilion.train.loop import Event, Trainer


def killed_after(step: int) -> Any:
    """A watcher under which the process is stopped as by `kill`."""

    def watch(event: Event) -> None:
        if event.kind == "step" and event.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return watch


@pytest.mark.parametrize("how", ["new", "gpt2", "lora"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    how: str, text: Path, home: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {**SMALL, "max_steps": 20, "dropout": 0.2, "ema_decay": 0.9}
    order: dict[str, Any] = {}
    if how == "gpt2":
        settings["architecture"] = "GPT2LMHeadModel"
    if how == "lora":
        order = {"base": str(tiny_lm_folder(tmp_path / "base")), "lora": True}
        for key in ("n_layer", "n_embd", "n_head", "block_size", "vocab_size"):
            del settings[key]
        settings |= {"context": 16, "lora_dropout": 0.1}
    straight = vm.train_lm(text, name="straight", settings=settings, **order)
    assert straight.run.outcome.state == "finished"
    half = vm.train_lm(text, name="half", settings=settings, watch=killed_after(10), **order)
    assert (half.run.outcome.state, half.run.outcome.step) == ("stopped", 10)
    assert half.card is None
    # Only what bears on no weight may differ.
    whole = vm.train_lm(text, name="half", settings=settings | {"save_steps": 7}, **order)
    assert whole.run.outcome.step == 20
    one, two = weights("straight", home), weights("half", home)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert column("straight", home, "loss") == column("half", home, "loss")
    assert column("straight", home, "step") == list(range(1, 21))
    assert column("straight", home, "perplexity") == column("half", home, "perplexity")
    cards = [vm.Store(home / "models").show(name).card for name in ("straight", "half")]
    assert cards[0] is not None
    assert cards[1] is not None
    published = [card.files["model.safetensors"].sha256 for card in cards if card is not None]
    assert published[0] == published[1]


def test_what_is_trained_opens_in_transformers(text: Path, home: Path) -> None:
    settings = {**SMALL, "max_steps": 30, "eval_steps": 10, "learning_rate": 0.01}
    trained = vm.train_lm(text, name="shop", settings=settings, licence="CC0-1.0")
    losses = column("shop", home, "validation_loss")
    assert losses[-1] < losses[0] - 0.5
    assert trained.card is not None
    assert (trained.card.source, trained.card.licence) == ("trained here", "CC0-1.0")
    recipe = trained.card.options["recipe"]
    assert recipe["validation_loss"] == pytest.approx(min(losses))
    assert recipe["config"]["training"]["learning_rate"] == 0.01
    _, folder = vm.Store(home / "models").locate("shop")
    net, tokenizer = io.load(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    words = "The painter signs."
    ids = AutoTokenizer.from_pretrained(folder)(words, return_tensors="pt").input_ids
    assert ids[0].tolist() == tokenizer.encode(words)
    with torch.no_grad():
        torch.testing.assert_close(net(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
    again = vm.train_lm(text, name="shop", settings=settings, licence="CC0-1.0")
    assert again.run.outcome.step == 30
    vm.Store(home / "models").remove("shop")
    with pytest.raises(InputError, match="no model 'shop'"):
        vm.Store(home / "models").locate("shop")


def test_another_config_or_a_taken_name_is_refused(text: Path, home: Path) -> None:
    settings = {**SMALL, "max_steps": 2}
    vm.train_lm(text, name="a", settings=settings)
    with pytest.raises(InputError, match=r"training.max_steps was 2 and is now 3.*another --name"):
        vm.train_lm(text, name="a", settings=settings | {"max_steps": 3})
    with pytest.raises(InputError, match="choose another"):
        vm.train_lm(text, name="smollm2-135m", settings=settings)
    with pytest.raises(InputError, match="adapters need a model"):
        vm.train_lm(text, name="b", lora=True)
    with pytest.raises(InputError, match="is longer than the text"):
        vm.train_lm(text, name="c", settings=settings | {"block_size": 100_000})
    with pytest.raises(InputError, match="hidden_size: must be a multiple"):
        vm.train_lm(text, name="d", settings=settings | {"n_head": 3})


def test_patience_ends_a_run_and_the_best_is_kept(
    text: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, "max_steps": 60, "eval_steps": 2, "patience": 3, "learning_rate": 0.5}
    run = vm.train_lm(text, name="wild", settings=settings).run
    assert run.outcome.state == "early"
    losses = column("wild", home, "validation_loss")
    assert run.outcome.best == pytest.approx(min(losses), rel=1e-6)
    assert run.outcome.best_step == 2 * (losses.index(min(losses)) + 1)
    assert run.outcome.step == run.outcome.best_step + 6


def test_a_checkpoint_is_whole_or_not_there(
    text: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, "max_steps": 4, "save_steps": 2}
    written = checkpoint.save_file

    def full(tensors: Any, path: Path, *args: Any) -> None:
        if "step-00000004" in str(path) and path.stem == "optimizer":
            raise OSError(28, "No space left on device")
        written(tensors, path, *args)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(vm.VermilionError, match="cannot be written.*No space"):
        vm.train_lm(text, name="a", settings=settings)
    assert checkpoint.steps(home / "runs" / "a" / "checkpoints") == [2]
    monkeypatch.undo()
    assert Trainer is not None
    os.environ["VERMILION_HOME"] = str(home)
    vm.get_settings.cache_clear()
    assert vm.train_lm(text, name="a", settings=settings).run.outcome.step == 4


def test_samples_and_events(text: Path, home: Path) -> None:
    events: list[Event] = []
    settings = {**SMALL, "max_steps": 4, "eval_steps": 2, "sample_steps": 4, "tensorboard": True}
    vm.train_lm(text, name="a", settings=settings, watch=events.append)
    kinds = [event.kind for event in events]
    assert kinds.count("step") == 4
    assert kinds.count("validation") == 2
    assert (kinds[0], kinds[-1]) == ("begin", "checkpoint")
    assert (home / "runs" / "a" / "samples" / "step-00000004.txt").read_text().strip()
    assert list((home / "runs" / "a" / "tensorboard").iterdir())


def test_only_the_assistants_turns_count(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_lm_folder(tmp_path / "m"))
    messages = [
        {"role": "user", "content": "Tea?"},
        {"role": "assistant", "content": "Red <|im_end|> ink."},
        {"role": "user", "content": "Paper?"},
        {"role": "assistant", "content": "Small."},
    ]
    ids, mask = encode_chat(tokenizer, messages)
    assert mask is not None
    shown = tokenizer.fast.decode(list(ids), skip_special_tokens=False)
    assert shown == tokenizer.chat(messages, add_generation_prompt=False)
    # What somebody wrote into a message closes no turn.
    assert list(ids).count(tokenizer.fast.token_to_id("<|im_end|>")) == len(messages)
    counted = [i for i, m in zip(ids, mask, strict=True) if m]
    answers = tokenizer.fast.decode(counted, skip_special_tokens=False)
    assert answers == "Red <|im_end|> ink.<|im_end|>\nSmall.<|im_end|>\n"


def test_training_on_conversations(home: Path, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Which ink?"},
                {"role": "assistant", "content": f"The red ink number {i}."},
            ]
        }
        for i in range(120)
    ]
    data = tmp_path / "faq.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    trained = vm.train_lm(data, settings={**SMALL, "max_steps": 2}, tokenizer="characters")
    assert trained.name == "faq"
    _, folder = vm.Store(home / "models").locate("faq")
    assert (
        Tokenizer.from_folder(folder)
        .chat([{"role": "user", "content": "Hi"}])
        .endswith("<|im_start|>assistant\n")
    )


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_new_tokenizers_spell_everything(kind: str, tmp_path: Path) -> None:
    made = byte_level_bpe(SENTENCES, 300) if kind == "bpe" else characters(SENTENCES)
    made.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*SENTENCES, "Größe 詩 🎨\n\tend", "a<|endoftext|>b"):
        ids = made.encode(text)
        assert theirs(text).input_ids == ids
        assert made.fast.decode(ids, skip_special_tokens=False) == text
    if kind == "characters":
        assert len(made.encode("印章的红色")) == 5
        assert len(made.encode("詩")) == 3
    else:
        assert made.fast.get_vocab_size() == 300


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_samples_go_on_with_what_was_held_back(precision: str, text: Path, home: Path) -> None:
    settings = {**SMALL, "max_steps": 2, "sample_steps": 2, "precision": precision}
    vm.train_lm(text, name="a", settings=settings)
    path = home / "runs" / "a" / "samples" / "step-00000002.txt"
    first = path.read_text("utf-8")
    assert len(first.split("\n\n")) >= 2
    path.unlink()
    vm.train_lm(text, name="b", settings=settings)
    assert (home / "runs" / "b" / "samples" / path.name).read_text("utf-8") == first
