"""A recipe as A1111's text, and back."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vermilion.seal import parameters
from vermilion.types import Prompt

RECIPE = {
    "prompt": asdict(
        Prompt(
            kind="picture",
            text="a lighthouse, (rain:1.2)\nat night ",
            model="sd15",
            seed=0,
            negative_text="blurry, 低质量",
            settings={
                "num_inference_steps": 20,
                "sampler": "Euler a",
                "guidance_scale": 7.0,
                "width": 512,
                "height": 768,
            },
        )
    ),
    "model": {"name": "sd15, tiny", "weights": "0123456789abcdef" * 4},
    "versions": {"vermilion": "0.1.0", "torch": "2"},
    "device": "cpu",
}
TEXT = (
    "a lighthouse, (rain:1.2)\nat night\n"
    "Negative prompt: blurry, 低质量\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 0, Size: 512x768, Model hash: 0123456789,"
    ' Model: "sd15, tiny", Version: vermilion 0.1.0'
)


def test_a_recipe_as_text_and_back() -> None:
    assert parameters.to_parameters(RECIPE) == TEXT
    assert parameters.parse(TEXT) == {
        "prompt": "a lighthouse, (rain:1.2)\nat night",
        "negative_prompt": "blurry, 低质量",
        "num_inference_steps": 20,
        "sampler": "Euler a",
        "guidance_scale": 7.0,
        "seed": 0,
        "width": 512,
        "height": 768,
        "model": "sd15, tiny",
        "model_hash": "0123456789",
        "version": "vermilion 0.1.0",
    }
    assert parameters.recognised(TEXT)


def test_a_recipe_of_speech_has_its_seed_and_model() -> None:
    recipe = {
        "prompt": asdict(Prompt(kind="speech", text="Hello.", model="hibari", seed=7)),
        "versions": {"vermilion": "0.1.0"},
    }
    text = parameters.to_parameters(recipe)
    assert text == "Hello.\nSeed: 7, Model: hibari, Version: vermilion 0.1.0"
    assert parameters.parse(text)["prompt"] == "Hello."
    assert parameters.to_parameters({}) == ""


# As AUTOMATIC1111's webui 1.9 writes it, and Forge, and a very old version.
WEBUI = (
    "masterpiece, <lora:ink:0.8>, a cat\nby the river\n"
    "Negative prompt: (worst quality:1.4),\nEasyNegative\n"
    "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 2179987202, "
    "Size: 768x512, Model hash: 93b79e09ed, Model: anything-v4.5, Denoising strength: 0.45, "
    'Clip skip: 2, Lora hashes: "ink: 4a1f, other: 99\\"9", TI hashes: "EasyNegative: c74b", '
    "Version: v1.9.4"
)
OLD = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"


def test_what_a1111_writes() -> None:
    read = parameters.parse(WEBUI)
    assert read["prompt"] == "masterpiece, <lora:ink:0.8>, a cat\nby the river"
    assert read["negative_prompt"] == "(worst quality:1.4),\nEasyNegative"
    assert read["scheduler"] == "Karras"
    assert read["guidance_scale"] == 6.5
    assert read["seed"] == 2179987202
    assert (read["width"], read["height"]) == (768, 512)
    assert read["strength"] == 0.45
    assert read["clip_skip"] == 2
    assert read["Lora hashes"] == 'ink: 4a1f, other: 99"9'
    assert read["version"] == "v1.9.4"
    old = parameters.parse(OLD)
    assert (old["prompt"], old["negative_prompt"], old["seed"]) == ("a cat", "", 1)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("", ""),
        ("only words", "only words"),
        ("Style: ink, Colour: red", "Style: ink, Colour: red"),  # two pairs are not a last line
        ("a\nb\n", "a\nb"),
    ],
)
def test_a_text_of_another_form_is_all_prompt(text: str, prompt: str) -> None:
    assert parameters.parse(text) == {"prompt": prompt, "negative_prompt": ""}
    assert not parameters.recognised(text)


def test_a_comment_is_not_taken_for_parameters() -> None:
    assert not parameters.recognised("Camera: X, Lens: 50mm, Place: sea")
    assert parameters.recognised(WEBUI)
    assert parameters.recognised(OLD)


def test_numbers_that_are_none_stay_words() -> None:
    read = parameters.parse("a\nSteps: many, CFG scale: 1e9, Seed: -1, Size: big")
    assert read["num_inference_steps"] == "many"
    assert read["guidance_scale"] == "1e9"
    assert read["seed"] == -1
    assert read["size"] == "big"


line = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\x85"),
    max_size=40,
).map(str.strip)


@given(
    text=line.filter(lambda t: not t.startswith("Negative prompt:")),
    negative=line.filter(lambda t: not t.startswith("Negative prompt:")),
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(1, 999),
    model=line,
    sampler=line,
)
def test_any_recipe_comes_back(
    text: str, negative: str, seed: int, steps: int, model: str, sampler: str
) -> None:
    recipe = {
        "prompt": {
            "text": text,
            "negative_text": negative,
            "seed": seed,
            "model": model or "m",
            "settings": {"steps": steps, "sampler": sampler or "s"},
        },
    }
    read = parameters.parse(parameters.to_parameters(recipe))
    assert (read["prompt"], read["negative_prompt"]) == (text, negative)
    assert (read["seed"], read["num_inference_steps"]) == (seed, steps)
    assert (read["model"], read["sampler"]) == (model or "m", sampler or "s")
