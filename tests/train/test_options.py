from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vermilion.errors import InputError, NotFoundError
from vermilion.nn.ema import EMA
from vermilion.train import schedules
from vermilion.train.lm.options import ALIASES, KINDS, Corpus, Shape, training_settings
from vermilion.train.optim import decay_groups
from vermilion.train.options import Training, parse_set, read_settings, resolve


def resolved(**given: Any) -> tuple[Any, ...]:
    return resolve(given, KINDS, ALIASES)


def test_both_spellings_are_understood() -> None:
    shape, corpus, *_, training = resolve(
        parse_set(
            ["n_layer=2", "n_embd = 64", "num_attention_heads=4", "lr=3e-4", "block_size=32"]
        ),
        KINDS,
        ALIASES,
    )
    assert shape == Shape(
        num_hidden_layers=2, hidden_size=64, num_attention_heads=4, max_position_embeddings=32
    )
    assert corpus == Corpus()
    assert training == Training(learning_rate=3e-4)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"n_layers": "2"}, "no 'n_layers'; did you mean n_layer"),
        ({"xyzzy": "2"}, "no 'xyzzy'; known are"),
        ({"n_layer": "2.5"}, "num_hidden_layers: .*integer.*found '2.5'"),
        ({"n_layer": "0"}, "num_hidden_layers: .*greater than or equal to 1"),
        ({"dropout": "1"}, "dropout: .*less than 1"),
        ({"schedule": "linear"}, "schedule: .*'cosine', 'wsd' or 'constant'"),
        ({"n_layer": "2", "num_hidden_layers": "3"}, "another spelling of num_hidden_layers"),
    ],
)
def test_wrong_settings_are_one_sentence(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        resolved(**given)


def test_settings_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('schedule = "wsd"\n[model]\nn_layer = 2\n')
    assert read_settings(path) == {"schedule": "wsd", "n_layer": 2}
    with pytest.raises(NotFoundError, match="does not exist"):
        read_settings(tmp_path / "none.toml")
    path.write_text("n_layer 2")
    with pytest.raises(InputError, match="is not TOML"):
        read_settings(path)
    with pytest.raises(InputError, match="'n_layer' is no key=value"):
        parse_set(["n_layer"])


def test_every_setting_has_a_sentence() -> None:
    rows = training_settings()
    assert len({name for name, _, _ in rows}) == len(rows) > 30
    assert all(about.endswith(".") for _, _, about in rows)


def test_cosine_rises_and_falls() -> None:
    rates = [schedules.cosine(s, warmup_steps=10, max_steps=110, floor=0.1) for s in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_wsd_has_a_plateau() -> None:
    options = Training(schedule="wsd", max_steps=100, warmup_steps=10, min_learning_rate=0.0)
    rates = [schedules.learning_rate(s, options) / options.learning_rate for s in range(101)]
    assert rates[10:81] == [1.0] * 71
    assert rates[85] == pytest.approx(1 - math.sqrt(0.25))
    assert rates[100] == 0


def test_matrices_decay_and_nothing_else() -> None:
    model = nn.ModuleDict(
        {
            "table": nn.Embedding(5, 4),
            "linear": nn.Linear(4, 4),
            "norm": nn.LayerNorm(4),
            "head": nn.Linear(4, 5, bias=False),
            "frozen": nn.Linear(4, 4).requires_grad_(requires_grad=False),
        }
    )
    model["head"].weight = model["table"].weight
    decaying, others = decay_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert [names[id(p)] for p in decaying["params"]] == ["linear.weight"]
    assert {names[id(p)] for p in others["params"]} == {
        "table.weight", "linear.bias", "norm.weight", "norm.bias",
    }  # fmt: skip
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)


def test_the_mean_of_weights_follows_its_equation() -> None:
    weight = nn.Parameter(torch.zeros(2))
    ema, expected = EMA({"w": weight}, 0.5), 0.0
    for n, value in enumerate([1.0, 3.0, 2.0] * 5):
        weight.data.fill_(value)
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert ema.means["w"].tolist() == pytest.approx([expected] * 2)
    with ema.applied():
        assert weight.tolist() == pytest.approx([expected] * 2)
    assert weight.tolist() == [2.0, 2.0]


def test_the_mean_with_gamma_is_that_of_the_paper() -> None:
    """Karras et al. 2024, eq. 6: weights of the past rise with the power gamma of their time."""
    weight = nn.Parameter(torch.zeros(1))
    ema, gamma, steps = EMA({"w": weight}, 0.0, 6.94), 6.94, 400
    for n in range(1, steps + 1):
        weight.data.fill_(n / steps)
        ema.update()
    # The mean of tau over the density (gamma + 1) tau^gamma is (gamma + 1) / (gamma + 2).
    assert float(ema.means["w"]) == pytest.approx((gamma + 1) / (gamma + 2), rel=0.01)
