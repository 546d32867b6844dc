"""The rules that texts are held against: TOML files, those that come along and people's own.

    [[rule]]
    name = "our-rival"            # told when it is broken
    category = "business"         # any name; see en.toml for those that come along
    language = "en"               # "en": whole words; "zh": characters, wherever they stand
    words = ["acme*", "acme corp"]    # one of them breaks it; * stands for any ending
    score = 0.5                   # how grave, 0 to 1; 1 by default
    action = "refuse"             # else what the setting says

Instead of `words`, `all` is a list of such lists: one word of each has to stand close by, `within`
so many words (or Chinese characters). What lies within a phrase of `except` does not count; what
has a phrase of `unless` close by does not either.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from vermilion.errors import InputError
from vermilion.seal.safety.decision import Setting
from vermilion.seal.safety.folding import han, latin

Language = Literal["en", "zh"]

ALWAYS = "minors"  # the category that no setting and no rules of one's own take away
_LARGEST = 1_000_000  # bytes of a file with rules
_LISTS = ("words", "except", "unless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; see the top of this file.

    Attributes:
        name: told when it is broken.
        category: what it is about.
        language: how words are looked for.
        groups: one of each has to be found, closer than `within` to one another.
        within: words, or Chinese characters.
        score: 0 to 1.
        action: empty: what the setting says.
        but: what does not count.
        unless: what excuses it.
    """

    name: str
    category: str
    language: Language
    groups: tuple[re.Pattern[str], ...]
    within: int
    score: float
    action: Setting | Literal[""]
    but: re.Pattern[str] | None
    unless: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules that hold, the gravest first."""

    rules: tuple[Rule, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Those that come with Vermilion, and people's own.

        Args:
            path: of a TOML file with more; with `replace = true` at its top they take the place
                of the others, but for those about minors. None: there are none.

        Raises:
            InputError: the file or a rule cannot be used.
        """
        known = _shipped()
        if path is None:
            return cls(known)
        try:
            content = path.read_bytes()
            if len(content) > _LARGEST:
                raise InputError(f"{path}: is larger than {_LARGEST} bytes; split it up")
            table = tomllib.loads(content.decode())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as TOML: {error}") from None
        own, replace = _rules(table, str(path)), table.get("replace", False)
        if type(replace) is not bool:
            raise InputError(f"{path}: replace must be true or false")
        kept = [rule for rule in known if not replace or rule.category == ALWAYS]
        return cls(tuple(sorted([*kept, *own], key=lambda rule: -rule.score)))


@cache
def _shipped() -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for name in ("en.toml", "zh.toml"):
        text = files(__package__).joinpath(name).read_text(encoding="utf-8")
        rules += _rules(tomllib.loads(text), name)
    return tuple(sorted(rules, key=lambda rule: -rule.score))


def _rules(table: Mapping[str, Any], where: str) -> list[Rule]:
    unknown = sorted(set(table) - {"rule", "replace"})
    if unknown:
        raise InputError(f"{where}: {unknown[0]} is not known; there are: rule, replace")
    rules = table.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise InputError(f"{where}: rule must be a list of tables, each begun with [[rule]]")
    return [_rule(rule, f"{where}: rule {number}") for number, rule in enumerate(rules, 1)]


_KNOWN = {"name", "category", "language", "all", "within", "score", "action", *_LISTS}


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    unknown = sorted(set(table) - _KNOWN)
    if unknown:
        raise InputError(
            f"{where}: {unknown[0]} is not known; there are: {', '.join(sorted(_KNOWN))}"
        )
    name, category = table.get("name"), table.get("category")
    if not isinstance(name, str) or not name or not isinstance(category, str) or not category:
        raise InputError(f"{where}: name and category must be given, each in words")
    where = f"{where} ({name})"
    language, score = table.get("language", "en"), table.get("score", 1.0)
    action, within = table.get("action", ""), table.get("within", 8)
    if language not in ("en", "zh"):
        raise InputError(f"{where}: language must be en or zh (found {language!r})")
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 < score <= 1:
        raise InputError(f"{where}: score must be above 0 and at most 1 (found {score!r})")
    if action not in ("", "flag", "refuse"):
        raise InputError(f"{where}: action must be flag or refuse (found {action!r})")
    if type(within) is not int or not 1 <= within <= 1000:
        raise InputError(
            f"{where}: within must be a whole number from 1 to 1000 (found {within!r})"
        )
    if ("words" in table) == ("all" in table):
        raise InputError(f"{where}: give either words or all")
    groups = [table["words"]] if "words" in table else table["all"]
    if not isinstance(groups, list) or not groups:
        raise InputError(f"{where}: all must be a list of lists of words")
    patterns = [_pattern(group, language, where) for group in groups]
    but, unless = (_pattern(table.get(k, []), language, where) for k in ("except", "unless"))
    if None in patterns:
        raise InputError(f"{where}: a list of words is empty; name at least one")
    return Rule(
        name=name,
        category=category,
        language=language,
        groups=tuple(pattern for pattern in patterns if pattern is not None),
        within=within,
        score=float(score),
        action=action,
        but=but,
        unless=unless,
    )


def _pattern(words: Any, language: Language, where: str) -> re.Pattern[str] | None:
    """What finds one of the words in a folded text; None: there are none."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{where}: words must stand in a list, each in quotes")
    parts = [_folded(word, language, where) for word in words]
    if not parts:
        return None
    # The longest first, so that what is told is the whole phrase.
    joined = "|".join(sorted(parts, key=len, reverse=True))
    return re.compile(f"(?<= )(?:{joined})(?= )" if language == "en" else joined)


def _folded(word: str, language: Language, where: str) -> str:
    stem = word.removesuffix("*")
    folded = (latin(stem) if language == "en" else han(stem)).strip()
    if not folded or "*" in stem:
        raise InputError(f"{where}: {word!r} is no word; * may stand at its end only")
    return re.escape(folded) + ("[^ ]*" if word.endswith("*") and language == "en" else "")
