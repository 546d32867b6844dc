"""Questions with a gap, made of sentences: the right answer is right by construction.

A word of a sentence is taken out; the wrong answers are words of the other sentences.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vermilion.line.phrases import FINITE, stem, word_list

_SENTENCE = re.compile(r"[^.!?]+(?:[.!?](?=\d)[^.!?]+)*")
_WORD = re.compile(r"[\w'’-]+")
_BEFORE_NOUN = frozenset(word_list("before_noun"))
_LATER = frozenset(word_list("adverbs"))
_NUMBERS = word_list("numbers")
# Wrong for any sentence that they are not in; used where a brief has too few words of its own.
_SPARE = ("paper", "music", "glass", "stones", "feathers", "shoes")
_SPARE_NAMES = ("Mars", "Paris", "Monday", "Amelia")
_SPARE_PEOPLE = ("Maria Stone", "George Hill", "Anna Bell")
_ORDER = (1, 3, 0, 2)


@dataclass(frozen=True)
class Gap:
    """A question.

    Attributes:
        sentence: with a gap instead of the answer.
        answer: what belongs there.
        options: four, one of them the answer.
        letter: of the answer, "A" to "D".
    """

    sentence: str
    answer: str
    options: tuple[str, ...]
    letter: str


@dataclass(frozen=True)
class _Key:
    """A word or two that can be taken out of a sentence; the higher its weight, the better."""

    text: str
    start: int
    weight: int
    sort: str


def split(text: str) -> list[str]:
    """The sentences of a text that state something."""
    found = [(m[0].strip(), text[m.end() : m.end() + 1]) for m in _SENTENCE.finditer(text)]
    return [sentence for sentence, mark in found if mark != "?" and len(sentence.split()) > 4]


def gaps(source: str | Iterable[str], count: int) -> list[Gap]:
    """Up to `count` questions about a text, or about statements.

    Args:
        source: a text, or statements.
        count: of questions; fewer come back where the source has too few words to ask for.
    """
    lines = split(source) if isinstance(source, str) else [s.strip(" .") for s in source]
    found = [_keys(line) for line in lines]
    rounds = max(map(len, found), default=0)
    picks = [(n, keys[r]) for r in range(rounds) for n, keys in enumerate(found) if r < len(keys)]
    picks.sort(key=lambda pick: pick[1].weight < 2)  # stable: a sentence after another
    made: list[Gap] = []
    asked: set[str] = set()
    turn = zlib.crc32("\n".join(lines).encode()) % 4
    for n, key in picks:
        if len(made) < count and key.text.lower() not in asked:
            asked.add(key.text.lower())
            made.append(_gap(lines, found, n, key, (turn + len(made))))
    return made


def _keys(line: str) -> list[_Key]:
    """What can be asked for in a sentence, the best first."""
    skip = FINITE.union(word_list("plain"), _BEFORE_NOUN, _LATER)
    runs: list[list[re.Match[str]]] = []
    matches = list(_WORD.finditer(line))
    for i, match in enumerate(matches):
        word = match[0]
        plain = (
            word.endswith(("'s", "’s"))
            or word.lower() in skip
            or (len(word) < 3 and not word.isdigit())
        )
        if plain and word not in _NUMBERS:
            continue
        after = bool(i and runs and runs[-1][-1] is matches[i - 1])
        alike = after and (i + 1 == len(matches) or matches[i + 1][0].lower() in skip)
        alike |= after and word[0].isupper()  # a name of two words
        alike = alike and word[0].isupper() == matches[i - 1][0][0].isupper()
        number = word.isdigit() or word in _NUMBERS
        joined = after and (number or _is_number(matches[i - 1][0]))
        if alike and not joined and len(runs[-1]) < 2 and line[matches[i - 1].end()] == " ":
            runs[-1].append(match)
        else:
            runs.append([match])
    keys = []
    for run in runs:
        text = line[run[0].start() : run[-1].end()]
        before = matches[matches.index(run[0]) - 1][0].lower() if run[0] is not matches[0] else ""
        if len(re.findall(rf"\b{re.escape(text)}\b", line, re.IGNORECASE)) > 1:
            continue
        sort = _sort(text, run[0] is matches[0])
        weight = 2 * (sort in "number digits name") + 2 * (before in _BEFORE_NOUN)
        weight += (run[-1] is matches[-1]) - 3 * bool(re.search(r"(?:ed|ly|ing)$", text))
        keys.append(_Key(text, run[0].start(), weight, sort))
    return sorted((k for k in keys if k.weight > 0), key=lambda key: -key.weight)


def _is_number(word: str) -> bool:
    return word.isdigit() or word in _NUMBERS


def _sort(text: str, first: bool) -> str:
    if text.isdigit():
        return "digits"
    if text in _NUMBERS:
        return "number"
    if text[0].isupper() and (" " in text or not first):
        return "name"
    return "several" if re.search(r"[^su]s$", text) else "one"


def _gap(
    lines: Sequence[str], found: Sequence[Sequence[_Key]], n: int, key: _Key, turn: int
) -> Gap:
    line = lines[n]
    wrong = _wrong(line, [k for keys in found for k in keys], key, turn)
    place = _ORDER[turn % 4]
    options = [*wrong[:place], key.text, *wrong[place:]]
    sentence = f"{line[: key.start]}____{line[key.start + len(key.text) :]}"
    sentence = sentence[:1].upper() + sentence[1:] + "."
    return Gap(sentence, key.text, tuple(options), "ABCD"[place])


def _wrong(line: str, keys: Sequence[_Key], key: _Key, turn: int) -> list[str]:
    """Three answers that are not right: of the same sort where there are enough."""
    if key.sort == "digits":
        value = int(key.text)
        steps = (-2, 1, 3) if value > 20 else (1, 2, 3)
        return [str(value + step) for step in steps]
    if key.sort == "number":
        at = _NUMBERS.index(key.text)
        return [_NUMBERS[(at + step) % len(_NUMBERS)] for step in (3, -2, 5)]
    low = line.lower()
    others = {k.text.lower(): k for k in keys if k.text.lower() not in low}
    own = {stem(word) for word in _WORD.findall(low)}
    others = {t: k for t, k in others.items() if not {stem(w) for w in t.split()} & own}
    near = [k.text for k in others.values() if k.sort == key.sort]
    far = [k.text for k in others.values() if k.sort != key.sort and k.sort in ("one", "several")]
    near = near[turn % max(len(near), 1) :] + near[: turn % max(len(near), 1)]
    names = _SPARE_PEOPLE if " " in key.text else _SPARE_NAMES
    if key.sort == "name":
        near = [name for name in near if (" " in name) == (" " in key.text)]
    spare = names if key.sort == "name" else (*far, *_SPARE)
    by_stem = {stem(option.lower()): option for option in reversed([*near, *spare])}
    return list(reversed(by_stem.values()))[:3]


FILTERS = {"gaps": gaps}
