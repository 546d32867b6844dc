"""How text is written: settings, their bounds, and those of older assets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from vermilion.errors import InputError
from vermilion.line.crafts.text import TextCraft
from vermilion.types import Prompt, Sample, TextSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"presence_penalty": 3}, r"step\.presence_penalty must be -2 to 2 \(found 3"),
        ({"frequency_penalty": -2.5}, r"step\.frequency_penalty must be -2 to 2"),
        ({"no_repeat_ngram_size": -1}, r"step\.no_repeat_ngram_size must be 0 to 1000"),
        ({"min_new_tokens": 300}, r"step\.min_new_tokens must be 0 to 256 \(found 300\)"),
        ({"num_beams": 0}, r"step\.num_beams must be 1 to 64"),
        ({"length_penalty": 11}, r"step\.length_penalty must be -10 to 10"),
        ({"logprobs": 21}, r"step\.logprobs must be 0 to 20"),
        ({"early_stopping": "always"}, r"step: early_stopping"),
        ({"stop": ["a", ""]}, r"step\.stop: a stop string is empty"),
        ({"stop_token_ids": [3, -1]}, r"step\.stop_token_ids: "),
        ({"pattern": "a", "grammar": 'start: "a"'}, "schema, pattern and grammar exclude"),
        ({"schema": {}, "grammar": 'start: "a"'}, "schema, pattern and grammar exclude"),
        ({"num_beams": 2, "temperature": 0.7}, r"step\.num_beams: .* leave temperature out"),
        ({"num_beams": 2, "pattern": "a"}, r"step\.num_beams: .* follows no schema"),
        ({"num_beams": 2, "logprobs": 1}, r"step\.num_beams: .* set logprobs to 0"),
        ({"num_beams": 2, "beam_rank": 2}, r"step\.beam_rank must be 0 to 1 \(found 2"),
        ({"beam_rank": 1}, r"step\.beam_rank must be 0 to 0"),
        ({"num_beam": 2}, "did you mean num_beams"),
    ],
    ids=str,
)
def test_values_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        TextCraft().settings(values, "step")
    assert "\n" not in str(caught.value)


def test_beams_take_no_chances_unless_told() -> None:
    settings = TextCraft().settings({"num_beams": 4, "early_stopping": "never"}, "step")
    assert (settings["temperature"], settings["early_stopping"]) == (0, "never")
    assert TextCraft().settings({}, "step") == asdict(TextSettings())


def test_settings_of_an_older_asset_get_the_usual_values() -> None:
    old = {"temperature": 0.5, "top_k": 3, "stop": ["x"], "pattern": "a+"}
    settings = TextSettings(**TextCraft().settings(old, "step"))
    assert settings == TextSettings(temperature=0.5, top_k=3, stop=("x",), pattern="a+")


def test_several_of_a_search_are_its_best_in_turn() -> None:
    craft = TextCraft()
    values = craft.settings({"num_beams": 4, "beam_rank": 1}, "settings")
    assert [each["beam_rank"] for each in craft.each(values, 3)] == [1, 2, 3]
    with pytest.raises(InputError, match=r"^n: a search with 4 beams .* raise num_beams to 5$"):
        craft.each(values, 4)
    plain = craft.settings({}, "settings")
    assert craft.each(plain, 2) == [plain, plain]


@pytest.mark.parametrize(
    ("written", "finish", "text", "whole"),
    [
        (" sells tea. And then", "length", "The shop. It sells tea.", True),
        (" sells tea and", "length", "The shop. It sells tea and", False),
        ("self", "stop", "The shop. Itself", True),
        ("\n", "stop", "The shop. It", False),
    ],
)
def test_a_prompt_before_the_text_is_left_whole(
    written: str, finish: str, text: str, whole: bool
) -> None:
    craft, prompt = TextCraft(), "The shop. It"
    settings = craft.settings({"echo": True}, "settings")
    sample = Sample(
        prompt=Prompt(kind="text", text=prompt, model="m", seed=0, settings=settings),
        content=prompt + written,
        notes={"finish": finish, "echo": True},
    )
    finished = craft.finish(sample)
    assert (finished.content, finished.notes["whole"]) == (text, whole)
