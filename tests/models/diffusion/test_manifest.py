from __future__ import annotations

import json
from pathlib import Path

import pytest

from vermilion.errors import InputError, ModelError
from vermilion.models.diffusion.manifest import FILE, Manifest

STICKERS = Manifest(patch=2, channels=4, text_encoder="all-minilm-l6-v2", styles=("flat", "line"))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Manifest.read(tmp_path) is None
    STICKERS.write(tmp_path)
    assert Manifest.read(tmp_path) == STICKERS
    (tmp_path / FILE).write_text("{}")
    assert Manifest.read(tmp_path) == Manifest()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"patch": 0}, "patch: .*greater than or equal to 1"),
        ({"patch": "2"}, "patch: "),
        ({"channels": 5}, "channels: "),
        ({"text_encoder": "../x"}, "text_encoder: "),
        ({"styels": []}, "styels: "),
        ({"guidance_scale": -1}, "guidance_scale: "),
    ],
)
def test_a_field_that_cannot_be_used_is_named(
    tmp_path: Path, fields: dict[str, object], words: str
) -> None:
    (tmp_path / FILE).write_text(json.dumps(fields))
    with pytest.raises(ModelError, match=rf"vermilion\.json: {words}"):
        Manifest.read(tmp_path)


def test_styles_and_classes() -> None:
    assert STICKERS.prompt("a {style} fox", "") == "a {style} fox"
    assert STICKERS.prompt("a fox", "line") == "a fox, line"
    with pytest.raises(InputError, match=r"style: 'oil' is not one .*flat, line"):
        STICKERS.prompt("a fox", "oil")
    assert Manifest().prompt("a fox", "oil") == "a fox, oil"
    classes = Manifest(classes=("cat", "dog"))
    assert [classes.label(word) for word in ("dog", " cat ", "1")] == [1, 0, 1]
    for word in ("2", "cow", ""):
        with pytest.raises(InputError, match="it knows cat, dog"):
            classes.label(word)
