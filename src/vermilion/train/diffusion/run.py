"""One run of training, from the request to a finished model in the run's folder.

FOLDER/config.json     the resolved config
FOLDER/log.csv         figures, a row every log_steps
FOLDER/samples/        sheets of what the model painted on the way
FOLDER/checkpoints/    the newest ones
FOLDER/best/           weights with the lowest validation loss
FOLDER/vae/            the same of the first stage, and its model/, which --vae takes
FOLDER/prints.safetensors  fingerprints of what was trained on
FOLDER/model/          the finished model, as diffusers opens it
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vermilion.models.diffusion import io
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.parts import STEM
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.models.files import save_tensors, write_json
from vermilion.train.diffusion import learnt
from vermilion.train.diffusion.autoencoder import AutoencoderTask, scaled
from vermilion.train.diffusion.dataset import OnPicture
from vermilion.train.diffusion.lora import save_lora
from vermilion.train.diffusion.options import Autoencoder
from vermilion.train.diffusion.prepare import Prepared, Request, prepare
from vermilion.train.distributed import World
from vermilion.train.folder import anew, claim, take
from vermilion.train.loop import Outcome, Trainer, Watch
from vermilion.train.options import Training
from vermilion.train.run import Run


def train(
    request: Request,
    folder: Path,
    cache: Path,
    world: World,
    watch: Watch,
    on_picture: OnPicture | None = None,
) -> Run:
    """Train a diffusion model, or go on with a run that was broken off.

    Args:
        request: what on what.
        folder: of the run.
        cache: folder that keeps decoded pictures.
        world: this process among those that train.
        watch: told what happens.
        on_picture: told how many pictures are decoded, and of how many.

    Raises:
        InputError: data or settings that cannot be used, or the folder holds another run.
        ModelError: a model or a checkpoint is broken.
        StorageError: the disk is full.
    """
    where = str(world.device)
    if world.first:
        prepared = prepare(request, cache, where, on_picture)
        claim(folder, prepared.config)
    world.wait()
    if not world.first:
        prepared = prepare(request, cache, where)
    if prepared.first_stage:
        stopped = _first_stage(prepared, request.autoencoder, folder / "vae", world, watch)
        if stopped is not None:
            return _ended(folder, None, stopped, prepared)
    task = prepared.task(request.objective, world.device)
    trainer = Trainer(task, prepared.training, folder, world, watch)
    outcome = trainer.run()
    model = None
    if outcome.state != "stopped":
        model = folder / "model"
        take(trainer.learner, folder, best=request.objective.publish == "best")
        if world.first:
            _finish(prepared, request, model)
            learnt.write(prepared.data.train, request.data.absolute().name, folder)
        world.wait()
    return _ended(folder, model, outcome, prepared)


def _ended(folder: Path, model: Path | None, outcome: Outcome, prepared: Prepared) -> Run:
    return Run(
        folder=folder,
        model=model,
        outcome=outcome,
        config=prepared.config,
        report=prepared.data.report,
    )


def first_training(training: Training, options: Autoencoder) -> Training:
    """How the first stage is trained."""
    return replace(
        training,
        max_steps=options.vae_steps,
        learning_rate=options.vae_learning_rate,
        patience=0,
    )


def _first_stage(
    prepared: Prepared, options: Autoencoder, folder: Path, world: World, watch: Watch
) -> Outcome | None:
    """Train the autoencoder, or open it where that is done; the outcome if it was stopped."""
    model = folder / "model"
    done = (model / "config.json").exists()
    world.wait()  # before the first process writes it
    if not done:
        vae = prepared.codec
        assert isinstance(vae, AutoencoderKL)  # noqa: S101 - for the type
        data = prepared.data
        task = AutoencoderTask(vae, data.train, data.validation, options, prepared.training.seed)
        task.model.to(world.device)
        folder.mkdir(parents=True, exist_ok=True)
        training = first_training(prepared.training, options)
        trainer = Trainer(task, training, folder, world, watch)
        outcome = trainer.run()
        if outcome.state == "stopped":
            return outcome
        # The validation knows nothing of how real a picture looks.
        take(trainer.learner, folder, best=options.adversarial_weight == 0)
        if world.first:
            scaled(vae.eval(), data.train, prepared.training.seed)
            _save_vae(vae, model)
        world.wait()
    prepared.codec = io.open_vae(model)
    return None


def _save_vae(vae: AutoencoderKL, target: Path) -> None:
    """Write an autoencoder whole or not at all, as diffusers opens it."""
    with anew(target) as part:
        save_tensors({n: w.cpu() for n, w in vae.state_dict().items()}, part, stem=STEM)
        write_json(part / "config.json", vae.config.to_diffusers())


def _finish(prepared: Prepared, request: Request, target: Path) -> None:
    """Write the finished model whole or not at all; of LoRA the adapters alone."""
    net: UNet = prepared.net.cpu().eval()
    with anew(target) as part:
        if request.adapters is not None:
            save_lora(net, part)
        else:
            io.save_pipeline(
                part,
                net=net,
                codec=prepared.codec,
                scheduler=prepared.scheduler,
                manifest=prepared.manifest,
                texts=prepared.texts,
            )
