"""What the watermarks of pictures and sound outlive, and how often they are found where none is.

    python benchmarks/watermark.py pictures [--drawings FOLDER]     marked ones, by attack
    python benchmarks/watermark.py unmarked [--drawings FOLDER]     1,000 pictures without a mark
    python benchmarks/watermark.py small [--drawings FOLDER]        what 64 to 256 pixels hold
    python benchmarks/watermark.py sounds --speech FOLDER           marked and unmarked sound
    python benchmarks/watermark.py cost                             seconds
    python benchmarks/watermark.py plots                            docs/images/seal-watermark-*

Pictures are crops of the photographs that ship in scikit-image and scikit-learn, and half of them
drawings: the folder of drawings has a folder for each kind, such as `clipart` and `stickers`, with
SVG, PNG and WebP files. SVG is drawn at the size that is needed; pixels are never enlarged. Speech
is whatever WAV files the folder holds; music is made here. MP3 and AAC are ffmpeg's. Each prints
its table.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import skimage
import sklearn
import soundfile
from PIL import Image, ImageEnhance
from scipy import fft, signal
from skimage.metrics import structural_similarity

from vermilion.data.corpora.drawings import raster
from vermilion.seal.watermark import payload as code
from vermilion.seal.watermark import picture, sound

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
PHOTOGRAPHS = (
    "astronaut.png",
    "coffee.png",
    "chelsea.png",
    "rocket.jpg",
    "camera.png",
    "gravel.png",
    "brick.png",
    "grass.png",
    "moon.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "page.png",
    "text.png",
    "cell.png",
    "clock_motion.png",
)
SIZES = (768, 512, 448, 320, 256)
DRAWINGS = (".svg", ".png", ".webp")
DRAWN = 512  # pixels, at which SVG is drawn at least
LANCZOS = Image.Resampling.LANCZOS

Attack = Callable[[Image.Image], Image.Image]


def photographs() -> list[Image.Image]:
    data = Path(skimage.__file__).parent / "data"
    paths = [data / name for name in PHOTOGRAPHS]
    more = Path(sklearn.__file__).parent / "datasets" / "images"
    paths += [more / "china.jpg", more / "flower.jpg"]
    return [Image.open(path).convert("RGBA") for path in paths]


def opened(path: Path, side: int) -> Image.Image:
    """A drawing of so many pixels, or of as many as it has, on clear ground.

    Raises:
        ValueError, RuntimeError: it cannot be drawn, or shows nothing.
    """
    if path.suffix == ".svg":
        image = raster.drawn(path.read_bytes(), max(side, DRAWN))
    else:
        image = Image.open(path).convert("RGBA").convert("RGBa")
    if image.getextrema()[3][1] < 255:
        raise ValueError("nothing is drawn in it")
    side = min(side, image.width, image.height)
    return image.resize((side, side), LANCZOS).convert("RGBA")


def drawings(folder: Path | None) -> dict[str, Callable[[int], Image.Image]]:
    """For each kind of drawing, what gives the next one of so many pixels."""
    kinds = sorted(each for each in folder.iterdir() if each.is_dir()) if folder else []
    return {each.name: _turns(each) for each in kinds}


def _turns(folder: Path) -> Callable[[int], Image.Image]:
    paths = cycle(sorted(path for path in folder.iterdir() if path.suffix in DRAWINGS))

    def following(side: int) -> Image.Image:
        while True:
            path = next(paths)
            try:
                return opened(path, side)
            except (ValueError, RuntimeError) as error:
                print(f"left out: {path.name}: {error}", file=sys.stderr)

    return following


def pictures(count: int, folder: Path | None, seed: int) -> Iterator[tuple[str, Image.Image]]:
    """Pictures of 256 to 768 pixels: parts of photographs, and every other one a drawing."""
    drawn = np.random.default_rng(seed)
    photos = photographs()
    kinds = list(drawings(folder).items())
    for number in range(count):
        size = SIZES[number % len(SIZES)]
        if kinds and number % 2 == 1:
            kind, following = kinds[number // 2 % len(kinds)]
            yield kind, following(size)
            continue
        photo = photos[number // 2 % len(photos)] if kinds else photos[number % len(photos)]
        share = drawn.uniform(0.6, 1.0)
        width, height = round(photo.width * share), round(photo.height * share)
        left = int(drawn.integers(photo.width - width + 1))
        top = int(drawn.integers(photo.height - height + 1))
        part = photo.crop((left, top, left + width, top + height))
        scale = size / (width * height) ** 0.5
        yield (
            "photographs",
            part.resize((round(width * scale), round(height * scale)), LANCZOS),
        )


def coded(form: str, quality: int) -> Attack:
    def attack(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.convert("RGB").save(file, form, quality=quality)
        return Image.open(file)

    return attack


def resized(scale: float) -> Attack:
    def attack(image: Image.Image) -> Image.Image:
        size = (round(image.width * scale), round(image.height * scale))
        return image.resize(size, LANCZOS)

    return attack


def cropped(left: float, top: float, right: float, bottom: float) -> Attack:
    def attack(image: Image.Image) -> Image.Image:
        width, height = image.size
        corner = (round(width * left), round(height * top))
        return image.crop((*corner, round(width * (1 - right)), round(height * (1 - bottom))))

    return attack


def then(*attacks: Attack) -> Attack:
    def attack(image: Image.Image) -> Image.Image:
        for each in attacks:
            image = each(image)
        return image

    return attack


ATTACKS: dict[str, Attack] = {
    "none": lambda image: image,
    "JPEG 90": coded("JPEG", 90),
    "JPEG 75": coded("JPEG", 75),
    "JPEG 50": coded("JPEG", 50),
    "JPEG 30": coded("JPEG", 30),
    "WebP 90": coded("WEBP", 90),
    "WebP 75": coded("WEBP", 75),
    "resized 0.5x": resized(0.5),
    "resized 0.75x": resized(0.75),
    "resized 2x": resized(2.0),
    "crop 5 % left": cropped(0.05, 0, 0, 0),
    "crop 10 % left and top": cropped(0.1, 0.1, 0, 0),
    "crop 10 % all sides": cropped(0.1, 0.1, 0.1, 0.1),
    "crop 5 % all sides, JPEG 75": then(cropped(0.05, 0.05, 0.05, 0.05), coded("JPEG", 75)),
    "crop 5 %, resized 0.75x, JPEG 75": then(
        cropped(0.05, 0.05, 0.05, 0.05), resized(0.75), coded("JPEG", 75)
    ),
    "grey": lambda image: image.convert("L"),
    "brightness +25 %": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "contrast -25 %": lambda image: ImageEnhance.Contrast(image).enhance(0.75),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


def pixels_of(image: Image.Image) -> picture.Pixels:
    return np.array(image.convert("RGBA"))


def flat(pixels: picture.Pixels) -> Image.Image:
    """A picture over white, as JPEG has it."""
    image = Image.fromarray(pixels)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def psnr(before: Image.Image, after: Image.Image) -> float:
    error = np.mean((np.asarray(before, float) - np.asarray(after, float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


class Qim:
    """The alternative: dither-modulated quantisation of 8x8 DCT coefficients, 512x512 grid.

    64 bits without check bits, repeated over 6 coefficients of each block (Chen and Wornell,
    2001); a step of 20 gives 40 dB.
    """

    places = ((0, 2), (1, 1), (2, 0), (1, 2), (2, 1), (0, 1))
    step = 20.0

    def __init__(self, key: bytes) -> None:
        drawn = np.random.default_rng(int.from_bytes(key, "big"))
        shape = (64, 64, len(self.places))
        self.bit = drawn.integers(64, size=shape)
        self.dither = drawn.uniform(0, self.step, size=shape)

    def _blocks(self, light: np.ndarray) -> np.ndarray:
        return fft.dctn(light.reshape(64, 8, 64, 8).swapaxes(1, 2), axes=(2, 3), norm="ortho")

    def _light(self, image: Image.Image) -> np.ndarray:
        grey = Image.fromarray(np.asarray(image.convert("L"), np.float32))
        return np.asarray(grey.resize((512, 512), Image.Resampling.BICUBIC), np.float64)

    def embed(self, image: Image.Image, payload: int) -> Image.Image:
        light = self._light(image)
        blocks = self._blocks(light)
        bits = np.array([payload >> k & 1 for k in range(64)])[self.bit]
        rows, columns = zip(*self.places, strict=True)
        values = blocks[:, :, rows, columns]
        offset = self.dither + bits * self.step / 2
        blocks[:, :, rows, columns] = np.round((values - offset) / self.step) * self.step + offset
        marked = fft.idctn(blocks, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(512, 512)
        change = Image.fromarray((marked - light).astype(np.float32))
        change = np.asarray(change.resize(image.size, Image.Resampling.BICUBIC))[..., None]
        return Image.fromarray(
            np.clip(np.rint(np.asarray(image.convert("RGB"), float) + change), 0, 255).astype("u1")
        )

    def detect(self, image: Image.Image) -> int:
        rows, columns = zip(*self.places, strict=True)
        values = self._blocks(self._light(image))[:, :, rows, columns]
        turns = np.cos(2 * np.pi * (values - self.dither) / self.step)
        sums = np.bincount(self.bit.ravel(), turns.ravel(), 64)
        return sum(1 << k for k in range(64) if sums[k] < 0)


def bits_right(payload: int | None, wanted: int) -> float:
    return 0.5 if payload is None else 1 - (payload ^ wanted).bit_count() / 64


def ids(seed: int) -> Iterator[str]:
    drawn = np.random.default_rng(seed)
    while True:
        yield "".join(code.ALPHABET[k] for k in drawn.integers(32, size=code.ID_LENGTH))


Row = tuple[bool, bool, float, bool]  # present, id read, share of code bits right, QIM's id read


def run_pictures(count: int, folder: Path | None) -> None:
    qim = Qim(KEY)
    rows: dict[str, dict[str, list[Row]]] = {}
    quality: dict[str, list[tuple[float, float, float]]] = {}
    made = zip(pictures(count, folder, 1), ids(1), strict=False)
    for number, ((kind, image), asset_id) in enumerate(made):
        wanted = code.pack(asset_id)
        pixels = pixels_of(image)
        marked = flat(picture.embed(pixels, wanted, KEY))
        before = flat(pixels)
        other = qim.embed(before, wanted)
        likeness = structural_similarity(np.asarray(before), np.asarray(marked), channel_axis=2)
        figures = (psnr(before, marked), likeness, psnr(before, other))
        quality.setdefault(kind, []).append(figures)
        for name, attack in ATTACKS.items():
            found = picture.detect(pixels_of(attack(marked)), KEY)
            rows.setdefault(kind, {}).setdefault(name, []).append(
                (
                    found.present,
                    found.payload == wanted,
                    found.bit_confidence,
                    qim.detect(attack(other)) == wanted,
                )
            )
        if (number + 1) % 50 == 0 or number + 1 == count:
            print_pictures(number + 1, quality, rows)


def print_pictures(
    count: int,
    quality: dict[str, list[tuple[float, float, float]]],
    rows: dict[str, dict[str, list[Row]]],
) -> None:
    print(f"after {count} pictures:")
    for kind, values in quality.items():
        ours, likeness, theirs = np.mean(values, axis=0)
        least = np.min(values, axis=0)
        print(
            f"{len(values)} {kind}: PSNR {ours:.1f} dB (least {least[0]:.1f}), SSIM"
            f" {likeness:.4f} (least {least[1]:.4f}); QIM's PSNR {theirs:.1f} dB"
        )
    kinds = list(rows)
    print("| attack | present | id read | code bits right | id read, QIM |", *kinds, sep=" | ")
    print("| --- " * (5 + len(kinds)) + "|")
    for name in ATTACKS:
        each = [row for kind in kinds for row in rows[kind][name]]
        present, known, right, theirs = np.mean(each, axis=0)
        apart = [np.mean(rows[kind][name], axis=0)[:2] for kind in kinds]
        print(
            f"| {name} | {present:.1%} | {known:.1%} | {right:.1%} | {theirs:.1%} |",
            " | ".join(f"{there:.0%} / {read:.0%}" for there, read in apart),
            "|",
            flush=True,
        )


def run_small(count: int, folder: Path | None) -> None:
    """What is held at 64, 128 and 256 pixels."""
    photos = photographs()
    print("| pixels | kind | attack | present | id read |\n| --- | --- | --- | --- | --- |")
    for size in (64, 128, 192, 256):
        made = {"photographs": [p.crop((0, 0, min(p.size), min(p.size))) for p in photos]}
        made["photographs"] = [p.resize((size, size), LANCZOS) for p in made["photographs"]]
        for kind, following in drawings(folder).items():
            made[kind] = [following(size) for _ in range(count)]
        for kind, images in made.items():
            for name in ("none", "JPEG 90", "JPEG 75", "resized 0.75x", "crop 10 % left and top"):
                hits = []
                for small, asset_id in zip(images, ids(2), strict=False):
                    wanted = code.pack(asset_id)
                    marked = flat(picture.embed(pixels_of(small), wanted, KEY))
                    found = picture.detect(pixels_of(ATTACKS[name](marked)), KEY)
                    hits.append((found.present, found.payload == wanted))
                present, known = np.mean(hits, axis=0)
                row = f"| {size} | {kind} | {name} | {present:.0%} | {known:.0%} |"
                print(row, flush=True)


def run_unmarked(count: int, folder: Path | None) -> None:
    chances, wrong = [], []
    for number, (_, image) in enumerate(pictures(count, folder, 3)):
        if number % 100 == 99:
            print(f"{number} pictures, least {min(chances):.3g}", flush=True)
        chances.append(picture.detect(pixels_of(image), KEY).probability)
        if number % 10 == 0:
            marked = picture.embed(pixels_of(image), code.pack("0a1b2c3d"), OTHER)
            wrong.append(picture.detect(marked, KEY).probability)
    for name, each in (("unmarked", chances), ("marked with another key", wrong)):
        values = np.array(each)
        shares = ", ".join(f"{np.mean(values < p):.3f} below {p:g}" for p in (0.5, 0.1, 0.01, 1e-6))
        print(f"{len(values)} pictures {name}: least probability {values.min():.3g}; {shares}")


SoundAttack = Callable[[sound.Wave, int], tuple[sound.Wave, int]]


def ffmpeg(suffix: str, rate: str) -> SoundAttack:
    def attack(wave: sound.Wave, sample_rate: int) -> tuple[sound.Wave, int]:
        file = io.BytesIO()
        soundfile.write(file, wave, sample_rate, format="WAV", subtype="PCM_16")
        form = {"mp3": "mp3", "aac": "adts"}[suffix]
        to = ["ffmpeg", "-v", "error", "-i", "-", "-b:a", rate, "-f", form, "-"]
        packed = subprocess.run(to, input=file.getvalue(), capture_output=True, check=True).stdout
        back = ["ffmpeg", "-v", "error", "-f", suffix, "-i", "-", "-f", "wav", "-"]
        wav = subprocess.run(back, input=packed, capture_output=True, check=True).stdout
        return soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)

    return attack


def at_rate(to: int) -> SoundAttack:
    def attack(wave: sound.Wave, sample_rate: int) -> tuple[sound.Wave, int]:
        common = np.gcd(to, sample_rate)
        other = signal.resample_poly(wave, to // common, sample_rate // common, axis=0)
        return other.astype(np.float32), to

    return attack


def noisy(decibels: float) -> SoundAttack:
    def attack(wave: sound.Wave, sample_rate: int) -> tuple[sound.Wave, int]:
        noise = np.random.default_rng(1).normal(size=wave.shape)
        noise *= np.sqrt(np.mean(wave**2)) * 10 ** (-decibels / 20)
        return (wave + noise).astype(np.float32), sample_rate

    return attack


def trimmed(seconds: float) -> SoundAttack:
    return lambda wave, rate: (wave[int(seconds * rate) :], rate)


def both(first: SoundAttack, second: SoundAttack) -> SoundAttack:
    return lambda wave, rate: second(*first(wave, rate))


SOUND_ATTACKS: dict[str, SoundAttack] = {
    "none": lambda wave, rate: (wave, rate),
    "MP3 128k": ffmpeg("mp3", "128k"),
    "MP3 64k": ffmpeg("mp3", "64k"),
    "MP3 32k": ffmpeg("mp3", "32k"),
    "AAC 64k": ffmpeg("aac", "64k"),
    "16 kHz": at_rate(16_000),
    "48 kHz": at_rate(48_000),
    "8 kHz": at_rate(8_000),
    "noise at 30 dB": noisy(30),
    "noise at 20 dB": noisy(20),
    "first 0.777 s cut": trimmed(0.777),
    "first 0.777 s cut, MP3 64k": both(trimmed(0.777), ffmpeg("mp3", "64k")),
    "gain -10 dB": lambda wave, rate: (wave * np.float32(0.316), rate),
}


def tune(seed: int, seconds: float = 30.0, rate: int = 44_100) -> sound.Wave:
    """A tune in stereo: chords of plucked or held harmonic tones, and beats of noise."""
    drawn = np.random.default_rng(seed)
    count = int(seconds * rate)
    wave = np.zeros((count, 2))
    beat = int(rate * 60 / drawn.uniform(70, 130))
    for start in range(0, count, beat):
        root = 110 * 2 ** (drawn.integers(0, 12) / 12)
        left = min(4 * beat, count - start)
        now = np.arange(left) / rate
        for step in (0, drawn.choice((3, 4)), 7, 12):
            pitch = root * 2 ** (step / 12) * drawn.choice((1, 2, 4))
            shape = np.exp(-now * drawn.uniform(1, 6)) * np.minimum(1, now * 200)
            tone = sum(np.sin(2 * np.pi * pitch * k * now) / k for k in range(1, 9)) * shape
            side = drawn.uniform(0.3, 0.7)
            wave[start : start + left] += tone[:, None] * (side, 1 - side)
        hit = drawn.normal(size=left) * np.exp(-now * 40)
        wave[start : start + left] += 0.5 * hit[:, None]
    return (0.7 * wave / np.abs(wave).max()).astype(np.float32)


def run_sounds(speech: Path) -> None:
    paths = sorted(speech.glob("*.wav"))
    spoken = [soundfile.read(path, dtype="float32", always_2d=True) for path in paths]
    tunes = [(tune(seed), 44_100) for seed in range(len(spoken))]
    print("| kind | seconds | attack | present | id read | code bits right |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, files in (("speech", spoken), ("music", tunes)):
        for seconds in (30, 10, 6, 4, 3, 2):
            if len(files[0][0]) < seconds * files[0][1]:
                continue
            names = list(SOUND_ATTACKS) if seconds in (30, 10, 6) else ["none", "MP3 64k"]
            hits: dict[str, list[tuple[bool, bool, float]]] = {name: [] for name in names}
            noise = []
            for (whole, rate), asset_id in zip(files, ids(4), strict=False):
                wave = whole[: int(seconds * rate)]
                wanted = code.pack(asset_id)
                marked = sound.embed(wave, rate, wanted, KEY)
                noise.append(10 * np.log10(np.sum(wave**2) / np.sum((marked - wave) ** 2)))
                for name in names:
                    found = sound.detect(*SOUND_ATTACKS[name](marked, rate), KEY)
                    right = found.payload == wanted
                    hits[name].append((found.present, right, found.bit_confidence))
            print(f"{kind}, {seconds} s: SNR {np.mean(noise):.1f} dB (least {min(noise):.1f})")
            for name, each in hits.items():
                present, known, right = np.mean(each, axis=0)
                row = f"| {kind} | {seconds} | {name} | {present:.0%} | {known:.0%} | {right:.1%} |"
                print(row, flush=True)
    chances = []
    for number in range(1000):
        key = number.to_bytes(32, "big")
        whole, rate = (spoken + tunes)[number % (2 * len(spoken))]
        start = number * 997 % (len(whole) - 4 * rate)
        chances.append(sound.detect(whole[start : start + 4 * rate], rate, key).probability)
    values = np.array(chances)
    shares = ", ".join(f"{np.mean(values < p):.3f} below {p:g}" for p in (0.5, 0.1, 0.01, 1e-6))
    print(
        f"1000 unmarked pieces of 4 s, a key each: least probability {values.min():.3g}; {shares}"
    )


def run_plots(folder: Path, drawn: Path | None) -> None:
    """What a mark looks like, ten times amplified; and how far the id is read."""
    shown = [photo.crop((0, 0, 300, 300)) for photo in photographs()[:3]]
    shown += [following(300).resize((300, 300)) for following in drawings(drawn).values()]
    shown += [Image.new("RGBA", (300, 300), (200, 180, 160))]
    sheet = Image.new("RGB", (200 * len(shown), 600))
    for number, image in enumerate(shown):
        pixels = pixels_of(image)
        marked = picture.embed(pixels, code.pack("0a1b2c3d"), KEY)
        change = marked[..., :3].astype(int) - pixels[..., :3]
        amplified = Image.fromarray(np.clip(128 + 10 * change, 0, 255).astype(np.uint8))
        for row, part in enumerate((flat(pixels), flat(marked), amplified)):
            sheet.paste(part.crop((50, 50, 250, 250)), (200 * number, 200 * row))
    sheet.quantize(200).save(folder / "seal-watermark-look.png", optimize=True)

    qualities, scales = (95, 80, 65, 50, 40, 30, 20, 10), (0.25, 0.35, 0.5, 0.7, 1.4, 2.0)
    crops = (0.02, 0.05, 0.08, 0.1, 0.12, 0.14, 0.17)
    curves = (
        ("JPEG quality", qualities, [coded("JPEG", q) for q in qualities]),
        ("WebP quality", qualities, [coded("WEBP", q) for q in qualities]),
        ("size, times", scales, [resized(k) for k in scales]),
        ("cut from every side", crops, [cropped(c, c, c, c) for c in crops]),
    )
    figure, axes = plt.subplots(1, len(curves), figsize=(11, 2.6), sharey=True)
    series = {f"photographs, {size}": photographs() for size in (512, 256, 128)}
    for kind, following in drawings(drawn).items():
        series[f"{kind}, 512"] = [following(512) for _ in range(20)]
    for name, images in series.items():
        size = int(name.rpartition(" ")[2])
        marked = []
        for image, asset_id in zip(images, ids(6), strict=False):
            small = resized(size / (image.width * image.height) ** 0.5)(image)
            wanted = code.pack(asset_id)
            marked.append((flat(picture.embed(pixels_of(small), wanted, KEY)), wanted))
        for axis, (label, points, attacks) in zip(axes, curves, strict=True):
            shares = [
                np.mean([picture.detect(pixels_of(a(m)), KEY).payload == w for m, w in marked])
                for a in attacks
            ]
            axis.plot(points, 100 * np.array(shares), marker=".", label=name)
            axis.set_xlabel(label)
            print(name, label, dict(zip(points, np.round(shares, 2).tolist(), strict=True)))
    axes[0].set_ylabel("id read, %")
    axes[-1].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(folder / "seal-watermark-pictures.png", dpi=80)


def run_cost() -> None:
    drawn = photographs()[0]
    for size in (1024, 512, 128):
        pixels = pixels_of(drawn.resize((size, size)))
        wanted = code.pack("0a1b2c3d")
        marked = picture.embed(pixels, wanted, KEY)
        cut = np.ascontiguousarray(marked[size // 10 :, size // 10 :])
        for name, work in (
            ("embed", lambda p=pixels, w=wanted: picture.embed(p, w, KEY)),
            ("detect", lambda m=marked: picture.detect(m, KEY)),
            ("detect after a crop", lambda c=cut: picture.detect(c, KEY)),
            ("detect in an unmarked one", lambda p=pixels: picture.detect(p, KEY)),
        ):
            print(f"| picture {size}x{size} | {name} | {1000 * _seconds(work):.0f} ms |")
    minute = np.tile(tune(1).mean(axis=1), 2)
    for rate in (24_000, 44_100):
        wave = np.ascontiguousarray(minute[: 60 * rate, None])
        marked = sound.embed(wave, rate, wanted, KEY)
        embed = _seconds(lambda w=wave, r=rate: sound.embed(w, r, wanted, KEY))
        detect = _seconds(lambda m=marked, r=rate: sound.detect(m, r, KEY))
        print(f"| a minute, mono, {rate} Hz | embed | {1000 * embed:.0f} ms |")
        print(f"| a minute, mono, {rate} Hz | detect | {1000 * detect:.0f} ms |")


def _seconds(work: Callable[[], object]) -> float:
    """The median of five runs."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what", choices=("pictures", "small", "unmarked", "sounds", "cost", "plots")
    )
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--drawings", type=Path)
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--count", type=int)
    args = parser.parse_args()
    if args.what == "pictures":
        run_pictures(args.count or 200, args.drawings)
    elif args.what == "small":
        run_small(args.count or 40, args.drawings)
    elif args.what == "unmarked":
        run_unmarked(args.count or 1000, args.drawings)
    elif args.what == "sounds":
        run_sounds(args.speech)
    elif args.what == "plots":
        run_plots(args.out, args.drawings)
    else:
        run_cost()


if __name__ == "__main__":
    main()
