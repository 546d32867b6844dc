"""Choosing tokens, against softmax and the logits processors of transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.models.lm.plain_sample import plain_choice
from vermilion.errors import InputError, ModelError
from vermilion.models.lm.decoder import TOLERANCE
from vermilion.models.lm.logits import Row
from vermilion.models.lm.noise import Spare, contenders, gumbel
from vermilion.models.lm.sample import Choice, Sampling, choose

Floats = NDArray[np.float32]


def random_logits(size: int, seed: int = 0, spread: float = 1.0) -> Floats:
    return (np.random.default_rng(seed).normal(size=size) * spread).astype(np.float32)


def choice_of(
    logits: Floats,
    sampling: Sampling,
    *,
    step: int = 0,
    seen: Sequence[int] = (0,),
    allowed: NDArray[np.bool_] | None = None,
    tolerance: float = TOLERANCE,
) -> Choice:
    """The choice after a prompt and `step` new tokens, all of them `seen`."""
    row = Row(sampling, [*seen, *([seen[0]] * step)], tolerance=tolerance)
    row.prompt_length = len(seen)
    row.allowed = allowed
    (choice,) = choose(torch.from_numpy(logits.astype(np.float32))[None], [row])
    return choice


def reference(logits: Floats, sampling: Sampling, seen: list[int] | None = None) -> Floats:
    """What transformers makes of the logits before it draws, (V,)."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        processors.append(MinPLogitsWarper(sampling.min_p))
    ids = torch.tensor([seen or [0]])
    scores: Floats = processors(ids, torch.from_numpy(logits)[None])[0].numpy()
    return scores


SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 4},
    {"top_k": 12},
    {"top_k": 100},
    {"top_p": 0.3},
    {"top_p": 0.9, "temperature": 0.7},
    {"top_p": 0.01},
    {"min_p": 0.2},
    {"min_p": 1.0},
    {"top_k": 6, "top_p": 0.8},
    {"top_k": 6, "top_p": 0.9, "min_p": 0.15, "temperature": 1.3},
    {"repetition_penalty": 1.5},
    {"repetition_penalty": 0.7, "top_k": 5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_draws_have_the_distribution_of_transformers(settings: dict[str, Any]) -> None:
    logits, seen, draws = random_logits(12), [1, 5, 7], 3000
    scores = reference(logits, Sampling(**settings), seen)
    expected = np.exp(scores - scores.max())
    expected /= expected.sum()
    assert expected[expected > 0].min() * draws > 5  # else a token might fail to come out
    counts = np.zeros(12)
    for seed in range(draws):
        sampling = Sampling(**settings, seed=seed)
        counts[choice_of(logits, sampling, step=seed % 3, seen=seen).token] += 1
    assert set(np.flatnonzero(counts)) == set(np.flatnonzero(expected))
    assert chi_square(counts, expected * draws) < critical(np.count_nonzero(expected) - 1)


def chi_square(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    kept = expected > 0
    return float(((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum())


def critical(freedom: int) -> float:
    """About the 0.9999 quantile of chi-square (Wilson & Hilferty 1931)."""
    if freedom == 0:
        return 1e-9
    return freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3


def test_one_seed_draws_every_step_anew() -> None:
    logits = random_logits(6)
    expected = np.exp(logits) / np.exp(logits).sum() * 6000
    counts = np.zeros(6)
    for step in range(6000):
        counts[choice_of(logits, Sampling(seed=0), step=step).token] += 1
    assert chi_square(counts, expected) < critical(5)


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_only_what_transformers_keeps(settings: dict[str, Any], size: int) -> None:
    for seed in range(100):
        sampling, logits = Sampling(**settings, seed=seed), random_logits(size, seed, spread=3)
        scores = reference(logits, sampling)
        choice = choice_of(logits, sampling, step=0, seen=[0])
        assert scores[choice.token] > -np.inf
        logprobs = torch.from_numpy(logits).log_softmax(-1)
        assert choice.logprob == pytest.approx(float(logprobs[choice.token]), abs=1e-4)


def test_temperature_0_takes_the_likeliest() -> None:
    for seed in range(50):
        logits = random_logits(100, seed)
        sampling = Sampling(temperature=0, top_k=3, top_p=0.5, min_p=0.9, seed=seed)
        choice = choice_of(logits, sampling, step=0)
        assert choice.token == logits.argmax()
        assert choice.certain == (logits.max() - np.sort(logits)[-2] > TOLERANCE)


def test_the_smallest_temperature_is_greedy() -> None:
    logits = random_logits(100)
    assert choice_of(logits, Sampling(temperature=1e-9), step=0).token == logits.argmax()


def test_ties_are_uncertain() -> None:
    assert not choice_of(np.array([1, 1, 0], np.float32), Sampling(temperature=0), step=0).certain
    nearly = np.array([1, 1 + TOLERANCE / 2, 0], np.float32)
    assert not choice_of(nearly, Sampling(temperature=0), step=0).certain
    clearly = np.array([1, 1 + TOLERANCE * 2, 0], np.float32)
    assert choice_of(clearly, Sampling(temperature=0), step=0).certain


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("temperature", [0.0, None], ids=["greedy", "drawn"])
def test_no_noise_changes_a_certain_choice(
    settings: dict[str, Any], temperature: float | None
) -> None:
    """However the gaps between logits change by less than the tolerance."""
    draw = np.random.default_rng(0)
    changed = {True: 0, False: 0}
    for seed in range(3000):
        # Many ties but for a little: there the last digits decide which tokens are kept.
        logits = np.round(draw.normal(size=20) * 2) / 2 + draw.uniform(-2, 2, 20) * TOLERANCE
        noise = draw.choice([-0.49, 0.49], 20) * TOLERANCE
        values = settings | ({} if temperature is None else {"temperature": temperature})
        sampling, seen = Sampling(**values, seed=seed), [2, 3, 5]
        plain = choice_of(logits.astype(np.float32), sampling, step=0, seen=seen)
        noisy = choice_of((logits + noise).astype(np.float32), sampling, step=0, seen=seen)
        changed[plain.certain] += plain.token != noisy.token
    assert changed[True] == 0
    if temperature == 0:
        assert changed[False] > 10  # the noise does reach the choice


@pytest.mark.parametrize("top_p", [0.5 - 1e-5, 0.5 + 1e-5])
def test_what_top_p_only_just_keeps_is_uncertain(top_p: float) -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2]))
    tokens: dict[bool, set[int]] = {True: set(), False: set()}
    for seed in range(200):
        sampling = Sampling(top_p=top_p, seed=seed)
        plain = choice_of(logits.astype(np.float32), sampling, step=0)
        tokens[plain.certain].add(plain.token)
        for change in (-0.49, 0.49):
            moved = logits + np.array([change * TOLERANCE, 0, 0])
            other = choice_of(moved.astype(np.float32), sampling, step=0)
            assert other.token == plain.token or not plain.certain
    assert tokens[True] == {0}
    assert tokens[False]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_nearly_all_choices_are_certain(settings: dict[str, Any]) -> None:
    certain = [
        choice_of(random_logits(2000, seed), Sampling(**settings, seed=seed), step=0).certain
        for seed in range(400)
    ]
    assert np.mean(certain) > 0.98


def test_a_grammar_takes_away_tokens() -> None:
    logits, allowed = random_logits(10), np.zeros(10, bool)
    allowed[[2, 6]] = True
    for settings in SETTINGS:
        tokens = {
            choice_of(logits, Sampling(**settings, seed=s), step=0, allowed=allowed).token
            for s in range(60)
        }
        assert tokens <= {2, 6}
    greedy = choice_of(logits, Sampling(temperature=0), step=0, allowed=allowed)
    assert greedy.token == max((2, 6), key=lambda i: logits[i])
    allowed[6] = False
    only = choice_of(logits, Sampling(temperature=0), step=0, allowed=allowed)
    assert (only.token, only.certain) == (2, True)
    assert only.logprob == pytest.approx(float(torch.from_numpy(logits).log_softmax(-1)[2]))
    with pytest.raises(InputError, match="leaves no token"):
        choice_of(logits, Sampling(), step=0, allowed=np.zeros(10, bool))


def test_logits_are_left_as_they_are() -> None:
    logits = random_logits(30)
    before = logits.copy()
    for settings in SETTINGS:
        choice_of(logits, Sampling(**settings), step=0, seen=range(9), allowed=np.ones(30, bool))
    np.testing.assert_array_equal(logits, before)


def test_noise_is_standard_gumbel_and_depends_on_each_argument() -> None:
    noise = gumbel(7, 3, np.arange(50_000))
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)  # Euler's constant
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.05)
    below = np.mean(noise < 1)
    assert below == pytest.approx(math.exp(-math.exp(-1)), abs=0.01)
    np.testing.assert_array_equal(gumbel(7, 3, np.array([40, 2])), noise[[40, 2]])
    for other in (gumbel(8, 3, np.arange(50_000)), gumbel(7, 4, np.arange(50_000))):
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.02
    # Neighbouring seeds and steps are not one another's texts, shifted.
    assert gumbel(8, 3, np.arange(9)).tolist() != gumbel(7, 4, np.arange(9)).tolist()
    assert np.isfinite(gumbel(2**63 - 1, 10**6, np.arange(1000))).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.01),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_values_out_of_range(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{field}: must be"):
        Sampling(**{field: value})


@pytest.mark.parametrize("tolerance", [0.0, TOLERANCE])
def test_a_choice_is_the_same_to_the_bit_whatever_the_batch(tolerance: float) -> None:
    draw = np.random.default_rng(0)
    kinds = [*SETTINGS, {"temperature": 0}, {"top_k": 300}, {"logprobs": 5, "top_k": 50}]
    rows = []
    for number in range(3 * len(kinds)):
        sampling = Sampling(**kinds[number % len(kinds)], seed=number)
        prompt = draw.integers(0, 5000, 40).tolist()
        rows.append(Row(sampling, prompt, tolerance=tolerance))
    logits = torch.from_numpy(draw.normal(size=(len(rows), 5000)).astype(np.float32) * 3)
    together = choose(logits, rows)
    assert len({choice.token for choice in together}) > 20
    for size in (1, 2, 7):
        for first in range(0, len(rows), size):
            part = slice(first, first + size)
            assert choose(logits[part], rows[part]) == together[part]
    if tolerance == 0:
        assert all(choice.certain for choice in together)


def test_where_many_tokens_tie_the_smaller_is_taken() -> None:
    logits = np.zeros(5000, np.float32)
    assert choice_of(logits, Sampling(temperature=0), tolerance=0.0, seen=[4999]).token == 0
    logits[[40, 4000]] = 1
    choice = choice_of(logits, Sampling(temperature=0), tolerance=0.0)
    assert (choice.token, choice.certain) == (40, True)
    tokens = {choice_of(logits * 0, Sampling(top_k=3, seed=s)).token for s in range(50)}
    assert len(tokens) > 40  # as in transformers, all that tie with the last are kept


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers(value: float) -> None:
    logits = random_logits(3000)
    logits[2000] = value
    with pytest.raises(ModelError, match="not finite"):
        choice_of(logits, Sampling(top_k=5))


def test_a_ban_that_leaves_nothing() -> None:
    row = Row(Sampling(no_repeat_ngram_size=1), [0, 1, 2])
    with pytest.raises(InputError, match="^no_repeat_ngram_size: it leaves no token"):
        choose(torch.zeros(1, 3), [row])


KINDS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"temperature": 1e-9},
    {"top_p": 0.9},
    {"top_p": 0.5},
    {"top_p": 0.999999},
    {"min_p": 0.05},
    {"min_p": 1e-6, "top_p": 0.95},
    {"top_p": 0.9, "temperature": 0.2, "min_p": 0.3},
    {"top_k": 300},
    {"top_k": 2000, "top_p": 0.9},
    {"top_k": 50, "top_p": 0.9},
    {"top_k": 7000, "min_p": 0.01},
    {"temperature": 0.0},
]


@pytest.mark.parametrize("tolerance", [0.0, TOLERANCE, 0.1])
@pytest.mark.parametrize("spread", [0.5, 3.0, 30.0])
@pytest.mark.parametrize("coarse", [False, True], ids=["", "ties"])
def test_choices_are_those_of_the_plain_way(tolerance: float, spread: float, coarse: bool) -> None:
    """Of a whole batch at once, to the bit, and as certain."""
    rows, logits = [], []
    for number, settings in enumerate(4 * KINDS):
        row = Row(Sampling(**settings, seed=number), [0, 5], tolerance=tolerance)
        if number % 7 == 3:
            row.allowed = random_logits(6000, 1000 + number) > 2.5
        rows.append(row)
        values = random_logits(6000, number, spread)
        logits.append(np.round(values) if coarse else values)
    choices = choose(torch.from_numpy(np.stack(logits)), rows)
    plain = [plain_choice(values, row) for values, row in zip(logits, rows, strict=True)]
    assert [(choice.token, choice.certain) for choice in choices] == plain
    assert len({token for token, _ in plain}) > 20


def test_contenders_hold_all_that_the_noise_can_lift() -> None:
    for seed in range(200):
        scores = random_logits(5000, seed, 3.0).astype(np.float64)
        noisy = scores + gumbel(seed, 3, np.arange(5000))
        for best in (noisy.max(), np.sort(noisy)[-40], np.sort(noisy)[-2] - 1e-3):
            spare = Spare(5000)
            spare.scores.copy_(torch.from_numpy(scores))
            found = contenders(seed, 3, float(best), spare)
            assert set(np.flatnonzero(noisy >= best)) <= set(found.tolist())
            assert len(found) < 500
