"""The fingerprint of a film: a few of its frames, whatever encoded them."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data

from vermilion.line.files import add_file
from vermilion.line.run import Line
from vermilion.line.verify import sealer_of
from vermilion.seal import fingerprints
from vermilion.seal.formats import FORMATS
from vermilion.seal.ledger import SAME
from vermilion.seal.looking import prints_of
from vermilion.seal.media import film_frames
from vermilion.seal.order import About, SealOptions
from vermilion.seal.originality import PRINTS_FILE, Index, Prints
from vermilion.seal.seal import Sealer
from vermilion.seal.training_set import index_of

SCENES = {
    "cats": (data.chelsea, data.coffee, data.rocket),
    "people": (data.astronaut, data.camera, data.coins),
    "ground": (data.gravel, data.brick, data.moon),
}
RATE = 10
CONTAINERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}


@functools.cache
def film(
    name: str, suffix: str = "mp4", codec: str = "libx264", keys: int = 250, rate: int = RATE
) -> bytes:
    """A film of three scenes of 1.2 s each, which move over pictures of scikit-image's."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=CONTAINERS[suffix]) as out:
        stream = out.add_stream(codec, rate=rate, options={"g": str(keys), "lag-in-frames": "5"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for scene in SCENES[name]:
            picture = Image.fromarray(scene()).convert("RGB").resize((240, 160))
            for step in range(int(1.2 * rate)):
                left = step * 48 // int(1.2 * rate)
                part = picture.crop((left, left // 2, left + 192, left // 2 + 128))
                out.mux(stream.encode(av.VideoFrame.from_image(part)))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def filmprint(content: bytes, suffix: str = "mp4") -> bytes:
    found = prints_of(content, FORMATS[suffix]).film
    assert found is not None
    return found


def by_ffmpeg(content: bytes, folder: Path, suffix: str, *options: str) -> bytes:
    """A copy without any metadata."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    before, after = folder / "before.mp4", folder / f"after.{suffix}"
    before.write_bytes(content)
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(before), "-map_metadata", "-1"]
    subprocess.run([*command, *options, str(after)], check=True, stdin=subprocess.DEVNULL)
    return after.read_bytes()


def by_decoding_all(content: bytes, count: int) -> list[np.ndarray]:
    """The same frames, taken from a film that is decoded from its first to its last picture."""
    with av.open(io.BytesIO(content)) as file:
        shown = [(float(f.time), f.reformat(format="gray")) for f in file.decode(video=0)]
    begin, last = shown[0][0], shown[-1][0]
    length = (last - begin) * len(shown) / (len(shown) - 1)
    wanted = [begin + length * (k + 0.5) / count for k in range(count)]
    return [[f for time, f in shown if time <= at + 1e-4][-1].to_ndarray() for at in wanted]


@pytest.mark.parametrize(
    ("suffix", "codec", "keys"),
    [
        ("mp4", "libx264", 250),
        ("mp4", "libx264", 7),
        ("mov", "libx264", 12),
        ("mkv", "libx265", 9),
        ("mkv", "mpeg4", 5),
        ("mkv", "ffv1", 1),
        ("webm", "libvpx", 8),
        ("webm", "libvpx-vp9", 11),
    ],
)
def test_the_frames_are_those_at_their_times(suffix: str, codec: str, keys: int) -> None:
    content = film("cats", suffix, codec, keys)
    found = film_frames.at_shares(content, 8)
    assert found is not None
    for one, other in zip(found, by_decoding_all(content, 8), strict=True):
        assert one is not None
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", ("-c:v", "libx264", "-crf", "38", "-g", "6")),
        ("mkv", ("-c:v", "mpeg4", "-q:v", "16")),
        ("webm", ("-c:v", "libvpx", "-b:v", "80k")),
        ("mov", ("-vf", "scale=96:64")),
        ("mp4", ("-vf", "scale=400:300", "-r", "24")),
        ("mp4", ("-vf", "lutyuv=y=val*1.15")),
        ("mp4", ("-vf", "format=gray,format=yuv420p")),
        ("mp4", ("-ss", "0.3")),
    ],
)
def test_copies_are_near_and_others_far(
    suffix: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    own = filmprint(film("cats"))
    copy = filmprint(by_ffmpeg(film("cats"), tmp_path, suffix, *options), suffix)
    assert fingerprints.filmprint_distance(own, copy) <= SAME["film"]
    for name in ("people", "ground"):
        other = filmprint(film(name))
        assert fingerprints.filmprint_distance(own, other) > SAME["film"] + 4
        assert fingerprints.filmprint_distance(copy, other) > SAME["film"] + 4


def test_the_distance_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(4)
    films = [rng.integers(1, 2**63, 8, dtype=np.uint64) for _ in range(6)]
    films[1][[2, 5]] = 0
    films[2][:5] = 0
    films[3] = films[0][::-1].copy()

    def directed(one: np.ndarray, other: np.ndarray) -> float:
        seen = [int(value) for value in other if value]
        return float(np.mean([min((int(v) ^ w).bit_count() for w in seen) for v in one if v]))

    rows = np.stack(films)
    for row in films:
        wanted = [max(directed(row, other), directed(other, row)) for other in films]
        np.testing.assert_allclose(fingerprints.between(rows, row), wanted)
    assert fingerprints.filmprint_distance(films[0].tobytes(), films[3].tobytes()) == 0


def test_what_shows_nothing_has_no_print() -> None:
    black = np.zeros((40, 60), np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8)
    assert fingerprints.filmprint([black] * 6 + [noise] * 2) is None
    assert fingerprints.filmprint([None] * 6 + [noise] * 2) is None
    some = fingerprints.filmprint([black] * 4 + [None] + [noise] * 3)
    assert some is not None
    assert len(some) == fingerprints.FILMPRINT_BYTES
    assert np.frombuffer(some, "<u8").tolist() == [0] * 5 + [fingerprints.phash(noise)] * 3


@pytest.mark.parametrize(
    ("limit", "value"), [("MOST_PACKETS", 5), ("MOST_PIXELS", 100), ("MOST_DECODED", 192 * 128 * 9)]
)
def test_what_is_above_a_limit_is_not_decoded(
    limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film_frames, limit, value)
    monkeypatch.setattr(film_frames, "_frames", lambda *_: pytest.fail("it was decoded"))
    assert prints_of(film("cats"), FORMATS["mp4"]) == Prints()


def test_only_what_is_needed_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content, read = film("cats", keys=2, rate=60), list[object]()
    decode = film_frames._frames

    def counted(stream: object, packet: object) -> object:
        read.append(packet)
        return decode(stream, packet)  # type: ignore[arg-type]

    monkeypatch.setattr(film_frames, "_frames", counted)
    assert filmprint(content)
    assert len(read) < 216 / 2


def test_a_broken_film_has_the_frames_that_are_left() -> None:
    whole = film("cats", "mkv", "mpeg4", 5)
    cut = whole[: len(whole) * 2 // 3]
    found = film_frames.at_shares(cut, 8)
    assert found is not None
    assert sum(frame is not None for frame in found) == 8
    broken = bytearray(film("cats", keys=6))
    with av.open(io.BytesIO(bytes(broken))) as file:
        for packet in list(file.demux(video=0))[10:20]:
            if packet.size > 16:
                at = bytes(broken).find(bytes(packet))
                broken[at : at + packet.size] = b"\xff" * packet.size
    assert fingerprints.filmprint_distance(filmprint(bytes(broken)), filmprint(film("cats"))) < 15


def test_a_stripped_copy_is_led_back_to_its_film(tmp_path: Path) -> None:
    sealer, told = Sealer(tmp_path / "seal"), list[str]()
    options = SealOptions(tell=told.append)
    for asset_id, name in (("k3f9x2ab", "cats"), ("k3f9x2ac", "people")):
        sealer.seal(film(name), FORMATS["mp4"], About(asset_id=asset_id), options)
    assert told == []
    released = sealer.seal(film("ground"), FORMATS["mp4"], About(asset_id="k3f9x2ad"))
    assert sealer.ledger.audit().ok
    copy = by_ffmpeg(released.content, tmp_path, "webm", "-vf", "scale=150:100", "-b:v", "90k")
    verdict = sealer.verify(copy, FORMATS["webm"])
    known = verdict["ledger"]
    assert known is not None
    assert known.facts["asset_id"] == "k3f9x2ad"
    assert known.facts["measure"] == "film"
    # Somebody seals a copy of it as their own.
    sealer.seal(copy, FORMATS["webm"], About(asset_id="k3f9x2ae"), options)
    assert len(told) == 1
    assert "asset k3f9x2ad, which was sealed here (film, originality" in told[0]
    # Left out with a reason, it has a fingerprint too.
    bare = SealOptions(mark=False, reason="a test")
    sealer.seal(film("cats", rate=12), FORMATS["mp4"], About(asset_id="k3f9x2af"), bare)
    assert sealer.ledger.find(asset_id="k3f9x2af")[0].entry.filmprint is not None


def test_films_of_the_library_and_of_a_training_set_are_known(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "cats.mp4"
    path.write_bytes(film("cats"))
    kept, _ = add_file(line.library, line.sealer, path, 10_000_000, guard=line.guard)
    line.sealer.seal(film("people"), FORMATS["mp4"], About(asset_id="k3f9x2ab"))
    copy = by_ffmpeg(film("cats"), tmp_path, "mkv", "-c:v", "mpeg4", "-q:v", "12")
    near = sealer_of(line.settings).verify(copy, FORMATS["mkv"])["originality"]
    assert near is not None
    assert near.facts["asset_id"] == kept.id
    assert near.facts["measure"] == "film"
    assert near.facts["where"] == "taken-in"

    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "cats.mov").write_bytes(film("cats", "mov"))
    index_of(folder, "films").write(tmp_path / PRINTS_FILE)
    (close,) = Index.read(tmp_path / PRINTS_FILE).nearest(prints_of(copy, FORMATS["mkv"]))
    assert close.name == "cats.mov"
    assert close.measure == "film"
    assert close.distance <= SAME["film"]


def test_a_film_that_cannot_be_opened_still_has_a_verdict(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "seal")
    content = bytearray(
        sealer.seal(film("cats"), FORMATS["mp4"], About(asset_id="k3f9x2ab")).content
    )
    at = content.index(b"moov")
    content[at + 8 : at + 400] = bytes(392)
    verdict = sealer.verify(bytes(content), FORMATS["mp4"])
    assert verdict.exit_code == 10
