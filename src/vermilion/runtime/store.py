"""Where models live: a folder each, with a card. Nothing is fetched unless `pull` is called.

home/models/NAME/card.json      what it is; beside it its files, unless they are used in place
home/models/.incoming/NAME/     an unfinished pull, to be taken up again
home/models/.locks/NAME.lock    one pull or removal of a model at a time
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vermilion.disk import exclusive, human_size, storage
from vermilion.errors import InputError, ModelError, NotFoundError, UnsafeModelError
from vermilion.runtime import folders
from vermilion.runtime.cards import (
    CARD_FILE,
    TRAINED_HERE,
    UNKNOWN_LICENCE,
    Card,
    Listing,
    catalog,
    check_name,
    is_name,
    read_card,
    write_card,
)
from vermilion.runtime.integrity import check, rehash, remedy, stamp
from vermilion.runtime.sources import (
    Fetched,
    Plan,
    Progress,
    ad_hoc,
    facts_of,
    is_path,
    quiet,
    scheme_of,
    source_of,
    with_family,
)
from vermilion.runtime.weights import check_file


class Store:
    """The models of one home folder.

    Args:
        models_dir: where they live; made when the first one is pulled.
    """

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir

    def list(self) -> tuple[Listing, ...]:
        """Every model that is here or known by name, sorted by name."""
        return tuple(self.show(name) for name in sorted(self._pulled() | set(catalog())))

    def show(self, name: str) -> Listing:
        """What is known of one model.

        Raises:
            NotFoundError: it is neither here nor in the catalog.
        """
        try:
            card, path = self._locate(name)
        except (ModelError, UnsafeModelError) as error:
            return Listing(name=name, state="broken", card=self._readable(name), problem=str(error))
        except NotFoundError:
            if name not in catalog():
                raise
            return Listing(name=name, state="available", card=catalog()[name])
        return Listing(name=name, state="ready", card=card, path=path)

    def locate(self, name_or_path: str) -> tuple[Card, Path]:
        """A model that is here, and what its engine opens. Nothing is ever fetched.

        A path gets a card for the occasion, for which its files are hashed each time; pulling
        the path once keeps the hashes.

        Args:
            name_or_path: a model's name, or the path of a folder or of one file that is all of it.

        Returns:
            Its card, and the one file that is all of it, or else its folder; see `Card.entry`.

        Raises:
            NotFoundError: it is not here; the message has the command that pulls it.
            ModelError: its files are broken, truncated, or not those that were pulled.
            UnsafeModelError: it is a pickle.
        """
        if not is_path(name_or_path):
            return self._locate(name_or_path)
        draft = ad_hoc(name_or_path)
        fetched = folders.fetch(draft, self.models_dir, quiet)
        card = replace(draft, files=fetched.files, folder=fetched.folder)
        card = with_family(card, fetched.folder)
        check(card, fetched.folder)
        return card, card.entry(fetched.folder)

    def plan(self, name_or_source: str, name: str | None = None) -> Plan:
        """What `pull` would fetch and how large that is, without what the model needs.

        A hub is asked; nothing is fetched.
        """
        draft = self._draft(name_or_source, name)
        here = self._intact(draft)
        if here is None:
            return source_of(draft).plan(draft)
        return Plan(
            name=here.name,
            source=here.source,
            download_bytes=0,
            disk_bytes=here.size,
            note="already here",
        )

    def needs(self, name_or_source: str) -> tuple[str, ...]:
        """Names of the other models that `pull` brings here with it."""
        return self._draft(name_or_source, None).needs

    def pull(
        self, name_or_source: str, name: str | None = None, progress: Progress = quiet
    ) -> Card:
        """Bring a model here, and what it needs, unless it is here already.

        It is safe to break off and to call again.

        Args:
            name_or_source: a name from `list`, a source (see `sources`), or a path.
            name: how to call it; by default the catalog's name or one read off the source.
            progress: told how far it is, perhaps from another thread.

        Raises:
            NotFoundError: there is no such name or source.
            InputError: the name or source is malformed, or the name is taken.
            FetchError: the download failed or a hash is wrong.
            UnsafeModelError: it is a pickle.
            ModelError: its files are broken or make no model.
            StorageError: the disk is full or read-only.
        """
        draft = self._draft(name_or_source, name)
        for need in draft.needs:
            self.pull(need, progress=progress)
        with self._alone(draft.name, progress):
            here = self._intact(draft)
            if here is not None:
                return here
            incoming = self._incoming(draft.name)
            incoming.mkdir(parents=True, exist_ok=True)
            try:
                fetched = source_of(draft).fetch(draft, incoming, progress)
                return self._publish(draft, fetched, incoming)
            except (ModelError, UnsafeModelError):
                shutil.rmtree(incoming, ignore_errors=True)
                raise

    def note(self, name: str, **options: Any) -> Card:
        """Write what was found out about a model into its card's options.

        Raises:
            InputError: it has no card of its own here.
            StorageError: the disk is full or read-only.
        """
        folder = self._folder(name)
        with self._alone(name, quiet):
            card = self._read(name)
            if card is None:
                raise InputError(
                    f"model: {name!r} has no card in the store; vermilion models pull {name}"
                )
            card = replace(card, options={**card.options, **options})
            write_card(folder, card)
        return card

    def check_free(self, name: str) -> None:
        """See that a model that is trained here may have a name: nobody's, or one's own.

        Raises:
            InputError: it is the name of a model from elsewhere.
        """
        there = self._readable(name)
        if there is not None and there.source != TRAINED_HERE:
            raise InputError(
                f"name: {name!r} is the model from {there.source}; choose another with --name"
            )

    def publish(self, folder: Path, card: Card, progress: Progress = quiet) -> Card:
        """Put a model that was trained here into the store, in one step; an older one goes.

        Args:
            folder: its files, subfolders included; they are copied.
            card: what is known of it; its files and their hashes are filled in.
            progress: told how far it is.

        Raises:
            InputError: its name belongs to a model from elsewhere.
            UnsafeModelError: a file is a pickle.
            ModelError: a file is broken.
            StorageError: the disk is full or read-only.
        """
        self.check_free(card.name)
        with self._alone(card.name, progress):
            incoming = self._incoming(card.name)
            staged = incoming / "model"
            shutil.rmtree(staged, ignore_errors=True)
            shutil.copytree(folder, staged)
            names = [p.relative_to(staged).as_posix() for p in staged.rglob("*") if p.is_file()]
            files = facts_of(card.name, staged, sorted(names), progress)
            fetched = Fetched(folder=staged, files=files, in_place=False)
            return self._publish(replace(card, source=TRAINED_HERE), fetched, incoming)

    def verify(self, name: str, progress: Progress = quiet) -> Card:
        """Hash a model's files again.

        Raises:
            NotFoundError: it is not here.
            ModelError: a file is not what was pulled.
        """
        card, _ = self._found(name)
        rehash(card, self._home(card), progress)
        return card

    def remove(self, name: str) -> None:
        """Remove a model's folder, and what an unfinished pull left. Files used in place stay.

        Raises:
            NotFoundError: it is not here.
            InputError: it belongs to an installed package.
        """
        folder, incoming = self._folder(name), self._incoming(name)
        with self._alone(name, quiet):
            if not (folder / CARD_FILE).exists() and not incoming.exists():
                if self._installed(name) is not None:
                    raise InputError(f"{name} belongs to an installed package; uninstall that")
                raise self._not_here(name)
            if (folder / CARD_FILE).exists():
                incoming.mkdir(parents=True, exist_ok=True)
                # Renamed first: a break leaves the whole model or an unfinished pull.
                shutil.rmtree(incoming / "old", ignore_errors=True)
                folder.rename(incoming / "old")
            shutil.rmtree(incoming)

    def _locate(self, name: str) -> tuple[Card, Path]:
        """A model that is here with all that it needs."""
        card, path = self._found(name)
        for need in card.needs:
            try:
                self._found(need)
            except NotFoundError as error:
                raise NotFoundError(f"model {name!r} needs another one: {error}") from None
        return card, path

    def _found(self, name: str) -> tuple[Card, Path]:
        card = None if scheme_of(name) else self._read(name) or self._installed(name)
        if card is None:
            raise self._not_here(name)
        home = self._home(card)
        with storage(home):
            check(card, home)
        return card, card.entry(home)

    def _folder(self, name: str) -> Path:
        return self.models_dir / check_name(name)

    def _incoming(self, name: str) -> Path:
        return self.models_dir / ".incoming" / check_name(name)

    def _home(self, card: Card) -> Path:
        return self._folder(card.name) if card.folder is None else card.folder

    def _pulled(self) -> set[str]:
        names = (path.parent.name for path in self.models_dir.glob(f"*/{CARD_FILE}"))
        return {name for name in names if is_name(name)}

    @contextmanager
    def _alone(self, name: str, progress: Progress) -> Iterator[None]:
        lock = self.models_dir / ".locks" / f"{check_name(name)}.lock"

        def wait() -> None:
            progress(f"{name}: waiting for another process that pulls it", 0, None)

        with storage(self.models_dir), exclusive(lock, wait):
            yield

    def _read(self, name: str) -> Card | None:
        """A pulled model's card; its folder may have been renamed."""
        folder = self._folder(name)
        with storage(folder):
            if not (folder / CARD_FILE).exists():
                return None
            card = replace(read_card(folder), name=name)
        known = catalog().get(name)
        if known is None or known.source != card.source:
            return card
        return replace(card, options={**known.options, **card.options})  # what was learnt since

    def _readable(self, name: str) -> Card | None:
        """A pulled model's card, or the catalog's where it cannot be read."""
        try:
            return self._read(name) or catalog().get(name)
        except ModelError:
            return catalog().get(name)

    def _installed(self, name: str) -> Card | None:
        """A model of the catalog that an installed package carries; it needs no pull."""
        card = catalog().get(name)
        found = None if card is None else source_of(card).find(card)
        if card is None or found is None:
            return None
        return replace(card, files=found.files, folder=found.folder)

    def _intact(self, draft: Card) -> Card | None:
        """The model if it is here and whole.

        Raises:
            InputError: its name belongs to a model from elsewhere.
        """
        here = self._readable(draft.name)
        if here is not None and here.source != draft.source:
            raise InputError(
                f"name: {draft.name!r} is the model from {here.source}; choose another with --name"
            )
        if draft.name not in self._pulled():
            return None
        try:
            return self._found(draft.name)[0]
        except (ModelError, UnsafeModelError):
            return None

    def _draft(self, name_or_source: str, name: str | None) -> Card:
        """What is known before the files are here; its files, if it names any, are pinned."""
        if is_path(name_or_source) or scheme_of(name_or_source):
            draft = ad_hoc(name_or_source)
            if Path(draft.source).is_relative_to(self.models_dir.resolve()):
                raise InputError(f"source: {draft.source} is in the store already; name another")
        else:
            known = self._readable(name_or_source)
            if known is None:
                raise self._not_here(name_or_source)
            # A folder may have changed on purpose: pulling takes it as it is now.
            files = known.files if scheme_of(known.source) else {}
            draft = replace(known, folder=None, stamps={}, files=files)
        draft = draft if name is None else replace(draft, name=check_name(name))
        named = catalog().get(draft.name)
        if named is not None and named.source == draft.source and not draft.files:
            return named
        return draft

    def _publish(self, draft: Card, fetched: Fetched, incoming: Path) -> Card:
        """Check what was fetched and put it, with its card, in one step where models live."""
        for file in fetched.files:
            check_file(fetched.folder / file, remedy(draft))
        stamps = {file: stamp(fetched.folder / file) for file in fetched.files}
        stated = fetched.licence if draft.licence == UNKNOWN_LICENCE else ""
        card = replace(
            draft,
            files=fetched.files,
            folder=fetched.folder if fetched.in_place else None,
            stamps=stamps if fetched.in_place else {},
            revision=fetched.revision,
            licence=stated or draft.licence,
            languages=draft.languages or fetched.languages,
            url=draft.url or fetched.url,
        )
        card = with_family(card, fetched.folder)
        staged = fetched.folder
        if fetched.in_place:
            staged = incoming / "model"
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir()
        write_card(staged, card)
        target = self._folder(card.name)
        if target.exists():
            shutil.rmtree(incoming / "old", ignore_errors=True)
            target.rename(incoming / "old")
        staged.rename(target)
        shutil.rmtree(incoming)
        return card

    def _not_here(self, name: str) -> NotFoundError:
        """Why a model cannot be located, and what to do."""
        if scheme_of(name):
            return NotFoundError(f"{name} is a source, not a model: vermilion models pull {name}")
        card = catalog().get(name)
        if card is not None:
            about = "about " if not card.files else ""
            size = about + human_size(card.download_size)
            return NotFoundError(
                f"model {name!r} is not here yet: vermilion models pull {name} ({size})"
            )
        known = sorted(self._pulled() | set(catalog()))
        near = ", ".join(get_close_matches(name, known, cutoff=0.5))
        there = f"there is: {near}" if near else "vermilion models list names those that there are"
        return NotFoundError(f"there is no model {name!r}; {there}")
