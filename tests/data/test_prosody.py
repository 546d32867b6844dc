"""Tones and rhymes of regulated verse, against the tables of the forms that handbooks print."""

from __future__ import annotations

import pytest

from vermilion.data import prosody

# 王力《诗词格律》: 五律 and 七律 in their four kinds, the first two couplets, which are also the
# 绝句. 平 and 仄 stand for themselves; places in brackets there are free.
PATTERNS = {
    "五 仄起 首句不入韵": "仄仄平平仄 平平仄仄平 平平平仄仄 仄仄仄平平",
    "五 仄起 首句入韵": "仄仄仄平平 平平仄仄平 平平平仄仄 仄仄仄平平",
    "五 平起 首句不入韵": "平平平仄仄 仄仄仄平平 仄仄平平仄 平平仄仄平",
    "五 平起 首句入韵": "平平仄仄平 仄仄仄平平 仄仄平平仄 平平仄仄平",
    "七 平起 首句不入韵": "平平仄仄平平仄 仄仄平平仄仄平 仄仄平平平仄仄 平平仄仄仄平平",
    "七 平起 首句入韵": "平平仄仄仄平平 仄仄平平仄仄平 仄仄平平平仄仄 平平仄仄仄平平",
    "七 仄起 首句不入韵": "仄仄平平平仄仄 平平仄仄仄平平 平平仄仄平平仄 仄仄平平仄仄平",
    "七 仄起 首句入韵": "仄仄平平仄仄平 平平仄仄仄平平 平平仄仄平平仄 仄仄平平仄仄平",
}


def sung(pattern: str) -> list[str]:
    """Lines with these tones; all level syllables rhyme."""
    return pattern.replace("平", "天").replace("仄", "地").split()


@pytest.mark.parametrize("name", PATTERNS)
def test_the_handbooks_patterns_keep_every_tone(name: str) -> None:
    lines = sung(PATTERNS[name])
    assert prosody.scores(lines) == prosody.Scores(tone=1.0, rhyme=1.0)
    # The second half of a 律诗 goes on as the first began, its first line without a rhyme.
    unrhymed = PATTERNS[name.replace("首句入韵", "首句不入韵")].split()
    assert prosody.scores(lines + sung(" ".join(unrhymed))).tone == 1.0


def test_first_and_third_characters_are_free() -> None:
    lines = sung(PATTERNS["七 平起 首句入韵"])
    freed = ["地" + line[1:] for line in lines]
    assert prosody.scores(freed).tone == 1.0


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ("平平仄仄平 平平仄仄平 平平平仄仄 仄仄仄平平", 2),  # 失对: two places of a line
        ("仄仄平平仄 平平仄仄平 仄仄平平仄 平平仄仄平", 4),  # 失粘: half of the poem
        ("仄仄平平仄 平平仄仄仄 平平平仄仄 仄仄仄平平", 1),  # an even line ends oblique
    ],
)
def test_what_breaks_the_pattern_is_counted(change: str, lost: int) -> None:
    fixed = 4 * 2 + 3  # two places of each line, and the ends of all but the first
    assert prosody.scores(sung(change)).tone == pytest.approx(1 - lost / fixed)


@pytest.mark.parametrize(
    ("poem", "form", "rhyme"),
    [
        ("白日依山尽，黄河入海流。欲穷千里目，更上一层楼。", "五绝", "尤"),
        ("月落乌啼霜满天，江枫渔火对愁眠。姑苏城外寒山寺，夜半钟声到客船。", "七绝", "寒"),
        (
            "国破山河在，城春草木深。感时花溅泪，恨别鸟惊心。"
            "烽火连三月，家书抵万金。白头搔更短，浑欲不胜簪。",
            "五律",
            "文",
        ),
    ],
)
def test_known_poems(poem: str, form: str, rhyme: str) -> None:
    lines = prosody.lines_of(poem)
    assert prosody.form_of(lines) == form
    found = prosody.scores(lines)
    assert found.rhyme >= 0.75
    assert found.tone >= 0.85
    assert prosody.readings_of(lines[1])[-1] == prosody.Reading(level=True, rhyme=rhyme)


@pytest.mark.parametrize(
    ("text", "levels", "rhymes"),
    [
        ("知资日儿", (True, True, False, True), ("支", "支", "支", "齐")),
        ("月夜居元", (False, False, True, True), ("皆", "皆", "齐", "寒")),
        ("云风雄翁", (True, True, True, True), ("文", "庚", "庚", "庚")),
        ("水流归", (False, True, True), ("微", "尤", "微")),
    ],
)
def test_readings(text: str, levels: tuple[bool, ...], rhymes: tuple[str, ...]) -> None:
    readings = prosody.readings_of(text)
    assert tuple(r.level for r in readings) == levels
    assert tuple(r.rhyme for r in readings) == rhymes


def test_lines_without_a_form() -> None:
    assert prosody.form_of(["一二三", "四五六"]) == ""
    with pytest.raises(ValueError, match="none of the four forms"):
        prosody.scores(["一二三四五"] * 3)
