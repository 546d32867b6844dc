"""Writing a corpus: JSONL of texts, and the credits with hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vermilion.data.corpora.packages import Package

TEXTS, CREDITS = "texts.jsonl", "CREDITS.txt"


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was built.

    Attributes:
        path: of the JSONL file, a text on each line under "text".
        texts: how many there are.
        characters: in all of them together.
        sha256: of the file, hexadecimal.
    """

    path: Path
    texts: int
    characters: int
    sha256: str


def write_corpus(
    out: Path, title: str, packages: Iterable[Package], texts: Iterable[str]
) -> Corpus:
    """Write texts.jsonl and CREDITS.txt; an earlier corpus in the folder is replaced.

    Args:
        out: folder, made where it is missing.
        title: what the corpus is, for the credits.
        packages: what it is taken from.
        texts: in order.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, part = out / TEXTS, out / f"{TEXTS}.part"
    digest, count, characters = hashlib.sha256(), 0, 0
    with part.open("wb") as file:
        for text in texts:
            line = (json.dumps({"text": text}, ensure_ascii=False) + "\n").encode()
            file.write(line)
            digest.update(line)
            count += 1
            characters += len(text)
    part.replace(path)
    corpus = Corpus(path, count, characters, digest.hexdigest())
    lines = [title, "=" * len(title), ""]
    lines += [f"{TEXTS}: {count:,} texts, {characters:,} characters", f"SHA-256 {corpus.sha256}"]
    lines += ["", "Taken from", "", *(package.credit + "\n" for package in packages)]
    (out / CREDITS).write_text("\n".join(lines), encoding="utf-8")
    return corpus
