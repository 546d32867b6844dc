from __future__ import annotations

import random
import unicodedata

import pytest

from vermilion.errors import InputError
from vermilion.library import Library, search

from .helpers import keep


def _texts(hits):
    return [hit.asset.text for hit in hits]


@pytest.fixture(scope="module")
def coffee(tmp_path_factory):
    with Library.open(tmp_path_factory.mktemp("coffee")) as library:
        for text in (
            "Our Café has a new Dark Roast",
            "深烘咖啡很香，配拿铁latte",
            "一杯茶",
            "咖喱也香，不是啡色",
            "ดื่มกาแฟตอนเช้า",
            "커피를 마신다",
            "コーヒーを飲む",
        ):
            keep(library, text)
        yield library


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("dark", ["Our Café has a new Dark Roast"]),
        ("DARK rOaSt", ["Our Café has a new Dark Roast"]),
        ("roast dark", ["Our Café has a new Dark Roast"]),
        ("cafe", ["Our Café has a new Dark Roast"]),
        ("cafe\u0301", ["Our Café has a new Dark Roast"]),
        ("ＤＡＲＫ", ["Our Café has a new Dark Roast"]),
        ("ro", ["Our Café has a new Dark Roast"]),
        ("da ro", []),  # only the last word may be a beginning
        ("oast", []),
        ("dark tea", []),
        ("咖啡", ["深烘咖啡很香，配拿铁latte"]),
        ("深烘 咖啡", ["深烘咖啡很香，配拿铁latte"]),
        ("latte 咖啡", ["深烘咖啡很香，配拿铁latte"]),
        ("拿铁lat", ["深烘咖啡很香，配拿铁latte"]),
        ("啡咖", []),
        ("茶", ["一杯茶"]),
        ("香", ["深烘咖啡很香，配拿铁latte", "咖喱也香，不是啡色"]),
        ("กาแฟ", ["ดื่มกาแฟตอนเช้า"]),
        ("커피", ["커피를 마신다"]),
        ("コーヒー", ["コーヒーを飲む"]),
        ("ｺｰﾋｰ", ["コーヒーを飲む"]),
    ],
)
def test_words_in_any_script(coffee, query, found):
    assert sorted(_texts(coffee.find(query))) == sorted(found)


def test_reason_and_score(library):
    spoken = keep(library, "A Roast for Monday", recipe={"prompt": {"text": "coffee"}})
    asked = keep(library, "good morning", recipe={"prompt": {"text": "praise the roast, 咖啡"}})
    for number in range(10):
        keep(library, f"filler {number}")

    hits = library.find("roast")
    assert [hit.asset for hit in hits] == [spoken, asked]
    assert hits[0].score > hits[1].score > 0
    assert [hit.reason for hit in hits] == ['text contains "Roast"', 'prompt contains "roast"']
    assert library.find("咖啡")[0].reason == 'prompt contains "咖啡"'
    assert (
        library.find("monday coffee")[0].reason
        == 'text contains "Monday" and prompt contains "coffee"'
    )
    assert library.find("roast for mon")[0].reason == 'text contains "Roast", "for", "Monday"'


def test_a_word_that_every_asset_has_still_scores_above_nothing(library):
    keep(library, "roast")
    keep(library, "roast roast")
    assert all(hit.score > 0 for hit in library.find("roast"))


def test_of_equals_the_newest_comes_first(library):
    kept = [keep(library, "roast", str(i).encode()) for i in range(3)]
    assert [hit.asset for hit in library.find("roast")] == kept[::-1]


def test_kind_and_limit(library):
    for number in range(5):
        keep(library, f"roast {number}")
    voice = keep(library, "roast", kind="speech")
    assert [hit.asset for hit in library.find("roast", kind="speech")] == [voice]
    assert len(library.find("roast", limit=2)) == 2
    with pytest.raises(InputError, match=r"^limit: "):
        library.find("roast", limit=0)
    with pytest.raises(InputError, match=r"^kind: "):
        library.find("roast", kind="\udc80")


@pytest.mark.parametrize("query", ["", " ", "\n\t"])
def test_an_empty_query(library, query):
    with pytest.raises(InputError, match="query: is empty"):
        library.find(query)


@pytest.mark.parametrize(
    "query",
    [
        *('"', "'", "*", "(", "))", "NEAR(", "AND", "a OR", "NOT", "text:x", "{text}: x", "^", "-"),
        *("\x00", 'a\x00"b', "\udc80", "☕", "“", "＂", "\u200b", "%", "\\"),
        "a" * 100_000,
        "茶" * 9_999,
        " ".join(map(str, range(2000))),
    ],
)
def test_a_query_is_words_and_never_syntax(library, query):
    keep(library, "something else")
    assert library.find(query) == []


def test_signs_around_a_word_do_not_hide_it(library):
    kept = keep(library, 'She said "well-known" (twice), near 5%')
    for query in ('"well-known"', "(twice)", "twice*", "NEAR", "well known", "5%", '"said', "^she"):
        assert [hit.asset for hit in library.find(query)] == [kept], query


def test_random_queries_never_raise(library):
    keep(library, "a text")
    draw = random.Random(0)
    for _ in range(300):
        letters = (
            chr(draw.randrange(0x3000 if draw.random() < 0.7 else 0x110000)) for _ in "12345"
        )
        library.find("x" + "".join(letters))


def test_every_character_can_be_kept_and_found_again(library):
    """SQLite's tables know an older Unicode than Python's, so only letters of both count."""
    letters = [chr(c) for c in (0x61, 0xE9, 0x3A9, 0x416, 0x5D0, 0x628, 0x915, 0x8336, 0x20BB7)]
    for letter in letters:
        keep(library, f"before {letter} after")
        assert letter in unicodedata.normalize("NFKC", library.find(letter)[0].asset.text)


@pytest.mark.parametrize("recipe", [{}, {"prompt": None}, {"prompt": "x"}, {"prompt": {"text": 1}}])
def test_recipes_without_a_prompt_text(library, recipe):
    kept = keep(library, "roast", recipe=recipe)
    assert [hit.asset for hit in library.find("roast")] == [kept]


def test_spread_is_undone_by_taking_the_invisible_spaces_out():
    text = "深烘 latte 咖啡。กาแฟ"
    assert search.spread(text).replace("\u200b", "") == text
