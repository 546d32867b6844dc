"""Our PNG writer, against Pillow, FFmpeg's reader and the checks of the format itself."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data

from vermilion.seal.media import png


def read(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        image.verify()  # checksums
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def by_ffmpeg(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as file:
        frame = next(file.decode(video=0))
        return frame.to_ndarray(format="rgb24" if frame.format.name == "rgb24" else "rgba")


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 4),
    smooth=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pixels_come_back_as_they_were(
    height: int, width: int, channels: int, smooth: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, channels), np.uint8)
    if smooth:
        pixels = np.cumsum(pixels % 3, axis=seed % 2, dtype=np.uint8)
    pixels = pixels[..., 0] if channels == 1 else pixels
    np.testing.assert_array_equal(read(png.encode(pixels)), pixels)


@pytest.mark.parametrize("block", [1, 700, 5000, 1 << 18])
def test_blocks_of_any_size_join(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_BLOCK", block)
    pixels = data.chelsea()
    made = png.encode(pixels)
    np.testing.assert_array_equal(read(made), pixels)
    np.testing.assert_array_equal(by_ffmpeg(made), pixels)


def test_every_filter_is_used_and_the_file_is_small() -> None:
    usual = io.BytesIO()
    pixels = data.astronaut()
    Image.fromarray(pixels).save(usual, "PNG")
    made = png.encode(pixels)
    assert len(made) < 1.1 * len(usual.getvalue())
    rows = png._filtered(pixels.reshape(512, -1), np.zeros((1, 1536), np.uint8), 3)
    assert set(rows[:, 0]) == {1, 2, 3}
    assert png.encode(pixels) == made


def test_profile_and_resolution_are_kept(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = png.encode(data.coffee(), icc, (300.0, 150.0))
    with Image.open(io.BytesIO(made)) as image:
        assert image.info["icc_profile"] == icc
        assert image.info["dpi"] == pytest.approx((300, 150), abs=0.1)
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    path = tmp_path / "made.png"
    path.write_bytes(made)
    told = subprocess.run(
        ["exiftool", "-validate", "-warning", "-s3", str(path)], capture_output=True, check=True
    )
    assert told.stdout.decode().strip() == "OK"


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 0), (2, 2, 5)])
def test_what_it_cannot_hold_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a PNG holds no"):
        png.encode(np.zeros(shape, np.uint8))
