"""Pictures from words and from other pictures: order → prompts → samples → assets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from vermilion import hooks
from vermilion.errors import InputError
from vermilion.library import Library
from vermilion.line.brief import language_of
from vermilion.line.crafts import Craft
from vermilion.line.files import add_file
from vermilion.line.guard import Guard
from vermilion.line.keep import keep
from vermilion.line.languages import require_language
from vermilion.line.samples import SOURCES, samples
from vermilion.line.sight import best_of, encoder_name
from vermilion.line.single import check_order, choose_seed, seed_of
from vermilion.runtime.cards import Card
from vermilion.runtime.engines import Engine, OnPiece, OnStep
from vermilion.runtime.loader import Loader
from vermilion.seal.seal import Sealer
from vermilion.settings import Settings
from vermilion.types import Asset, Brief, Prompt, Sample

NOT_RANKED = (
    "there is no model here that ranks pictures, so none was chosen: all {n} are kept; pull one:"
    " vermilion models pull clip-vit-b-32"
)
_OF_THE_WAY = (*SOURCES, "strength")


class Parts(Protocol):
    """What the work needs; `line.run.Line` has it."""

    settings: Settings
    loader: Loader
    library: Library
    sealer: Sealer
    guard: Guard


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person wants painted.

    Attributes:
        text: in words; empty where a picture that is varied or blended has its own.
        negative_text: what to stay away from.
        n: how many, 1 to 200.
        best: how many of them to keep; None: all.
        model: name of the model; None: that of the picture that is varied, else the usual one.
        seed: None draws one.
        image: a file or an asset's id that it starts from.
        mask: a file or an asset's id whose light parts are painted anew.
        vary: id of an asset to paint again, changed by `amount`.
        blend: ids of two assets to lead over into one another, by `amount`.
        amount: 0 to 1; None: 0.4 of what is varied, 0.5 of the way of a blend.
        settings: fields of `PictureSettings`.
    """

    text: str = ""
    negative_text: str = ""
    n: int = 1
    best: int | None = None
    model: str | None = None
    seed: int | None = None
    image: str = ""
    mask: str = ""
    vary: str = ""
    blend: tuple[str, str] | None = None
    amount: float | None = None
    settings: Mapping[str, Any]


def paint(
    parts: Parts, order: Order, on_piece: OnPiece | None = None, on_step: OnStep | None = None
) -> list[Asset]:
    """Paint pictures and keep each as soon as it is finished, with `best` when all are.

    Where the settings ask for a drawing, its picture is kept too, and is the drawing's parent.

    Returns:
        The pictures in their order, each before its drawing. With `best` those that fit the prompt
        best, the best first, each with the note "fit". Where nothing could rank them all are
        kept, and each has the note "ranking", which says so.

    Raises:
        InputError: something in the order cannot be used.
        NotFoundError: the model or a picture does not exist.
        RefusedError: the prompt, a picture it starts from, or a result breaks a safety rule that
            refuses.
    """
    _check(order)
    complete, parents = _with_sources(parts, order)
    found = _judged(parts.guard, complete)
    craft: Craft = hooks.resolve(hooks.CRAFTS, "picture")()
    values = craft.settings(complete.settings, "settings")
    name = complete.model or craft.model(values, parts.settings)
    first = choose_seed(complete.seed)
    card = parts.loader.store.locate(name)[0]
    if card.kind != "picture":
        raise InputError(f"model: {name} makes {card.kind} and no pictures; name one that paints")
    require_language(card, language_of(Brief(subject=complete.text)))
    values = _of_the_model(craft, values, card)
    card, engine = parts.loader.open(name)
    prompts = [
        Prompt(
            kind="picture",
            text=complete.text,
            negative_text=complete.negative_text,
            model=name,
            seed=seed_of(first, i),
            settings=values,
        )
        for i in range(complete.n)
    ]
    drawn = samples(engine, prompts, parts.library, on_piece=on_piece, on_step=on_step)
    if complete.best is not None and complete.best < complete.n:
        if encoder_name(parts.loader) is not None:
            chosen = best_of(parts.loader, drawn, complete.text, complete.best)
            return [
                asset
                for index, sample, fit in chosen
                for asset in _keep(
                    parts, craft, card, engine, sample, index, {**found, **fit}, parents
                )
            ]
        found["ranking"] = NOT_RANKED.format(n=complete.n)
    kept: dict[int, list[Asset]] = {}
    for index, sample in drawn:
        kept[index] = _keep(parts, craft, card, engine, sample, index, found, parents)
    return [asset for index in range(complete.n) for asset in kept[index]]


def _check(order: Order) -> None:
    """See that what a picture starts from is said once, and how many are kept."""
    ways = {"from": order.image, "vary": order.vary, "blend": order.blend}
    chosen = [name for name, value in ways.items() if value]
    if len(chosen) > 1:
        raise InputError(f"{chosen[0]} and {chosen[1]} exclude one another; keep one of them")
    if order.mask and not order.image:
        raise InputError("mask: it needs the picture that it belongs to; give it with from")
    if order.amount is not None and not (order.vary or order.blend):
        raise InputError("amount: it belongs to vary and blend; use strength here")
    if order.amount is not None and not 0 <= order.amount <= 1:
        raise InputError(f"amount: must be 0 to 1 (found {order.amount})")
    if order.vary and order.amount == 0:
        raise InputError("amount: 0 changes nothing; say more, up to 1")
    if order.best is not None and not 1 <= order.best <= order.n:
        raise InputError(f"best: must be 1 to {order.n}, as many as are made (found {order.best})")


def _with_sources(parts: Parts, order: Order) -> tuple[Order, list[str]]:
    """The order with its pictures in the library and named in its settings; and their ids."""
    settings, text, model = dict(order.settings), order.text, order.model
    parents: list[Asset] = []
    if order.image:
        parents = [taken_in(parts, order.image, "from")]
        if order.mask:
            parents.append(taken_in(parts, order.mask, "mask"))
            settings["mask"] = parents[1].id
    elif order.vary or order.blend:
        refs = order.blend or (order.vary,)
        parents = [parts.library.get(ref) for ref in refs]
        usual = 0.5 if order.blend else 0.4
        settings = {**_own_settings(parents[0]), **settings}
        settings["strength"] = usual if order.amount is None else order.amount
        model = model or _own_prompt(parents[0]).get("model")
        if order.blend:
            settings["blend"] = parents[1].id
    if parents:
        settings["image"] = parents[0].id
        text = text.strip() or " and ".join(dict.fromkeys(filter(None, map(_own_text, parents))))
    check_order(text, order.n)
    return replace(order, settings=settings, text=text, model=model), [p.id for p in parents]


def taken_in(parts: Parts, ref: str, where: str) -> Asset:
    """The asset of a file, which is added to the library if it is not there, or of an id.

    Raises:
        InputError: it is no picture, or several ids begin so.
        NotFoundError: it is neither a file nor an id.
        RefusedError: it breaks a safety rule that refuses.
    """
    path = Path(ref)
    if path.is_file():
        asset, _ = add_file(
            parts.library, parts.sealer, path, parts.settings.max_file_bytes, guard=parts.guard
        )
    elif re.fullmatch(r"[A-Za-z0-9]{1,8}", ref):
        asset = parts.library.get(ref)
    else:
        raise InputError(f"{where}: there is no file {ref}; name a picture or an asset's id")
    if asset.kind != "picture":
        raise InputError(f"{where}: {ref} is {asset.kind} and no picture; name a picture")
    return asset


def _own_prompt(asset: Asset) -> Mapping[str, Any]:
    """The prompt that made a picture; empty where it was not painted here."""
    prompt = asset.recipe.get("prompt")
    return prompt if isinstance(prompt, Mapping) and prompt.get("kind") == "picture" else {}


def _own_settings(asset: Asset) -> dict[str, Any]:
    settings = _own_prompt(asset).get("settings") or {}
    return {name: value for name, value in settings.items() if name not in _OF_THE_WAY}


def _own_text(asset: Asset) -> str:
    """What a picture was painted from, where that is known."""
    made_with = asset.recipe.get("made_with") or {}
    return str(_own_prompt(asset).get("text") or made_with.get("prompt") or "").strip()


def _judged(guard: Guard, order: Order) -> dict[str, Any]:
    style = str(order.settings.get("style") or "")
    return guard.order(f"{order.text}\n{style}" if style else order.text)


def _of_the_model(craft: Craft, values: dict[str, Any], card: Card) -> dict[str, Any]:
    """The settings with what a model's card says of its pictures, where nobody said anything."""
    usual = {name: card.options[name] for name in ("size", "style") if name in card.options}
    unsaid = {name: value for name, value in usual.items() if not values[name]}
    return craft.settings({**values, **unsaid}, f"card of {card.name}") if unsaid else values


def _keep(
    parts: Parts,
    craft: Craft,
    card: Card,
    engine: Engine,
    sample: Sample,
    index: int,
    found: Mapping[str, Any],
    parents: Sequence[str],
) -> list[Asset]:
    """Keep a picture and, where one is asked for, its drawing: each with a recipe of its own."""
    wanted = sample.prompt.settings
    plain = replace(sample.prompt, settings={**wanted, "svg": False})
    picture = craft.finish(replace(sample, prompt=plain))
    notes = {**found, **parts.guard.made(craft.text(picture), sample.content)}
    made = keep(
        parts.library, picture, craft, card, engine, notes=notes, parents=parents, index=index
    )
    if not wanted.get("svg"):
        return [made]
    traced = craft.finish(sample)
    line_art = keep(
        parts.library, traced, craft, card, engine, notes=notes, parents=[made.id], index=index
    )
    return [made, line_art]
