"""docs/seal.md: its commands run, its Python runs, and its tables say what the code does."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.seal import pictures_files
from tests.seal.test_seal import texture
from vermilion.errors import NotFoundError
from vermilion.runtime.store import Store
from vermilion.seal import certificates
from vermilion.seal.verify import EXIT_CODES
from vermilion.settings import Settings, get_settings

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "seal.md").read_text(encoding="utf-8")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder with all that the commands name, and a fresh home that has the default models."""
    store = Store(get_settings().models_dir)
    try:
        store.locate("smollm2-135m")
    except NotFoundError as error:
        pytest.skip(str(error))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").symlink_to(store.models_dir)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    texture(512, 384).save(tmp_path / "portrait.png")
    (tmp_path / "drawing.svg").write_bytes(pictures_files.drawing())
    chain, key = certificates.issue()
    (tmp_path / "chain.pem").write_text(chain)
    (tmp_path / "key.pem").write_text(key)
    return tmp_path


def run(command: str, house: Path) -> subprocess.CompletedProcess[str]:
    command = re.sub(r"^vermilion", f"{shlex.quote(sys.executable)} -m vermilion", command)
    environment = {**os.environ, "VERMILION_HOME": str(house / "home"), "COLUMNS": "200"}
    return subprocess.run(
        command, shell=True, cwd=house, env=environment, capture_output=True, text=True, timeout=240
    )


def commands() -> list[tuple[str, int]]:
    """The shell commands of the page, and the exit code that each of them says."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL):
        for line in filter(None, block.splitlines()):
            command, _, comment = line.partition("  #")
            code = re.search(r"exit code (\d+)", comment)
            found.append((command.strip(), int(code[1]) if code else 0))
    return found


def strip(house: Path) -> None:
    """A copy of the sealed picture as a network passes it on: smaller, encoded anew, stripped."""
    with Image.open(house / "portrait-sealed.png") as picture:
        picture.convert("RGB").resize((410, 307)).save(house / "copy.jpg", quality=80)


@pytest.mark.models
def test_the_commands_of_the_page_run(house: Path) -> None:
    wanted = commands()
    assert len(wanted) >= 14
    for command, code in wanted:
        if "copy.jpg" in command and not (house / "copy.jpg").exists():
            strip(house)
        if " ID " in command:
            kind = "speech" if "mp3" in command else "text"
            listed = run(f"vermilion library list --kind {kind} --limit 1 --quiet", house)
            command = command.replace(" ID ", f" {listed.stdout.strip()} ")
        done = run(command, house)
        assert done.returncode == code, command + "\n" + done.stdout + done.stderr
        if command == "vermilion seal audit copy.jpg":
            assert "the ledger is whole" in done.stdout
            assert "It was sealed here as" in done.stdout
    assert run("vermilion verify out/print --quiet", house).returncode == EXIT_CODES["mark"]


@pytest.mark.models
def test_the_python_of_the_page_runs(house: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    done = run(f"{shlex.quote(sys.executable)} -c {shlex.quote(block)}", house)
    assert done.returncode == 0, done.stderr
    path, summary, finding = done.stdout.splitlines()[-3:]
    assert path.endswith(".mp3")
    assert summary.startswith("Made by AI and sealed here as")
    assert summary.endswith(" 0")
    assert finding.startswith("nothing was changed since it was signed")
    assert (house / "out" / "drawing.svg").is_file()


def test_the_exit_codes_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", DOCS, re.MULTILINE)
    assert {what: int(code) for code, what in rows} == EXIT_CODES


def test_the_settings_are_those_of_the_code() -> None:
    known = {f"VERMILION_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"VERMILION_[A-Z_]+", DOCS))
    assert named <= known
    assert {"VERMILION_PRODUCER", "VERMILION_SAFETY", "VERMILION_MAX_FILE_BYTES"} <= named


def test_what_the_page_shows_is_there() -> None:
    shown = re.findall(r"\]\(([^)#:]+)\)", DOCS)
    assert shown
    for path in shown:
        assert (ROOT / "docs" / path).is_file(), path


def test_the_tampered_bytes_add_up() -> None:
    """Each kind of the survey: what was found and what was missed are all that were changed."""
    (block,) = re.findall(r"\| kind \| found \| missed .*?\n((?:\|.*\n)+)", DOCS)
    rows = re.findall(r"([a-z]\w+) \| (\d+) \| (\d+)", block)
    assert len(rows) == 21
    assert {int(found) + int(missed) for _, found, missed in rows} == {1000}
