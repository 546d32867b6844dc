"""Briefs in all the forms that people give them, good and bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vermilion.errors import InputError, NotFoundError
from vermilion.line.brief import language_of, read_brief
from vermilion.types import Brief


@pytest.mark.parametrize(
    ("sentence", "subject", "tone", "audience"),
    [
        (
            "a launch set for a small roastery's new dark roast, warm tone",
            "a small roastery's new dark roast",
            "warm",
            "",
        ),
        ("Write me a story about a lost kite", "a lost kite", "", ""),
        ("a fable about an ant", "an ant", "", ""),
        (
            "a lesson about how rainbows form, for ten-year-olds",
            "how rainbows form",
            "",
            "ten-year-olds",
        ),
        ("a bookshop that opens when it rains", "a bookshop that opens when it rains", "", ""),
        ("posts for our bakery, in a dry and witty tone", "our bakery", "dry and witty", ""),
    ],
)
def test_a_sentence_is_taken_apart(sentence: str, subject: str, tone: str, audience: str) -> None:
    brief = read_brief(sentence)
    assert (brief.subject, brief.tone, brief.audience) == (subject, tone, audience)


def test_toml_and_json_say_the_same(tmp_path: Path, home: Path) -> None:
    fields = {"subject": "tea", "facts": ["from Fujian"], "seed": 0, "counts": {"post": 2}}
    (tmp_path / "a.json").write_text(json.dumps(fields))
    (tmp_path / "a.toml").write_text(
        'subject = "tea"\nfacts = ["from Fujian"]\nseed = 0\n[counts]\npost = 2\n'
    )
    expected = Brief(subject="tea", facts=("from Fujian",), seed=0, counts={"post": 2})
    assert read_brief(tmp_path / "a.json") == expected
    assert read_brief(str(tmp_path / "a.toml")) == expected
    assert read_brief("-", json.dumps(fields).encode()) == expected
    assert (
        read_brief("-", b'subject = "tea"\nfacts = ["from Fujian"]\nseed = 0\ncounts = {post = 2}')
        == expected
    )


def test_standard_input_may_be_a_sentence(home: Path) -> None:
    assert read_brief("-", b"a launch set for green tea\n").subject == "green tea"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tone = "warm"', "subject is missing; add it"),
        ('subject = "  "', "subject is empty"),
        ('subject = "tea"\nseed = "seven"', "seed should be a valid integer"),
        ('subject = "tea"\nseed = true', "seed should be a valid integer"),
        ('subject = "tea"\nseed = -1', "seed must be between 0"),
        ('subject = "tea"\naudence = "all"', "did you mean audience?"),
        ('subject = "tea"\nfacts = "one"', "facts should be a valid list"),
        ('subject = "tea"\nlanguage = "English"', "language must be a code of two letters"),
        ('subject = "tea"\ncounts = { post = -1 }', "counts.post must be 0 to 200"),
        ("subject = tea", "this is not TOML"),
        ('subject = "tea"\nfacts = [' + '"x",' * 201 + "]", "facts has 201 entries"),
    ],
)
def test_a_bad_brief_is_one_sentence(tmp_path: Path, home: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message.replace("(", "\\(").replace("?", "\\?")) as caught:
        read_brief(path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_brief(tmp_path / "bytes.toml")
    (tmp_path / "nul.toml").write_bytes(b"subject = '\x00'")
    with pytest.raises(InputError, match="binary file"):
        read_brief(tmp_path / "nul.toml")
    with pytest.raises(NotFoundError, match="there is no file"):
        read_brief(tmp_path / "none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_brief(tmp_path / "folder.toml")


def test_five_megabytes_are_too_much(tmp_path: Path, home: Path) -> None:
    with pytest.raises(InputError, match="larger than 65,536 bytes"):
        read_brief("tea " * 1_250_000)
    (tmp_path / "large.json").write_bytes(b" " * 5_000_000)
    with pytest.raises(InputError, match="larger than 65,536 bytes"):
        read_brief(tmp_path / "large.json")
    with pytest.raises(InputError, match=r"nested too deep|not JSON"):
        read_brief("-", b'{"subject": ' + b"[" * 30_000)


def test_the_language_is_read_off_the_subject() -> None:
    assert language_of(Brief(subject="一家小咖啡店的新品")) == "zh"
    assert language_of(Brief(subject="a café")) == "en"
    assert language_of(Brief(subject="a café", language="fr")) == "fr"
