"""A set while it is made: step after step, each thing kept and sealed as soon as it is chosen."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from vermilion.errors import InputError, MissingExtraError
from vermilion.library import Library
from vermilion.line import page
from vermilion.line.brief import language_of
from vermilion.line.checks import Scene
from vermilion.line.finished import FinishedSet, Item, Watcher
from vermilion.line.generate import Chosen, generate
from vermilion.line.guard import Guard
from vermilion.line.keep import keep
from vermilion.line.output import OutputFolder
from vermilion.line.plan import PlannedStep, Result, prompts, without
from vermilion.line.release import seal
from vermilion.runtime.cards import Card
from vermilion.runtime.engines import Engine
from vermilion.runtime.loader import Loader
from vermilion.seal.order import SealOptions
from vermilion.seal.seal import Sealer
from vermilion.types import SMALL_MODEL, Asset, Brief


class Parts(Protocol):
    """What the work needs; `line.run.Line` has it."""

    loader: Loader
    library: Library
    sealer: Sealer
    guard: Guard


class SetWork:
    """One set.

    Args:
        parts: what the work needs.
        brief: complete, with its seed.
        recipe: name of the recipe.
        found: notes on the brief, kept with everything.
        folder: where sealed files go; None: none are written.
        options: how they are sealed.
        watcher: is told how the work goes.

    Attributes:
        id: of the set.
        items: what is finished, in the recipe's order.
    """

    def __init__(
        self,
        parts: Parts,
        brief: Brief,
        recipe: str,
        found: Mapping[str, Any],
        folder: OutputFolder | None,
        options: SealOptions | None,
        watcher: Watcher,
    ) -> None:
        self.id = secrets.token_hex(4)
        self.items: list[Item] = []
        self._parts, self._brief, self._found = parts, brief, found
        self._folder, self._options, self._watcher = folder, options, watcher
        self._recipe, self._origin = recipe, {"recipe": recipe, "brief": asdict(brief)}
        self._results: dict[str, Result] = {}
        self._gone = set[str]()

    def make(self, planned: PlannedStep) -> list[str]:
        """Make and keep what a step asks for; steps that it needs have to be made before.

        Returns:
            Why it was left out, in a sentence; empty: it was made, or needs a step that was left
            out, which has said why.

        Raises:
            InputError: a small model cannot do without something that the brief lacks.
            RefusedError: a result breaks a safety rule that refuses.
            SealError: a file did not read back; the asset is kept.
        """
        step = planned.step
        if self._gone & set(step.needs):
            self._leave_out(step.name)
            return []
        try:
            self._make(planned)
        except (MissingExtraError, InputError) as error:
            if not step.optional:
                raise
            self._leave_out(step.name)
            return [without([step.name], str(error))]
        return []

    def _leave_out(self, step: str) -> None:
        self._gone.add(step)
        self._watcher.done(step)

    def finish(self, left_out: Sequence[str], seconds: float) -> FinishedSet:
        """The finished set, with the page that shows it and the list of its files in its folder.

        Args:
            left_out: steps that nothing could make, a sentence each.
            seconds: that the work took.

        Raises:
            SealError: the page did not read back.
            StorageError: the folder cannot be written.
        """
        finished = FinishedSet(
            id=self.id,
            brief=self._brief,
            recipe=self._recipe,
            folder=None if self._folder is None else self._folder.path,
            items=tuple(self.items),
            seconds=seconds,
            left_out=tuple(left_out),
        )
        if self._folder is None:
            return finished
        if finished.items:
            sealed = seal(
                self._parts.library, self._parts.sealer, self._page(finished), self._options
            )
            finished = replace(finished, page=self._folder.write(page.NAME, sealed))
        self._folder.finish(finished.to_json())
        return finished

    def _page(self, finished: FinishedSet) -> Asset:
        """The page that shows the set, kept in the library."""
        return self._parts.library.keep(
            page.page(finished),
            kind=page.KIND,
            media_type="text/html",
            suffix="html",
            text=page.title_of(finished.brief),
            recipe={"set": self._origin},
            parents=[item.asset.id for item in finished.items],
            set_id=self.id,
            step=page.KIND,
        )

    def _make(self, planned: PlannedStep) -> None:
        step, watcher = planned.step, self._watcher
        if planned.model not in self._parts.loader:
            watcher.opening(planned.model)
        card, engine = self._parts.loader.open(planned.model)
        started = time.perf_counter()
        chosen = self._choose(planned, engine)
        seconds = (time.perf_counter() - started) / max(len(chosen), 1)
        for index, best in enumerate(chosen):
            asset = self._keep(planned, card, engine, best, index, seconds)
            item = Item(
                asset=asset,
                file=self._release(asset, len(chosen)),
                seconds=seconds,
                failures=best.failures,
                draws=best.draws,
            )
            self.items.append(item)
            watcher.kept(item)
        watcher.done(step.name)
        self._results[step.name] = Result(
            texts=tuple(planned.craft.text(best.sample) for best in chosen),
            data=chosen[0].sample.data if chosen else None,
        )

    def _choose(self, planned: PlannedStep, engine: Engine) -> list[Chosen]:
        step, brief, results = planned.step, self._brief, self._results
        small = engine.parameters < SMALL_MODEL
        if small:
            _require(planned, brief)
        seed = 0 if brief.seed is None else brief.seed
        asked = prompts(planned, brief, results, seed, small=small)
        self._watcher.step(step.name, step.kind, len(asked))
        scene = Scene(
            brief=brief,
            language=language_of(brief),
            earlier=[text for need in step.needs for text in results[need].texts],
        )
        return generate(
            engine,
            planned,
            asked,
            scene,
            seed,
            on_piece=self._watcher.piece,
            on_round=self._watcher.round,
            faults=self._parts.guard.faults,
        )

    def _keep(
        self,
        planned: PlannedStep,
        card: Card,
        engine: Engine,
        best: Chosen,
        index: int,
        seconds: float,
    ) -> Asset:
        step, craft = planned.step, planned.craft
        decision = self._parts.guard.made(craft.text(best.sample), best.sample.content)
        return keep(
            self._parts.library,
            best.sample,
            craft,
            card,
            engine,
            notes={**best.notes(seconds), **self._found, **decision},
            origin=self._origin,
            parents=[item.asset.id for item in self.items if item.asset.step in step.needs],
            set_id=self.id,
            step=step.name,
            index=index,
        )

    def _release(self, asset: Asset, of: int) -> Path | None:
        """Write an asset's sealed file into the set's folder, if there is one."""
        if self._folder is None:
            return None
        sealed = seal(self._parts.library, self._parts.sealer, asset, self._options)
        return self._folder.add(asset, sealed, of)


def _require(planned: PlannedStep, brief: Brief) -> None:
    """See that the brief has what a small model cannot do without, before it begins."""
    for field in planned.step.small_requires:
        if not getattr(brief, field):
            raise InputError(
                f"brief: {field} is empty, and {planned.model} is too small to know by itself;"
                f" give {field}, or name a larger model"
            )
