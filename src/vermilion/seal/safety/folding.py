"""Brings the many spellings of a word to one, so that a rule needs to name it once.

Two forms of a text: `latin`, small words with one space between them; and `han`, everything but
spaces and signs, with traditional characters written as simplified ones.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib.resources import files

_LEET = str.maketrans("013457@$!|", "oieastasii")
# Cyrillic and Greek letters that look like Latin ones.
_ALIKE = str.maketrans("аеорсхуіѕјԁһκανορτυχ", "aeopcxyisjdhkavoptux")
_SPACED = re.compile(r"(?<!\w)(?:[a-z0-9@$!][ .\-_*+|/]{1,2}){3,}[a-z0-9@$!](?!\w)")
_INSIDE = re.compile(r"(?<=[a-z])[.*_|+](?=[a-z])")
_LONG = re.compile(r"([a-z])\1{2,}")
_WORD = re.compile(r"[a-z0-9@$!]+|[^\W\d_]+")
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_TEENS = ("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
_NUMBERS = (*_ONES, *_TEENS)
_AGE = re.compile(
    rf"\b(\d{{1,3}}|{'|'.join(_NUMBERS)})[\s-]*(?:y/?o\b|(?:years?|yrs?)[\s-]*(?:old|of\s+age))"
)
_HAN_NUMBERS = "零一二三四五六七八九十"
_HAN_AGE = re.compile(r"(\d{1,3}|[一二两三四五六七八九]?十?[一二两三四五六七八九]?)岁")
_NOT_HAN = re.compile(r"[\W_]+")

MINOR = "underage"  # what the age of a child becomes
HAN_MINOR = "未成年"


def latin(text: str) -> str:
    """Small Latin words with one space between them, and one at both ends.

    Width, accents and invisible characters do not count; letters that are spaced out are put
    together; digits and signs within a word become the letters that they stand for; ages below
    18 become "underage".
    """
    folded = re.sub(r"\w+", lambda m: _unmasked(m[0]), _plain(text))
    folded = _AGE.sub(lambda m: f" {MINOR} " if _years(m[1]) < 18 else " adult ", folded)
    folded = _SPACED.sub(lambda m: re.sub(r"[ .\-_*+|/]", "", m[0]), folded)
    folded = _INSIDE.sub("", folded)
    words = (_word(word) for word in _WORD.findall(folded))
    return f" {' '.join(word for word in words if word)} "


def han(text: str) -> str:
    """Without spaces and signs, in simplified characters; ages below 18 become 未成年."""
    folded = _NOT_HAN.sub("", _plain(text).translate(_simplified()))
    return _HAN_AGE.sub(lambda m: HAN_MINOR if 0 < _han_years(m[1]) < 18 else "成年", folded)


def _plain(text: str) -> str:
    split = unicodedata.normalize("NFKD", text).casefold()
    kept = (c for c in split if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", "".join(kept))


def _word(word: str) -> str:
    if any("a" <= c <= "z" for c in word):
        word = word.rstrip("!").translate(_LEET)
    else:
        word = word.strip("@$!")
    return _LONG.sub(r"\1", word)


def _unmasked(run: str) -> str:
    """A run of letters in which some only look like Latin ones."""
    return run.translate(_ALIKE) if any("a" <= c <= "z" for c in run) else run


def _years(text: str) -> int:
    return int(text) if text.isdecimal() else _NUMBERS.index(text) + 1


def _han_years(text: str) -> int:
    """0 where it is no number."""
    if not text or text.isdecimal():
        return int(text or 0)
    tens, ten, ones = text.replace("两", "二").rpartition("十")
    count = _HAN_NUMBERS.index(ones) if ones else 0
    return count if not ten else 10 * (_HAN_NUMBERS.index(tens) if tens else 1) + count


@cache
def _simplified() -> dict[int, int]:
    text = files(__package__).joinpath("simplified.txt").read_text(encoding="utf-8")
    pairs = [line for line in text.split() if len(line) == 2]
    return {ord(pair[0]): ord(pair[1]) for pair in pairs}
