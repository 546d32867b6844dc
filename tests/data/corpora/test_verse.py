"""The corpus of regulated verse, from a package of a few poems."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.data.corpora.test_packages import written
from vermilion.data.corpora import verse
from vermilion.data.corpora.verse import Poem, clean_title

STORKS = {
    "title": "登鸛雀樓",
    "paragraphs": ["白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"],
}
PRINTED = "五绝|登鹳雀楼\n白日依山尽，\n黄河入海流。\n欲穷千里目，\n更上一层楼。"
ODD = {"title": "句", "paragraphs": ["白日依山盡，黃河入海流。"]}
GAP = {"title": "缺", "paragraphs": ["白日依□盡，黃河入海流。", "欲窮千里目，更上一層樓。"]}


def package(folder: Path, entries: list[dict[str, object]]) -> Path:
    files = {
        "package/dist/quantangshi/poet.tang.0.json": json.dumps(entries).encode(),
        "package/dist/quantangshi/error/poet.tang.0.json": b"not read",
        "package/dist/songci/ci.song.0.json": b"not read",
    }
    return written(folder, "p.tgz", files)


def test_poems_are_simplified_and_laid_out(tmp_path: Path) -> None:
    path = package(tmp_path, [STORKS, ODD, GAP])
    (poem,) = verse.read(path, verse.simplifier())
    assert poem.text == PRINTED
    assert list(verse.regulated([poem])) == [poem]


@pytest.mark.parametrize(
    ("title", "clean"),
    [
        ("秋思", "秋思"),
        ("帝京篇十首 一", "帝京篇"),
        ("秋兴八首", "秋兴"),
        ("春望 其二", "春望"),
        ("杂诗（一作古意）", "杂诗"),
        ("和友人·其一", "和友人"),
        ("十首", ""),
        ("□□", ""),
    ],
)
def test_titles_lose_notes_and_numbers(title: str, clean: str) -> None:
    assert clean_title(title) == clean


def test_what_only_looks_like_the_form_is_left_out() -> None:
    flat = Poem("五绝", "平", ("天天天天天",) * 4)
    plain = Poem("五绝", "古", ("地地地地地", "天地天地地", "地天地天地", "地地天天地"))
    assert list(verse.regulated([flat, plain])) == []


def test_each_poem_once_and_without_rare_characters() -> None:
    one = Poem("五绝", "甲", ("一一一一一", "二二二二二", "三三三三三", "四四四四四"))
    other = Poem("五绝", "乙", ("一一一一一", "五五五五五", "六六六六六", "七七七七七"))
    third = Poem("五绝", "丙", ("八八八八八", "九九九九九", "十十十十十", "百百百百百"))
    assert list(verse.distinct([one, other, third])) == [one, third]
    often = [one] * 6
    assert verse.common_characters([*often, third], len(set(one.text))) == often


def test_the_corpus_is_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = package(tmp_path, [STORKS, ODD])
    monkeypatch.setattr(verse, "obtain", lambda *args, **kwargs: path)
    first, second = (verse.build(tmp_path, tmp_path / name) for name in ("a", "b"))
    assert first.sha256 == second.sha256
    assert (first.texts, first.characters) == (1, len(PRINTED))
    assert [json.loads(line)["text"] for line in lines(first.path)] == [PRINTED]
    credits = (tmp_path / "a" / "CREDITS.txt").read_text()
    for word in ("chinese-poetry 2.0.1", "MIT", first.sha256, verse.POETRY.sha256):
        assert word in credits


def lines(path: Path) -> Iterable[str]:
    return path.read_text(encoding="utf-8").splitlines()
