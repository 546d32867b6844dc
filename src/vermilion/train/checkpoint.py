"""Checkpoints: safetensors and JSON, written whole or not at all.

    FOLDER/step-00000500/weights.safetensors     parameters that are trained
    FOLDER/step-00000500/optimizer.safetensors   the optimiser's state, PARAMETER/FIELD
    FOLDER/step-00000500/ema.safetensors         the running mean, where one is kept
    FOLDER/step-00000500/state.json              step, best so far, and the like

No random state lies in it: the random numbers of a step are a function of the seed, the step and
the process.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vermilion.disk import sync
from vermilion.errors import ModelError, StorageError
from vermilion.train.distributed import like, whole

_NAME = re.compile(r"step-(\d{8,})")
FORMAT = 1


def write(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write a checkpoint and remove older ones.

    Args:
        folder: of all checkpoints of a run.
        step: steps that are done.
        tensors: "weights", "optimizer" and perhaps "ema" → name → tensor on the CPU.
        state: JSON values.
        keep: how many stay, this one included.

    Raises:
        StorageError: the disk is full or read-only; the earlier checkpoints are whole.
    """
    target = folder / f"step-{step:08d}"
    write_folder(target, tensors, {"format": FORMAT, "step": step, **state})
    for old in steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step-{old:08d}", ignore_errors=True)
    return target


def write_folder(
    target: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    """Write tensors and JSON values into a folder that appears in one step.

    Raises:
        StorageError: the disk is full or read-only.
    """
    part = target.with_name(f".part-{target.name}")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, group in tensors.items():
            save_file(
                {key: value.contiguous() for key, value in group.items()},
                part / f"{name}.safetensors",
            )
        (part / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        for file in part.iterdir():
            sync(file)
        sync(part)
        old = target.with_name(f".old-{target.name}")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        part.rename(target)
        sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(
            f"{target}: the checkpoint cannot be written ({error}); free some space and run the"
            " same command again"
        ) from None


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, rising."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in names if match is not None)


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    found = steps(folder)
    return folder / f"step-{found[-1]:08d}" if found else None


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint's JSON values.

    Raises:
        ModelError: they cannot be read.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError("it is of another version")
    except (OSError, ValueError) as error:
        raise _broken(path, error) from None
    return state


def read_tensors(path: Path, name: str) -> dict[str, Tensor]:
    """A checkpoint's tensors: "weights", "optimizer" or "ema".

    Raises:
        ModelError: they cannot be read.
    """
    try:
        return load_file(path / f"{name}.safetensors")
    except (OSError, SafetensorError) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path}: the checkpoint cannot be read ({error}); remove this folder to go on from the"
        " one before it"
    )


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """An optimiser's state by the names of the parameters."""
    return {
        f"{name}/{field}": whole(torch.as_tensor(value))
        for name, parameter in parameters.items()
        for field, value in optimizer.state.get(parameter, {}).items()
    }


@torch.no_grad()
def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what `optimizer_tensors` gave."""
    for key, value in tensors.items():
        name, _, field = key.rpartition("/")
        parameter = parameters[name]
        same = value.shape == parameter.shape and field != "step"
        if same:  # laid out in memory as the parameter is, which the fused optimiser relies on
            placed = torch.empty_like(parameter).copy_(like(value, parameter))
        else:
            placed = value.to(parameter.device).clone()
        optimizer.state[parameter][field] = placed


@torch.no_grad()
def restore_parameters(
    parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path
) -> None:
    """Copy weights back.

    Raises:
        ModelError: they are those of another network.
    """
    if set(parameters) != set(tensors) or any(
        parameters[name].shape != value.shape for name, value in tensors.items()
    ):
        raise ModelError(f"{path}: the weights are those of another network; use another --name")
    for name, value in tensors.items():
        parameters[name].copy_(like(value, parameters[name]))
