"""Grammars that generated text follows; compiled and enforced by llguidance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par
from numpy.typing import NDArray

from vermilion.errors import InputError, ModelError
from vermilion.models.lm.tokenizer import Tokenizer


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


def from_lark(source: str) -> str:
    """A grammar written as Lark has it, whose rule `start` is the text as a whole.

    Raises:
        InputError: the grammar cannot be used.
    """
    return _checked("grammar", LLMatcher.grammar_from_lark(source))


def from_settings(schema: Mapping[str, Any] | None, pattern: str, source: str) -> str | None:
    """The grammar of whichever is given of a schema, a pattern and Lark source; None: none is.

    Raises:
        InputError: more than one is given, or it cannot be used.
    """
    if (schema is not None) + (pattern != "") + (source != "") > 1:
        raise InputError("schema, pattern and grammar exclude one another; keep one of them")
    if schema is not None:
        return from_json_schema(schema)
    if pattern:
        return from_pattern(pattern)
    return from_lark(source) if source else None


def _checked(field: str, grammar: str) -> str:
    message = LLMatcher.validate_grammar(grammar)
    if message:
        raise InputError(f"{field}: it cannot be used as a grammar: {_first_line(message)}")
    return grammar


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0]


def start(tokenizer: Tokenizer, grammar: str) -> LLMatcher:
    """What follows a text through a grammar, from its beginning.

    Raises:
        InputError: the grammar cannot be used with the tokenizer.
    """
    matcher = LLMatcher(tokenizer.grammar_tokenizer, grammar)
    if matcher.is_error():
        reason = _first_line(matcher.get_error())
        raise InputError(f"schema, pattern or grammar: it cannot be used: {reason}")
    return matcher


@cache
def _executor() -> LLExecutor:
    """Threads for all the process."""
    return LLExecutor()


def allowed(matchers: Sequence[LLMatcher], tokenizer: Tokenizer, size: int) -> NDArray[np.bool_]:
    """Which tokens may come next in each of N texts; computed side by side.

    Args:
        matchers: of the texts.
        tokenizer: that they were started with.
        size: V, of the network's vocabulary; tokens that the tokenizer lacks are not allowed.

    Returns:
        (N, V).

    Raises:
        ModelError: llguidance gave up on a text, which happens where a grammar is very large.
    """
    known = tokenizer.grammar_tokenizer.vocab_size
    bits = allocate_token_bitmask(len(matchers), known)  # (N, V / 32)
    fill_next_token_bitmask_par(_executor(), [(m, i) for i, m in enumerate(matchers)], bits)
    for matcher in matchers:
        if matcher.is_error():
            raise _failed(matcher)
    flags = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
    found = np.zeros((len(matchers), size), np.bool_)
    count = min(size, known)
    found[:, :count] = flags[:, :count]
    return found


def follow(matcher: LLMatcher, token: int) -> bool:
    """Take the next token of a text; whether the text is complete and cannot go on.

    Raises:
        ModelError: the grammar does not allow the token.
    """
    if not matcher.consume_token(token):
        raise _failed(matcher)
    return matcher.is_stopped()


def _failed(matcher: LLMatcher) -> ModelError:
    return ModelError(f"the grammar failed: {_first_line(matcher.get_error())}")
