"""The line: brief → prompts → samples → assets. This is the file to read first.

    brief ─plan→ prompts ─generate→ samples ─keep→ assets

`Line` holds what the work needs: settings, the store of models, the library. The functions
below it work on one that is opened when it is first needed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vermilion import hooks
from vermilion.errors import InputError
from vermilion.library import Library
from vermilion.line import recipe as recipes
from vermilion.line.brief import language_of, read_brief
from vermilion.line.crafts import Craft
from vermilion.line.generate import Chosen, generate
from vermilion.line.keep import as_format, keep, write_file
from vermilion.line.output import OutputFolder
from vermilion.line.plan import PlannedStep, Result, derive_seed, plan, prompts
from vermilion.runtime.cards import Card
from vermilion.runtime.engines import Engine, OnPiece
from vermilion.runtime.loader import Loader
from vermilion.runtime.store import Store
from vermilion.settings import Settings, get_settings
from vermilion.types import Asset, Brief, Prompt, Recipe

CHINESE_MODEL = "qwen2.5-0.5b"
SOUND_SUFFIXES = ("wav", "flac", "mp3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing of a finished set.

    Attributes:
        asset: as it is kept in the library.
        file: its copy in the set's folder; None without one.
        seconds: of work, its share of the step's.
        failures: checks that it fails after all tries, in words; empty: it passes all.
        draws: samples that were made until it was chosen.
    """

    asset: Asset
    file: Path | None
    seconds: float
    failures: tuple[str, ...]
    draws: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSet:
    """What `Line.make` made.

    Attributes:
        id: the `set_id` of its assets.
        brief: complete, with the seed that was used.
        recipe: name of the recipe that was followed.
        folder: where copies of the files lie; None when none was asked for.
        items: in the recipe's order.
        seconds: of the whole work, opening the models included.
    """

    id: str
    brief: Brief
    recipe: str
    folder: Path | None
    items: tuple[Item, ...]
    seconds: float

    def __getitem__(self, step: str) -> list[Item]:
        """The items of one of the recipe's steps."""
        return [item for item in self.items if item.asset.step == step]


class Watcher:
    """Told what happens while a set is made. This one does nothing; override what you need."""

    def opening(self, model: str) -> None:
        """A model is being opened."""

    def step(self, name: str, kind: str, count: int) -> None:
        """A step begins that makes `count` things."""

    def round(self, attempt: int, draws: int) -> None:
        """`draws` samples are being drawn, for the first time (0) or again."""

    def piece(self, number: int, piece: Any) -> None:
        """A part of a sample came: some text, or a waveform."""

    def kept(self, item: Item) -> None:
        """An item is finished and kept."""


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
        self.loader = Loader(self.store, self.settings)
        self.library = Library.open(self.settings.library_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        overwrite: bool = False,
        models: Mapping[str, str] | None = None,
        watcher: Watcher | None = None,
        stdin: bytes | None = None,
    ) -> FinishedSet:
        """Make a finished set.

        Every item is kept in the library as soon as it is chosen; what is finished stays
        when the work is broken off.

        Args:
            brief: a sentence, the path of a .toml or .json file, a table of fields, or "-".
            recipe: name, path or Recipe; None: what the brief names or its words choose.
            seed: takes the place of the brief's; None and none in the brief: one is drawn.
            out: folder for copies of the files; None makes none.
            overwrite: whether `out` may hold an earlier set, which is replaced.
            models: by kind ("text", "speech"), models to use instead of the usual ones.
            watcher: is told how the work goes.
            stdin: what "-" reads.

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
        seed = _seed(wanted.seed if seed is None else seed)
        wanted = replace(wanted, seed=seed)
        followed = recipe if isinstance(recipe, Recipe) else recipes.choose(wanted)
        steps = plan(wanted, followed, self.settings, models or {})
        self._check_languages(steps, language_of(wanted))
        folder = None if out is None else OutputFolder(Path(out), overwrite=overwrite)
        set_id = secrets.token_hex(4)
        results: dict[str, Result] = {}
        items: list[Item] = []
        for planned in steps:
            made = self._make_step(
                planned, wanted, followed.name, results, items, set_id, seed, folder, watcher
            )
            results[planned.step.name] = made
        finished = FinishedSet(
            id=set_id,
            brief=wanted,
            recipe=followed.name,
            folder=None if folder is None else folder.path,
            items=tuple(items),
            seconds=time.perf_counter() - started,
        )
        if folder is not None:
            folder.finish(finished_json(finished))
        return finished

    def _make_step(
        self,
        planned: PlannedStep,
        brief: Brief,
        recipe: str,
        results: Mapping[str, Result],
        items: list[Item],
        set_id: str,
        seed: int,
        folder: OutputFolder | None,
        watcher: Watcher,
    ) -> Result:
        """Make and keep what one step asks for; adds to `items`."""
        step = planned.step
        asked = prompts(planned, brief, results, seed)
        if planned.model not in self.loader:
            watcher.opening(planned.model)
        card, engine = self.loader.open(planned.model)
        watcher.step(step.name, step.kind, len(asked))
        started = time.perf_counter()
        chosen = generate(
            engine,
            planned,
            asked,
            brief,
            language_of(brief),
            seed,
            on_piece=watcher.piece,
            on_round=watcher.round,
        )
        seconds = (time.perf_counter() - started) / max(len(chosen), 1)
        parents = [item.asset.id for item in items if item.asset.step in step.needs]
        origin = {"recipe": recipe, "brief": asdict(brief)}
        for index, best in enumerate(chosen):
            asset = keep(
                self.library,
                best.sample,
                planned.craft,
                card,
                engine,
                notes=_notes(best, seconds),
                origin=origin,
                parents=parents,
                set_id=set_id,
                step=step.name,
                index=index,
            )
            file = None
            if folder is not None:
                file = folder.add(asset, self.library.read(asset), len(chosen))
            item = Item(
                asset=asset,
                file=file,
                seconds=seconds,
                failures=best.failures,
                draws=best.draws,
            )
            items.append(item)
            watcher.kept(item)
        return Result(
            texts=tuple(planned.craft.text(best.sample) for best in chosen),
            data=chosen[0].sample.data if chosen else None,
        )

    def _check_languages(self, steps: Sequence[PlannedStep], language: str) -> None:
        """See that every model is here and knows the brief's language, before any work."""
        for planned in steps:
            card, _ = self.store.locate(planned.model)
            if card.languages and language not in card.languages:
                raise InputError(_wrong_language(card, planned.step.kind, language))

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

        Args:
            prompt: what to write.
            n: how many; each has a seed of its own, 1 to 200.
            model: name of the model; None: the usual one.
            seed: None draws one.
            on_piece: called with the text's number and each new part of it.
            settings: fields of `TextSettings`.

        Raises:
            InputError: a setting cannot be used, or the prompt is empty or too long.
            NotFoundError: the model does not exist or is not pulled.
        """
        return self._one_kind("text", prompt, n, model, seed, on_piece, settings)

    def speak(
        self,
        text: str,
        *,
        out: str | Path | None = None,
        model: str | None = None,
        seed: int | None = None,
        on_piece: OnPiece | None = None,
        **settings: Any,
    ) -> Asset:
        """Speak a text and keep the recording.

        Args:
            text: what to say.
            out: file to write besides, ending in .wav, .flac or .mp3.
            model: name of the voice's model; None: the one of `voice`, or the usual one.
            seed: None draws one.
            on_piece: called with 0 and the waveform of each sentence, as soon as it is spoken
                and before its loudness is evened.
            settings: fields of `SpeechSettings`: voice, speed, loudness.

        Raises:
            InputError: a setting cannot be used, or there is nothing to say.
            NotFoundError: the voice does not exist or is not pulled.
            StorageError: `out` cannot be written.
        """
        target = None if out is None else Path(out)
        if target is not None:
            _check_sound_file(target)
        (asset,) = self._one_kind("speech", text, 1, model, seed, on_piece, settings)
        if target is not None:
            suffix = target.suffix.removeprefix(".").lower()
            write_file(target, as_format(self.library.read(asset), asset, suffix)[0])
        return asset

    def _one_kind(
        self,
        kind: str,
        text: str,
        n: int,
        model: str | None,
        seed: int | None,
        on_piece: OnPiece | None,
        settings: Mapping[str, Any],
    ) -> list[Asset]:
        if not text.strip():
            raise InputError("prompt: it is empty; write what should be made")
        if not 1 <= n <= 200:
            raise InputError(f"n: must be 1 to 200 (found {n})")
        craft: Craft = hooks.resolve(hooks.CRAFTS, kind)()
        values = craft.settings(settings, "settings")
        name = model or craft.model(values, self.settings)
        first = _seed(seed)
        card, engine = self.loader.open(name)
        _check_prompt_language(card, kind, text)
        asked = [
            Prompt(
                kind=kind, text=text, model=name, seed=_numbered(first, number), settings=values
            )
            for number in range(n)
        ]
        kept: dict[int, Asset] = {}
        for number, sample in engine.generate(asked, on_piece):
            finished = craft.finish(sample)
            kept[number] = keep(self.library, finished, craft, card, engine, index=number)
        return [kept[number] for number in range(n)]

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
        old = self.library.get(ref)
        if "prompt" not in old.recipe:
            raise InputError(f"{old.id}: it has no recipe; it was not made here")
        prompt = Prompt(**old.recipe["prompt"])
        craft: Craft = hooks.resolve(hooks.CRAFTS, prompt.kind)()
        card, engine = self.loader.open(prompt.model)
        ((_, sample),) = engine.generate([prompt])
        finished = craft.finish(sample)
        if old.sha256 == sha256(craft.encode(finished).content).hexdigest():
            return old, True
        parents = [old.id]
        return keep(self.library, finished, craft, card, engine, parents=parents), False

    def load(self, name: str) -> Engine:
        """Open a model, to use it directly: `engine.generate([Prompt(...)])`.

        Raises:
            NotFoundError: it does not exist or is not pulled.
            ModelError: it is broken or too large.
        """
        return self.loader.open(name)[1]


def _seed(seed: int | None) -> int:
    """The seed that is given, or a fresh one: small enough to be typed again."""
    if seed is None:
        return secrets.randbelow(2**32)
    if not 0 <= seed < 2**63:
        raise InputError(f"seed: must be between 0 and 2**63 - 1 (found {seed})")
    return seed


def _numbered(seed: int, number: int) -> int:
    """The first of several has the seed itself, so that it comes out alone as well."""
    return seed if number == 0 else derive_seed(seed, "", number, 0)


def _notes(chosen: Chosen, seconds: float) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 3),
        "draws": chosen.draws,
        "failures": list(chosen.failures),
    }


def _check_sound_file(path: Path) -> None:
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in SOUND_SUFFIXES:
        known = ", ".join(f".{name}" for name in SOUND_SUFFIXES)
        raise InputError(f"out: {path} should end in one of {known}")


def _check_prompt_language(card: Card, kind: str, text: str) -> None:
    language = language_of(Brief(subject=text))
    if language == "zh" and card.languages and language not in card.languages:
        raise InputError(_wrong_language(card, kind, language))


def _wrong_language(card: Card, kind: str, language: str) -> str:
    names = {"en": "English", "zh": "Chinese"}
    wanted = names.get(language, language)
    known = " and ".join(names.get(code, code) for code in card.languages)
    if kind == "speech":
        return (
            f"language: {card.name} speaks {known}, not {wanted}; leave its step out in the"
            " brief's counts or name a voice that does"
        )
    remedy = "name a model that does"
    if language == "zh":
        remedy = f"pull one that does: vermilion models pull {CHINESE_MODEL}, then --model"
        remedy += f" {CHINESE_MODEL}"
    return f"language: {card.name} writes {known}, not {wanted}; {remedy}"


def finished_json(finished: FinishedSet) -> dict[str, Any]:
    """A finished set as JSON values, for machines and for `set.json`."""
    return {
        "id": finished.id,
        "recipe": finished.recipe,
        "brief": asdict(finished.brief),
        "folder": None if finished.folder is None else str(finished.folder),
        "seconds": round(finished.seconds, 3),
        "items": [
            {
                "id": item.asset.id,
                "step": item.asset.step,
                "index": item.asset.index,
                "kind": item.asset.kind,
                "file": None if item.file is None else item.file.name,
                "path": str(item.asset.path),
                "text": item.asset.text,
                "seconds": round(item.seconds, 3),
                "draws": item.draws,
                "failures": list(item.failures),
            }
            for item in finished.items
        ],
    }


@cache
def default_line() -> Line:
    """The line that the functions below work on."""
    return Line()


def make(brief: str | Path | Brief | Mapping[str, Any], **options: Any) -> FinishedSet:
    """Make a finished set of texts and sounds from a brief; see `Line.make`."""
    return default_line().make(brief, **options)


def write(prompt: str, n: int = 1, **options: Any) -> list[Asset]:
    """Write `n` texts; see `Line.write`."""
    return default_line().write(prompt, n=n, **options)


def speak(text: str, out: str | Path | None = None, **options: Any) -> Asset:
    """Speak a text; see `Line.speak`."""
    return default_line().speak(text, out=out, **options)


def remake(ref: str) -> tuple[Asset, bool]:
    """Make an asset again; see `Line.remake`."""
    return default_line().remake(ref)


def load(name: str) -> Engine:
    """Open a model; see `Line.load`."""
    return default_line().load(name)
