"""What sealing costs: pictures, stickers, speech and texts, one at a time and side by side.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/seal.py [--rounds 5]

Ours is the whole line: decode, mark, watermark, encode, label, sign, read everything back, and the
ledger's line on the disk. The peer is the credential alone, signed with c2pa, which neither marks
nor reads back: what is left is the price of the rest. The work runs on one core.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from harness import compare, headline, seconds
from vermilion.seal import credentials
from vermilion.seal.formats import FORMATS, Format
from vermilion.seal.media import sounds
from vermilion.seal.order import About, SealOptions
from vermilion.seal.seal import Sealer, claim_of

ABOUT = About(asset_id="k3f9x2ab", title="a benchmark", model="a model", prompt="a prompt")

CLAIM = claim_of(ABOUT, SealOptions())


def photograph(side: int) -> bytes:
    """A PNG as rich as a photograph: noise of all sizes."""
    random = np.random.default_rng(5)
    layers = []
    for scale in (1, 4, 16, 64):
        small = random.normal(0, 10 * scale**0.5, (side // scale + 1, side // scale + 1, 3))
        layer = Image.fromarray(np.clip(small + 128, 0, 255).astype(np.uint8))
        layers.append(np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC), float) - 128)
    buffer = io.BytesIO()
    pixels = np.clip(sum(layers) + 128, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def sticker() -> bytes:
    """A PNG of 128 x 128 with a transparent background."""
    with Image.open(io.BytesIO(photograph(128))) as image:
        picture = image.convert("RGBA")
    disc = Image.new("L", (512, 512), 0)
    rows, columns = np.ogrid[:512, :512]
    disc = Image.fromarray(np.uint8(255 * ((rows - 256) ** 2 + (columns - 256) ** 2 < 240**2)))
    picture.putalpha(disc.resize((128, 128)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def speech() -> bytes:
    """A minute of WAV at 24 kHz that swells like speech."""
    random = np.random.default_rng(6)
    times = np.arange(60 * 24_000) / 24_000
    voice = np.sin(2 * np.pi * 140 * times) + 0.5 * np.sin(2 * np.pi * 700 * times)
    voice *= np.clip(np.sin(2 * np.pi * 3 * times), 0, 1) * 0.2
    voice += random.normal(0, 0.004, len(times))
    buffer = io.BytesIO()
    soundfile.write(buffer, voice, 24_000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    works: dict[str, tuple[bytes, Format]] = {
        "a picture, PNG of 1024 x 1024": (photograph(1024), FORMATS["png"]),
        "the same as JPEG": (_as(photograph(1024), "JPEG"), FORMATS["jpg"]),
        "a sticker, PNG of 128 x 128": (sticker(), FORMATS["png"]),
        "a minute of speech, WAV of 24 kHz": (speech(), FORMATS["wav"]),
        "the same as M4A": (_m4a(speech()), FORMATS["m4a"]),
        "a text of 200 words": (b"Fresh from the roaster. " * 50, FORMATS["txt"]),
    }
    peer = f"c2pa-python {version('c2pa-python')} alone"
    with tempfile.TemporaryDirectory() as folder:
        sealer = Sealer(Path(folder))
        headline()
        for name, (content, form) in works.items():
            compare(
                name,
                _milliseconds(lambda c=content, f=form: sealer.seal(c, f, ABOUT)),
                peer,
                _milliseconds(lambda c=content, f=form: _sign(sealer, c, f)),
                unit="ms",
                rounds=rounds,
            )
        content, form = works["a sticker, PNG of 128 x 128"]
        orders = [(content, form, ABOUT)] * 64
        compare(
            f"64 stickers side by side, {os.cpu_count()} cores, a second",
            _rate(lambda: sealer.seal_all(orders)),
            "one after another",
            _rate(lambda: [sealer.seal(*order) for order in orders]),
            unit="stickers/s",
            rounds=rounds,
            higher_is_better=True,
        )


def _milliseconds(work: Callable[[], object]) -> Callable[[], float]:
    timed = seconds(work)
    return lambda: 1000 * timed()


def _rate(work: Callable[[], list[object]]) -> Callable[[], float]:
    def timed() -> float:
        started = time.perf_counter()
        count = len(work())
        return count / (time.perf_counter() - started)

    return timed


def _sign(sealer: Sealer, content: bytes, form: Format) -> object:
    return credentials.sign(content, form, CLAIM, (), sealer.authority)


def _m4a(wav: bytes) -> bytes:
    return sounds.encode(sounds.decode(wav, FORMATS["wav"]), FORMATS["m4a"])


def _as(content: bytes, plugin: str) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").save(buffer, plugin, quality=92)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
