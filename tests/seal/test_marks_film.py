"""Marks on films: the opening frames have it, the others are not touched."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from vermilion.errors import InputError
from vermilion.seal.marks.film import SECONDS, over
from vermilion.seal.marks.picture import luminance

av = pytest.importorskip("av", reason="PyAV is not installed")


def frames(count: int, rate: int, height: int = 240, width: int = 320) -> list[np.ndarray]:
    """A scene that goes from black to white over a photograph."""
    photo = np.asarray(Image.fromarray(data.coffee()).resize((width, height))).astype(float)
    made = []
    for number in range(count):
        share = number / max(1, count - 1)
        made.append((photo * (1 - share) + 255 * share * share).clip(0, 255).astype(np.uint8))
    return made


def drawn(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((before != after).any(axis=-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("rate", [12, 24, 30, 60])
@pytest.mark.parametrize("style", ["auto", "plate", "outline"])
@pytest.mark.parametrize("begin", [0.0, 7.5])
def test_the_opening_has_the_mark_for_two_seconds(rate: int, style: str, begin: float) -> None:
    film, mark = frames(4 * rate, rate), over("AI生成", style=style)
    marked = [mark(frame, begin + k / rate) for k, frame in enumerate(film)]
    changed = [(a != b).any() for a, b in zip(film, marked, strict=True)]
    shown = sum(changed)
    assert changed == [True] * shown + [False] * (len(film) - shown)
    assert shown / rate >= 2
    assert shown / rate == pytest.approx(SECONDS, abs=1 / rate + 1e-9)
    areas = {drawn(a, b) for a, b in zip(film[:shown], marked[:shown], strict=True)}
    lefts, tops, rights, bottoms = (set(side) for side in zip(*areas, strict=True))
    for side in (lefts, tops, rights, bottoms):
        assert max(side) - min(side) <= 3  # it does not move


@pytest.mark.parametrize("style", ["auto", "outline"])
@pytest.mark.parametrize("ground", [0, 60, 128, 200, 255])
def test_it_is_seen_on_every_frame(style: str, ground: int) -> None:
    mark = over("AI-generated", style=style)
    mark(np.zeros((360, 640, 3), np.uint8), 0.0)  # the first frame decides nothing
    frame = np.full((360, 640, 3), ground, np.uint8)
    marked = mark(frame, 1.0)
    plain = np.full_like(frame, 128)
    left, top, right, bottom = drawn(plain, mark(plain, 1.0))
    light = luminance(marked[top:bottom, left:right])
    assert light.max() > 0.95
    dark = np.percentile(light, 10)
    assert 1.05 / (dark + 0.05) >= 4.5
    if ground < 128:
        rows = np.flatnonzero((light > 0.5).any(axis=1))
        assert rows[-1] - rows[0] + 1 >= 0.05 * 360


def test_a_short_film_has_it_throughout() -> None:
    film, mark = frames(10, 10), over("AI生成")
    assert all((mark(f, k / 10) != f).any() for k, f in enumerate(film))


def test_it_is_read_after_an_encoder() -> None:
    """Through H.264 at a common quality: letters and plate still differ by 4.5:1."""
    film, mark = frames(24, 12), over("AI生成")
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=12, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number, frame in enumerate(film):
            picture = av.VideoFrame.from_ndarray(mark(frame, number / 12), format="rgb24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    sink.seek(0)
    plain = np.full((240, 320, 3), 128, np.uint8)
    with av.open(sink) as file:
        for frame in file.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            left, top, right, bottom = drawn(plain, over("AI生成")(plain, 0.0))
            light = luminance(pixels[top + 2 : bottom - 2, left + 2 : right - 2])
            high, low = np.percentile(light, 96), np.percentile(light, 30)
            assert (high + 0.05) / (low + 0.05) >= 4.5


def test_wrong_choices_are_named() -> None:
    with pytest.raises(InputError, match="at least 2 seconds"):
        over("AI生成", seconds=1.9)
    with pytest.raises(InputError, match="place must be one of"):
        over("AI生成", place="middle")
    with pytest.raises(InputError, match="does not say"):
        over("hello")
    with pytest.raises(InputError, match="no room"):
        over("AI-generated")(np.zeros((6, 8, 3), np.uint8), 0.0)
