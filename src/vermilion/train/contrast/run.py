"""One run of training, from the request to a finished model in the run's folder.

The folder is laid out as that of a language model's run; see `train.lm.run`. A finished CLIP is a
CLIPModel of transformers. Where the text tower is locked, or the picture tower is a ResNet, the
folder says so in config.json: `text_config.name` is the encoder whose vectors `text_projection`
takes. Of SimCLR the tower stays.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vermilion.models.contrast.io import STUDENT, save_clip, save_tower
from vermilion.train.contrast.prepare import OnProgress, Prepared, Request, prepare
from vermilion.train.contrast.task import ClipTask
from vermilion.train.distributed import World
from vermilion.train.folder import claim, take
from vermilion.train.loop import Trainer, Watch
from vermilion.train.run import Run


def train(
    request: Request,
    folder: Path,
    cache: Path,
    world: World,
    watch: Watch,
    on_progress: OnProgress | None = None,
) -> Run:
    """Train a contrastive model, or go on with a run that was broken off.

    Args:
        request: what on what.
        folder: of the run.
        cache: folder that keeps decoded pictures and vectors of texts.
        world: this process among those that train.
        watch: told what happens.
        on_progress: told how far the preparation is.

    Raises:
        InputError: data or settings that cannot be used, or the folder holds another run.
        ModelError: a checkpoint is broken.
        StorageError: the disk is full.
    """
    if world.first:
        prepared = prepare(request, cache, on_progress)
        claim(folder, prepared.config)
    world.wait()
    if not world.first:
        prepared = prepare(request, cache)
    prepared.task.model.to(world.device)
    trainer = Trainer(prepared.task, prepared.training, folder, world, watch)
    outcome = trainer.run()
    model = None
    if outcome.state != "stopped":
        model = folder / "model"
        take(trainer.learner, folder)
        if world.first:
            save(prepared, request, model)
        world.wait()
    return Run(
        folder=folder,
        model=model,
        outcome=outcome,
        config=prepared.config,
        report=prepared.faults,
    )


def save(prepared: Prepared, request: Request, folder: Path) -> None:
    """Write what was trained as a folder of transformers.

    Raises:
        StorageError: the disk is full.
    """
    task = prepared.task
    task.model.eval()
    if isinstance(task, ClipTask):
        name = "" if request.locked is None else request.locked.name
        save_clip(task.clip, folder, task.preprocess, prepared.tokenizer, text_tower=name)
        if request.student is not None:
            shutil.copytree(request.student, folder / STUDENT, dirs_exist_ok=True)
    else:
        save_tower(task.net.encoder, folder, task.preprocess)
