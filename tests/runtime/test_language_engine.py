"""Language models opened by their engine, in the numbers that the settings and the card say."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_lm_folder
from vermilion.errors import InputError, ModelError
from vermilion.models.lm import native_library
from vermilion.models.lm.decoder import TorchDecoder
from vermilion.models.lm.native import NativeDecoder
from vermilion.runtime.engines.language import LanguageEngine
from vermilion.runtime.store import Store
from vermilion.settings import Settings
from vermilion.types import Prompt

pytestmark = pytest.mark.skipif(not native_library.available(), reason="needs a C compiler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm_folder(tmp_path_factory.mktemp("models") / "tiny")


def opened(
    folder: Path, measured: dict[str, float] | None = None, **settings: Any
) -> LanguageEngine:
    card, path = Store(folder.parent / "store").locate(str(folder))
    if measured is not None:
        card = replace(card, options={"int8": measured})
    return LanguageEngine.open(card, path, Settings(device="cpu", **settings))


def prompts(count: int = 3) -> list[Prompt]:
    settings = {"max_new_tokens": 12, "temperature": 1.0}
    return [
        Prompt(kind="text", text="The red ink", model="tiny", seed=seed, settings=settings)
        for seed in range(count)
    ]


def written(engine: LanguageEngine, asked: list[Prompt]) -> list[str]:
    found = dict(engine.generate(asked))
    return [found[number].content for number in range(len(asked))]


def test_the_card_says_whether_int8_is_good(folder: Path) -> None:
    plain = opened(folder)
    assert "float32" in plain.device
    good = opened(folder, {"perplexity": 1.001, "speed": 2.0})
    assert isinstance(good.decoder, NativeDecoder)
    assert good.device == "cpu int8"
    assert plain.parameters == good.parameters
    assert opened(folder, {"perplexity": 1.2, "speed": 2.0}).device == plain.device


def test_the_settings_come_before_the_card(folder: Path) -> None:
    assert opened(folder, dtype="int8").device == "cpu int8"
    good = {"perplexity": 1.001, "speed": 2.0}
    assert "float32" in opened(folder, good, dtype="float32").device
    half = opened(folder, good, dtype="bfloat16")
    assert isinstance(half.decoder, TorchDecoder)
    assert half.device == "cpu bfloat16"
    assert len(set(written(half, prompts()))) == 3


def test_cache_memory_is_the_decoders(folder: Path) -> None:
    engine = opened(folder, dtype="int8", cache_memory=1_000_000)
    assert 900_000 < engine.decoder.capacity <= 1_000_000
    expected = written(opened(folder, dtype="int8"), prompts(20))
    assert written(engine, prompts(20)) == expected
    tiny = opened(folder, dtype="int8", cache_memory=1)
    with pytest.raises(InputError, match="VERMILION_CACHE_MEMORY"):
        written(tiny, [replace(p, settings={"max_new_tokens": 200}) for p in prompts(1)])


def test_one_seed_one_text_from_many_threads(folder: Path) -> None:
    engine = opened(folder, dtype="int8", max_batch=5)
    expected = [written(engine, [prompt])[0] for prompt in prompts(12)]
    assert len(set(expected)) > 6
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        found[number] = written(engine, prompts(12)[3 * number : 3 * number + 3])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text for number in range(4) for text in found[number]] == expected
    assert written(engine, prompts(12)) == expected


def test_int8_on_a_gpu_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    card, path = Store(folder.parent / "store").locate(str(folder))
    with pytest.raises(ModelError, match="VERMILION_DTYPE: int8 runs on a CPU"):
        LanguageEngine.open(card, path, Settings(device="cuda", dtype="int8"))
