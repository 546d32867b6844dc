from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vermilion.errors import InputError, NotFoundError, StorageError
from vermilion.library import Library

from .helpers import keep, kept_files, pending


def test_what_is_kept_comes_back_whole(library, directory):
    before = datetime.now(UTC)
    parent = keep(library, "a parent")
    kept = library.keep(
        b"RIFF\x00",
        kind="speech",
        media_type="audio/wav",
        suffix="WAV",
        text="Good morning, 早上好",
        recipe={"prompt": {"text": "say it", "seed": 0}, "versions": {"b": 1, "a": None}},
        notes={"seconds": 0.5, "checks": ["ok"]},
        parents=(parent.id,),
        set_id="launch",
        step="voice",
        index=3,
        licence="Apache-2.0",
    )

    assert library.get(kept.id) == kept
    assert library.read(kept) == b"RIFF\x00"
    assert re.fullmatch("[0-9a-hjkmnp-tv-z]{8}", kept.id)
    assert kept.sha256 == hashlib.sha256(b"RIFF\x00").hexdigest()
    assert kept.path == directory / "files" / kept.sha256[:2] / f"{kept.sha256}.wav"
    assert (kept.size, kept.index, kept.rating, kept.licence) == (5, 3, None, "Apache-2.0")
    assert kept.recipe == {"prompt": {"text": "say it", "seed": 0}, "versions": {"a": None, "b": 1}}
    assert kept.notes == {"seconds": 0.5, "checks": ["ok"]}
    assert kept.parents == (parent.id,)
    assert kept.created_at.utcoffset() == timedelta(0)
    assert before <= kept.created_at <= datetime.now(UTC)
    assert pending(directory) == []


def test_it_is_there_after_reopening(directory):
    with Library.open(directory) as library:
        kept = keep(library, "stays")
    with Library.open(directory) as library:
        assert library.list() == [kept]
        assert library.read(kept) == b"stays"


def test_a_relative_folder_gives_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Library.open(Path("library")) as library:
        assert keep(library, "x").path.is_absolute()


def test_any_unique_beginning_of_an_id_in_either_case(library, monkeypatch):
    ids = iter("ab0defgh" + "ab1defgh" + "zzzzzzzz")
    monkeypatch.setattr(secrets, "choice", lambda _: next(ids))
    first, second, third = (keep(library, word) for word in ("one", "two", "three"))

    assert library.get("AB0") == first
    assert library.get("abO") == first  # Crockford reads the letter o as 0, and l as 1
    assert library.get("abl") == second
    assert library.get(" z ") == third
    with pytest.raises(InputError, match=r"several ids \(ab0defgh, ab1defgh\); give more"):
        library.get("ab")


def test_many_candidates_are_cut_short(library, monkeypatch):
    letters = iter("".join(f"0000000{last}" for last in "abcdef"))
    monkeypatch.setattr(secrets, "choice", lambda _: next(letters))
    for number in range(6):
        keep(library, str(number))
    with pytest.raises(InputError, match=r"0000000d, 0000000e, \.\.\.\); give more of it"):
        library.get("0")


@pytest.mark.parametrize("ref", ["00000000", "%", "_", "a'b", "../x", "\udc80", "咖"])
def test_an_unknown_id_names_the_remedy(library, ref):
    keep(library, "something")
    with pytest.raises(NotFoundError, match="vermilion library list"):
        library.get(ref)


def test_an_empty_id(library):
    with pytest.raises(InputError, match="id: is empty"):
        library.get(" ")


def test_an_id_in_use_is_drawn_again(library, monkeypatch):
    letters = iter("00000000" + "00000000" + "11111111")
    monkeypatch.setattr(secrets, "choice", lambda _: next(letters))
    assert [keep(library, "a").id, keep(library, "b").id] == ["00000000", "11111111"]


def test_the_id_of_a_removed_parent_is_not_given_away(library, monkeypatch):
    letters = iter("00000000" + "11111111" + "00000000" + "22222222")
    monkeypatch.setattr(secrets, "choice", lambda _: next(letters))
    parent = keep(library, "parent")
    keep(library, "child", parents=[parent.id])
    library.remove(parent.id)
    assert keep(library, "new").id == "22222222"


def test_list_is_newest_first_and_filters(library):
    a = keep(library, "a", set_id="one")
    b = keep(library, "b", kind="speech", set_id="one")
    c = keep(library, "c")
    assert library.list() == [c, b, a]
    assert library.list(kind="text") == [c, a]
    assert library.list(set_id="one") == [b, a]
    assert library.list(kind="text", set_id="one") == [a]
    assert library.list(limit=1, offset=1) == [b]
    assert library.list(kind="film") == []


@pytest.mark.parametrize(
    "bad", [{"limit": 0}, {"limit": 2**63}, {"offset": -1}, {"limit": True}, {"kind": "\ud800"}]
)
def test_list_refuses_what_it_cannot_do(library, bad):
    with pytest.raises(InputError, match=f"^{next(iter(bad))}: "):
        library.list(**bad)


def test_the_same_content_shares_one_file(library, directory):
    first, second = keep(library, "same"), keep(library, "same", text="told otherwise")
    assert first.id != second.id
    assert first.path == second.path
    assert kept_files(directory) == [first.path]

    library.remove(first.id)
    assert library.read(second) == b"same"
    library.remove(second.id)
    assert kept_files(directory) == []


def test_the_same_content_with_another_suffix_is_another_file(library, directory):
    text, markdown = keep(library, "same"), keep(library, "same", suffix="md")
    assert len(kept_files(directory)) == 2
    library.remove(text.id)
    assert library.read(markdown) == b"same"


def test_keeping_again_mends_a_damaged_file(library):
    kept = keep(library, "whole")
    kept.path.write_bytes(b"damaged")
    keep(library, "whole")
    assert library.read(kept) == b"whole"


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 1000])
def test_any_bytes(library, content):
    assert library.read(keep(library, "x", content)) == content


def test_a_changed_or_missing_file_is_noticed(library):
    kept = keep(library, "words")
    kept.path.write_bytes(b"other words")
    with pytest.raises(StorageError, match="SHA-256 differs"):
        library.read(kept)
    kept.path.unlink()
    with pytest.raises(StorageError, match=f"{kept.sha256}.txt: it is missing; restore"):
        library.read(kept)


def test_rating(library):
    kept = keep(library, "x")
    assert library.rate(kept.id, 5).rating == 5
    assert library.get(kept.id).rating == 5
    assert library.rate(kept.id[:7], None).rating is None


@pytest.mark.parametrize("rating", [0, 6, -1, True, 3.0, "3"])
def test_a_rating_out_of_range(library, rating):
    kept = library.rate(keep(library, "x").id, 2)
    with pytest.raises(InputError, match="rating: has to be a whole number, 1 to 5"):
        library.rate(kept.id, rating)
    assert library.get(kept.id).rating == 2


def test_remove(library, directory):
    kept, other = keep(library, "gone soon"), keep(library, "stays")
    assert library.remove(kept.id) == kept
    with pytest.raises(NotFoundError):
        library.get(kept.id)
    assert library.list() == [other]
    assert library.find("gone soon stays") == library.find("gone") == []
    assert kept_files(directory) == [other.path]
    assert pending(directory) == []


def test_a_removed_file_that_is_missing_already(library):
    kept = keep(library, "x")
    kept.path.unlink()
    library.remove(kept.id)
    assert library.list() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", "text"),
        ("kind", ""),
        ("kind", "../text"),
        ("media_type", "wav"),
        ("media_type", "text/plain\r\nSet-Cookie: x=1"),
        ("suffix", ""),
        ("suffix", ".wav"),
        ("suffix", "../../x"),
        ("suffix", "a/b"),
        ("suffix", "wav\n"),
        ("suffix", "wäv"),
        ("suffix", "x" * 17),
        ("text", None),
        ("text", "half \ud83d of a pair"),
        ("recipe", {"cfg": float("nan")}),
        ("recipe", {"when": datetime.now(UTC)}),
        ("recipe", {"a": "\udc80"}),
        ("recipe", []),
        ("notes", {"loss": float("inf")}),
        ("notes", {1: "a", "b": 2}),
        ("parents", ["../x"]),
        ("parents", ["ABCDEFGH"]),
        ("parents", "00000000"),
        ("set_id", ""),
        ("step", ""),
        ("index", -1),
        ("index", 2**63),
        ("licence", None),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(library, directory, field, value):
    values = {
        "content": b"x",
        "kind": "text",
        "media_type": "text/plain; charset=utf-8",
        "suffix": "txt",
        "text": "",
        "recipe": {},
    }
    with pytest.raises(InputError, match=f"^{field}: ") as caught:
        library.keep(**(values | {field: value}))
    assert "\n" not in str(caught.value)
    assert library.list() == []
    assert kept_files(directory) == pending(directory) == []


def test_a_recipe_that_contains_itself(library):
    recipe: dict[str, object] = {}
    recipe["again"] = recipe
    with pytest.raises(InputError, match="recipe: cannot be written as JSON"):
        keep(library, "x", recipe=recipe)


def test_a_library_can_be_closed_twice(directory):
    with Library.open(directory) as library:
        library.close()
