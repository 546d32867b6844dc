"""Text under a grammar."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.models.lm.test_generate import run
from vermilion.errors import InputError
from vermilion.models.lm import grammar
from vermilion.models.lm.generate import Request
from vermilion.models.lm.net import LM
from vermilion.models.lm.sample import Sampling
from vermilion.models.lm.tokenizer import Tokenizer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 12},
        "price": {"type": "integer", "minimum": 1, "maximum": 999},
        "colour": {"enum": ["red", "ink black", "印章红"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["title", "price", "colour", "tags"],
    "additionalProperties": False,
}


def requests(tokenizer: Tokenizer, source: str, count: int, **settings: Any) -> list[Request]:
    ids = tokenizer.encode("The red")
    return [
        Request(ids=ids, sampling=Sampling(seed=i, **settings), max_new_tokens=230, grammar=source)
        for i in range(count)
    ]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0}, {"temperature": 2.0, "top_k": 3}])
def test_json_under_a_schema(net: LM, tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    source = grammar.from_json_schema(SCHEMA)
    pieces = run(net, tokenizer, requests(tokenizer, source, 12, **settings), 5)
    for piece in pieces:
        assert piece.finish == "stop"
        assert "\n" not in piece.text
        value = json.loads(piece.text)
        assert list(value) == ["title", "price", "colour", "tags"]
        assert len(value["title"]) <= 12
        assert 1 <= value["price"] <= 999
        assert value["colour"] in SCHEMA["properties"]["colour"]["enum"]
        assert 1 <= len(value["tags"]) <= 3
        assert all(type(tag) is bool for tag in value["tags"])
    if settings.get("temperature") != 0:
        assert len({piece.text for piece in pieces}) == len(pieces)


def test_under_a_grammar_the_batch_changes_nothing(net: LM, tokenizer: Tokenizer) -> None:
    led = requests(tokenizer, grammar.from_json_schema(SCHEMA), 5)
    free = [Request(ids=[5, 6], sampling=Sampling(seed=9), max_new_tokens=30)]
    together = run(net, tokenizer, led + free, 3)
    for request, piece in zip(led + free, together, strict=True):
        assert run(net, tokenizer, [request])[0].text == piece.text


def test_a_pattern(net: LM, tokenizer: Tokenizer) -> None:
    pattern = r"[A-Z][a-z]{2,6}, (red|黑)[0-9]{3}"
    for piece in run(net, tokenizer, requests(tokenizer, grammar.from_pattern(pattern), 8)):
        assert re.fullmatch(pattern, piece.text)
        assert piece.finish == "stop"


def test_a_text_that_is_cut_off_says_so(net: LM, tokenizer: Tokenizer) -> None:
    (request,) = requests(tokenizer, grammar.from_json_schema(SCHEMA), 1)
    (piece,) = run(
        net,
        tokenizer,
        [
            Request(
                ids=request.ids,
                sampling=request.sampling,
                max_new_tokens=4,
                grammar=request.grammar,
            )
        ],
    )
    assert (piece.tokens, piece.finish) == (4, "length")


def test_special_tokens_are_no_way_out(net: LM, tokenizer: Tokenizer) -> None:
    """A grammar of any text must not let the model write the tokens that open a turn."""
    source = grammar.from_pattern(r"(.|\n){150}")
    for piece in run(net, tokenizer, requests(tokenizer, source, 4, temperature=3.0)):
        assert len(piece.text) == 150


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"enum": []},
        {"type": "colour"},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "string", "pattern": "("},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema.json"},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        {"not": {"type": "string"}},
    ],
    ids=str,
)
def test_schemas_that_cannot_be_used(net: LM, tokenizer: Tokenizer, schema: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        run(net, tokenizer, requests(tokenizer, grammar.from_json_schema(schema), 1))
    assert "schema" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["(", "[", "a{5,2}", r"(a)\1", "(?=a)b"])
def test_patterns_that_cannot_be_used(pattern: str) -> None:
    with pytest.raises(InputError, match=r"^pattern: it cannot be used") as caught:
        grammar.from_pattern(pattern)
    assert "\n" not in str(caught.value)


LARK = r"""
start: order ("; " order)~1..2
order: amount " " colour " ink"
amount: /[1-9][0-9]?/
colour: "red" | "black" | "印章红"
"""


def test_a_lark_grammar(net: LM, tokenizer: Tokenizer) -> None:
    order = "[1-9][0-9]? (red|black|印章红) ink"
    pieces = run(net, tokenizer, requests(tokenizer, grammar.from_lark(LARK), 8))
    for piece in pieces:
        assert re.fullmatch(f"{order}(; {order}){{1,2}}", piece.text)
        assert piece.finish == "stop"
    assert len({piece.text for piece in pieces}) > 4


@pytest.mark.parametrize(
    "source", ["", "start: nothing", 'start: "a', 'word: "a"', "start: @other", '%import "/etc"']
)
def test_lark_grammars_that_cannot_be_used(source: str) -> None:
    with pytest.raises(InputError, match=r"^grammar: it cannot be used") as caught:
        grammar.from_lark(source)
    assert "\n" not in str(caught.value)


def test_one_of_schema_pattern_and_grammar() -> None:
    assert grammar.from_settings(None, "", "") is None
    assert grammar.from_settings(None, "a+", "") == grammar.from_pattern("a+")
    assert grammar.from_settings(None, "", LARK) == grammar.from_lark(LARK)
    assert grammar.from_settings({}, "", "") == grammar.from_json_schema({})
    with pytest.raises(InputError, match="^schema, pattern and grammar exclude one another"):
        grammar.from_settings(None, "a", LARK)


def test_bans_within_a_grammar(net: LM, tokenizer: Tokenizer) -> None:
    """What the grammar forces may be said again, and it may end before min_new_tokens."""
    source = grammar.from_pattern("(ab){8}")
    asked = requests(tokenizer, source, 3, no_repeat_ngram_size=1, min_new_tokens=200)
    for piece in run(net, tokenizer, asked):
        assert (piece.text, piece.finish) == ("ab" * 8, "stop")
