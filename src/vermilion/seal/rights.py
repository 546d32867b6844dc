"""Rights: what a licence allows, and whose style a prompt names.

This reads the names of licences, not their texts, and is no legal advice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from vermilion.errors import InputError

Use = Literal["allowed", "forbidden", "unknown"]

# Names as SPDX has them, and as model hubs write them, in small letters. A name is looked for in
# the first table, then in the second; what is in neither is unknown.
_FORBIDDEN = re.compile(
    r".*(^|-)nc(-|$).*|.*non-?commercial.*|.*research-?only.*|.*academic.*|.*-research-license.*"
    r"|apple-amlr|c-uda-1\.0|aladdin|licenseref-proprietary|all-rights-reserved"
)
_ALLOWED = re.compile(
    r"0bsd|afl-.*|agpl-.*|apache-.*|artistic-.*|beerware|blueoak-.*|bsd(-.*)?|bsl-1\.0|cc0-1\.0"
    r"|cc-pddc|cc-by(-sa|-nd)?-[0-9.]+(-[a-z]+)?|cdla-(permissive|sharing)-.*|cecill-.*|ecl-2\.0"
    r"|epl-.*|eupl-.*|fal-1\.3|gfdl-.*|gpl-.*|hpnd|isc|lal-1\.3|lgpl-.*|lppl-.*|mit(-0)?|mpl-.*"
    r"|ms-(pl|rl)|mulanpsl-.*|ncsa|odbl-1\.0|odc-by-1\.0|ofl-1\.1|pddl-1\.0|postgresql|psf-2\.0"
    r"|python-2\.0|unicode-.*|unlicense|upl-1\.0|vim|w3c|wtfpl|x11|zlib|zpl-2\.1"
    r"|licenseref-public-domain|public-domain"
    r"|(licenseref-)?(bigscience-|creativeml-|bigcode-)?openrail(\+\+|-m|-s)?"
)
_TOKEN = re.compile(r"\s*([()]|[A-Za-z0-9.+-]+(?::[A-Za-z0-9.+-]+)?)")
_LONGEST = 1000  # characters of an expression
_MOST_BRACKETS = 32
_HAN = re.compile(r"[\u3400-\u9fff]")


def commercial_use(licence: str) -> Use:
    """Whether an SPDX expression lets the thing be used for money.

    Of licences joined by OR one may choose the best; of those joined by AND the worst holds.
    What follows WITH adds permissions and changes nothing here. What is empty, no expression, or
    a name that the tables of this file do not have, is "unknown".
    """
    try:
        return _Expression(licence).use()
    except InputError:
        return "unknown"


class _Expression:
    """Reads an SPDX expression: OR binds least, then AND, then WITH."""

    def __init__(self, text: str) -> None:
        self._left, self._brackets = _tokens(text), 0
        if not self._left:
            raise InputError("licence: is empty")

    def use(self) -> Use:
        found = self._either()
        if self._left:
            raise InputError(f"licence: {self._left[0]!r} is not expected there")
        return found

    def _next(self) -> str:
        return self._left[0].upper() if self._left else ""

    def _either(self) -> Use:
        found = [self._both()]
        while self._next() == "OR":
            self._left.pop(0)
            found.append(self._both())
        best: tuple[Use, ...] = ("allowed", "unknown", "forbidden")
        return min(found, key=best.index)

    def _both(self) -> Use:
        found = [self._one()]
        while self._next() == "AND":
            self._left.pop(0)
            found.append(self._one())
        worst: tuple[Use, ...] = ("forbidden", "unknown", "allowed")
        return min(found, key=worst.index)

    def _one(self) -> Use:
        if not self._left or self._next() in (")", "AND", "OR", "WITH"):
            raise InputError("licence: a name is missing")
        name = self._left.pop(0)
        if name == "(":
            self._brackets += 1
            if self._brackets > _MOST_BRACKETS:
                raise InputError(f"licence: has more than {_MOST_BRACKETS} brackets")
            found = self._either()
            if self._next() != ")":
                raise InputError("licence: a closing bracket is missing")
            self._left.pop(0)
            return found
        if self._next() == "WITH":
            del self._left[:2]
        return _use_of(name)


def _use_of(name: str) -> Use:
    name = name.lower()
    if _FORBIDDEN.fullmatch(name):
        return "forbidden"
    known = _ALLOWED.fullmatch(name) or _ALLOWED.fullmatch(name.removesuffix("+"))
    return "allowed" if known else "unknown"


def _tokens(text: str) -> list[str]:
    tokens, place, text = [], 0, text.strip()
    if len(text) > _LONGEST:
        raise InputError(f"licence: is longer than {_LONGEST} characters")
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise InputError(f"licence: {text!r} is no SPDX expression")
        tokens.append(token[1])
        place = token.end()
    return tokens


def artists(path: Path | None = None) -> Mapping[str, Sequence[str]]:
    """Living artists whose names a prompt gets a note for: a name, and all of its spellings.

    Args:
        path: of a text file, a person a line, other spellings after "="; lines that begin with
            "#" are passed over. None: the list that comes with Vermilion.

    Raises:
        InputError: the file cannot be read.
    """
    source = files("vermilion.seal").joinpath("artists.txt") if path is None else path
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"artists: {path} cannot be read as text: {error}") from None
    people = {}
    for line in text.splitlines():
        spellings = [name.strip() for name in line.partition("#")[0].split("=") if name.strip()]
        if spellings:
            people[spellings[0]] = spellings
    return people


def artist_note(prompt: str, names: Mapping[str, Sequence[str]]) -> str:
    """A note where a prompt names a living artist; empty: it names none.

    Args:
        prompt: of a picture, in any language.
        names: from `artists`.
    """
    text = _folded(prompt)
    named = [
        name
        for name, spellings in names.items()
        if any(_stands_in(_folded(spelling), text) for spelling in spellings)
    ]
    if not named:
        return ""
    who = "is a living artist" if len(named) == 1 else "are living artists"
    return (
        f"{' and '.join(named)} {who}: describe the light, the colours and the strokes that you"
        " want instead of a name, or ask for consent"
    )


def _stands_in(name: str, text: str) -> bool:
    if _HAN.search(name):
        return name in text
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _folded(text: str) -> str:
    """Without case, accents, and differences of width and spaces."""
    split = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(c for c in split if not unicodedata.combining(c))
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", plain))
