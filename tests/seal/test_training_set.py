"""A training set's index: near copies of what a model learnt from are named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from skimage import data

from tests.seal import sound_files
from vermilion.errors import InputError, NotFoundError
from vermilion.line.known import LibraryPrints
from vermilion.line.run import Line
from vermilion.line.verify import sealer_of
from vermilion.seal.formats import FORMATS
from vermilion.seal.originality import PRINTS_FILE, Index, Prints
from vermilion.seal.training_set import index_of

POEM = (
    "The kettle hums beside the open door, and all the street is wet with early rain.\n\n"
    "A second verse that nobody has read, about the smell of coffee and of bread.\n"
)


def png(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def copied(pixels: np.ndarray) -> bytes:
    """A near copy: smaller, brighter, encoded with loss."""
    small = Image.fromarray(pixels).resize((240, 240)).point(lambda value: min(255, value + 9))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=70)
    with Image.open(buffer) as image:
        return png(np.asarray(image))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A training set."""
    made = tmp_path / "set"
    (made / "cats").mkdir(parents=True)
    (made / "cats" / "chelsea.png").write_bytes(png(data.chelsea()))
    (made / "astronaut.png").write_bytes(png(data.astronaut()))
    (made / "poem.txt").write_text(POEM)
    (made / "tone.wav").write_bytes(sound_files.sound("wav", seconds=2.0))
    (made / "notes.csv").write_text("a,b\n")
    return made


def test_an_index_holds_names_and_prints_and_reads_back(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    index = index_of(folder, "small set", lambda done, of: told.append((done, of)))
    assert told[-1] == (4, 4)
    index.write(tmp_path / PRINTS_FILE)
    with safe_open(tmp_path / PRINTS_FILE, framework="np") as file:  # an independent reader
        assert file.metadata()["source"] == "small set"
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {  # noqa: SIM118
            "picture": (2, 1),
            "sound": (1, 8),
            "text": (3, 128),
        }
    back = Index.read(tmp_path / PRINTS_FILE)
    for suffix, content, name in (
        ("png", copied(data.chelsea()), "cats/chelsea.png"),
        ("txt", POEM.split("\n\n")[1].encode(), "poem.txt#2"),
        ("flac", sound_files.sound("flac", seconds=2.0), "tone.wav"),
    ):
        from vermilion.seal.looking import prints_of

        (near,) = back.nearest(prints_of(content, FORMATS[suffix]))
        assert near.name == name
        assert near.score < 0.5


def test_a_damaged_or_empty_set_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no picture, film, text or sound"):
        index_of(tmp_path / "empty", "nothing")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(InputError, match=r"broken\.png"):
        index_of(folder, "small set")


def painted(line: Line, pixels: np.ndarray) -> str:
    """An asset that a model painted."""
    asset = line.library.keep(
        png(pixels),
        kind="picture",
        media_type="image/png",
        suffix="png",
        text="a cat",
        recipe={"prompt": {"text": "a cat", "seed": 1}, "model": {"name": "small-painter"}},
    )
    return asset.id


def test_a_near_copy_of_a_training_picture_is_named_and_another_is_not(
    line: Line, folder: Path
) -> None:
    from vermilion.line.release import export
    from vermilion.line.verify import verify_file
    from vermilion.seal.order import SealOptions

    model = line.settings.models_dir / "small-painter"
    model.mkdir(parents=True)
    index_of(folder, "small set").write(model / PRINTS_FILE)
    copy = np.asarray(Image.open(io.BytesIO(copied(data.chelsea()))))
    said: list[str] = []
    options = SealOptions(tell=said.append)
    for pixels, wanted in ((copy, "cats/chelsea.png"), (data.coffee(), "")):
        said.clear()
        asset = line.library.get(painted(line, pixels))
        (path,) = export(line.library, line.sealer, asset, folder / "out", options=options)
        finding = verify_file(sealer_of(line.settings), path, 10_000_000)["originality"]
        assert finding is not None
        if wanted:
            assert f"{wanted} of the training set of small-painter" in finding.words
            assert finding.facts["file"] == wanted
            assert finding.facts["model"] == "small-painter"
            assert any(f"{asset.id}: it is" in words and wanted in words for words in said)
        else:
            assert finding.state == "good"
            assert said == []


def test_a_model_without_an_index_is_no_failure_and_a_broken_one_is_named(line: Line) -> None:
    known = LibraryPrints(line.settings)
    assert known.trained_on("nobody") is None
    assert known.trained_on("../elsewhere") is None
    model = line.settings.models_dir / "small-painter"
    model.mkdir(parents=True)
    assert known.trained_on("small-painter") is None
    (model / PRINTS_FILE).write_bytes(b"no index")
    with pytest.raises(InputError, match="no index of fingerprints"):
        known.trained_on("small-painter")
    index = Index("a set")
    index.add("one.png", Prints(picture=7))
    index.write(model / PRINTS_FILE)
    found = known.trained_on("small-painter")
    assert found is not None
    assert len(found) == 1
