"""One run of training, from the request to a finished model in the run's folder.

FOLDER/config.json     the resolved config
FOLDER/log.csv         figures, a row every log_steps
FOLDER/samples/        what the model wrote on the way
FOLDER/checkpoints/    the newest ones
FOLDER/best/           weights with the lowest validation loss
FOLDER/model/          the finished model, as transformers opens it
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vermilion.data.windows import Windows
from vermilion.errors import InputError
from vermilion.models.lm import io
from vermilion.models.lm.adapters import save_adapters
from vermilion.nn.lora import merge
from vermilion.train import checkpoint
from vermilion.train.distributed import World
from vermilion.train.learner import Learner
from vermilion.train.lm.prepare import Prepared, Request, prepare, unsharded
from vermilion.train.lm.task import LanguageTask
from vermilion.train.loop import Outcome, Trainer, Watch
from vermilion.train.options import HARMLESS

CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run ended.

    Attributes:
        folder: of the run.
        model: folder of the finished model; None where it was stopped.
        outcome: of the loop.
        config: the resolved config.
    """

    folder: Path
    model: Path | None
    outcome: Outcome
    config: Mapping[str, Any]


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
        _take_best(trainer.learner, folder)
        _finish(prepared, request, trainer.learner, model)
        world.wait()
    return Run(folder=folder, model=model, outcome=outcome, config=prepared.config)


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


def _take_best(learner: Learner, folder: Path) -> None:
    """The weights with the lowest validation loss, else the mean of the last, else the last."""
    if (folder / "best" / "state.json").exists():
        weights = checkpoint.read_tensors(folder / "best", "weights")
        checkpoint.restore_parameters(learner.parameters, weights, folder / "best")
    elif learner.ema is not None:
        checkpoint.restore_parameters(learner.parameters, learner.ema.means, folder)


def _finish(prepared: Prepared, request: Request, learner: Learner, target: Path) -> None:
    """Write the finished model whole or not at all; adapters are merged, and lie beside it."""
    net = prepared.net
    if learner.sharded:
        net = unsharded(prepared, request, net)
    if not learner.world.first:
        return
    part = target.with_name(".part-model")
    shutil.rmtree(part, ignore_errors=True)
    net = net.cpu()
    lora = request.adapters
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
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
