"""One run of training, from the request to a finished model in the run's folder.

FOLDER/config.json     the resolved config
FOLDER/log.csv         figures, a row every log_steps
FOLDER/samples/        sheets of what the model painted on the way
FOLDER/checkpoints/    the newest ones
FOLDER/best/           weights with the lowest validation loss
FOLDER/vae/            the same of the first stage, and its model/, which --vae takes
FOLDER/latents/        of all pictures, encoded once
FOLDER/white.safetensors   how captions' vectors are whitened
FOLDER/prints.safetensors  fingerprints of what was trained on
FOLDER/model/          the finished model, as diffusers opens it
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from vermilion.data.pictures import Batches
from vermilion.models.diffusion import io
from vermilion.models.diffusion.parts import STEM
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.models.files import save_tensors, write_json
from vermilion.train.diffusion import learnt
from vermilion.train.diffusion.autoencoder import AutoencoderTask, scaled
from vermilion.train.diffusion.dataset import Data, OnPicture
from vermilion.train.diffusion.latents import Latents, open_latents
from vermilion.train.diffusion.lora import save_lora
from vermilion.train.diffusion.options import Autoencoder, Objective
from vermilion.train.diffusion.prepare import prepare
from vermilion.train.diffusion.request import Prepared, Request
from vermilion.train.diffusion.whiten import Whitening, captions_of, fold, whitening_of
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
        on_picture: told of what comes before the steps.

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
        stopped = _first_stage(prepared, request, folder / "vae", world, watch)
        if stopped is not None:
            return _ended(folder, None, stopped, prepared)
    white = _whitening(prepared, request, folder / "white.safetensors", world, on_picture)
    latents, held = _latents(prepared, request.objective, folder / "latents", world, on_picture)
    task = prepared.task(request.objective, world.device, latents, held)
    trainer = Trainer(task, prepared.training, folder, world, watch)
    outcome = trainer.run()
    model = None
    if outcome.state != "stopped":
        model = folder / "model"
        take(trainer.learner, folder, best=request.objective.publish == "best")
        if world.first:
            _finish(prepared, request, model, white)
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
    batch, decay = options.vae_batch_size, options.vae_decay_fraction
    return replace(
        training,
        max_steps=options.vae_steps,
        learning_rate=options.vae_learning_rate,
        batch_size=training.batch_size if batch is None else batch,
        decay_fraction=training.decay_fraction if decay is None else decay,
        patience=0,
    )


def first_task(
    vae: AutoencoderKL, data: Data, request: Request, training: Training
) -> AutoencoderTask:
    """What the first stage trains on what.

    Args:
        vae: the autoencoder.
        data: the pictures.
        request: what was asked for.
        training: of `first_training`.
    """
    options, size, seed = request.autoencoder, training.batch_size, training.seed
    flip = request.dataset.flip if options.vae_flip is None else options.vae_flip
    held = None if data.validation is None else Batches(data.validation.cache, size, seed=seed)
    train = Batches(data.train.cache, size, seed=seed, flip=flip)
    return AutoencoderTask(vae, train, held, options, seed)


def _first_stage(
    prepared: Prepared, request: Request, folder: Path, world: World, watch: Watch
) -> Outcome | None:
    """Train the autoencoder, or open it where that is done; the outcome if it was stopped."""
    model = folder / "model"
    done = (model / "config.json").exists()
    world.wait()  # before the first process writes it
    if not done:
        vae = prepared.codec
        assert isinstance(vae, AutoencoderKL)  # noqa: S101 - for the type
        data, options = prepared.data, request.autoencoder
        training = first_training(prepared.training, options)
        task = first_task(vae, data, request, training)
        task.model.to(world.device)
        folder.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(task, training, folder, world, watch)
        outcome = trainer.run()
        if outcome.state == "stopped":
            return outcome
        # The validation knows nothing of how real a picture looks.
        take(trainer.learner, folder, best=options.adversarial_weight == 0)
        if world.first:
            scaled(
                vae.eval(),
                data.train,
                training.seed,
                drawn=request.objective.latent_sample,
                shift=options.latent_shift,
            )
            _save_vae(vae, model)
        world.wait()
    prepared.codec = io.open_vae(model)
    return None


def _whitening(
    prepared: Prepared, request: Request, path: Path, world: World, on_picture: OnPicture | None
) -> Whitening | None:
    """What is done to captions' vectors from here on; found out once a run."""
    reader, shrinkage = prepared.teller.reader, request.noising.whiten_text
    if reader is None or shrinkage is None:
        return None
    there = path.exists()
    world.wait()  # before the first process writes it
    if not there and world.first:
        shortened = request.objective.style_dropout > 0
        captions = captions_of(prepared.data.train, shortened=shortened)
        tell = None if on_picture is None else partial(_tell, on_picture, "captions")
        whitening_of(reader, captions, shrinkage, tell).write(path)
    world.wait()
    white = Whitening.read(path)
    reader.change(white)
    return white


def _latents(
    prepared: Prepared,
    objective: Objective,
    folder: Path,
    world: World,
    on_picture: OnPicture | None,
) -> tuple[Latents | None, Latents | None]:
    """Of what is trained on and of what is held back, where there is an autoencoder."""
    vae, data = prepared.codec, prepared.data
    if not isinstance(vae, AutoencoderKL) or not objective.cache_latents:
        return None, None
    vae.to(world.device).eval()
    found: list[Latents | None] = []
    for part, batches in (("train", data.train), ("validation", data.validation)):
        if batches is None:
            found.append(None)
            continue
        tell = None if on_picture is None else partial(_tell, on_picture, "latents")
        opened = partial(open_latents, batches, vae, folder, part, drawn=objective.latent_sample)
        if world.first:
            opened(on_latent=tell)
        world.wait()
        found.append(opened())
    return found[0], found[1]


def _tell(on_picture: OnPicture, what: str, done: int, total: int) -> None:
    on_picture(done, total, what)


def _save_vae(vae: AutoencoderKL, target: Path) -> None:
    """Write an autoencoder whole or not at all, as diffusers opens it."""
    with anew(target) as part:
        save_tensors({n: w.cpu() for n, w in vae.state_dict().items()}, part, stem=STEM)
        write_json(part / "config.json", vae.config.to_diffusers())


def _finish(prepared: Prepared, request: Request, target: Path, white: Whitening | None) -> None:
    """Write the finished model whole or not at all; of LoRA the adapters alone."""
    net = prepared.net.cpu().eval()
    if white is not None:
        fold(net, white)
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
