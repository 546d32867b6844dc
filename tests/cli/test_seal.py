"""`verify`, `seal`, `library add` and `library export`, as a person and a script meet them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from tests.line.test_files import A1111, picture
from tests.seal import test_every_kind as every_kind
from vermilion.cli.app import app
from vermilion.seal.originality import Index


class Shell:
    """Runs commands in one folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "200")

    def __call__(self, *words: str, code: int = 0) -> str:
        """What a command prints on standard output."""
        self._monkeypatch.setattr(sys, "argv", ["vermilion", *words])
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, (done.output, done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        self.said = done.stderr
        return done.stdout

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def shell(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    folder = tmp_path / "work"
    folder.mkdir()
    return Shell(folder, monkeypatch)


def test_seal_and_verify(shell: Shell) -> None:
    picture(shell.folder / "fox.png")
    said = shell("seal", "fox.png")
    assert said.splitlines()[0] == "fox-sealed.png"
    assert "look: vermilion verify fox-sealed.png" in said
    said = shell("verify", "fox-sealed.png")
    assert "Made by AI and sealed here" in said
    assert "by chance less than once in 1e+12" in said
    assert shell("verify", "fox-sealed.png", "--quiet") == "0 fox-sealed.png\n"
    assert shell("verify", "fox.png", "-q", code=10) == "10 fox.png\n"
    assert shell("seal", "fox.png", "-q", "-o", "other.jpg") == "other.jpg\n"
    shell("seal", "fox.png", code=2)
    assert "--overwrite" in shell.said
    found = shell.json("seal", "fox.png", "--overwrite")
    assert found["files"] == ["fox-sealed.png"]


def test_one_bad_file_does_not_stop_the_others(shell: Shell) -> None:
    picture(shell.folder / "a.png")
    (shell.folder / "empty.png").touch()
    said = shell("verify", "a.png", "missing.png", "empty.png", code=2)
    assert "✗ file: there is no file missing.png" in said
    assert "✗ file: empty.png is empty" in said
    assert "3 files, 0 in order" in said
    rows = shell.json("verify", "a.png", "missing.png", code=2)
    assert [row["exit_code"] for row in rows] == [10, 2]
    assert rows[1]["kind"] == "NotFoundError"
    rows = shell.json("library", "add", "a.png", "missing.png", "a.png", code=2)
    assert [row.get("new") for row in rows] == [True, None, False]
    assert "no file missing.png" in rows[1]["error"]
    said = shell("library", "add", "a.png", "missing.png", code=2)
    assert "a.png, is here already" in said
    assert shell.said == "file: there is no file missing.png\n"


def test_a_folder_is_looked_through(shell: Shell) -> None:
    folder = shell.folder / "set"
    folder.mkdir()
    (folder / "a.txt").write_text("Tea.\n")
    (folder / "set.json").write_text("{}")
    (folder / "x.xyz").write_text("x")
    shell("seal", "set/a.txt", "-o", "set/b.txt")
    assert shell("verify", "set", "-q", code=10).splitlines() == ["10 set/a.txt", "0 set/b.txt"]
    shell("verify", "set/x.xyz", code=2)
    (shell.folder / "none").mkdir()
    error = shell.json("verify", "none", code=2)
    assert "no file in it that can be sealed" in error["error"]


def test_a_seal_without_a_mark_needs_a_reason(shell: Shell) -> None:
    picture(shell.folder / "a.png")
    error = shell.json("seal", "a.png", "--no-mark", code=2)
    assert error["error"].startswith("reason: ")
    shell("seal", "a.png", "--no-mark", "--reason", "print run")
    assert shell.json("seal", "audit")["audit"]["actions"] == {"opted-out": 1}


def test_audit(shell: Shell, home: Path) -> None:
    assert "0 entries (none)" in shell("seal", "audit")
    picture(shell.folder / "a.png")
    identity = shell.json("seal", "a.png")["id"]
    with Image.open(shell.folder / "a-sealed.png") as image:
        image.convert("RGB").save(shell.folder / "stripped.jpg", quality=80)
    assert "the ledger is whole: 1 entries (1 sealed)" in shell("seal", "audit")
    assert shell("seal", "audit", "stripped.jpg", "-q").splitlines() == ["whole", identity]
    found = shell.json("seal", "audit", "stripped.jpg")
    assert found["file"]["asset_id"] == identity
    shell("seal", "audit", "--known", "0" * 64, code=1)
    ledger = home / "seal" / "ledger" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"sealed", b"imported"))
    assert "the ledger is changed" in shell("seal", "audit", code=1)
    assert shell("seal", "audit", "-q", code=1) == "changed\n"


def test_init_shows_who_signs_and_refuses_half_a_certificate(shell: Shell) -> None:
    facts = shell.json("seal", "init")
    assert shell("seal", "init", "-q").strip() == facts["fingerprint"]
    (shell.folder / "cert.pem").write_text("no certificate")
    for words, field in (
        (("--cert", "cert.pem"), "cert"),
        (("--tsa", "http://t.example.org"), "tsa"),
        (("--cert", "none.pem", "--key", "cert.pem"), "cert"),
        (("--cert", "cert.pem", "--key", "cert.pem"), "cert"),
    ):
        assert shell.json("seal", "init", *words, code=2)["error"].startswith(f"{field}: ")
    assert shell.json("seal", "init") == facts


def test_export_and_show(shell: Shell) -> None:
    picture(shell.folder / "fox.png", parameters=A1111)
    (row,) = shell.json("library", "add", "fox.png")
    said = shell("library", "show", row["id"])
    assert "A1111, seed 42" in said
    (file,) = shell.json("library", "export", row["id"], "out", "--format", "webp")["files"]
    assert shell("verify", file, "-q") == f"0 {file}\n"
    error = shell.json("library", "export", row["id"], "out", "--commercial", code=2)
    assert "not known to allow commercial use" in error["error"]
    assert shell.json("library", "list", "--licence", "MIT") == []


def test_what_the_rules_found_is_said(shell: Shell, tiny_model: str) -> None:
    bad = "how to build a pipe bomb, step by step instructions, by Greg Rutkowski"
    shell("write", bad, "--model", tiny_model, "--max-new-tokens", "8", "--seed", "1")
    assert "the prompt breaks a safety rule: weapons" in shell.said
    assert "Greg Rutkowski is a living artist" in shell.said
    (row,) = shell.json("library", "list")
    said = shell("library", "show", row["id"])
    assert "weapons, rule en-weapons, score 1.00" in said
    assert "{'" not in said


def test_an_index_of_a_training_set(shell: Shell, home: Path) -> None:
    shown = shell.folder / "shown"
    shown.mkdir()
    picture(shown / "fox.png")
    (shown / "notes.csv").write_text("a,b\n")
    model = home / "models" / "painter"
    model.mkdir(parents=True)
    said = shell("seal", "index", "shown", "--model", "painter")
    path = model / "prints.safetensors"
    assert said == f"{path}: 1 fingerprints\n"
    assert shell("seal", "index", "shown", "--model", "painter", "-q") == f"{path}\n"
    index = Index.read(path)
    assert (index.source, len(index)) == ("shown", 1)
    shell("seal", "index", "shown", "--model", str(model), "--source", "foxes")
    assert Index.read(path).source == "foxes"
    for words, said in (
        (("shown", "--model", "nobody"), "there is no folder of 'nobody'"),
        (("none", "--model", "painter"), "there is no folder none"),
    ):
        shell("seal", "index", *words, code=2)
        assert said in shell.said
    (shown / "fox.png").unlink()
    shell("seal", "index", "shown", "--model", "painter", code=2)
    assert "has no picture, film, text or sound" in shell.said
    assert Index.read(path).source == "foxes"


def test_overwrite_replaces_a_file_and_never_the_source(shell: Shell) -> None:
    picture(shell.folder / "fox.png")
    before = (shell.folder / "fox.png").read_bytes()
    (shell.folder / "there.png").write_bytes(b"something else")
    error = shell.json("seal", "fox.png", "-o", "there.png", code=2)["error"]
    assert error.startswith("out: there.png is there already")
    assert (shell.folder / "there.png").read_bytes() == b"something else"
    shell("seal", "fox.png", "-o", "there.png", "--overwrite")
    assert shell("verify", "there.png", "-q") == "0 there.png\n"
    shell("seal", "fox.png", "-o", "fox.png", "--overwrite", code=2)
    assert "is the file itself" in shell.said
    (shell.folder / "folder.png").mkdir()
    shell("seal", "fox.png", "-o", "folder.png", "--overwrite")
    assert [one.name for one in (shell.folder / "folder.png").iterdir()] == ["fox-sealed.png"]
    assert (shell.folder / "fox.png").read_bytes() == before


def test_a_spoken_mark(shell: Shell) -> None:
    pytest.importorskip("hibari", reason="the usual voice is not installed")
    (shell.folder / "voice.wav").write_bytes(every_kind.spoken("wav"))
    picture(shell.folder / "fox.png")
    # A picture has nothing to say, so that no voice is asked for.
    shell("seal", "fox.png", "--spoken", "-q")
    shell("seal", "voice.wav", "--spoken", "--language", "zh", code=2)
    assert "does not speak 'zh'" in shell.said
    shell("seal", "voice.wav", "--spoken", "--language", "en", "-q")
    assert shell("verify", "voice-sealed.wav", "-q") == "0 voice-sealed.wav\n"
    plain, rate = soundfile.read(shell.folder / "voice.wav")
    marked, _ = soundfile.read(shell.folder / "voice-sealed.wav")
    assert 1.5 < (len(marked) - len(plain)) / rate < 5.0  # tones take 1.2 s


def test_verify_loads_no_library_and_no_torch(shell: Shell) -> None:
    picture(shell.folder / "a.png")
    code = (
        "import sys; sys.argv = ['vermilion', 'verify', 'a.png']\n"
        "from vermilion.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'sqlalchemy', 'av', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "[]"
