"""What is published of CLIP and comes with open_clip: its vocabulary, its code.

open_clip is loaded module by module: its package imports torchvision, which there is not here.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

ROOT = Path(importlib.util.find_spec("open_clip").origin).parent  # type: ignore[union-attr, arg-type]
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's 49,408 tokens and its merges, built as OpenAI's simple_tokenizer.py does it."""
    text = gzip.decompress((ROOT / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
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
    vocab, merges = vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return folder
