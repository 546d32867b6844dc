"""Chinese words for a model that reads English."""

from __future__ import annotations

from pathlib import Path

import pytest

from vermilion.errors import InputError, ModelError
from vermilion.runtime.engines.glossary import MAX_BYTES, Glossary

WORDS = {"红": "red", "红色": "red", "狐狸": "fox", "墨镜": "sunglasses", "笑脸": "smiling face",
         "戴": "with", "红心": "red heart", "心": "heart", "3d眼镜": "3d glasses"}  # fmt: skip


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("红色的狐狸", "red fox"),
        ("一只狐狸，flat", "fox, flat"),
        ("戴墨镜的笑脸", "with sunglasses smiling face"),
        ("红心", "red heart"),  # the longest word, not 红 and 心
        ("3d眼镜", "3d glasses"),
        ("狐狸、红心。", "fox, red heart"),
        ("cute 狐狸", "cute fox"),
        ("a red fox, 3d", "a red fox, 3d"),
    ],
)
def test_words_are_found(chinese: str, english: str) -> None:
    assert Glossary(WORDS).translated(chinese) == english


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("coffee", "hot beverage"),
        ("A Coffee, 3d", "hot beverage, 3d"),
        ("the coffee", "hot beverage"),
        ("a coffee shop", "a coffee shop"),  # the whole thing, or nothing
        ("fox, coffee", "fox, coffee"),
        ("", ""),
    ],
)
def test_other_names(said: str, meant: str) -> None:
    assert Glossary(WORDS, {"coffee": "hot beverage"}).translated(said) == meant


def test_what_is_not_in_the_table_is_named() -> None:
    with pytest.raises(InputError, match="does not know '鲸鱼' of '红色的鲸鱼'; say it in other"):
        Glossary(WORDS).translated("红色的鲸鱼")
    with pytest.raises(InputError, match="names nothing"):
        Glossary(WORDS).translated("一只")


def test_the_file(tmp_path: Path) -> None:
    assert Glossary.read(tmp_path) is None
    path = tmp_path / "words.zh.tsv"
    path.write_text("狐狸\tfox\n猫\tcat\n", encoding="utf-8")
    found = Glossary.read(tmp_path)
    assert found is not None
    assert found.translated("猫") == "cat"
    for broken in (b"fox\n", "狐\tfox\tx\n".encode(), "狐\tfox\n".encode("gb18030")):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match="a line must be two words"):
            Glossary.read(tmp_path)
    path.unlink()
    (tmp_path / "words.en.tsv").write_text("coffee\thot beverage\n")
    found = Glossary.read(tmp_path)
    assert found is not None
    assert found.translated("a coffee") == "hot beverage"
    assert found.translated("猫") == "猫"  # there is no table for Chinese
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ModelError, match="more than"):
        Glossary.read(tmp_path)
