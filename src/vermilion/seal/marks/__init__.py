"""Marks that people see, read or hear: made by AI.

GB 45438-2025 asks of a mark in words that it names AI (人工智能 or AI) and the act (生成, 合成).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from vermilion.errors import InputError

Place = Literal["top-left", "top", "top-right", "bottom-left", "bottom", "bottom-right"]
PLACES: tuple[Place, ...] = (
    "top-left",
    "top",
    "top-right",
    "bottom-left",
    "bottom",
    "bottom-right",
)

# A language's code to its words; every other language gets the English ones. A sign that the font
# lacks goes into `font/build.py`.
WORDINGS: Mapping[str, str] = MappingProxyType(
    {
        "zh": "AI生成",
        "ja": "AI生成",
        "en": "AI-generated",
    }
)
_NAMES_AI = re.compile(
    r"人工智能|(?<![A-Za-z])(?:AI|A\.I\.|artificial intelligence)(?![A-Za-z])", re.I
)
_NAMES_THE_ACT = re.compile(r"生成|合成|generat|synthesi[sz]|(?<![A-Za-z])made(?![A-Za-z])", re.I)


def wording(language: str) -> str:
    """The words of a mark in a language.

    Args:
        language: a code such as "zh", "zh-CN" or "en_GB".
    """
    return WORDINGS.get(re.split("[-_]", language.lower())[0], WORDINGS["en"])


def tells(words: str) -> bool:
    """Whether words name AI and the act, as the standard asks of every mark."""
    if words.strip() in WORDINGS.values():
        return True
    return bool(_NAMES_AI.search(words) and _NAMES_THE_ACT.search(words))


def checked(words: str) -> str:
    """The words without space around them, if they are one line that names AI and the act.

    Raises:
        InputError: they are not.
    """
    stripped = words.strip()
    if len(stripped.splitlines()) != 1 or not tells(stripped):
        raise InputError(
            f"mark: {stripped[:40]!r} does not say in one line that AI made it; name AI and the"
            " act, as in AI生成 or AI-generated"
        )
    return stripped
