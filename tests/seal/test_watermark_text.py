"""The text watermark: what is green, how it is found, and how an engine hides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vermilion.errors import InputError
from vermilion.runtime.engines.language import LanguageEngine
from vermilion.runtime.loader import Loader
from vermilion.runtime.store import Store
from vermilion.seal.watermark.text import GreenList
from vermilion.settings import Settings
from vermilion.types import Prompt, TextSettings

KEY, OTHER = b"k" * 32, b"o" * 32
SIZE = 49_152


@pytest.fixture(scope="module")
def greens() -> GreenList:
    return GreenList(KEY, SIZE)


def test_a_share_of_gamma_is_green_and_each_token_before_has_its_own(greens: GreenList) -> None:
    masks = np.array([greens.green([i]) for i in range(300)])  # (300, V)
    assert masks.dtype == np.bool_
    # Standard deviations of a binomial share: over the tokens, and over what stands before.
    assert np.abs(masks.mean(axis=1) - 0.25).max() < 5 * (0.25 * 0.75 / SIZE) ** 0.5
    assert masks.mean(axis=0).std() == pytest.approx((0.25 * 0.75 / 300) ** 0.5, rel=0.05)
    correlation = np.corrcoef(masks[:60].astype(np.float32)) - np.eye(60)
    assert np.abs(correlation).max() < 6 / SIZE**0.5


def test_colours_follow_from_key_and_last_token_alone(greens: GreenList) -> None:
    again = GreenList(KEY, SIZE)
    assert (again.green([1, 2, 7]) == greens.green([9, 7])).all()
    assert (GreenList(KEY, 1000).green([7]) == greens.green([7])[:1000]).all()
    assert 0.3 < (GreenList(OTHER, SIZE).green([7]) == greens.green([7])).mean() < 0.7
    # Marks that were hidden must be found by later versions.
    assert np.flatnonzero(greens.green([7]))[:6].tolist() == FIRST_GREEN


FIRST_GREEN = [1, 4, 5, 7, 9, 11]


def test_the_list_of_green_tokens_cannot_be_written_to(greens: GreenList) -> None:
    with pytest.raises(ValueError, match="read-only"):
        greens.green([3])[0] = True


@given(st.lists(st.integers(0, SIZE - 1), min_size=2, max_size=60), st.integers(0, 70))
def test_detect_counts_what_green_gives(ids: list[int], prompt_length: int) -> None:
    greens = GreenList(KEY, SIZE)
    pairs = {(ids[i - 1], ids[i]) for i in range(max(1, prompt_length), len(ids))}
    found = greens.detect(ids, prompt_length)
    assert found.tokens == len(pairs)
    assert found.green == sum(bool(greens.green([last])[token]) for last, token in pairs)


def test_z_and_probability_are_those_of_the_binomial_distribution(greens: GreenList) -> None:
    from scipy.stats import binom

    ids = np.random.default_rng(0).integers(0, SIZE, 400).tolist()
    found = greens.detect(ids)
    mean, spread = 0.25 * found.tokens, (found.tokens * 0.25 * 0.75) ** 0.5
    assert found.z == pytest.approx((found.green - mean) / spread)
    expected = binom.sf(found.green - 1, found.tokens, 0.25)
    assert found.probability == pytest.approx(expected)
    assert not found.present


def test_random_texts_do_not_look_marked_and_marked_ones_do(greens: GreenList) -> None:
    rng = np.random.default_rng(1)
    z = [greens.detect(rng.integers(0, SIZE, 101).tolist()).z for _ in range(500)]
    assert abs(np.mean(z)) < 0.2
    assert 0.9 < np.std(z) < 1.1
    ids = [0]
    for _ in range(100):
        ids.append(int(rng.choice(np.flatnonzero(greens.green(ids)))))
    assert greens.detect(ids).present
    assert greens.detect(ids).z == pytest.approx((3 * 100) ** 0.5)
    assert not GreenList(OTHER, SIZE).detect(ids).present


def test_a_text_that_repeats_itself_does_not_look_marked(greens: GreenList) -> None:
    pair = [5, int(np.flatnonzero(greens.green([5]))[0])]
    assert greens.detect(pair * 300).tokens == 2
    assert not greens.detect(pair * 300).present


def test_an_empty_text_says_nothing(greens: GreenList) -> None:
    for ids in ([], [4]):
        found = greens.detect(ids)
        assert (found.tokens, found.probability, found.present) == (0, 1.0, False)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"key": b"short"}, "key"),
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": 1.0}, "gamma"),
        ({"vocab_size": 0}, "vocab_size"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        GreenList(**{"key": KEY, "vocab_size": 10, **values})
    with pytest.raises(InputError, match="previous"):
        GreenList(KEY, 10).green([])


def opened(model: str, key: bytes | None, home: Path) -> LanguageEngine:
    settings = Settings(home=home)
    made = None if key is None else lambda size: GreenList(key, size).green
    engine = Loader(Store(settings.models_dir), settings, made).open(model)[1]
    assert isinstance(engine, LanguageEngine)
    return engine


def prompt(model: str, seed: int, **settings: Any) -> Prompt:
    chosen = TextSettings(max_new_tokens=40, min_new_tokens=40, **settings)
    return Prompt(kind="text", text="tea", model=model, seed=seed, settings=asdict(chosen))


def tokens_of(engine: LanguageEngine, prompts: Sequence[Prompt]) -> list[list[int]]:
    samples = dict(engine.generate(prompts))
    return [[t["id"] for t in samples[i].notes["logprobs"]] for i in range(len(prompts))]


def test_an_engine_hides_it_and_one_seed_gives_one_text(tiny_model: str, home: Path) -> None:
    engine = opened(tiny_model, KEY, home)
    size = engine.decoder.config.vocab_size
    marked = [prompt(tiny_model, seed, watermark=6.0, logprobs=0) for seed in range(4)]
    plain = [prompt(tiny_model, seed, logprobs=0) for seed in range(4)]
    together = tokens_of(engine, [*plain, *marked])
    alone = [tokens_of(engine, [one])[0] for one in [*plain, *marked]]
    assert together == alone
    greens = GreenList(KEY, size)
    assert all(greens.detect(ids).z > 4 for ids in together[4:])
    assert all(greens.detect(ids).z < 4 for ids in together[:4])
    assert all(GreenList(OTHER, size).detect(ids).z < 4 for ids in together[4:])


def test_no_watermark_leaves_every_token_as_it_was(tiny_model: str, home: Path) -> None:
    asked = [prompt(tiny_model, 1, logprobs=0), prompt(tiny_model, 2, logprobs=0, watermark=0.0)]
    with_key = tokens_of(opened(tiny_model, KEY, home), asked)
    assert tokens_of(opened(tiny_model, None, home), asked) == with_key


def test_texts_that_follow_a_grammar_have_none(tiny_model: str, home: Path) -> None:
    engine = opened(tiny_model, KEY, home)
    led = {"pattern": "[a-z ]{60,80}", "logprobs": 0}
    marked = prompt(tiny_model, 3, watermark=8.0, **led)
    assert tokens_of(engine, [marked]) == tokens_of(engine, [prompt(tiny_model, 3, **led)])


def test_a_model_without_a_key_says_so(tiny_model: str, home: Path) -> None:
    engine = opened(tiny_model, None, home)
    with pytest.raises(InputError, match="watermark: "):
        list(engine.generate([prompt(tiny_model, 1, watermark=2.0)]))
