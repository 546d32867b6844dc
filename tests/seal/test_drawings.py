"""The fingerprint of a drawing: its rendering, whatever the file looks like."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vermilion.seal import fingerprints
from vermilion.seal.formats import FORMATS
from vermilion.seal.looking import prints_of
from vermilion.seal.media import drawings
from vermilion.seal.order import About, SealOptions
from vermilion.seal.originality import Prints
from vermilion.seal.seal import Sealer
from vermilion.seal.training_set import index_of

pytest.importorskip("svg2png_py", reason="what draws drawings is not installed")

SVG = FORMATS["svg"]
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" viewBox="0 0 64 64">'
CUP = (
    HEAD + '<path fill="#7a4a21" d="M12 20h32v18a14 14 0 0 1-14 14h-4a14 14 0 0 1-14-14z"/>'
    '<circle cx="50" cy="30" r="7" fill="none" stroke="#222" stroke-width="3"/></svg>'
)
# The same in other words: a group, another scale, other names and numbers, a slightly other brown.
COPY = (
    '<?xml version="1.0"?>\n<s:svg xmlns:s="http://www.w3.org/2000/svg" viewBox="0 0 640 640">'
    '<s:g transform="scale(10)"><s:path style="fill:#80502a" d="M12,20 H44 V38.2 A14,14 0 0 1'
    ' 30,52.2 H26 A14,14 0 0 1 12,38.2 Z"/><s:ellipse cx="50" cy="30" rx="7" ry="7.1" fill="none"'
    ' stroke="#222" stroke-width="3"/></s:g></s:svg>'
)
OTHER = (
    HEAD + '<path fill="#0a5" d="M32 4 L60 58 H40 V62 H24 V58 H4 Z"/>'
    '<rect x="2" y="2" width="12" height="9" fill="#fc0"/></svg>'
)


def phash(svg: str) -> int:
    found = prints_of(svg.encode(), SVG).picture
    assert found is not None
    return found


def test_a_near_copy_is_found_and_another_drawing_is_not(tmp_path: Path) -> None:
    assert fingerprints.phash_distance(phash(CUP), phash(COPY)) <= 4
    assert fingerprints.phash_distance(phash(CUP), phash(OTHER)) > 10
    sealer, told = Sealer(tmp_path / "seal"), list[str]()
    options = SealOptions(tell=told.append)
    sealed = sealer.seal(CUP.encode(), SVG, About(asset_id="k3f9x2ab"), options)
    # The mark is no part of it.
    assert prints_of(sealed.content, SVG) == prints_of(CUP.encode(), SVG)
    sealer.seal(OTHER.encode(), SVG, About(asset_id="k3f9x2ac"), options)
    assert told == []
    sealer.seal(COPY.encode(), SVG, About(asset_id="k3f9x2ad"), options)
    assert told == [
        "k3f9x2ad: it is a copy of asset k3f9x2ab, which was sealed here (picture, originality"
        " 0.00)"
    ]
    verdict = sealer.verify(COPY.replace("?>", "?><!-- taken -->").encode(), SVG)
    assert verdict["ledger"].words.startswith("it resembles asset k3f9x2a")


def test_a_picture_of_a_drawing_is_like_it() -> None:
    pixels = drawings.rendered(CUP.encode())
    assert pixels is not None
    assert pixels.shape == (drawings.SIDE, drawings.SIDE, 3)
    large = np.asarray(Image.fromarray(pixels).resize((500, 500), Image.Resampling.BICUBIC))
    assert fingerprints.phash_distance(fingerprints.phash(large), phash(CUP)) <= 4


def test_a_training_set_of_drawings_is_known(tmp_path: Path) -> None:
    (tmp_path / "cup.svg").write_text(CUP)
    (tmp_path / "tent.svg").write_text(OTHER)
    index = index_of(tmp_path, "icons")
    (near,) = index.nearest(Prints(picture=phash(COPY)), within=10)
    assert near.name == "cup.svg"


@pytest.mark.parametrize(
    "inside",
    [
        "",
        '<rect width="64" height="64" fill="red"/>',
        "<text x='3' y='30'>words</text>",  # without fonts nothing is drawn
        '<image href="/etc/hostname" width="64" height="64"/>',
        '<path id="a" d="M1 1h9v9z"/>' + '<use href="#a" x="3"/>' * 17,
        '<path d="M1 1' + "l1 1-1 2" * 400_000 + '"/>',
    ],
)
def test_what_has_no_fingerprint(inside: str) -> None:
    assert prints_of(f"{HEAD}{inside}</svg>".encode(), SVG) == Prints()


def test_repeats_within_repeats_take_no_time() -> None:
    groups = ['<g id="g0"><path d="M1 1h9v9z"/></g>']
    for number in range(1, 6):
        uses = f'<use href="#g{number - 1}" x="{number}"/>' * 3
        groups.append(f'<g id="g{number}">{uses}</g>')
    started = time.process_time()
    assert prints_of(f"{HEAD}{''.join(groups)}</svg>".encode(), SVG).picture is not None
    assert time.process_time() - started < 2


def test_without_the_rasteriser_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "_module", lambda: None)
    assert prints_of(CUP.encode(), SVG) == Prints()
