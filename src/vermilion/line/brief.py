"""Briefs: from a sentence, from a TOML or JSON file, from standard input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vermilion.errors import InputError
from vermilion.line.checks import HAN
from vermilion.line.reading import checked, decode, parse, read_text
from vermilion.settings import get_settings
from vermilion.types import Brief

MOST_ITEMS = 200
_FILES = (".toml", ".json")
# "a launch set for", "write me a story about": what is asked for, before what it is about.
_REQUEST = re.compile(
    r"^(?:please\s+)?(?:(?:make|write|create|give|plan)\s+)?(?:me\s+|us\s+)?(?:an?\s+|the\s+)?"
    r"(?:[\w-]+\s+){0,2}?(?:set|campaign|story|tale|fable|lesson|launch|posts?|course)\s+"
    r"(?:for|about|on|of)\s+",
    re.IGNORECASE,
)
_TONE = re.compile(
    r"[,;]?\s*(?:in\s+an?\s+)?\b([\w-]+(?:\s+and\s+[\w-]+)?)\s+tone\b", re.IGNORECASE
)
_AUDIENCE = re.compile(r",\s*for\s+([^,;.]+)$", re.IGNORECASE)


def read_brief(source: str | Path | Brief | Mapping[str, Any], stdin: bytes | None = None) -> Brief:
    """A brief, from whatever a person gave.

    Args:
        source: a sentence; the path of a .toml or .json file; "-" for `stdin`; a table of
            fields; or a Brief.
        stdin: bytes of standard input, where `source` is "-".

    Raises:
        NotFoundError: a file is named that does not exist.
        InputError: it cannot be read, or a field is missing or of the wrong type.
    """
    limit = get_settings().max_brief_bytes
    if isinstance(source, Brief):
        return complete(source)
    if isinstance(source, Mapping):
        return _from_table(dict(source), "brief")
    if source == "-":
        text = decode(stdin or b"", limit, "standard input")
        return _from_text(text)
    if isinstance(source, Path) or source.strip().endswith(_FILES):
        path = Path(source)
        if path.suffix not in _FILES:
            raise InputError(f"brief: {path} is neither .toml nor .json; rename or convert it")
        table = parse(read_text(path, limit, "brief"), path.suffix, str(path))
        return _from_table(table, str(path))
    decode(source.encode(), limit, "brief")
    return from_sentence(source)


def _from_text(text: str) -> Brief:
    """Standard input: a JSON object, a TOML table, or else a sentence."""
    stripped = text.strip()
    if stripped.startswith("{"):
        return _from_table(parse(stripped, ".json", "standard input"), "standard input")
    if re.search(r"^\s*subject\s*=", stripped, re.MULTILINE):
        return _from_table(parse(stripped, ".toml", "standard input"), "standard input")
    return from_sentence(stripped)


def _from_table(table: dict[str, Any], what: str) -> Brief:
    return complete(checked(Brief, table, what), what)


def from_sentence(sentence: str) -> Brief:
    """Split a sentence into what is asked for, its tone, its audience and its subject.

    "a launch set for a small roastery's new dark roast, warm tone" has the subject "a small
    roastery's new dark roast" and the tone "warm". What does not fit stays in the subject.

    Raises:
        InputError: the sentence is empty.
    """
    text = " ".join(sentence.split()).rstrip(".")
    tone = _TONE.search(text)
    if tone:
        text = (text[: tone.start()] + text[tone.end() :]).strip(" ,;")
    request = _REQUEST.match(text)
    subject = text[request.end() :] if request else text
    audience = _AUDIENCE.search(subject)
    if audience:
        subject = subject[: audience.start()]
    return complete(
        Brief(
            subject=subject.strip(" ,;"),
            tone=tone[1].lower() if tone else "",
            audience=audience[1] if audience else "",
            variables={"request": request[0].strip()} if request else {},
        )
    )


def complete(brief: Brief, what: str = "brief") -> Brief:
    """Check what types cannot say.

    Raises:
        InputError: the subject is empty, a number is out of range, a list is too long.
    """
    if not brief.subject.strip():
        raise InputError(f"{what}: subject is empty; say what it is about")
    if brief.seed is not None and not 0 <= brief.seed < 2**63:
        raise InputError(f"{what}: seed must be between 0 and 2**63 - 1 (found {brief.seed})")
    for name, count in brief.counts.items():
        if not 0 <= count <= MOST_ITEMS:
            raise InputError(f"{what}: counts.{name} must be 0 to {MOST_ITEMS} (found {count})")
    for name, items in (("facts", brief.facts), ("must_mention", brief.must_mention)):
        if len(items) > MOST_ITEMS:
            raise InputError(f"{what}: {name} has {len(items)} entries; {MOST_ITEMS} is the most")
    if brief.language and not re.fullmatch(r"[a-z]{2}", brief.language):
        raise InputError(
            f'{what}: language must be a code of two letters such as "en" or "zh"'
            f" (found {brief.language!r})"
        )
    return brief


def language_of(brief: Brief) -> str:
    """The brief's language; where it names none, "zh" if its subject holds Chinese, else "en"."""
    return brief.language or ("zh" if HAN.search(brief.subject) else "en")
