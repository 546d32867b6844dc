"""Small real files of every picture format, made by Pillow and pypdf when asked for."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image
from pypdf import PdfWriter

from vermilion.seal.formats import FORMATS, Format
from vermilion.seal.labels import MADE_BY_AI, Label, Statement

PILLOW = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "tiff": "TIFF", "avif": "AVIF"}
PICTURES = tuple(PILLOW)
ANIMATED = ("png", "webp", "gif", "avif")
ALL = (*PICTURES, "svg", "pdf")

PARAMETERS = (
    "a lighthouse, 山水\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 48x32, Model: tiny"
)
LABEL = Label(content_producer="001191MA00000000XXXXXX", produce_id="a1b2c3d4")
FULL = Statement(
    label=LABEL,
    source_type=MADE_BY_AI,
    parameters=PARAMETERS,
    recipe={"prompt": {"text": "a lighthouse <&> \x0b 山水", "seed": 0}, "device": "cpu"},
    foreign={"prompt": '{"3":{"class_type":"KSampler"}}', "workflow": "{}"},
)


def form(suffix: str) -> Format:
    """The format of a file name's ending."""
    return FORMATS[suffix]


def image(mode: str = "RGB", size: tuple[int, int] = (48, 32), seed: int = 0) -> Image.Image:
    """Noise and a gradient, so that no two pixels in a row are alike."""
    channels = len(mode)
    drawn = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    drawn[..., 0] = np.linspace(0, 255, size[0], dtype=np.uint8)
    return Image.fromarray(drawn.squeeze(), mode if channels > 1 else "L")


def saved(picture: Image.Image, suffix: str, **options: object) -> bytes:
    """A file with this picture."""
    buffer = io.BytesIO()
    picture.save(buffer, PILLOW[suffix], **options)
    return buffer.getvalue()


def picture(suffix: str, **options: object) -> bytes:
    """A small file of a picture format."""
    mode = "RGB" if suffix in ("jpg", "gif") else "RGBA"
    return saved(image(mode), suffix, **options)


def animated(suffix: str) -> bytes:
    """Three frames of different times."""
    frames = [image("RGB", seed=seed) for seed in range(3)]
    return saved(
        frames[0], suffix, save_all=True, append_images=frames[1:], duration=[100, 200, 300]
    )


def drawing() -> bytes:
    """A drawing with a title, a comment and signs that XML writes in several ways."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- a > b -->\n'
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" data-a="x>y">\n'
        "  <title>山 &amp; 水</title><rect width='9' height='9' fill=\"#c33\"/>\n</svg>\n"
    ).encode()


def document(pages: int = 1, **metadata: str) -> bytes:
    """Empty pages, with Info."""
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(200, 100)
    writer.add_metadata({f"/{name.title()}": words for name, words in metadata.items()})
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


@cache
def small(suffix: str) -> bytes:
    """A small file of any format of this list."""
    if suffix == "svg":
        return drawing()
    return document(title="Tea") if suffix == "pdf" else picture(suffix)


def opened(content: bytes) -> Image.Image:
    """What Pillow reads, its first frame loaded."""
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def frames(content: bytes) -> list[tuple[bytes, object]]:
    """The pixels and times of all frames, as Pillow reads them."""
    found = []
    with Image.open(io.BytesIO(content)) as picture:
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()
            found.append((picture.convert("RGBA").tobytes(), picture.info.get("duration")))
    return found
