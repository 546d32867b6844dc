"""One run of training, from the request to a finished model in the run's folder.

FOLDER/config.json     the resolved config
FOLDER/log.csv         figures, a row every log_steps
FOLDER/samples/        what the model wrote on the way
FOLDER/checkpoints/    the newest ones
FOLDER/best/           weights with the lowest validation loss
FOLDER/model/          the finished model, as transformers opens it
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vermilion.data.windows import Windows
from vermilion.models.lm import io
from vermilion.models.lm.adapters import save_adapters
from vermilion.nn.lora import merge
from vermilion.train.distributed import World
from vermilion.train.folder import anew, claim, take
from vermilion.train.learner import Learner
from vermilion.train.lm.prepare import Prepared, Request, prepare, unsharded
from vermilion.train.lm.task import LanguageTask
from vermilion.train.loop import Trainer, Watch
from vermilion.train.run import Run


def train(
    request: Request,
    folder: Path,
    cache: Path,
    world: World,
    watch: Watch,
    on_tokens: Callable[[int], None] | None = None,
) -> Run:
    """Train a language model, or go on with a run that was broken off.

    Args:
        request: what on what.
        folder: of the run.
        cache: folder that keeps tokenizers and token files.
        world: this process among those that train.
        watch: told what happens.
        on_tokens: told how many tokens are written.

    Raises:
        InputError: data or settings that cannot be used, or the folder holds another run.
        ModelError: the base or a checkpoint is broken.
        StorageError: the disk is full.
    """
    if world.first:
        prepared = prepare(request, cache, on_tokens)
        claim(folder, prepared.config)
    world.wait()
    if not world.first:
        prepared = prepare(request, cache)
    windows = Windows(prepared.tokens, prepared.length, prepared.training.seed)
    net = prepared.net.to(world.device)
    task = LanguageTask(
        net,
        prepared.tokenizer,
        windows,
        prepared.validation,
        batch_size=prepared.training.batch_size,
    )
    trainer = Trainer(task, prepared.training, folder, world, watch)
    outcome = trainer.run()
    model = None
    if outcome.state != "stopped":
        model = folder / "model"
        take(trainer.learner, folder)
        _finish(prepared, request, trainer.learner, model)
        world.wait()
    return Run(folder=folder, model=model, outcome=outcome, config=prepared.config)


def _finish(prepared: Prepared, request: Request, learner: Learner, target: Path) -> None:
    """Write the finished model whole or not at all; adapters are merged, and lie beside it."""
    net = prepared.net
    if learner.sharded:
        net = unsharded(prepared, request, net)
    if not learner.world.first:
        return
    net, lora = net.cpu(), request.adapters
    with anew(target) as part:
        if lora is not None and request.base is not None:
            save_adapters(
                net,
                part / "adapter",
                base=request.base.name,
                rank=lora.lora_r,
                alpha=lora.lora_alpha,
            )
            merge(net)
        io.save(net, prepared.tokenizer, part)
