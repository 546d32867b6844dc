"""Rendering a model's chat template: Jinja2 source from its files, which nobody has read; and
keeping what people write in a message from being taken for the template's special tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from threading import local
from time import monotonic
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vermilion.errors import ModelError

# An honest template needs milliseconds and writes little more than the messages.
MAX_SECONDS = 5.0
MAX_CHARACTERS = 1 << 24


def render(
    source: str,
    messages: Sequence[Mapping[str, str]],
    special: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """The text that asks a model for its next answer in a conversation.

    Args:
        source: the template.
        messages: each with "role" and "content".
        special: "bos_token" and "eos_token".
        add_generation_prompt: whether an answer is asked for.

    Raises:
        ModelError: the template cannot be rendered, or does not come to an end.
    """
    _SANDBOX.start()
    parts, size = [], 0
    try:
        # tools and documents are what transformers passes when there are none.
        for part in _compiled(source).generate(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **special,
        ):
            size += len(part)
            if size > MAX_CHARACTERS:
                raise TemplateError("it writes too much")
            parts.append(part)
    except Exception as error:  # noqa: BLE001 - a template can fail in any way
        reason = str(error).partition("\n")[0]
        raise ModelError(f"the model's chat template cannot be rendered: {reason}") from None
    return "".join(parts)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, which keeps code from running, with a limit on the time that is taken.

    Time is looked at with each turn of a loop and each call, macros included.
    """

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        self.globals["raise_exception"] = _refuse
        self.filters["tojson"] = _to_json
        self.filters["timed"] = _timed
        self._clock = local()

    def start(self) -> None:
        self._clock.end = monotonic() + MAX_SECONDS

    def check(self) -> None:
        if monotonic() > self._clock.end:
            raise TemplateError("it takes too long")

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.check()
        return super().call(context, function, *args, **kwargs)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """As transformers has it; Jinja2's own escapes what HTML reserves."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


@pass_context  # else it would be called once and for all when the template is compiled
def _timed(_: Context, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _SANDBOX.check()
        yield item


_SANDBOX = _Sandbox()


@lru_cache(maxsize=16)
def _compiled(source: str) -> Template:
    tree = _SANDBOX.parse(source)
    for loop in list(tree.find_all(nodes.For)):
        loop.recursive = False  # loop(items) would pass by the filter; no chat is a tree
        loop.iter = nodes.Filter(loop.iter, "timed", [], [], None, None)
    tree.set_environment(_SANDBOX)
    tree.set_lineno(1)
    code = _SANDBOX.compile(tree)
    return Template.from_code(_SANDBOX, code, _SANDBOX.make_globals(None))


# Characters of private use: a special token in a message becomes the mark and a letter.
MARK = "\U000f0000"
_FIRST_LETTER = 0xF0001


class Marks:
    """Stands in for special tokens that somebody wrote, until the template is filled in.

    Args:
        special: the special tokens.
    """

    def __init__(self, special: Sequence[str]) -> None:
        # The mark itself, should somebody write it, is replaced as well.
        words = [MARK, *sorted(special, key=len, reverse=True)]
        self._letters = {word: chr(_FIRST_LETTER + i) for i, word in enumerate(words)}
        self._words = {letter: word for word, letter in self._letters.items()}
        self._any = re.compile("|".join(map(re.escape, words)))
        self._special = re.compile(f"({'|'.join(map(re.escape, words[1:])) or '(?!)'})")

    def put(self, text: str) -> str:
        """A message with marks in place of special tokens."""
        return self._any.sub(lambda found: MARK + self._letters[found[0]], text)

    def take(self, text: str) -> Iterator[tuple[str, bool]]:
        """A conversation in parts: the template's special tokens, and what stands between.

        Yields:
            Each part, as it was written, and whether it is a special token.
        """
        for part in self._special.split(text):
            if part in self._letters:
                yield part, True
            elif part:
                yield _MARKED.sub(lambda found: self._words.get(found[1], found[0]), part), False


_MARKED = re.compile(f"{MARK}(.)", re.DOTALL)
