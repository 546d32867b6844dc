"""What the trainings of all families have around the loop: a name, a folder, an end, a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vermilion.runtime.cards import TRAINED_HERE, UNKNOWN_LICENCE, Card, check_name
from vermilion.runtime.device import choose_device
from vermilion.runtime.store import Store
from vermilion.settings import get_settings
from vermilion.train.distributed import World, joined
from vermilion.train.folder import name_of
from vermilion.train.loop import Outcome, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Another model that a training needs: one that is trained on, or a part of the new one.

    Attributes:
        name: as a person called it.
        path: what is opened.
        sha256: of its weights.
    """

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run ended.

    Attributes:
        folder: of the run.
        model: folder of the finished model; None where it was stopped.
        outcome: of the loop.
        config: the resolved config.
        report: what of the data could not be used, in words; empty where all could.
    """

    folder: Path
    model: Path | None
    outcome: Outcome
    config: Mapping[str, Any]
    report: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a training.

    Attributes:
        name: of the model and the run.
        run: how it ended.
        card: of the model in the store; None where the run was stopped, and in all processes
            but the first.
    """

    name: str
    run: Run
    card: Card | None


def free_name(store: Store, name: str | None, data: Path) -> str:
    """The name of a model and its run; by default the data's.

    Raises:
        InputError: it is no name, or another model has it.
    """
    name = check_name(name if name is not None else name_of(data))
    store.check_free(name)
    return name


def located(store: Store, name: str) -> tuple[Card, Base]:
    """A model of the store.

    Raises:
        NotFoundError: it is not here.
    """
    card, path = store.locate(name)
    return card, Base(name=name, path=path, sha256=card.weights_sha256)


def train_and_publish(
    name: str,
    out: Path | None,
    watch: Watch | None,
    train: Callable[[Path, Path, World, Watch], Run],
    card: Callable[[Run], Card],
    beside: Callable[[Path, Path], object] = lambda model, run: None,
) -> Trained:
    """Train with all processes that there are; the first puts the model where models live.

    Args:
        name: of the model and the run.
        out: folder of the run; None: HOME/runs/NAME.
        watch: told what happens; None: nobody is.
        train: trains, given the run's folder, the folder of caches, this process and who watches.
        card: describes the finished model.
        beside: puts more into the published model's folder, given that and the run's.
    """
    house = get_settings()
    folder = out if out is not None else house.home / "runs" / name
    with joined(choose_device(house)) as world:
        run = train(folder, house.home / "cache", world, watch or (lambda event: None))
        published = None
        if run.model is not None and world.first:
            published = Store(house.models_dir).publish(run.model, card(run))
            beside(house.models_dir / name, folder)
    return Trained(name=name, run=run, card=published)


def card_of(
    run: Run,
    *,
    name: str,
    kind: str,
    family: str,
    data: str,
    licence: str | None,
    good_for: str,
    recipe: Mapping[str, Any],
    origin: Card | None = None,
) -> Card:
    """The card of a model that was trained here.

    Args:
        run: how it ended.
        name: of the model.
        kind: see `Card`.
        family: likewise.
        data: name of what it was trained on.
        licence: of the model; None: that of the origin, else nobody knows.
        good_for: see `Card`.
        recipe: what its family says of the training besides.
        origin: the model that was trained on.
    """
    inherited = UNKNOWN_LICENCE if origin is None else origin.licence
    learnt = [*([] if origin is None else [origin.training_data]), data]
    return Card(
        name=name,
        kind=kind,
        family=family,
        source=TRAINED_HERE,
        licence=licence if licence is not None else inherited,
        training_data=", ".join(learnt).strip(", "),
        languages=() if origin is None else origin.languages,
        good_for=good_for,
        options={
            "recipe": {
                "config": dict(run.config),
                "data": data,
                "steps": run.outcome.step,
                "best_step": run.outcome.best_step,
                "validation_loss": run.outcome.best,
                "figures": dict(run.outcome.figures),
                **recipe,
            }
        },
    )
