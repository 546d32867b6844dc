"""What tests of runs share."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from safetensors.torch import load_file

from vermilion.train import checkpoint

SMALL = {
    "n_layer": 2, "n_embd": 32, "n_head": 2, "block_size": 16, "vocab_size": 300,
    "batch_size": 4, "warmup_steps": 2, "log_steps": 1, "eval_steps": 5, "sample_steps": 0,
    "tensorboard": False,
}  # fmt: skip


def weights(name: str, home: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.latest(home / "runs" / name / "checkpoints")
    assert path is not None
    found = {}
    for file in sorted(path.glob("*.safetensors")):
        found |= {f"{file.stem}/{key}": value for key, value in load_file(file).items()}
    return found


def column(name: str, home: Path, heading: str) -> list[float]:
    with (home / "runs" / name / "log.csv").open() as file:
        return [float(row[heading]) for row in csv.DictReader(file) if row[heading]]
