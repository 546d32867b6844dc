"""The line: brief → prompts → samples → assets. This is the file to read first.

    brief ─plan→ prompts ─generate→ samples ─keep→ assets ─seal→ files

`Line` holds what the work needs: settings, the store of models, the library, the seal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vermilion.library import Library
from vermilion.line import recipe as recipes
from vermilion.line.brief import language_of, read_brief
from vermilion.line.finished import FinishedSet, Watcher
from vermilion.line.guard import Guard
from vermilion.line.keep import slug
from vermilion.line.known import LibraryPrints
from vermilion.line.output import OutputFolder, free_folder
from vermilion.line.paint import Order
from vermilion.line.paint import paint as paint_pictures
from vermilion.line.painted import Target
from vermilion.line.plan import plan, possible
from vermilion.line.release import seal, write_sealed
from vermilion.line.single import (
    check_order,
    check_sound_file,
    choose_seed,
    embed_texts,
    make_one_kind,
)
from vermilion.line.single import remake as remake_asset
from vermilion.line.spoken import speaker
from vermilion.line.work import SetWork
from vermilion.runtime.engines import Engine, OnPiece, OnStep
from vermilion.runtime.loader import Loader
from vermilion.runtime.store import Store
from vermilion.seal.order import SealOptions
from vermilion.seal.seal import Sealer
from vermilion.seal.watermark.text import GreenList
from vermilion.settings import Settings, get_settings
from vermilion.types import Asset, Brief, Recipe


class Line:
    """Settings, models and library, ready for work. Close it, or use it in a `with`.

    Args:
        settings: None takes them from the environment.

    Raises:
        StorageError: the home folder cannot be used.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = get_settings() if settings is None else settings
        self.store = Store(self.settings.models_dir)
        self.guard = Guard(self.settings)
        self.library = Library.open(self.settings.library_dir)
        self.loader = Loader(
            self.store, self.settings, lambda size: GreenList(self.sealer.key, size).green
        )
        self.sealer = Sealer(
            self.settings.seal_dir,
            self.settings.producer,
            known=LibraryPrints(self.settings, self.library),
            voice=speaker(self.loader),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the library."""
        self.library.close()

    def make(
        self,
        brief: str | Path | Brief | Mapping[str, Any],
        *,
        recipe: str | Recipe | None = None,
        seed: int | None = None,
        out: str | Path | None = None,
        out_parent: Path | None = None,
        overwrite: bool = False,
        models: Mapping[str, str] | None = None,
        watcher: Watcher | None = None,
        stdin: bytes | None = None,
        options: SealOptions | None = None,
    ) -> FinishedSet:
        """Make a finished set.

        Every item is kept in the library as soon as it is chosen; what is finished stays
        when the work is broken off.

        Args:
            brief: a sentence, the path of a .toml or .json file, a table of fields, or "-".
            recipe: name, path or Recipe; None: what the brief names or its words choose.
            seed: takes the place of the brief's; None and none in the brief: one is drawn.
            out: folder for copies of the files; None makes none, but for `out_parent`.
            out_parent: folder in which a new one is made, named by the brief's subject.
            overwrite: whether `out` may hold an earlier set, which is replaced.
            models: by kind ("text", "picture"), models to use instead of the usual ones.
            watcher: is told how the work goes.
            stdin: what "-" reads.
            options: how the files are sealed; None: with a mark, private.

        Raises:
            InputError: the brief, the recipe or a setting cannot be used; nothing was done.
            NotFoundError: a model, recipe or file does not exist; nothing was done.
            ModelError: a model is broken or too large.
            StorageError: the disk is full or read-only.
        """
        started = time.perf_counter()
        watcher = Watcher() if watcher is None else watcher
        wanted = read_brief(brief, stdin)
        if isinstance(recipe, str):
            wanted = replace(wanted, recipe=recipe)
        found = self.guard.brief(wanted)
        seed = choose_seed(wanted.seed if seed is None else seed)
        wanted = replace(wanted, seed=seed)
        followed = recipe if isinstance(recipe, Recipe) else recipes.choose(wanted)
        steps = plan(wanted, followed, self.settings, models or {})
        steps, left_out = possible(steps, self.store, language_of(wanted))
        if out is None and out_parent is not None:
            out = free_folder(out_parent, slug(wanted.subject.partition(",")[0]))
        folder = None if out is None else OutputFolder(Path(out), overwrite=overwrite)
        watcher.planned([planned.step.name for planned in steps])
        work = SetWork(self, wanted, followed.name, found, folder, options, watcher)
        for planned in steps:
            left_out += work.make(planned)
        return work.finish(left_out, time.perf_counter() - started)

    def write(
        self,
        prompt: str,
        *,
        n: int = 1,
        model: str | None = None,
        seed: int | None = None,
        on_piece: OnPiece | None = None,
        **settings: Any,
    ) -> list[Asset]:
        """Write texts and keep them.

        Where a recipe answers such a request ("Three taglines for a bookshop"), it is
        followed, with its drafts and checks; with a setting of one's own the model is asked
        as it is.

        A model without a chat template goes on with the prompt, which then stands before what
        it writes; `echo=False` leaves it out.

        Args:
            prompt: what to write.
            n: how many; each has a seed of its own, 1 to 200. With a recipe, at least as
                many as the request says.
            model: name of the model; None: the usual one.
            seed: None draws one.
            on_piece: called with the text's number and each new part of it.
            settings: fields of `TextSettings`.

        Raises:
            InputError: a setting cannot be used, or the prompt is empty or too long.
            NotFoundError: the model does not exist or is not pulled.
        """
        check_order(prompt, n)
        answer = recipes.order(prompt, n, model, settings)
        if answer is not None:
            followed, brief = answer
            models = {"text": model} if model else None
            finished = self.make(brief, recipe=followed, seed=seed, models=models)
            return [item.asset for item in finished.items]
        return make_one_kind(
            self.library,
            self.loader,
            self.guard,
            "text",
            prompt,
            n=n,
            model=model,
            seed=seed,
            on_piece=on_piece,
            settings={"echo": True, **settings},
        )

    def speak(
        self,
        text: str,
        *,
        out: str | Path | None = None,
        model: str | None = None,
        seed: int | None = None,
        on_piece: OnPiece | None = None,
        options: SealOptions | None = None,
        **settings: Any,
    ) -> Asset:
        """Speak a text and keep the recording.

        Args:
            text: what to say.
            out: file to write besides, sealed, ending in .wav, .flac, .mp3, .ogg or .m4a.
            model: name of the voice's model; None: the one of `voice`, or the usual one.
            seed: None draws one.
            on_piece: called with 0 and the waveform of each sentence, as soon as it is spoken
                and before its loudness is evened.
            options: how `out` is sealed; None: with an audible mark, private.
            settings: fields of `SpeechSettings`: voice, speed, loudness.

        Raises:
            InputError: a setting cannot be used, or there is nothing to say.
            NotFoundError: the voice does not exist or is not pulled.
            StorageError: `out` cannot be written.
        """
        target = None if out is None else Path(out)
        suffix = None if target is None else check_sound_file(target)
        (asset,) = make_one_kind(
            self.library,
            self.loader,
            self.guard,
            "speech",
            text,
            model=model,
            seed=seed,
            on_piece=on_piece,
            settings=settings,
        )
        if target is not None:
            write_sealed(target, seal(self.library, self.sealer, asset, options, suffix))
        return asset

    def paint(
        self,
        prompt: str = "",
        *,
        n: int = 1,
        best: int | None = None,
        model: str | None = None,
        seed: int | None = None,
        negative_text: str = "",
        image: str | Path = "",
        mask: str | Path = "",
        vary: str = "",
        blend: tuple[str, str] | None = None,
        amount: float | None = None,
        out: str | Path | None = None,
        on_piece: OnPiece | None = None,
        on_step: OnStep | None = None,
        options: SealOptions | None = None,
        **settings: Any,
    ) -> list[Asset]:
        """Paint pictures and keep them; see `line.paint.Order` for what can be asked for.

        Args:
            prompt: what to paint; may be empty with `vary` and `blend`.
            n: how many; each has a seed of its own, 1 to 200.
            best: how many of them to keep, where something can rank them.
            model: name of the model; None: the usual one.
            seed: None draws one.
            negative_text: what to stay away from.
            image: a file or an asset's id to start from.
            mask: a file or an asset's id whose light parts are painted anew.
            vary: id of an asset to change a little.
            blend: ids of two assets to lead over into one another.
            amount: 0 to 1, of `vary` and `blend`.
            out: a file with an ending of pictures, for a single one, or a folder; sealed.
            on_piece: called with a picture's number and its previews.
            on_step: called with a picture's number, steps that are done, and all of them.
            options: how `out` is sealed; None: with a visible mark, private.
            settings: fields of `PictureSettings`.

        Returns:
            The pictures; with `svg=True` each is followed by its drawing.

        Raises:
            InputError, NotFoundError, RefusedError: as `line.paint.paint`.
            StorageError: `out` cannot be written.
        """
        target = None if out is None else Target.of(Path(out), n)
        if target is not None and target.suffix == "svg":
            settings["svg"] = True
        order = Order(
            text=prompt,
            negative_text=negative_text,
            n=n,
            best=best,
            model=model,
            seed=seed,
            image=str(image),
            mask=str(mask),
            vary=vary,
            blend=blend,
            amount=amount,
            settings=settings,
        )
        made = paint_pictures(self, order, on_piece, on_step)
        if target is not None:
            target.write(self.library, self.sealer, made, options)
        return made

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> NDArray[np.float32]:
        """Turn texts into vectors, (N, C) float32; what means the same lies close together.

        Args:
            texts: N of them; of a long one the beginning is looked at.
            model: name of an encoder; None: the usual one, with C = 384, unit vectors.

        Raises:
            InputError: `texts` is no list of strings, or the model is no encoder.
            NotFoundError: the model does not exist or is not pulled.
        """
        return embed_texts(self.loader, texts, model)

    def remake(self, ref: str) -> tuple[Asset, bool]:
        """Make an asset again from its recipe.

        Args:
            ref: its id, or a beginning of it.

        Returns:
            The asset, and whether the bytes came out the same. Where they did not (another
            machine, other versions, other weights), the new ones are kept as an asset of
            their own whose parent is the old one.

        Raises:
            NotFoundError: there is no such asset, or its model is not pulled.
            InputError: it was not made here, so it has no recipe.
        """
        return remake_asset(self.library, self.loader, ref)

    def load(self, name: str) -> Engine:
        """Open a model, to use it directly: `engine.generate([Prompt(...)])`.

        Raises:
            NotFoundError: it does not exist or is not pulled.
            ModelError: it is broken or too large.
        """
        return self.loader.open(name)[1]
