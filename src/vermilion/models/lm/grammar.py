"""Grammars that generated text follows; compiled and enforced by llguidance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher

from vermilion.errors import InputError


def from_json_schema(schema: Mapping[str, Any]) -> str:
    """A grammar for one-line JSON under a schema, with its fields in the schema's order.

    Raises:
        InputError: the schema cannot be used.
    """
    options: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return _checked("schema", LLMatcher.grammar_from_json_schema(json.dumps(schema), options))


def from_pattern(pattern: str) -> str:
    """A grammar for text that matches a regular expression as a whole.

    Raises:
        InputError: the expression cannot be used.
    """
    return _checked("pattern", LLMatcher.grammar_from_regex(pattern))


def _checked(field: str, grammar: str) -> str:
    message = LLMatcher.validate_grammar(grammar)
    if message:
        first = message.strip().splitlines()[0]
        raise InputError(f"{field}: it cannot be used as a grammar: {first}")
    return grammar
