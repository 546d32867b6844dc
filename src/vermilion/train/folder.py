"""A run's folder: its name, whose it is, and which weights of it are taken in the end."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vermilion.errors import InputError
from vermilion.train import checkpoint
from vermilion.train.learner import Learner
from vermilion.train.options import HARMLESS

CONFIG = "config.json"


def name_of(data: Path) -> str:
    """A model's name read off its data's."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", data.resolve().stem.lower()).strip("._-")[:64]
    return plain or "model"


def claim(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the resolved config into a new run's folder, or see that it is the same run.

    Raises:
        InputError: the folder holds a run with another config.
    """
    path = folder / CONFIG
    if path.exists():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(f"{path} is not JSON; remove {folder} or use another --name") from None
        differing = _differing(old, json.loads(json.dumps(config)))
        if differing:
            raise InputError(
                f"name: {folder.name} is a run with another config ({'; '.join(differing[:3])});"
                f" use another --name, or remove {folder}"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _differing(old: Any, new: Any, name: str = "") -> list[str]:
    """Fields that differ and matter, as sentences' parts."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            part
            for key in sorted(old.keys() | new.keys())
            if key not in HARMLESS
            for part in _differing(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{name} was {_short(old)} and is now {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:12]}…"


def take(learner: Learner, folder: Path, *, best: bool = True) -> None:
    """Which weights are kept: the mean of the last where there is one, else the last.

    Args:
        learner: whose they are.
        folder: of the run.
        best: those with the lowest validation loss instead, where there was a validation.
    """
    if best and (folder / "best" / "state.json").exists():
        learner.restore_model(folder / "best")
    elif learner.ema is not None:
        checkpoint.restore_parameters(learner.parameters, learner.ema.means, folder)


@contextmanager
def anew(target: Path) -> Iterator[Path]:
    """A folder beside, which takes the target's place when the block ends, whole or not at all."""
    part = target.with_name(f".part-{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
