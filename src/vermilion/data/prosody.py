"""Regulated verse (近体诗): its four forms, its tones and rhymes, and how well a text keeps them.

Readings are those of modern standard Chinese: the first and second tone are level (平), the
third and fourth oblique (仄), and rhymes are the fourteen of 中华新韵 (Chinese Poetry
Association, 2005). Poets of Tang and Song wrote by the older 平水韵, whose entering tone (入声)
has since gone over to the other four. Their poems keep this rule less well than their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from vermilion.errors import MissingExtraError

# Name → lines, characters of a line.
FORMS = MappingProxyType({"五绝": (4, 5), "七绝": (4, 7), "五律": (8, 5), "七律": (8, 7)})

HAN = "\u4e00-\u9fff"
_NOT_HAN = re.compile(f"[^{HAN}]+")

# The fourteen rhymes of 中华新韵, by the finals that pypinyin's strict mode tells apart.
_RHYMES = {
    "麻": "a ia ua",
    "波": "o e uo",
    "皆": "ie ve",
    "开": "ai uai",
    "微": "ei uei",
    "豪": "ao iao",
    "尤": "ou iou",
    "寒": "an ian uan van",
    "文": "en in uen vn",
    "唐": "ang iang uang",
    "庚": "eng ing ueng ong iong",
    "齐": "i er v",
    "姑": "u",
}
_RHYME_OF = {final: name for name, finals in _RHYMES.items() for final in finals.split()}
# The final that is written i after these initials is another sound, the rhyme 支.
_SIBILANTS = ("zh", "ch", "sh", "r", "z", "c", "s")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a character is read: whether its tone is level, and its rhyme; "" where unknown."""

    level: bool | None
    rhyme: str


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a poem keeps the rule.

    Attributes:
        tone: of the places whose tone the form fixes, the share that has it: every second
            character of each line, and the last one of each line but the first.
        rhyme: of the even lines, the share that ends level in the commonest rhyme of them.
    """

    tone: float
    rhyme: float


def lines_of(text: str) -> list[str]:
    """The lines of a poem: its runs of Chinese characters."""
    return [line for line in _NOT_HAN.split(text) if line]


def form_of(lines: Sequence[str]) -> str:
    """The form that these lines have by their number and length; "" where it is none."""
    sizes = {len(line) for line in lines}
    shape = (len(lines), sizes.pop()) if len(sizes) == 1 else None
    return next((name for name, wanted in FORMS.items() if wanted == shape), "")


def scores(lines: Sequence[str]) -> Scores:
    """Score the lines of a poem by the rule.

    A line's tones alternate at its second, fourth and sixth character (二四六分明). The second
    characters of a couplet's lines are opposite (对), those of neighbouring lines of two
    couplets alike (粘). So the first line's second character decides all others: the poem is
    held against both patterns, and the better one counts. Even lines end level and rhyme,
    odd ones end oblique; the first line is free to do either.

    Args:
        lines: of one form, see `form_of`.

    Raises:
        ValueError: they have no form.
        MissingExtraError: pypinyin is not installed.
    """
    if not form_of(lines):
        raise ValueError("the lines have none of the four forms")
    readings = [readings_of(line) for line in lines]
    kept = max(_kept(readings, first) for first in (True, False))
    fixed = len(lines) * (len(lines[0]) // 2) + len(lines) - 1
    ends = [line[-1].rhyme for line in readings[1::2] if line[-1].level]
    common = Counter(filter(None, ends)).most_common(1)
    return Scores(tone=kept / fixed, rhyme=(common[0][1] if common else 0) / (len(lines) // 2))


def _kept(readings: Sequence[Sequence[Reading]], first: bool) -> int:
    """How many fixed places have their tone, the first line's second character being `first`."""
    kept = 0
    for number, line in enumerate(readings):
        second = first if number % 4 in (0, 3) else not first
        for place in range(1, len(line) - 1, 2):
            kept += line[place].level is (second if place % 4 == 1 else not second)
        if number > 0:
            kept += line[-1].level is (number % 2 == 1)
    return kept


@lru_cache(maxsize=4096)
def readings_of(line: str) -> tuple[Reading, ...]:
    """How each character of a line is read; the words around it tell between two readings.

    Raises:
        MissingExtraError: pypinyin is not installed.
    """
    try:
        from pypinyin import Style, lazy_pinyin  # noqa: PLC0415 - optional, and slow to load
    except ImportError:
        raise MissingExtraError("the tones and rhymes of Chinese", "chinese") from None
    # A character without a reading stands for itself, so that places are kept.
    itself: Any = list
    finals = lazy_pinyin(line, style=Style.FINALS_TONE3, errors=itself, strict=True)
    initials = [""] * len(finals)
    if any(final[:-1] == "i" for final in finals):
        initials = lazy_pinyin(line, style=Style.INITIALS, errors=itself, strict=True)
    return tuple(map(_reading, initials, finals))


def _reading(initial: str, final: str) -> Reading:
    sound, tone = final[:-1], final[-1:]
    if tone not in ("1", "2", "3", "4"):
        return Reading(None, "")
    if sound == "i" and initial in _SIBILANTS:
        return Reading(tone in "12", "支")
    return Reading(tone in "12", _RHYME_OF.get(sound, ""))
