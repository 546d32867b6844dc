"""Marks are looked for in the released file: where an encoder loses one, nothing is released."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from tests.seal import sound_files
from tests.seal.test_seal import ABOUT, _sealer, content
from vermilion.errors import SealError
from vermilion.seal import carriers
from vermilion.seal.formats import FORMATS
from vermilion.seal.marks import drawing, film, picture, sound
from vermilion.seal.marks.expected import InDrawing, InFilm, InPicture, InSound
from vermilion.seal.media import films, pictures, sounds
from vermilion.seal.seal import Sealer

PICTURES = [name for name, form in FORMATS.items() if form.medium == "picture"]
SOUNDS = [name for name, form in FORMATS.items() if form.medium == "sound"]
FILMS = [name for name, form in FORMATS.items() if form.medium == "film"]


@pytest.fixture(scope="module")
def sealer(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    return _sealer(tmp_path_factory.mktemp("seal"))


def refused(sealer: Sealer, suffix: str) -> None:
    entries = sealer.ledger.audit().entries
    with pytest.raises(SealError, match="not released.*the mark is not in the encoded file"):
        sealer.seal(content(suffix), FORMATS[suffix], ABOUT)
    assert sealer.ledger.audit().entries == entries


@pytest.mark.parametrize("suffix", PICTURES)
def test_an_encoder_that_loses_a_pictures_mark(
    sealer: Sealer, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pictures.encode
    plain = pictures.decode(content(suffix), FORMATS[suffix])
    monkeypatch.setattr(pictures, "encode", lambda image, form: whole(plain, form))
    refused(sealer, suffix)


def test_an_encoder_that_blurs_a_mark_away(sealer: Sealer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pictures.encode

    def smeared(image: pictures.Picture, form: object) -> bytes:
        height, width = image.frames.shape[1:3]
        small = Image.fromarray(image.frames[0]).resize((width // 16, height // 16))
        blurred = np.asarray(small.resize((width, height)))[None]
        return whole(image.with_frames(blurred), form)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "encode", smeared)
    refused(sealer, "png")


@pytest.mark.parametrize("suffix", SOUNDS)
def test_an_encoder_that_loses_a_sounds_mark(
    sealer: Sealer, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sounds.encode

    def short(heard: sounds.Sound, *rest: object) -> bytes:
        wave = heard.wave.copy()
        wave[-len(sound.rhythm(heard.sample_rate)) :] = 0
        return whole(sounds.Sound(wave, heard.sample_rate), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sounds, "encode", short)
    refused(sealer, suffix)


@pytest.mark.parametrize("suffix", FILMS)
def test_an_encoder_that_loses_a_films_mark(
    sealer: Sealer, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "edit", lambda film, form, picture: film)
    refused(sealer, suffix)


def test_a_drawings_mark_is_lost_or_painted_over(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    svg = content("svg")
    marked = drawing.draw(svg, "AI-generated").content
    expected = InDrawing("AI-generated", drawing.mark_of(marked))
    assert expected.look(marked).state == "good"
    assert expected.look(svg).state == "absent"
    assert expected.look(marked.replace(b"fill:#fff", b"fill:#111")).state == "absent"
    above = marked.replace(b"</svg>", b'<rect width="9" height="9"/></svg>')
    assert expected.look(above).state == "absent"
    whole = carriers.write

    def without(svg: bytes, *rest: object) -> bytes:
        return whole(svg.replace(drawing.mark_of(svg), b""), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(carriers, "write", without)
    refused(sealer, "svg")


def photographs() -> list[np.ndarray]:
    shown = [data.astronaut(), data.coffee(), data.page(), data.text(), data.brick()]
    colour = [np.stack([one] * 3, -1) if one.ndim == 2 else one for one in shown]
    return [np.dstack([one, np.full(one.shape[:2], 255, np.uint8)]) for one in colour]


@pytest.mark.parametrize("side", [16, 32, 64, 200])
@pytest.mark.parametrize(
    ("suffix", "quality"),
    [("jpg", 10), ("jpg", 30), ("webp", 10), ("avif", 30), ("gif", None), ("png", None)],
)
def test_words_in_pictures_survive_encoding_and_are_not_seen_where_none_are(
    suffix: str, quality: int | None, side: int
) -> None:
    form = FORMATS[suffix]
    for number, photo in enumerate(photographs()):
        pixels = np.asarray(Image.fromarray(photo).resize((side, side)))
        words = "AI生成" if side < 64 or number % 2 else "AI-generated"
        marked, _, stamp = picture.draw(pixels[None], words)
        expected = InPicture(words, stamp)
        for frames, state in ((marked, "good"), (pixels[None], "absent")):
            encoded = pictures.encode(pictures.Picture(frames=frames), form, quality)
            found = expected.look(pictures.decode(encoded, form).frames)
            assert found.state == state, (number, words)


def test_every_frame_has_to_show_it() -> None:
    photo = photographs()[0][:128, :128]
    marked, _, stamp = picture.draw(np.stack([photo] * 3), "AI生成")
    expected = InPicture("AI生成", stamp)
    assert expected.look(marked).state == "good"
    marked[2] = photo
    assert expected.look(marked).state == "absent"


def test_clear_stickers_show_it() -> None:
    clear = np.zeros((1, 96, 96, 4), np.uint8)
    clear[0, 20:70, 20:70] = (200, 60, 20, 255)
    marked, _, stamp = picture.draw(clear, "AI生成")
    expected = InPicture("AI生成", stamp)
    assert expected.look(marked).state == "good"
    assert expected.look(clear).state == "absent"


def ffmpeg(wav: bytes, folder: Path, name: str, *options: str) -> bytes:
    (folder / "in.wav").write_bytes(wav)
    command = ["ffmpeg", "-loglevel", "error", "-y", "-i", folder / "in.wav", *options]
    subprocess.run([*command, folder / name], check=True)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("kind", ["tones", "spoken"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp3", ("-b:a", "16k")),
        ("a.m4a", ("-b:a", "24k")),
        ("a.ogg", ("-c:a", "libopus", "-b:a", "8k")),
    ],
)
def test_marks_in_sound_survive_encoding(
    name: str, options: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    rate, suffix = sound_files.RATE, name.rpartition(".")[2]
    heard = sound_files.tone(3.0).astype(np.float32)
    # A voice: a buzz whose pitch and colour change.
    time = np.arange(2 * rate) / rate
    buzz = sum(
        np.sin(2 * np.pi * k * (110 * time + 9 * np.sin(3 * time))) / k for k in range(1, 20)
    )
    voice = (buzz * (1 + np.sin(2 * np.pi * 4 * time)) / 8).astype(np.float32)
    said = {} if kind == "tones" else {"spoken": voice, "spoken_rate": rate}
    mark = sound.made(heard, rate, **said)  # type: ignore[arg-type]
    expected = InSound(kind, mark, rate)
    silent = sound.join(heard, rate, np.zeros_like(mark))
    for wave, state in ((sound.join(heard, rate, mark), "good"), (silent, "absent")):
        wav = sounds.encode(sounds.Sound(wave, rate), FORMATS["wav"])
        encoded = ffmpeg(wav, tmp_path, name, *options)
        decoded = sounds.decode(encoded, FORMATS[suffix])
        assert expected.look(decoded.wave, decoded.sample_rate).state == state
    assert expected.look(heard, rate).state == "absent"


@pytest.mark.parametrize("after", [0.0, 1.0, 1.9])
def test_a_films_whole_opening_has_to_show_it(after: float) -> None:
    mark = film.over("AI生成")
    expected = InFilm("AI生成", mark.stamp, film.LEAST)
    scene = photographs()[1][:240, :320, :3]

    def shown(last: float) -> Callable[[], object]:
        def frames() -> object:
            for number in range(60):
                seconds = 5.0 + number / 20
                drawn = mark(scene, seconds) if seconds - 5.0 <= last else scene
                yield np.asarray(Image.fromarray(drawn).convert("L")), seconds

        return frames

    assert expected.look(shown(film.SECONDS)()).state == "good"  # type: ignore[arg-type]
    assert expected.look(shown(after - 0.01)()).state == "absent"  # type: ignore[arg-type]


def test_a_still_page_of_every_size_is_read_in_time() -> None:
    """The largest picture takes no longer than the smallest: only the mark's area is looked at."""
    buffer = io.BytesIO()
    Image.fromarray(photographs()[0]).resize((3000, 3000)).convert("RGB").save(buffer, "JPEG")
    frames = pictures.decode(buffer.getvalue(), FORMATS["jpg"]).frames
    marked, mark, stamp = picture.draw(frames, "AI-generated")
    x0, y0, x1, y1 = mark.area
    assert (x1 - x0) * (y1 - y0) == stamp.letters.size
    assert InPicture("AI-generated", stamp).look(marked).state == "good"
