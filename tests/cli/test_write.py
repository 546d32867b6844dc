"""How text is written, as the options of `write` say it; in a process of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import vermilion as vm
from tests.cli.test_commands import complaint, run
from tests.tiny import SENTENCES
from tests.train.runs import SMALL


def written(*words: str, home: Path, model: str) -> dict[str, Any]:
    fixed = ("write", "green tea", "--model", model, "--seed", "3", "--json")
    (asset,) = json.loads(run(*fixed, *words, home=home).stdout)
    return dict(asset)


def test_beams_then_the_same_again(home: Path, tiny_model: str) -> None:
    words = ("--num-beams", "3", "--early-stopping", "never", "--length-penalty", "0")
    limits = ("--max-new-tokens", "9", "--no-repeat-ngram-size", "2", "--min-new-tokens", "3")
    asset = written(*words, *limits, home=home, model=tiny_model)
    settings = asset["recipe"]["prompt"]["settings"]
    assert (settings["num_beams"], settings["temperature"]) == (3, 0)
    assert (settings["early_stopping"], settings["no_repeat_ngram_size"]) == ("never", 2)
    again = run("library", "remake", asset["id"], "--json", home=home)
    assert json.loads(again.stdout)["same"] is True


def test_the_best_texts_of_one_search(home: Path, tiny_model: str) -> None:
    words = ("write", "green tea", "--model", tiny_model, "--num-beams", "4")
    words += ("--max-new-tokens", "8")
    assets = json.loads(run(*words, "-n", "3", "--json", home=home).stdout)
    assert len({asset["text"] for asset in assets}) == 3
    assert [asset["recipe"]["prompt"]["settings"]["beam_rank"] for asset in assets] == [0, 1, 2]
    (alone,) = json.loads(run(*words, "--json", home=home).stdout)
    assert alone["text"] == assets[0]["text"]
    again = run("library", "remake", assets[2]["id"], "--json", home=home)
    assert json.loads(again.stdout)["same"] is True
    assert "n: a search with 4 beams finds 4 texts" in complaint(*words, "-n", "5", home=home)


def test_a_model_without_a_chat_template_goes_on_with_the_prompt(
    home: Path, tmp_path: Path
) -> None:
    text = tmp_path / "shop.txt"
    text.write_text("\n".join(SENTENCES * 20), encoding="utf-8")
    settings = SMALL | {"block_size": 48, "max_steps": 60, "learning_rate": 1e-2}
    vm.train_lm(text, name="shop", settings=settings)
    words = ("write", "A small shop", "--model", "shop", "--temperature", "0.1")
    words += ("--max-new-tokens", "20")
    done = run(*words, home=home)
    assert done.stdout.startswith("A small shop")
    (asset,) = json.loads(run(*words, "--json", home=home).stdout)
    assert asset["text"].startswith("A small shop")
    assert len(asset["text"]) > len("A small shop")
    again = run("library", "remake", asset["id"], "--json", home=home)
    assert json.loads(again.stdout)["same"] is True
    # It ends at once where any token may end it.
    ends = [part for token in range(300) for part in ("--stop-token-id", str(token))]
    done = run(*words, *ends, home=home)
    assert done.stdout == "A small shop\n"
    assert "is empty: the model ended it at once; try --min-new-tokens" in done.stderr


def test_logprobs_with_json(home: Path, tiny_model: str) -> None:
    words = ("--logprobs", "2", "--max-new-tokens", "5", "--top-k", "9", "--min-p", "0.01")
    penalties = ("--presence-penalty", "0.5", "--frequency-penalty", "0.5")
    notes = written(*words, *penalties, home=home, model=tiny_model)["notes"]
    assert len(notes["logprobs"]) == notes["tokens"]
    for token in notes["logprobs"]:
        assert token["logprob"] <= 0
        assert [p["logprob"] for p in token["top"]] == sorted(
            (p["logprob"] for p in token["top"]), reverse=True
        )
        assert len(token["top"]) == 2
    total = sum(token["logprob"] for token in notes["logprobs"])
    assert notes["logprob"] == pytest.approx(total / notes["tokens"], abs=1e-4)


def test_schema_pattern_and_grammar(home: Path, tiny_model: str, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    shape = {"properties": {"n": {"type": "boolean"}}, "required": ["n"]}
    schema.write_text(json.dumps({"type": "object", "additionalProperties": False, **shape}))
    lark = tmp_path / "tea.lark"
    lark.write_text('start: cup ", " cup\ncup: "green" | "black" | /r[eo]d/\n')
    assert written("--schema", str(schema), home=home, model=tiny_model)["text"] in (
        "True",
        "False",
    )
    text = written("--pattern", "[A-C]{4}", home=home, model=tiny_model)["text"]
    assert re.fullmatch("[A-C]{4}", text)
    text = written("--grammar", str(lark), home=home, model=tiny_model)["text"]
    assert re.fullmatch("(green|black|r[eo]d), (green|black|r[eo]d)", text)


def test_what_cannot_be_used(home: Path, tiny_model: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bad.lark").write_text("start: nothing")
    (tmp_path / "some.lark").write_text('start: "a"')
    for words, message in (
        (("--min-p", "2"), "settings.min_p must be 0 to 1"),
        (("--schema", str(tmp_path / "bad.json")), "schema: .* is not JSON"),
        (("--grammar", str(tmp_path / "bad.lark")), 'grammar: it cannot be used .* "nothing"'),
        (("--grammar", str(tmp_path / "none")), "grammar: .* cannot be read"),
        (("--grammar", str(tmp_path / "some.lark"), "--pattern", "a"), "exclude one another"),
    ):
        error = complaint("write", "tea", "--model", tiny_model, *words, home=home)
        assert re.search(message, error), error
