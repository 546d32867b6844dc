"""What reads captions in training: the same towers as in painting, and how they are published."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vermilion.errors import InputError, ModelError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.parts import INDEX, TextTower, in_folder
from vermilion.models.files import save_tensors, write_json
from vermilion.models.lm.encode import Encoder
from vermilion.runtime.engines.towers import SentenceTower, Tower, clip_tower
from vermilion.runtime.shipped import WEIGHTS
from vermilion.train.diffusion.options import Noising

_CLIP_WORDS = WEIGHTS / "clip-tokenizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What reads captions.

    Attributes:
        tower: it.
        size: D, features of a token.
        pooled: whether there is one vector for the whole text as well.
        name: of the model of the store that a manifest names; empty: it lies in the folder.
        parts: what is written into the folder, as `io.save_pipeline` takes it.
    """

    tower: Tower
    size: int
    pooled: bool = False
    name: str = ""
    parts: Mapping[str, tuple[str, Callable[[Path], None]]] = field(default_factory=dict)


def words_of(name: str, path: Path, noising: Noising, device: str) -> Words:
    """Of a new model.

    Args:
        name: of the encoder, as a person called it.
        path: where it lies: a sentence encoder, or a pipeline with a text tower of CLIP.
        noising: how many tokens, and whether pooled.
        device: where it reads.

    Raises:
        InputError: it is none of the two.
        ModelError: it is broken.
    """
    if (path / INDEX).is_file():
        found = in_folder(path)
        if found.text is None:
            raise InputError(f"text_encoder: {name} has none of its own; name another")
        return _clip(found.text, found.tokenizer, path, device)
    if "/" in name:
        raise InputError(
            f"text_encoder: pull {name} first and give its name, which the model will remember"
        )
    encoder = Encoder.from_folder(path, device)
    tower = SentenceTower(encoder, noising.max_tokens, pooled=noising.pooled)
    return Words(tower=tower, size=encoder.size, pooled=noising.pooled, name=name)


def words_in(found: io.Pipeline, where: Path, encoder: Path | None, device: str) -> Words:
    """Of a model that is trained on.

    Args:
        found: the model.
        where: it lies.
        encoder: what its manifest names; None: its text tower lies in the folder.
        device: where it reads.
    """
    manifest = found.manifest
    if encoder is not None:
        opened = Encoder.from_folder(encoder, device)
        tower = SentenceTower(opened, manifest.max_tokens, pooled=manifest.pooled)
        return Words(
            tower=tower, size=opened.size, pooled=manifest.pooled, name=manifest.text_encoder
        )
    if found.text_encoder is None:
        raise ModelError(f"{where}: there is no text encoder")
    return _clip(found.text_encoder, found.tokenizer, where, device)


def _clip(text: TextTower, tokenizer: Path | None, where: Path, device: str) -> Words:
    words = tokenizer or _CLIP_WORDS
    tower = clip_tower(
        text.config, text.tensors, words, where=str(where), device=device, dtype=torch.float32
    )

    def write_tower(folder: Path) -> None:
        write_json(folder / "config.json", dict(text.config))
        names = (name for name in text.tensors.names if not name.endswith("position_ids"))
        save_tensors({name: text.tensors.load(name) for name in names}, folder)

    def write_words(folder: Path) -> None:
        shutil.copytree(words, folder, dirs_exist_ok=True)

    parts = {
        "text_encoder": ("CLIPTextModel", write_tower),
        "tokenizer": ("CLIPTokenizer", write_words),
    }
    return Words(tower=tower, size=tower.net.size, parts=parts)
