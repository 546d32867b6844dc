"""What is published of CLIP and comes with open_clip: its vocabulary, its networks.

open_clip is loaded module by module. Its package imports torchvision, which cannot be had beside
a CPU's torch; of it the networks want one name, and do not use it. For the same reason it is not
among the packages that the tests require: pip install --no-deps open_clip_torch ftfy wcwidth
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def root() -> Path:
    """The folder of open_clip."""
    if "open_clip" in sys.modules:
        return Path(next(iter(sys.modules["open_clip"].__path__)))
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        pytest.skip(
            "open_clip is not installed: pip install --no-deps open_clip_torch ftfy wcwidth"
        )
    return Path(found.origin).parent


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's 49,408 tokens and its merges, built as OpenAI's simple_tokenizer.py does it."""
    text = gzip.decompress((root() / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
    merges = text.split("\n")[1 : 49152 - 256 - 2 + 1]
    codes = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    codes += range(ord("®"), ord("ÿ") + 1)
    letters = [chr(code) for code in codes]
    letters += [chr(256 + n) for n in range(256 - len(letters))]
    pieces = [*letters, *(letter + "</w>" for letter in letters)]
    pieces += ["".join(merge.split()) for merge in merges]
    return {piece: n for n, piece in enumerate([*pieces, BOS, EOS])}, merges


def write_vocabulary(folder: Path) -> Path:
    """The vocab.json and merges.txt of openai/clip-vit-base-patch32."""
    return write_words(folder, *vocabulary())


def write_words(folder: Path, vocab: dict[str, int], merges: list[str]) -> Path:
    """A vocabulary in the two files that CLIP's was published in."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return folder


def open_clip_model() -> Any:
    """The module open_clip.model."""
    place = root()
    if "open_clip" not in sys.modules:
        package = ModuleType("open_clip")
        package.__path__ = [str(place)]
        sys.modules["open_clip"] = package
    names = ("torchvision", "torchvision.ops", "torchvision.ops.misc")
    absent = {name: ModuleType(name) for name in names if name not in sys.modules}
    sys.modules.update(absent)
    try:
        sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = type("None", (), {})  # type: ignore[attr-defined]
        return importlib.import_module("open_clip.model")
    finally:
        for name in absent:
            del sys.modules[name]
