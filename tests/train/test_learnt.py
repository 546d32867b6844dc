"""What a model learnt from is known beside it, and a near copy of that is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vermilion as vm
from tests.train.runs import SMALL
from vermilion.line.known import LibraryPrints
from vermilion.line.verify import sealer_of
from vermilion.seal.formats import FORMATS
from vermilion.seal.order import About
from vermilion.seal.originality import PRINTS_FILE, Index
from vermilion.train.lm import learnt

VERSE = "The kettle hums beside the open door, and all the street is wet with early rain."
OTHER = "A second verse that nobody has read, about the smell of coffee and of warm bread."


def test_a_training_leaves_its_index_and_a_copy_is_told(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "verses.txt"
    data.write_text(f"{VERSE}\n\n{OTHER}\n" * 20)
    vm.train_lm(data, name="verses", settings={**SMALL, "max_steps": 2})
    settings = vm.get_settings()
    index = LibraryPrints(settings).trained_on("verses")
    assert index is not None
    assert index.source == "verses.txt"
    told: list[str] = []
    about = About(asset_id="k3f9x2ab", model="verses")
    options = vm.SealOptions(tell=told.append)
    sealer = sealer_of(settings)
    sealer.seal(VERSE.replace("early", "evening").encode(), FORMATS["txt"], about, options)
    assert "of the training set of verses" in told[0]
    told.clear()
    fresh = (
        b"Nothing of this was ever read by that model, which knows of kettles and of bread only."
    )
    sealer.seal(fresh, FORMATS["txt"], about, options)
    assert told == []


@pytest.mark.parametrize("kind", ["folder", "jsonl", "chat"])
def test_every_kind_of_data_is_known_by_its_texts(kind: str, tmp_path: Path) -> None:
    if kind == "folder":
        data = tmp_path / "set"
        (data / "deep").mkdir(parents=True)
        (data / "a.txt").write_text(VERSE)
        (data / "deep" / "b.md").write_text(OTHER)
        (data / "picture.png").write_bytes(b"is not learnt from")
        names = ["a.txt:1", "deep/b.md:1"]
    else:
        data = tmp_path / "set.jsonl"
        rows: list[object] = [{"text": VERSE}, {"text": OTHER}]
        if kind == "chat":
            said = [{"role": "user", "content": VERSE}, {"role": "assistant", "content": OTHER}]
            rows = [{"messages": said}]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        names = ["set.jsonl:1", "set.jsonl:2"]
        if kind == "chat":
            names = ["set.jsonl:1", "set.jsonl:1#1", "set.jsonl:1#2"]
    assert learnt.index(data, None, tmp_path)
    found = Index.read(tmp_path / PRINTS_FILE)
    assert found._columns["text"].names == names


def test_what_is_too_large_leaves_none_and_no_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "a.txt"
    data.write_text(VERSE)
    assert learnt.index(data, None, tmp_path)
    monkeypatch.setattr(learnt, "LARGEST", 10)
    assert not learnt.index(data, None, tmp_path)
    assert not (tmp_path / PRINTS_FILE).exists()
