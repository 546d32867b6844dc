"""What is kept in the library is known where something is sealed or looked at, sealed or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.line.test_release import kept
from vermilion.errors import StorageError
from vermilion.line.known import SHELF, LibraryPrints
from vermilion.line.release import export
from vermilion.line.run import Line
from vermilion.line.verify import sealer_of, verify_file
from vermilion.seal.findings import Finding
from vermilion.seal.order import SealOptions
from vermilion.types import Asset

LARGEST = 10_000_000
ONE = b"A cup before the rain, and the street is still quiet at seven in the morning.\n"
NEAR = ONE + b"Yes.\n"
OTHER = b"Nine grey whales were counted off the northern cape by the crew of a small boat.\n"


def text(line: Line, content: bytes, **options: object) -> Asset:
    return kept(line, content, text=content.decode().strip(), **options)


def released(line: Line, asset: Asset, folder: Path) -> tuple[Path, list[str]]:
    said: list[str] = []
    options = SealOptions(tell=said.append)
    return export(line.library, line.sealer, asset, folder, options=options)[0], said


def originality(line: Line, path: Path) -> Finding:
    found = verify_file(sealer_of(line.settings), path, LARGEST)["originality"]
    assert found is not None
    return found


def test_what_was_kept_and_never_sealed_is_known(line: Line, tmp_path: Path) -> None:
    first = text(line, ONE)
    path, said = released(line, text(line, NEAR), tmp_path)
    finding = originality(line, path)
    assert f"asset {first.id}, which was made here and kept" in finding.words
    assert finding.facts["where"] == "kept"
    # Its own works are no news to whoever asked for both.
    assert said == []
    # Once it was sealed too, that is said instead.
    released(line, first, tmp_path)
    assert f"asset {first.id}" in originality(line, path).words


def test_what_was_taken_in_is_remarked_on(line: Line, tmp_path: Path) -> None:
    theirs = text(line, ONE, recipe={})
    text(line, NEAR)
    path, said = released(line, text(line, NEAR + b"No.\n"), tmp_path)
    # What was made here is closer, and is what the file is said to be close to.
    assert "which was made here and kept" in originality(line, path).words
    assert len(said) == 1
    assert f"asset {theirs.id}, which was taken in and kept" in said[0]


def test_the_words_tell_sealed_from_kept(line: Line, tmp_path: Path) -> None:
    first = text(line, ONE)
    released(line, first, tmp_path)
    path, _ = released(line, text(line, NEAR), tmp_path)
    assert f"asset {first.id}, which was sealed here" in originality(line, path).words


def test_what_is_no_copy_is_not_named(line: Line, tmp_path: Path) -> None:
    text(line, ONE)
    path, said = released(line, text(line, OTHER), tmp_path)
    assert originality(line, path).words == "nothing else that is known here is close to it"
    assert said == []


def test_what_came_later_is_the_copy(line: Line, tmp_path: Path) -> None:
    path, _ = released(line, text(line, ONE), tmp_path)
    text(line, NEAR)
    assert originality(line, path).state == "good"


def test_a_parent_is_named_as_what_it_is(line: Line, tmp_path: Path) -> None:
    first = text(line, ONE)
    path, said = released(line, text(line, NEAR, parents=[first.id]), tmp_path)
    finding = originality(line, path)
    assert finding.state == "good"
    assert f"asset {first.id}, which it was made from" in finding.words
    assert finding.facts["relation"] == "which it was made from"
    assert said == []


def test_the_same_bytes_made_again_are_no_copy(line: Line, tmp_path: Path) -> None:
    text(line, ONE)
    path, said = released(line, text(line, ONE), tmp_path)
    assert originality(line, path).state == "good"
    assert said == []


def test_what_is_removed_leaves(line: Line, tmp_path: Path) -> None:
    first = text(line, ONE)
    path, _ = released(line, text(line, NEAR), tmp_path)
    assert originality(line, path).state != "good"
    line.library.remove(first.id)
    assert originality(line, path).state == "good"
    shelf = LibraryPrints(line.settings).shelf()
    assert shelf is not None
    assert shelf.get(first.id) is None


def test_a_file_as_the_library_keeps_it_is_told(line: Line, tmp_path: Path) -> None:
    asset = text(line, ONE)
    (tmp_path / "copy.txt").write_bytes(ONE)
    (tmp_path / "near.txt").write_bytes(NEAR)
    same = verify_file(sealer_of(line.settings), tmp_path / "copy.txt", LARGEST)
    near = verify_file(sealer_of(line.settings), tmp_path / "near.txt", LARGEST)
    # Nothing was ever sealed here, so nothing is asked and no key is made.
    assert (same.asset_id, near.asset_id) == ("", "")
    assert not line.sealer.folder.exists()
    released(line, text(line, OTHER), tmp_path / "out")
    same = verify_file(sealer_of(line.settings), tmp_path / "copy.txt", LARGEST)
    assert same.asset_id == asset.id
    assert same.summary == f"The very bytes of {asset.id}, which is kept here and was never sealed."
    near = verify_file(sealer_of(line.settings), tmp_path / "near.txt", LARGEST)
    assert near.asset_id == ""
    assert near.summary.startswith(f"It resembles {asset.id}, which was made here and kept")


def test_a_library_is_opened_only_where_it_changed(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    text(line, ONE)
    known = LibraryPrints(line.settings)
    line.close()
    shelf = known.shelf()
    assert shelf is not None
    assert len(shelf.ids()) == 1
    monkeypatch.setattr("vermilion.line.known.import_module", None)
    again = LibraryPrints(line.settings).shelf()
    assert again is not None
    assert again.ids() == shelf.ids()


def test_a_damaged_shelf_is_named_with_the_remedy(line: Line, tmp_path: Path) -> None:
    path = line.settings.library_dir / SHELF
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StorageError, match=r"prints\.db.*remove the file, and it is made anew"):
        released(line, text(line, ONE), tmp_path)
    path.unlink()
    released(line, text(line, NEAR), tmp_path)


def test_several_readers_see_what_one_writes(line: Line) -> None:
    first, second = LibraryPrints(line.settings, line.library), LibraryPrints(line.settings)
    ids = set()
    for number in range(3):
        ids.add(text(line, b"%d " % number + ONE).id)
        one, two = first.shelf(), second.shelf()
        assert one is not None
        assert two is not None
        assert one.ids() == two.ids() == ids
