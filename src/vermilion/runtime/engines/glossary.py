"""Words for a model that knows things by their labels alone: tables that lie beside its weights.

    红色的狐狸 → 红色 狐狸 → red fox               words.zh.tsv, Chinese word by word
    a coffee, 3d → hot beverage, 3d             words.en.tsv, what stands before the first comma

A table has a line for each word: the word, a tab, what the model calls it. `vermilion.data.corpora`
writes them from the labels and tags of drawings. They are no translators: a prompt for a sticker is
a thing with a word or two before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from vermilion.disk import storage
from vermilion.errors import InputError, ModelError

FILE, OTHER_NAMES = "words.zh.tsv", "words.en.tsv"
MAX_BYTES = 4 * 2**20

_ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# Marks as Chinese writes them, and words that say how many or whose, which a label does without.
_MARKS = {"，": ",", "、": ",", "。": "", "！": "", "：": ",", "；": ","}
_LITTLE = frozenset(
    "的地得了着一个只张条朵颗座辆头匹位名件把杯碗盘块片棵支枝根双对些这那很和与及跟是在有"
)


class Glossary:
    """A table of words.

    Args:
        words: Chinese to English.
        names: English in small letters to the labels that are meant.
    """

    def __init__(
        self, words: Mapping[str, str], names: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._words, self._names = words, names
        self._longest = max(map(len, words), default=0)

    @classmethod
    def read(cls, folder: Path) -> Glossary | None:
        """The tables in a model's folder; None: there is none.

        Raises:
            ModelError: one is too large, or a line of it is no pair of words.
        """
        words, names = _table(folder / FILE), _table(folder / OTHER_NAMES)
        return None if words is None and names is None else cls(words or {}, names or {})

    def translated(self, text: str) -> str:
        """A prompt in the words that the model knows.

        Chinese becomes English word by word, the longest first. English stays, but for a thing
        that has another label: what stands before the first comma, without its article.

        Args:
            text: a prompt.

        Raises:
            InputError: a word is not in the table; it names it.
        """
        if not self._words or not _HAN.search(text):
            return self._called(text)
        parts: list[str] = []
        unknown: list[str] = []
        at = 0
        while at < len(text):
            word = self._word_at(text, at)
            if word:
                parts.append(f" {self._words[word]} ")
                at += len(word)
                continue
            letter = text[at]
            if letter in _MARKS:
                parts.append(f"{_MARKS[letter]} ")
            elif letter not in _LITTLE:
                parts.append(letter)
                unknown += [letter] if _HAN.match(letter) else []
            at += 1
        if unknown:
            raise InputError(
                f"text: the model does not know {''.join(unknown)!r} of {text!r}; say it in other"
                " words, or in English"
            )
        joined = " ".join("".join(parts).split()).replace(" ,", ",").strip(" ,")
        if not joined:
            raise InputError(f"text: {text!r} names nothing that can be painted")
        return joined

    def _called(self, text: str) -> str:
        thing, comma, rest = text.partition(",")
        bare = _ARTICLE.sub("", thing.strip()).casefold()
        return f"{self._names.get(bare, thing)}{comma}{rest}"

    def _word_at(self, text: str, at: int) -> str:
        """The longest word of the table that begins there; empty: none does."""
        for length in range(min(self._longest, len(text) - at), 0, -1):
            word = text[at : at + length]
            if word in self._words and _HAN.search(word):
                return word
        return ""


def _table(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    with storage(path):
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: has more than {MAX_BYTES:,} bytes")
        content = path.read_bytes()
    try:
        lines = content.decode("utf-8").splitlines()
        return dict(line.split("\t", 2) for line in lines)
    except ValueError:
        raise ModelError(f"{path}: a line must be two words with a tab between") from None
