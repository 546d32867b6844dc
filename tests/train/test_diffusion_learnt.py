"""A painted picture is held against what its model was trained on, wherever the set is from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.pictures import SMALL, discs
from vermilion import train_diffusion
from vermilion.line.known import LibraryPrints
from vermilion.line.release import export
from vermilion.line.run import Line
from vermilion.seal.fingerprints import phash
from vermilion.seal.order import SealOptions
from vermilion.seal.originality import PRINTS_FILE
from vermilion.train.diffusion import learnt

# A rate that changes no weight: what is trained with one seed paints the same pictures.
STILL = {**SMALL, "size": 32, "max_steps": 1, "learning_rate": 1e-12, "validation": 0.0}


def painted(line: Line, model: str) -> tuple[str, np.ndarray]:
    """An asset that a model painted, and its pixels."""
    (asset,) = line.paint("a disc", model=model, seed=3)
    with Image.open(io.BytesIO(line.library.read(asset))) as image:
        return asset.id, np.asarray(image.convert("RGBA"))


def test_a_near_copy_that_a_model_paints_is_named_when_it_is_exported(
    line: Line, tmp_path: Path
) -> None:
    pictures = discs(tmp_path / "discs")
    train_diffusion(pictures, name="first", text="none", settings=STILL)
    first, pixels = painted(line, "first")
    copy = Image.fromarray(pixels).convert("RGB").resize((40, 40), Image.Resampling.BICUBIC)
    copy.save(pictures / "red" / "own.jpg", quality=85)
    settings = {**STILL, "flip": True}
    trained = train_diffusion(pictures, name="second", text="none", settings=settings)
    assert (trained.run.folder / PRINTS_FILE).exists()
    index = LibraryPrints(line.settings).trained_on("second")
    assert index is not None
    assert index.source == "discs"
    names = index._columns["picture"].names
    assert {"red/own.jpg", "red/own.jpg (mirrored)", "blue/2.png"} <= set(names)
    assert len(names) == 2 * 25

    second, again = painted(line, "second")
    assert phash(again) == phash(pixels)
    for asset_id, is_close in ((second, True), (first, False)):
        said: list[str] = []
        asset = line.library.get(asset_id)
        options = SealOptions(tell=said.append)
        export(line.library, line.sealer, asset, tmp_path / asset_id, options=options)
        close = f"{asset_id}: it is a copy of red/own.jpg of the training set of second"
        assert any(words.startswith(close) for words in said) == is_close


def test_what_is_held_back_is_not_in_the_index(line: Line, tmp_path: Path) -> None:
    pictures = discs(tmp_path / "discs")
    settings = {**STILL, "validation": 0.25}
    train_diffusion(pictures, name="grey", text="none", settings=settings)
    index = LibraryPrints(line.settings).trained_on("grey")
    assert index is not None
    assert 15 <= len(index) <= 20


def test_more_than_can_be_searched_leaves_none_and_no_old_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = discs(tmp_path / "discs")
    train_diffusion(pictures, name="discs", text="none", settings=STILL)
    assert (home / "models" / "discs" / PRINTS_FILE).exists()
    monkeypatch.setattr(learnt, "MOST", 10)
    again = train_diffusion(
        pictures, name="discs", text="none", settings=STILL, out=tmp_path / "again"
    )
    assert again.card is not None
    assert not (tmp_path / "again" / PRINTS_FILE).exists()
    assert not (home / "models" / "discs" / PRINTS_FILE).exists()
