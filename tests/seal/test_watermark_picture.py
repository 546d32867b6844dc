"""The watermark of pictures, on real photographs and real codecs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from vermilion.errors import InputError
from vermilion.seal.watermark import payload as code
from vermilion.seal.watermark import picture, tile
from vermilion.seal.watermark.key import Key, derive, shuffled, signs

skimage = pytest.importorskip("skimage", reason="its photographs are the material")

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
ID = "0a1b2c3d"
PAYLOAD = code.pack(ID)


def photograph(name: str, width: int, height: int) -> picture.Pixels:
    image = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGBA")
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))


@pytest.fixture(scope="module")
def astronaut() -> picture.Pixels:
    return photograph("astronaut.png", 512, 512)


@pytest.fixture(scope="module")
def marked(astronaut) -> Image.Image:
    return Image.fromarray(picture.embed(astronaut, PAYLOAD, KEY)).convert("RGB")


def found_in(image: Image.Image, key: bytes = KEY) -> code.Found:
    return picture.detect(np.array(image.convert("RGBA")), key)


def recoded(image: Image.Image, form: str, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, form, quality=quality)
    return Image.open(file)


def scaled(image: Image.Image, scale: float) -> Image.Image:
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


ATTACKS = {
    "none": lambda i: i,
    "jpeg 75": lambda i: recoded(i, "JPEG", 75),
    "jpeg 50": lambda i: recoded(i, "JPEG", 50),
    "webp 75": lambda i: recoded(i, "WEBP", 75),
    "half": lambda i: scaled(i, 0.5),
    "three quarters": lambda i: scaled(i, 0.75),
    "double": lambda i: scaled(i, 2.0),
    "crop left": lambda i: i.crop((26, 0, 512, 512)),
    "crop all": lambda i: i.crop((51, 40, 470, 465)),
    "crop, resize, jpeg": lambda i: recoded(scaled(i.crop((30, 20, 500, 490)), 0.8), "JPEG", 80),
    "grey": lambda i: i.convert("L"),
    "darker": lambda i: i.point(lambda v: round(v * 0.75)),
    "less contrast": lambda i: i.point(lambda v: round(128 + (v - 128) * 0.7)),
    "mirrored": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda i: i.transpose(Image.Transpose.ROTATE_90),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_id_outlives(marked, attack) -> None:
    found = found_in(ATTACKS[attack](marked))
    assert (found.present, found.asset_id, found.payload) == (True, ID, PAYLOAD)
    assert found.probability < 1e-7
    assert found.bit_confidence > 0.75


@pytest.mark.parametrize("name", ["coffee.png", "grass.png", "rocket.jpg", "page.png"])
def test_it_is_hard_to_see(name) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    pixels = photograph(name, 600, 450)
    after = picture.embed(pixels, PAYLOAD, KEY)
    assert not np.array_equal(after, pixels)
    assert metrics.peak_signal_noise_ratio(pixels[..., :3], after[..., :3]) > 36
    assert metrics.structural_similarity(pixels[..., :3], after[..., :3], channel_axis=2) > 0.97
    assert picture.detect(after, KEY).asset_id == ID


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 180, 160)])
def test_flat_areas_change_by_hardly_anything(colour) -> None:
    pixels = np.full((256, 256, 4), (*colour, 255), np.uint8)
    change = np.abs(picture.embed(pixels, PAYLOAD, KEY).astype(int) - pixels)
    assert change.max() <= 3
    assert np.sqrt(np.mean(change**2)) < 0.8


def sticker(size: int) -> picture.Pixels:
    """A disc in a ring on nothing, with a soft edge; what is transparent hides a colour."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.hypot(x, y) / size
    pixels = np.empty((size, size, 4), np.uint8)
    pixels[...] = (10, 200, 30, 255)
    pixels[distance < 0.3] = (240, 90, 60, 255)
    pixels[distance < 0.15] = (255, 255, 255, 255)
    pixels[..., 3] = np.clip((0.45 - distance) * size * 128, 0, 255)
    return pixels


@pytest.mark.parametrize("size", [128, 256, 512])
def test_a_sticker_keeps_its_transparency(size) -> None:
    pixels = sticker(size)
    after = picture.embed(pixels, PAYLOAD, KEY)
    assert np.array_equal(after[..., 3], pixels[..., 3])
    clear = pixels[..., 3] == 0
    assert clear.any()
    assert np.array_equal(after[clear], pixels[clear])
    assert picture.detect(after, KEY).asset_id == ID
    over_white = Image.new("RGBA", (size, size), "white")
    over_white.alpha_composite(Image.fromarray(after))
    assert found_in(over_white).asset_id == ID


def test_nothing_is_found_where_nothing_is(astronaut) -> None:
    for pixels in (astronaut, photograph("coffee.png", 300, 200), sticker(256)):
        found = picture.detect(pixels, KEY)
        assert (found.present, found.payload, found.asset_id) == (False, None, None)
        assert found.probability > 1e-4


def test_another_key_finds_nothing(marked) -> None:
    found = found_in(marked, OTHER)
    assert (found.present, found.asset_id) == (False, None)


def test_two_marks_are_told_apart(astronaut) -> None:
    other = code.pack("zzzzzzzz")
    pixels = picture.embed(astronaut, other, OTHER)
    assert picture.detect(pixels, OTHER).asset_id == "zzzzzzzz"
    both = picture.embed(pixels, PAYLOAD, KEY)
    assert picture.detect(both, KEY).asset_id == ID
    assert picture.detect(both, OTHER).asset_id == "zzzzzzzz"


def test_the_same_in_gives_the_same_out(astronaut) -> None:
    before = astronaut.copy()
    first = picture.embed(astronaut, PAYLOAD, KEY)
    assert np.array_equal(first, picture.embed(astronaut, PAYLOAD, KEY))
    assert np.array_equal(before, astronaut)
    assert picture.detect(first, KEY) == picture.detect(first, KEY)


@pytest.mark.parametrize(
    ("width", "height"), [(16, 16), (17, 300), (64, 64), (191, 193), (1000, 31), (2048, 1536)]
)
def test_any_size_goes_in_and_comes_out(width, height) -> None:
    pixels = photograph("coffee.png", width, height)
    after = picture.embed(pixels, PAYLOAD, KEY)
    assert after.shape == pixels.shape
    found = picture.detect(after, KEY)
    assert 0 <= found.probability <= 1
    assert found.asset_id in (ID, None)
    if min(width, height) > 190:
        assert found.asset_id == ID


def test_a_stronger_mark_outlives_more(astronaut) -> None:
    small = astronaut[::4, ::4].copy()
    faint = picture.embed(small, PAYLOAD, KEY, strength=0.25)
    strong = picture.embed(small, PAYLOAD, KEY, strength=3.0)
    chances = [
        found_in(recoded(Image.fromarray(p).convert("RGB"), "JPEG", 75)).probability
        for p in (faint, strong)
    ]
    assert chances[1] < 1e-6 < chances[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": np.zeros((64, 64, 3), np.uint8)}, "pixels: must be RGBA bytes"),
        ({"pixels": np.zeros((64, 64, 4), np.float32)}, "pixels: must be RGBA bytes"),
        ({"pixels": np.zeros((15, 64, 4), np.uint8)}, "at least 16x16"),
        ({"payload": PAYLOAD ^ 1}, "payload: its check bits do not agree"),
        ({"payload": -1}, "payload: its check bits do not agree"),
        ({"key": b"short"}, "key: a watermark key has 32 bytes"),
        ({"strength": 0.0}, "strength: must be 0.25 to 4"),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(change, words) -> None:
    arguments = {"pixels": sticker(64), "payload": PAYLOAD, "key": KEY, "strength": 1.0}
    with pytest.raises(InputError, match=words):
        picture.embed(**(arguments | change))


def test_payloads() -> None:
    assert code.asset_id_of(code.pack("zyxwvtsr")) == "zyxwvtsr"
    assert 0 <= code.pack("zzzzzzzz") < 1 << 64
    assert code.asset_id_of(PAYLOAD ^ 1 << 40) is None
    for wrong in ("short", "0a1b2c3i", "0A1B2C3D", "0a1b2c3d4"):
        with pytest.raises(InputError, match="asset id"):
            code.pack(wrong)


def test_the_alphabet_is_the_librarys() -> None:
    from vermilion.library import rows

    assert (code.ALPHABET, code.ID_LENGTH) == (rows._ID_ALPHABET, rows._ID_LENGTH)


def test_the_code_corrects_one_bit_in_six() -> None:
    sent = code.encode(PAYLOAD).astype(float)
    assert sent.shape == (code.CODE_BITS,)
    assert code.decode(sent) == (PAYLOAD, 1.0)
    drawn = np.random.default_rng(0)
    for _ in range(20):
        hurt = sent.copy()
        wrong = drawn.choice(code.CODE_BITS, 30, replace=False)
        hurt[wrong] *= -0.5
        payload, confidence = code.decode(hurt)
        assert payload == PAYLOAD
        assert confidence == pytest.approx(1 - 30 / code.CODE_BITS)


def test_the_stated_probability_holds() -> None:
    """Scores of coins against any weights are under the bound, as often as it says."""
    drawn = np.random.default_rng(1)
    weights = drawn.exponential(size=400) ** 2
    weights /= np.linalg.norm(weights)
    scores = [float(signs(n.to_bytes(32, "big"), "test", 400) @ weights) for n in range(2000)]
    for chance in (0.2, 0.05, 0.01):
        hits = sum(code.evidence(s, 1, None) < chance for s in scores)
        assert hits <= 2000 * chance
    assert code.evidence(20.0, 1, None) < 1e-80
    assert code.evidence(-3.0, 1, None) == 1.0
    assert code.evidence(0.0, 5, ID) == pytest.approx(2 * 2.0**-24)


def test_keys_are_derived_as_rfc_5869_says() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    ours = derive(KEY, "picture watermark")
    assert ours == HKDFExpand(SHA256(), 32, b"picture watermark").derive(KEY)
    assert ours not in (derive(KEY, "sound watermark"), derive(OTHER, "picture watermark"))


def test_coins_and_orders_never_change() -> None:
    assert signs(KEY, "test", 12).tolist() == [-1, -1, -1, 1, -1, 1, -1, 1, -1, 1, 1, 1]
    assert sorted(shuffled(KEY, "test", 500).tolist()) == list(range(500))
    assert shuffled(KEY, "test", 6).tolist() == [4, 5, 1, 3, 0, 2]


def test_the_key_is_made_once(tmp_path) -> None:
    folder = tmp_path / "seal"
    key = Key.open(folder)
    assert key == Key.open(folder)
    assert len(key.content) == 32
    assert (folder / "watermark.key").stat().st_mode & 0o777 == 0o600
    assert key.content.hex() not in repr(key)
    assert Key.open(tmp_path / "other") != key
    (folder / "watermark.key").write_bytes(b"short")
    with pytest.raises(InputError, match="a watermark key has 32 bytes"):
        Key.open(folder)


def test_processes_at_once_make_one_key(tmp_path) -> None:
    program = (
        "import sys; from pathlib import Path; from vermilion.seal.watermark.key import Key;"
        " print(Key.open(Path(sys.argv[1])).content.hex())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "seal")]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(4)
    ]
    keys = {process.communicate(timeout=120)[0] for process in started}
    assert len(keys) == 1
    assert len(keys.pop().strip()) == 64


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (9, 2), (37, 90), (64, 64)])
def test_an_opening_is_scipys(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    assert np.array_equal(tile.opened(plane), ndimage.grey_opening(plane, (9, 9)))
