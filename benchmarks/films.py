"""How far a film's fingerprint lies from those of its copies, and from those of other films.

    python benchmarks/films.py [--drawings FOLDER] [--count 36]

Films are made here: scenes that move slowly over parts of the photographs of scikit-image and
scikit-learn, over drawings on a coloured ground (a folder as for watermark.py) and over shapes;
no two films share one. Copies are ffmpeg's. The table is printed, and how near two films come.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tempfile
import time
from itertools import combinations
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from vermilion.seal import fingerprints
from vermilion.seal.formats import FORMATS
from vermilion.seal.ledger import SAME
from vermilion.seal.looking import prints_of
from vermilion.seal.marks import film as marks
from vermilion.seal.media import films
from watermark import drawings, photographs

WIDTH, HEIGHT, RATE = 320, 176, 15
COPIES: dict[str, tuple[str, ...]] = {
    "H.264, crf 35": ("mp4", "-c:v", "libx264", "-crf", "35"),
    "H.264, crf 45": ("mp4", "-c:v", "libx264", "-crf", "45"),
    "VP9, 60 kbit/s": ("webm", "-c:v", "libvpx-vp9", "-b:v", "60k", "-deadline", "realtime"),
    "MPEG-4, q 20": ("mkv", "-c:v", "mpeg4", "-q:v", "20"),
    "half the size": ("mp4", "-vf", "scale=160:88"),
    "twice the size": ("mov", "-vf", "scale=640:352"),
    "10 frames a second": ("mp4", "-r", "10"),
    "grey": ("mp4", "-vf", "format=gray,format=yuv420p"),
    "brighter by 20 %": ("mp4", "-vf", "lutyuv=y=val*1.2"),
    "3 % cut off each side": ("mp4", "-vf", "crop=300:166"),
    "first 0.5 s cut off": ("mp4", "-ss", "0.5"),
    "last quarter cut off": ("mp4", "-t", "QUARTER"),
    "wide bars above and below": ("mp4", "-vf", "pad=320:212:0:18"),
    "mirrored": ("mp4", "-vf", "hflip"),
}


def canvases(folder: Path | None, seed: int) -> list[Image.Image]:
    """Pictures for scenes, all different, in a random order."""
    random = np.random.default_rng(seed)
    made = []
    for photo in photographs():
        wide, high = photo.width // 2, photo.height // 2
        corners = [(0, 0), (wide, 0), (0, high), (wide, high)]
        made += [photo.crop((x, y, x + wide, y + high)) for x, y in corners]
    for following in drawings(folder).values():
        for _ in range(60):
            ground = Image.new("RGBA", (640, 400), (*random.integers(60, 256, 3).tolist(), 255))
            drawn = following(int(random.integers(200, 400)))
            ground.alpha_composite(drawn, (int(random.integers(240)), 0))
            made.append(ground)
    for _ in range(20):
        ground = Image.new("RGB", (640, 400), tuple(random.integers(0, 256, 3)))
        pen = ImageDraw.Draw(ground)
        for _ in range(6):
            x, y, size = random.integers(0, 400, 3)
            pen.ellipse((x, y, x + size, y + size), fill=tuple(random.integers(0, 256, 3)))
        made.append(ground)
    order = random.permutation(len(made))
    return [made[place].convert("RGB") for place in order]


def film(scenes: list[Image.Image], seed: int) -> bytes:
    """A film in H.264 that moves over its scenes for 1.5 to 3 seconds each."""
    random = np.random.default_rng(seed)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for scene in scenes:
            large = scene.resize((WIDTH * 5 // 4, HEIGHT * 5 // 4))
            begin, end = random.uniform(0, 1, (2, 2)) * (WIDTH // 4, HEIGHT // 4)
            count = int(random.uniform(1.5, 3) * RATE)
            for step in range(count):
                x, y = (begin + (end - begin) * step / count).astype(int).tolist()
                part = large.crop((x, y, x + WIDTH, y + HEIGHT))
                out.mux(stream.encode(av.VideoFrame.from_image(part)))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def copied(content: bytes, options: tuple[str, ...]) -> tuple[bytes, str]:
    suffix, *how = options
    with av.open(io.BytesIO(content)) as file:
        seconds = (file.duration or 0) / av.time_base
    how = [f"{0.75 * seconds:.2f}" if word == "QUARTER" else word for word in how]
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.mp4", Path(folder) / f"after.{suffix}"
        before.write_bytes(content)
        subprocess.run(
            ["ffmpeg", "-v", "error", "-i", str(before), "-preset", "veryfast", *how, str(after)],
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return after.read_bytes(), suffix


def print_of(content: bytes, suffix: str) -> bytes:
    """A film's fingerprint; one of another film where it has none."""
    found = prints_of(content, FORMATS[suffix]).film
    return b"\xaa" * fingerprints.FILMPRINT_BYTES if found is None else found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawings", type=Path)
    parser.add_argument("--count", type=int, default=36)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    left = canvases(arguments.drawings, 1)
    made, plain = [], 0
    while len(made) < arguments.count:
        scenes = [left.pop() for _ in range(int(random.integers(1, 4)))]
        content = film(scenes, len(made))
        if prints_of(content, FORMATS["mp4"]).film is None:
            plain += 1
        else:
            made.append(content)
    released = []
    for content in made:
        over = marks.over("AI-generated")
        released.append(films.edit(content, FORMATS["mp4"], picture=over))
    began = time.perf_counter()
    known = [print_of(content, "mp4") for content in released]
    spent = (time.perf_counter() - began) / len(known)
    print(f"{len(known)} films, {1000 * spent:.0f} ms a fingerprint; {plain} more had none")
    apart = [fingerprints.filmprint_distance(a, b) for a, b in combinations(known, 2)]
    values = np.array(apart)
    shares = ", ".join(f"{np.mean(values <= at):.3%} within {at}" for at in (10, 12, 14, 16, 18))
    print(
        f"{len(values)} pairs of different films: least {values.min():.1f}, 1 % below"
        f" {np.percentile(values, 1):.1f}, median {np.median(values):.1f}; {shares}",
        flush=True,
    )
    limit = SAME["film"]
    print(f"| change | median | largest | found of {len(known)} |\n| --- | --- | --- | --- |")
    originals = [print_of(content, "mp4") for content in made]
    show("without the mark", known, originals, limit)
    for name, options in COPIES.items():
        show(name, known, [print_of(*copied(content, options)) for content in released], limit)


def show(name: str, known: list[bytes], copies: list[bytes], limit: float) -> None:
    pairs = zip(known, copies, strict=True)
    values = np.array([fingerprints.filmprint_distance(one, other) for one, other in pairs])
    found = int(np.sum(values <= limit))
    print(f"| {name} | {np.median(values):.1f} | {values.max():.1f} | {found} |", flush=True)


if __name__ == "__main__":
    main()
