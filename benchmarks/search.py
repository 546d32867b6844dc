"""What the search model finds among drawings: by label, by synonym, in English and in Chinese.

    python benchmarks/search.py --data drawings/ --model search
    python benchmarks/search.py --data drawings/ --run runs/search --student runs/search-zh/model

Among up to 1,000 drawings of the corpus, one of each label, of which none was trained on:
- concept: of concepts that no training picture shows (split validation-concept);
- style: of concepts that were seen, in renderings that were not (split validation-style).

A label is looked for among the pictures alone: recall at 1, 5 and 10. A synonym is a tag none of
whose words is in the drawing's label; any drawing that has the tag is right. Words-only search is
`Library.find` over the labels, for which each synonym is a word that it was not told; "both" is the
two lists by reciprocal rank fusion, as `vermilion library find` has them.

"among distractors" looks for a new concept among the same pictures and 9,000 that were trained on,
drawn by chance. "zero-shot" goes the other way: a picture's label among all 1,000.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness import machine
from vermilion.data.pictures import Decoding, decode
from vermilion.library import Library
from vermilion.line.finding import merged
from vermilion.models.contrast.encode import ContrastEncoder
from vermilion.models.contrast.net import CLIP
from vermilion.models.contrast.preprocess import Preprocess
from vermilion.models.contrast.resnet import ResNet
from vermilion.runtime.engines.contrast import ContrastEngine, words_of
from vermilion.runtime.loader import Loader
from vermilion.runtime.store import Store
from vermilion.settings import get_settings
from vermilion.train import checkpoint
from vermilion.train.contrast.options import Tower
from vermilion.types import Hit

KS = (1, 5, 10)
MOST = 1000
DISTRACTORS = 9000


def rows_of(data: Path, split: str) -> list[dict[str, Any]]:
    """Up to 1,000 rows of a split, one of each label, drawn with seed 0."""
    lines = (data / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == split]
    order = np.random.default_rng(0).permutation(len(rows))
    once = {rows[n]["label"].casefold(): rows[n] for n in order[::-1]}
    return list(once.values())[:MOST]


def pictures_of(data: Path, rows: Sequence[dict[str, Any]], engine: ContrastEngine) -> Any:
    """Their vectors, (N, D)."""
    files = (data / row["file"] for row in rows)
    return engine.embed_pictures(
        [decode(path.read_bytes(), None, Decoding(channels=4)) for path in files]
    )


def distractors(data: Path, engine: ContrastEngine) -> NDArray[np.float32]:
    """Vectors of pictures that were trained on, (9000, D) at most."""
    lines = (data / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    chosen = np.random.default_rng(0).permutation(len(rows))[:DISTRACTORS]
    found: NDArray[np.float32] = pictures_of(data, [rows[n] for n in chosen], engine)
    return found


def of_run(folder: Path, student: Path | None, mean: bool) -> tuple[ContrastEngine, int]:
    """A run as its newest checkpoint has it, and the step."""
    config = json.loads((folder / "config.json").read_text())
    newest = checkpoint.latest(folder / "checkpoints")
    if newest is None:
        raise SystemExit(f"{folder} has no checkpoint yet")
    tower = Tower(**config["tower"])
    weights = checkpoint.read_tensors(newest, "ema" if mean else "weights")
    projected = "text_projection.weight" in weights
    size = weights["text_projection.weight"].shape[1] if projected else tower.projection_dim
    clip = CLIP(
        ResNet(tower.config()),  # type: ignore[arg-type]
        nn.Identity(),
        text_size=size,
        projection_dim=tower.projection_dim if projected else None,
    )
    state = weights | checkpoint.read_tensors(newest, "buffers")
    clip.load_state_dict(state)
    clip.eval().requires_grad_(requires_grad=False)
    words = words_of("run", config["text_tower"]["name"], student, get_settings(), "cpu")
    encoder = ContrastEncoder(clip, Preprocess.for_size(tower.image_size), words, batch_size=64)
    return ContrastEngine(encoder), checkpoint.read_state(newest)["step"]


def recalls(places: Sequence[int]) -> str:
    """Cells of a table: how often the right one is among the first k."""
    found = np.asarray(places)
    return " | ".join(f"{(found < k).mean():.1%}" for k in KS) + f" | {len(found)} |"


def by_label(
    pictures: NDArray[np.float32], words: NDArray[np.float32], right: NDArray[np.int64]
) -> list[int]:
    """The place at which each text finds its picture, from 0."""
    near = words @ pictures.T
    own = near[np.arange(len(right)), right][:, None]
    places = (near >= own).sum(1) - 1
    return [int(place) for place in places]


def synonyms(rows: Sequence[dict[str, Any]], tags: str) -> dict[str, set[int]]:
    """Tags and the drawings that have them, without drawings whose label says a word of it."""
    found: dict[str, set[int]] = {}
    for number, row in enumerate(rows):
        said = set(row["label"].casefold().split()) | {str(row.get("label_zh", ""))}
        for tag in row.get(tags) or ():
            words = set(tag.casefold().split())
            if not words & said and not (tags == "tags_zh" and tag in row["label_zh"]):
                found.setdefault(tag, set()).add(number)
    return found


def by_synonym(
    rows: Sequence[dict[str, Any]],
    tags: str,
    engine: ContrastEngine,
    pictures: NDArray[np.float32],
    library: Library,
    numbers: dict[str, int],
) -> None:
    asked = synonyms(rows, tags)
    chosen = sorted(asked)
    keep = np.random.default_rng(0).permutation(len(chosen))[:500]
    chosen = [chosen[n] for n in keep]
    if not chosen:
        return
    near = engine.embed(chosen) @ pictures.T
    assets = {numbers[asset.id]: asset for asset in library.list(limit=MOST + 1)}
    places: dict[str, list[int]] = {"words only": [], "pictures": [], "both": []}
    for text, scores in zip(chosen, near, strict=True):
        sight = [
            Hit(asset=assets[n], score=0.0, reason="") for n in np.argsort(-scores)[:20].tolist()
        ]
        words = library.find(text, limit=20)
        lists = {"words only": words, "pictures": sight, "both": merged([words, sight], 20)}
        for name, hits in lists.items():
            place = (n for n, hit in enumerate(hits) if numbers[hit.asset.id] in asked[text])
            places[name].append(next(place, MOST))
    for name, found in places.items():
        print(f"| synonym, {tags}: {name} | {recalls(found)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--last", action="store_true", help="weights as they are, not their mean")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.run is not None:
        engine, step = of_run(asked.run, asked.student, not asked.last)
        print(f"{machine()}; {asked.run.name} after step {step}\n")
    else:
        opened = Loader(Store(get_settings().models_dir), get_settings()).open(asked.model)[1]
        assert isinstance(opened, ContrastEngine)
        engine = opened
        print(f"{machine()}; {asked.model}\n")
    others = distractors(asked.data, engine)
    for split in ("validation-concept", "validation-style"):
        rows = rows_of(asked.data, split)
        pictures = pictures_of(asked.data, rows, engine)
        print(f"{split}: {len(rows)} drawings\n")
        print("| looked for | @1 | @5 | @10 | queries |\n| --- | ---: | ---: | ---: | ---: |")
        everyone = np.arange(len(rows))
        labels = engine.embed([row["label"] for row in rows])
        english = by_label(pictures, labels, everyone)
        print(f"| label, English | {recalls(english)}")
        if split == "validation-concept":  # a known one has right answers among the others too
            crowd = by_label(np.concatenate([pictures, others]), labels, everyone)
            print(f"| label, English, among {len(others):,} distractors | {recalls(crowd)}")
        print(f"| zero-shot, picture to label | {recalls(by_label(labels, pictures, everyone))}")
        for group in sorted({row["group"] for row in rows}):
            of = [place for place, row in zip(english, rows, strict=True) if row["group"] == group]
            print(f"| label, English, {group} | {recalls(of)}")
        named = np.array([n for n, row in enumerate(rows) if row.get("label_zh")])
        if len(named):
            texts = [rows[n]["label_zh"] for n in named]
            print(f"| label, Chinese | {recalls(by_label(pictures, engine.embed(texts), named))}")
        with tempfile.TemporaryDirectory() as home, Library.open(Path(home)) as library:
            numbers = {}
            for number, row in enumerate(rows):
                text = f"{row['label']} {row.get('label_zh', '')}"
                kept = library.keep(
                    str(number).encode(),
                    kind="picture",
                    media_type="text/plain",
                    suffix="txt",
                    text=text,
                    recipe={},
                )
                numbers[kept.id] = number
            for tags in ("tags", "tags_zh"):
                by_synonym(rows, tags, engine, pictures, library, numbers)
        print()


if __name__ == "__main__":
    main()
