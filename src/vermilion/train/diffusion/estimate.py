"""What a training would need: `--dry-run`."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.train.diffusion.latents import open_latents
from vermilion.train.diffusion.options import Objective
from vermilion.train.diffusion.request import Prepared, Request
from vermilion.train.diffusion.run import first_task, first_training
from vermilion.train.diffusion.task import DiffusionTask
from vermilion.train.distributed import World
from vermilion.train.measure import TIMED_STEPS, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a training would need.

    Attributes:
        config: the resolved config.
        parameters: of the network.
        trained: how many of them are trained.
        pictures: that are trained on.
        validation_pictures: that are held back.
        told: what the network is told of each: "nothing", "classes" or "captions".
        report: what of the data cannot be used; empty where all can.
        epochs: how often all steps go over the pictures.
        memory_bytes: weights, gradients, the optimiser's moments and the mean, and what a
            measured step needed besides where that could be measured.
        memory_free_bytes: on the device now.
        seconds_per_step: measured on this machine, with real steps that are thrown away.
        first_stage_seconds: of all steps of an autoencoder that is trained first; 0: none is.
        latents_seconds: to encode all pictures once; 0: none are.
        seconds: of all of that, validations and samples left out.
    """

    config: Mapping[str, Any]
    parameters: int
    trained: int
    pictures: int
    validation_pictures: int
    told: str
    report: str
    epochs: float
    memory_bytes: int
    memory_free_bytes: int
    seconds_per_step: float
    first_stage_seconds: float
    latents_seconds: float
    seconds: float


def estimate(prepared: Prepared, request: Request, world: World) -> Estimate:
    """Count, and time a few real steps of one part of a batch; nothing is written.

    Args:
        prepared: the run; its networks are changed and must not be used after.
        request: what was asked for.
        world: this process.
    """
    o, data = prepared.training, prepared.data
    first = 0.0
    if isinstance(prepared.codec, AutoencoderKL) and prepared.first_stage:
        vae = copy.deepcopy(prepared.codec)
        training = first_training(o, request.autoencoder)
        before = first_task(vae, data, request, training)
        before.model.to(world.device)
        first = measure(before, training, world).seconds_per_step * training.max_steps
    task, count = prepared.task(request.objective, world.device), len(data.train.cache)
    with TemporaryDirectory() as folder:
        encoding = _encode(task, request.objective, Path(folder), o.batch_size) * count
        for step in range(TIMED_STEPS + 1):  # captions are read once, and not in every step
            task.batch(step * o.batch_size, o.batch_size, world.device)
        found = measure(task, o, world)
        task.latents = None  # no file of the folder is mapped when it is removed
    return Estimate(
        config=prepared.config,
        parameters=found.parameters,
        trained=found.trained,
        pictures=count,
        validation_pictures=0 if data.validation is None else len(data.validation.cache),
        told=data.told,
        report=data.report,
        epochs=o.max_steps * o.batch_size / count,
        memory_bytes=found.memory_bytes,
        memory_free_bytes=found.memory_free_bytes,
        seconds_per_step=found.seconds_per_step,
        first_stage_seconds=first,
        latents_seconds=encoding,
        seconds=first + encoding + found.seconds_per_step * o.max_steps,
    )


def _encode(task: DiffusionTask, objective: Objective, folder: Path, size: int) -> float:
    """Keep latents of the pictures of the timed steps; the seconds that a picture took."""
    if not isinstance(task.codec, AutoencoderKL) or not objective.cache_latents:
        return 0.0
    items = [task.data.numbers(step * size, size)[0] for step in range(TIMED_STEPS + 1)]
    wanted = np.unique(np.concatenate(items))
    started = time.perf_counter()
    task.latents = open_latents(
        task.data, task.codec, folder, "train", drawn=objective.latent_sample, only=wanted
    )
    return (time.perf_counter() - started) / len(wanted)
