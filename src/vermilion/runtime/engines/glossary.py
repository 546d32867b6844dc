"""Chinese words for a model that reads English alone: a table that lies beside its weights.

    红色的狐狸 → 红色 狐狸 → red fox

words.zh.tsv has a line for each word: the Chinese, a tab, the English. `vermilion.data.corpora`
writes one from the labels of drawings that both languages have. It is no translator: a prompt for a
sticker is a thing with a word or two before it, and those are in the table or they are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vermilion.disk import storage
from vermilion.errors import InputError, ModelError

FILE = "words.zh.tsv"
MAX_BYTES = 4 * 2**20

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
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words
        self._longest = max(map(len, words), default=0)

    @classmethod
    def read(cls, folder: Path) -> Glossary | None:
        """The table in a model's folder; None: there is none.

        Raises:
            ModelError: it is too large, or a line of it is no pair of words.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        with storage(path):
            if path.stat().st_size > MAX_BYTES:
                raise ModelError(f"{path}: has more than {MAX_BYTES:,} bytes")
            content = path.read_bytes()
        try:
            lines = content.decode("utf-8").splitlines()
            return cls(dict(line.split("\t", 2) for line in lines))
        except ValueError:
            raise ModelError(f"{path}: a line must be two words with a tab between") from None

    def translated(self, text: str) -> str:
        """The same in English, word by word, the longest first; what is English stays.

        Args:
            text: a prompt.

        Raises:
            InputError: a word is not in the table; it names it.
        """
        if not _HAN.search(text):
            return text
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

    def _word_at(self, text: str, at: int) -> str:
        """The longest word of the table that begins there; empty: none does."""
        for length in range(min(self._longest, len(text) - at), 0, -1):
            word = text[at : at + length]
            if word in self._words and _HAN.search(word):
                return word
        return ""
