"""The table of Chinese words that a corpus of drawings has."""

from __future__ import annotations

from typing import Any

from vermilion.data.corpora.drawings.words import glossary, other_names, table


def row(concept: str, label: str, label_zh: str, tags: str, tags_zh: str) -> dict[str, Any]:
    return {
        "group": "emoji",
        "concept": concept,
        "label": label,
        "label_zh": label_zh,
        "tags": tags.split(),
        "tags_zh": tags_zh.split(),
    }


ROWS = [
    row("1", "cat", "猫", "pet animal", "宠物 动物"),
    row("2", "dog", "狗", "pet animal", "宠物 动物 汪汪"),
    row("3", "fox", "狐狸", "animal", "动物"),
    row("4", "crescent moon", "弯月", "night", "夜晚 动物"),
    {**row("5", "house", "房子", "", "家园"), "group": "line"},
]


def test_labels_and_tags() -> None:
    found = glossary(ROWS)
    assert found["猫"] == "cat"
    assert found["弯月"] == "crescent moon"
    # A tag of one thing is that thing; one of several is the word that the same things have.
    assert found["汪汪"] == "dog"
    assert found["宠物"] == "pet"
    assert found["动物"] == "animal"
    # Only emoji have CLDR's Chinese.
    assert "家园" not in found
    # What people say besides.
    assert found["红色"] == "red"
    assert list(found) == sorted(found)


def test_a_label_goes_before_what_was_written_by_hand() -> None:
    found = glossary([*ROWS, row("6", "heart suit", "心", "", "")])
    assert found["心"] == "heart suit"


def test_other_names() -> None:
    rows = [*ROWS, row("7", "hot beverage", "热饮", "steaming animal", "")]
    found = other_names(rows)
    assert found["steaming"] == "hot beverage"
    assert found["coffee"] == "hot beverage"
    assert "animal" not in found  # of several things
    assert "cat" not in found  # a label
    assert "car" not in found  # its label is not here


def test_the_table() -> None:
    assert table({"猫": "cat", "狗": "dog"}) == "猫\tcat\n狗\tdog\n"
