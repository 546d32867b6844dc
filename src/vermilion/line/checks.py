"""Checks that a recipe asks of a text. Each answers None, or what is wrong in a few words.

A text that fails is rolled again with the next seed; see `line.generate`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from vermilion.errors import InputError
from vermilion.line import verse
from vermilion.line.phrases import stem, word_list
from vermilion.types import Brief

_WORD = re.compile(r"[A-Za-zÀ-ɏ0-9]+(?:['’.,-][A-Za-zÀ-ɏ0-9]+)*|[\u3400-\u9fff]")
HAN = re.compile(r"[\u3400-\u9fff]")
_SENTENCE = re.compile(r"[^.!?。！？…]+[.!?。！？…]+[\"”’')\]]*|[^.!?。！？…]+$")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
# Beginnings of answers that speak to the person who asked instead of giving the text.
_PREAMBLE = re.compile(
    r"^(?:sure|certainly|of course|here(?:'s| is| are)|as an ai|i'm sorry|i am sorry|i cannot"
    r"|okay|title:|headline:|当然|好的|作为)",
    re.IGNORECASE,
)
_STOPWORDS = frozenset(word_list("stop"))
_ECHO = 7  # words in a row


@dataclass(frozen=True)
class Scene:
    """What a text is checked against.

    Attributes:
        brief: what the person asked for.
        language: the language that the text should be in.
        prompt: the instruction that the model was given.
        taken: texts of the same step that are already chosen.
        earlier: texts of the steps that this one uses; what they say may be said again.
    """

    brief: Brief
    language: str = "en"
    prompt: str = ""
    taken: Sequence[str] = ()
    earlier: Sequence[str] = ()

    @cached_property
    def given(self) -> str:
        """All that the brief and the earlier texts say, in lower case."""
        brief = self.brief
        parts = [
            brief.subject,
            brief.audience,
            brief.tone,
            *brief.facts,
            *brief.must_mention,
            *self.earlier,
        ]
        return "\n".join([*parts, *map(str, brief.variables.values())]).lower()


def words(text: str) -> list[str]:
    """Words in lower case; each Chinese character counts as one."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """Sentences, without white space around them."""
    return [found.strip() for found in _SENTENCE.findall(text) if found.strip()]


def key_words(text: str) -> list[str]:
    """The words that carry the meaning, each once, in order."""
    return list(dict.fromkeys(w for w in words(text) if w not in _STOPWORDS and len(w) > 1))


@dataclass(frozen=True)
class Length:
    """Bounds, both included; `unit` is "words", "characters" or "sentences"."""

    min: int = 0
    max: int = 1_000_000
    unit: Literal["words", "characters", "sentences"] = "words"


def _length(text: str, bounds: Length, scene: Scene) -> str | None:
    splits: dict[str, Callable[[str], Sequence[str]]] = {
        "words": words,
        "characters": list,
        "sentences": sentences,
    }
    count = len(splits[bounds.unit](text))
    if count < bounds.min:
        return f"has {count} {bounds.unit} and should have at least {bounds.min}"
    if count > bounds.max:
        return f"has {count} {bounds.unit} and should have at most {bounds.max}"
    return None


def _mention(text: str, wanted: bool | list[str], scene: Scene) -> str | None:
    needed = list(scene.brief.must_mention) if isinstance(wanted, bool) else wanted
    low = text.lower()
    missing = [word for word in needed if word.lower() not in low]
    return f"does not mention {', '.join(map(repr, missing))}" if missing else None


def _about(text: str, count: int, scene: Scene) -> str | None:
    subject = key_words(scene.brief.subject) + key_words(" ".join(scene.brief.must_mention))
    stems = {stem(word) for word in words(text)}
    found = [word for word in dict.fromkeys(subject) if stem(word) in stems]
    if len(found) >= min(count, len(subject)):
        return None
    return "says too little about the subject"


def _adds(text: str, count: int, scene: Scene) -> str | None:
    given = {stem(word) for word in key_words(scene.brief.subject)}
    new = {stem(word) for word in key_words(text)} - given
    return None if len(new) >= count else "only repeats the subject"


def _grounded(text: str, wanted: bool, scene: Scene) -> str | None:
    if not wanted:
        return None
    for number in _NUMBER.findall(text):
        if number not in scene.given:
            return f"claims the number {number}, which the brief does not give"
    known = set(words(scene.given)) | {"i", "i'm", "i'll", "i've", "i'd"}
    for sentence in sentences(text):
        for word in sentence.split()[1:]:
            bare = word.strip("\"“”'‘’()[].,;:!?—–-…*")
            if bare[:1].isupper() and not set(words(bare)) <= known:
                return f"names {bare!r}, which the brief does not"
    return None


def _no_repetition(text: str, wanted: bool, scene: Scene) -> str | None:
    if not wanted:
        return None
    said = [" ".join(words(sentence)) for sentence in sentences(text)]
    if len(said) != len(set(said)):
        return "repeats a sentence"
    all_words = words(text)
    size = 8 if HAN.search(text) else 4
    given = " ".join(words(scene.given))  # a long name may come twice
    parts = zip(*(all_words[i:] for i in range(size)), strict=False)
    runs = Counter(run for run in parts if " ".join(run) not in given)
    if runs and runs.most_common(1)[0][1] > 1:
        return "repeats itself"
    if re.search(r"\b([a-z']{2,})(?: and| or|,)? \1\b", " ".join(all_words)):
        return "repeats a word"
    if re.search(r"\b(?:an?|the) ([a-z]+) is an? (?:[a-z]+ )?\1\b", " ".join(all_words)):
        return "explains a word by itself"
    return None


def _distinct(text: str, limit: float, scene: Scene) -> str | None:
    mine = set(key_words(text))
    for other in scene.taken:
        theirs = set(key_words(other))
        if mine and len(mine & theirs) / len(mine | theirs) > limit:
            return "is too much like another of the set"
    return None


def _language(text: str, wanted: bool, scene: Scene) -> str | None:
    if not wanted:
        return None
    letters = [c for c in text if c.isalpha()]
    share = sum(bool(HAN.match(c)) for c in letters) / max(len(letters), 1)
    if scene.language == "zh":
        return None if share > 0.5 else "is not in Chinese"
    latin = sum(c < "ɐ" for c in letters) / max(len(letters), 1)
    return None if latin > 0.95 or scene.language != "en" else "is not in English"


def _avoid(text: str, phrases: list[str], scene: Scene) -> str | None:
    low = f" {' '.join(words(text))} "
    found = [phrase for phrase in phrases if f" {phrase.lower()} " in low]
    return f"says {found[0]!r}" if found else None


def _claims(text: str, wanted: bool, scene: Scene) -> str | None:
    """Words of price, prize, rank, health and haste are promises: only the brief may make them."""
    known = {stem(word) for word in words(scene.given)}
    for word in words(text) if wanted else ():
        if word in word_list("claims") and stem(word) not in known:
            return f"promises {word!r}, which the brief does not"
    return None


_DANGLING = frozenset(word_list("dangling"))


def _whole_end(text: str, wanted: bool, scene: Scene) -> str | None:
    """A pattern can close a sentence that the model had not finished; the last word tells."""
    if not wanted:
        return None
    facts = {tuple(words(fact)) for fact in scene.brief.facts}  # a person's own are whole
    for part in (p for line in text.splitlines() for p in sentences(line)):
        said = words(part)
        if said and said[-1] in _DANGLING and tuple(said) not in facts:
            return f"ends in {said[-1]!r}"
    if re.search(r"\s[,.;:!?]|[,;:]\s*[.!?]|,,|\S  +\S", text):
        return "has a stray comma, full stop or space"
    return None


def no_echo(text: str, scene: Scene) -> str | None:
    """Whether the text repeats its instruction or talks to the person who asked for it."""
    if _PREAMBLE.match(text.strip()):
        return "talks to the person who asked"
    asked, given = words(scene.prompt), set(words(scene.given))
    runs = {tuple(asked[i : i + _ECHO]) for i in range(len(asked) - _ECHO + 1)}
    said = words(text)
    for i in range(len(said) - _ECHO + 1):
        run = tuple(said[i : i + _ECHO])
        if run in runs and len(set(run) - given) > 1:  # more than a label between two fields
            return "repeats its instruction"
    return None


def _verse(text: str, bounds: verse.Bounds, scene: Scene) -> str | None:
    return verse.fault(text, bounds)


@dataclass(frozen=True)
class _Check:
    argument: Any
    run: Callable[[str, Any, Scene], str | None]


CHECKS: Mapping[str, _Check] = {
    "length": _Check(Length, _length),
    "mention": _Check(bool | list[str], _mention),
    "about": _Check(int, _about),
    "adds": _Check(int, _adds),
    "grounded": _Check(bool, _grounded),
    "no_repetition": _Check(bool, _no_repetition),
    "distinct": _Check(float, _distinct),
    "language": _Check(bool, _language),
    "avoid": _Check(list[str], _avoid),
    "whole_end": _Check(bool, _whole_end),
    "claims": _Check(bool, _claims),
    "verse": _Check(verse.Bounds, _verse),
}


def validate_checks(checks: Mapping[str, Any], where: str) -> None:
    """See that all checks are known and their arguments can be used.

    Raises:
        InputError: one is not.
    """
    for name, argument in checks.items():
        if name not in CHECKS:
            known = ", ".join(CHECKS)
            raise InputError(f"{where}: {name!r} is no check that is known; there is: {known}")
        _argument(name, argument, where)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(CHECKS[name].argument)


def _argument(name: str, argument: Any, where: str) -> Any:
    try:
        return _adapter(name).validate_python(argument)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise InputError(f"{where}: checks.{name}: {message} (found {argument!r})") from None


def failures(text: str, checks: Mapping[str, Any], scene: Scene) -> tuple[str, ...]:
    """What is wrong with a text, a few words each; the check against echoes always runs."""
    found = [no_echo(text, scene)]
    found += [
        CHECKS[name].run(text, _argument(name, argument, "recipe"), scene)
        for name, argument in checks.items()
    ]
    return tuple(failure for failure in found if failure is not None)
