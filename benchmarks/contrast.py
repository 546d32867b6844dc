"""Times the picture tower of ViT-B/32 from JPEG files on disk to vectors, against transformers.

    python benchmarks/contrast.py        both sets; --only photographs web, --pictures 32

The tower's 87 million weights are drawn at random, the same for both. Two sets of JPEG files are
made of shades, edges and noise: 4000x3000 as telephones take them, and 500x375 as the web has them.
transformers runs CLIPImageProcessor (Pillow) and CLIPModel.get_image_features with batches of 16.
- float32: the same weights; vectors are compared.
- int8: products of bytes, as with VERMILION_DTYPE=int8. Agreement in ranking: for each picture the
  others are ordered by their cosines, by ours and by transformers' vectors; the mean of Spearman's
  correlation of both orders.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from harness import compare, headline, seconds
from vermilion.models.contrast.encode import ContrastEncoder
from vermilion.nn.quantized import quantize
from vermilion.runtime.engines.contrast import ContrastEngine

SETS = {"photographs": (4000, 3000), "web": (500, 375)}
BATCH = 16


def photograph(path: Path, wide: int, high: int, seed: int) -> None:
    """A JPEG with large shapes and fine noise, of about 2 bits a pixel."""
    draw = np.random.default_rng(seed)
    shades = draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(shades).resize((wide, high), Image.Resampling.BICUBIC))
    noise = draw.normal(0, 6, (high, wide, 1)).astype(np.float32)
    pixels = np.clip(large + noise, 0, 255).astype(np.uint8)
    for _ in range(12):
        top, left = draw.integers(0, high), draw.integers(0, wide)
        pixels[top : top + high // 6, left : left + wide // 5] = draw.integers(0, 256, 3)
    Image.fromarray(pixels).save(path, quality=90)


def write_model(folder: Path) -> CLIPModel:
    """CLIP ViT-B/32 with random weights, and a text tower of one layer, which is not looked at."""
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={"patch_size": 32, "projection_dim": 512},
        text_config={"num_hidden_layers": 1},
        projection_dim=512,
    )
    model = CLIPModel(config).eval()
    # First weights are so small that all pictures would be alike.
    with torch.no_grad():
        for name, weight in model.vision_model.named_parameters():
            if weight.dim() == 2 and "embedding" not in name:
                weight.mul_(2.0)
    model.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return model


def agreement(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Mean of Spearman's correlation of how the other pictures are ordered by each."""
    found = []
    for number in range(len(ours)):
        others = np.arange(len(ours)) != number
        ranks = [
            np.argsort(np.argsort((vectors @ vectors[number])[others]))
            for vectors in (ours, theirs)
        ]
        found.append(np.corrcoef(*ranks)[0, 1])
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    headline()
    peer = f"transformers {version('transformers')}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = write_model(folder / "model")
        processor = CLIPImageProcessorPil.from_pretrained(folder / "model")
        engines = {}
        for dtype in ("float32", "int8"):
            encoder = ContrastEncoder.from_folder(folder / "model", text=lambda texts: None)
            if dtype == "int8":
                quantize(encoder.clip.vision_model)
            engines[dtype] = ContrastEngine(encoder)
        for kind in asked.only:
            wide, high = SETS[kind]
            files = [folder / f"{kind}-{n}.jpg" for n in range(asked.pictures)]
            for number, path in enumerate(files):
                photograph(path, wide, high, number)

            @torch.inference_mode()
            def reference(paths: list[Path] = files) -> NDArray[np.float32]:
                parts = []
                for first in range(0, len(paths), BATCH):
                    batch = [Image.open(path).convert("RGB") for path in paths[first:][:BATCH]]
                    inputs = processor(images=batch, return_tensors="pt")
                    found = theirs.get_image_features(**inputs)
                    parts.append(getattr(found, "pooler_output", found))
                return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()

            expected = reference()
            for dtype, engine in engines.items():

                def ours(e: ContrastEngine = engine, paths: list[Path] = files) -> NDArray:  # type: ignore[type-arg]
                    return e.embed_files(path.read_bytes() for path in paths)

                label = f"{asked.pictures} JPEG of {wide}x{high} to vectors, {dtype}"
                compare(label, _timed(ours), peer, _timed(reference), rounds=asked.rounds)
                found = ours()
                print(
                    f"  cosine with transformers' vectors {(found * expected).sum(1).min():.4f}"
                    f" at least; agreement in ranking {agreement(found, expected):.4f};"
                    f" cosine of two pictures {_apart(expected):.3f} on average"
                )


def _timed(work: Callable[[], object]) -> Callable[[], float]:
    return seconds(work)


def _apart(vectors: NDArray[np.float32]) -> float:
    near = vectors @ vectors.T
    return float(near[~np.eye(len(near), dtype=bool)].mean())


if __name__ == "__main__":
    main()
