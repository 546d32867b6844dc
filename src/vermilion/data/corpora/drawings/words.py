"""Tables of words for drawings: Chinese with the English for it, and other names with the label.

    labels: label_zh → label
    tags: a Chinese tag of one thing alone → its label
          a Chinese tag of several → the English label or tag that is on most of the same things
    colours and a few words that people say and labels do not, by hand

Labels and tags of emoji are those of Unicode's CLDR, in both languages, though their tags are no
pairs: which English one a Chinese one stands for is found by where both are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

_HAN = re.compile(r"[\u4e00-\u9fff]")
_ALIKE = 0.6  # least overlap of the things of a tag of each language (Dice 1945)
_SHORTEST = 2  # characters of a tag; a single one is often a part of another word

OWN = {
    "红色": "red", "红": "red", "橙色": "orange", "橘色": "orange", "黄色": "yellow",
    "黄": "yellow", "绿色": "green", "绿": "green", "蓝色": "blue", "蓝": "blue", "紫色": "purple",
    "紫": "purple", "粉色": "pink", "粉红色": "pink", "棕色": "brown", "黑色": "black",
    "黑": "black", "白色": "white", "白": "white", "灰色": "grey", "金色": "gold", "金": "gold",
    "银色": "silver", "大": "big", "小": "small", "圆": "round", "可爱": "cute",
    "爱心": "red heart", "心": "red heart", "星星": "star", "苹果": "red apple",
    "咖啡": "hot beverage", "茶": "teacup without handle", "小猫": "cat", "小狗": "dog",
    "小鸟": "bird", "小熊": "bear", "兔子": "rabbit", "大象": "elephant", "树": "deciduous tree",
    "花": "flower", "玫瑰花": "rose", "雪人": "snowman", "房屋": "house", "车": "automobile",
    "小汽车": "automobile", "船": "ship", "书": "book", "蛋糕": "birthday cake",
    "笑脸": "smiling face", "脸": "face", "微笑": "smiling face", "机器人": "robot",
    "雨伞": "umbrella", "伞": "umbrella", "戴": "with", "带": "with",
}  # fmt: skip


def glossary(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Chinese to English, in the order of the Chinese.

    Args:
        rows: of captions.jsonl; those of the group emoji count, whose Chinese is CLDR's.
    """
    things: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["group"] == "emoji" and row["label_zh"]:
            things.setdefault(row["concept"], row)
    with_english: dict[str, set[str]] = defaultdict(set)
    with_chinese: dict[str, set[str]] = defaultdict(set)
    for concept, row in things.items():
        for word in _english(row):
            with_english[word].add(concept)
        for word in row["tags_zh"]:
            if len(word) >= _SHORTEST and _HAN.search(word):
                with_chinese[word].add(concept)
    found: dict[str, str] = {}
    for chinese, concepts in with_chinese.items():
        english = _meant(concepts, things, with_english)
        if english:
            found[chinese] = english
    labels = {row["label_zh"]: row["label"] for row in reversed(list(things.values()))}
    found |= {chinese: label for chinese, label in labels.items() if _HAN.search(chinese)}
    for chinese, english in OWN.items():
        if chinese not in labels:
            found[chinese] = english
    return dict(sorted(found.items()))


OWN_NAMES = {
    "coffee": "hot beverage", "cup of coffee": "hot beverage", "coffee cup": "hot beverage",
    "tea": "teacup without handle", "car": "automobile", "cake": "birthday cake",
    "tree": "deciduous tree", "apple": "red apple", "heart": "red heart", "train": "locomotive",
    "boat": "sailboat", "plane": "airplane", "gift": "wrapped gift", "present": "wrapped gift",
    "football": "soccer ball", "flower": "hibiscus", "moon": "crescent moon", "beer": "beer mug",
    "corn": "ear of corn", "cheese": "cheese wedge", "donut": "doughnut", "bike": "bicycle",
    "smile": "smiling face", "smiley": "smiling face", "rain": "cloud with rain",
    "shoe": "running shoe", "pumpkin": "jack-o-lantern", "books": "books", "tv": "television",
    "computer": "laptop", "phone": "mobile phone", "shop": "convenience store",
}  # fmt: skip


def other_names(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """English names that are no labels, in small letters, to the label that is meant.

    A tag of one thing alone is another name for it; a few are added by hand.

    Args:
        rows: as of `glossary`.
    """
    labels: dict[str, str] = {}
    tagged: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["group"] == "emoji":
            labels.setdefault(row["label"].casefold(), row["label"])
            for tag in row["tags"]:
                tagged[tag.casefold()].add(row["label"])
    found = {
        tag: next(iter(called))
        for tag, called in tagged.items()
        if len(called) == 1 and len(tag) > _SHORTEST and tag.isascii()
    }
    found |= {name: label for name, label in OWN_NAMES.items() if label.casefold() in labels}
    return {name: found[name] for name in sorted(found) if name not in labels}


def table(words: Mapping[str, str]) -> str:
    """As words.zh.tsv has it."""
    return "".join(f"{chinese}\t{english}\n" for chinese, english in words.items())


def _english(row: Mapping[str, Any]) -> set[str]:
    return {row["label"], *(tag for tag in row["tags"] if tag.isascii())}


def _meant(
    concepts: set[str],
    things: Mapping[str, Mapping[str, Any]],
    with_english: Mapping[str, set[str]],
) -> str:
    """What a tag of these things is in English; empty: it cannot be told."""
    if len(concepts) == 1:
        label: str = things[next(iter(concepts))]["label"]
        return label

    def alike(word: str) -> float:
        other = with_english[word]
        return 2 * len(concepts & other) / (len(concepts) + len(other))

    candidates = {word for concept in concepts for word in _english(things[concept])}
    best = max(sorted(candidates), key=lambda word: (alike(word), -len(word)))
    return best if alike(best) >= _ALIKE else ""
