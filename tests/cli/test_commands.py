"""The command line as a person meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile


def run(
    *words: str, home: Path, stdin: str = "", code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "vermilion", *words],
        env={**os.environ, "VERMILION_HOME": str(home), "COLUMNS": "200"},
        cwd=home.parent,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def complaint(*words: str, home: Path, stdin: str = "", code: int = 2) -> str:
    """The one sentence that a command complains with."""
    done = run(*words, home=home, stdin=stdin, code=code)
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_help_loads_nothing_heavy(home: Path) -> None:
    code = (
        "import sys; sys.argv = ['vermilion', '--help']\n"
        "from vermilion.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'sqlalchemy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_importing_the_package_loads_no_torch() -> None:
    code = (
        "import sys, vermilion as vm; vm.Brief; vm.Library; vm.VermilionError\n"
        "import vermilion.settings, vermilion.hooks, vermilion.cli\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_line_loads_nothing_that_a_picture_does_not_need() -> None:
    heavy = ("torch", "scipy.signal", "scipy.stats", "pyloudnorm", "vtracer")
    code = f"import sys, vermilion.line.run; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_has_help(home: Path) -> None:
    for words in (
        ["make"], ["write"], ["speak"], ["paint"], ["doctor"], ["library"], ["models"], ["pull"],
        *(["library", x] for x in ("list", "find", "show", "export", "remake", "rate", "rm")),
        *(["models", x] for x in ("list", "pull", "show", "rm")),
    ):  # fmt: skip
        assert "Usage: vermilion" in run(*words, "--help", home=home).stdout


def test_write_then_everything_in_the_library(home: Path, tiny_model: str, tmp_path: Path) -> None:
    words = ("write", "green tea", "--model", tiny_model, "--seed", "3", "--max-new-tokens", "12")
    done = run(*words, "--n", "2", home=home)
    assert "kept as" in done.stderr
    assets = json.loads(run("library", "list", "--json", home=home).stdout)
    assert len(assets) == 2
    first = next(asset for asset in assets if asset["index"] == 0)
    assert first["text"] in done.stdout
    ref = first["id"]
    assert json.loads(run(*words, "--json", home=home).stdout)[0]["sha256"] == first["sha256"]
    assert ref in run("library", "list", home=home).stdout
    shown = run("library", "show", ref[:6], home=home).stdout
    assert ref in shown
    assert str(first["path"]) in shown
    assert ref in run("library", "find", "green", "--quiet", home=home).stdout
    assert "★★★★★" in run("library", "rate", ref, "5", home=home).stdout
    exported = run("library", "export", ref, str(tmp_path / "o"), "--quiet", home=home).stdout
    sealed, bare = Path(exported.strip()).read_text(), Path(first["path"]).read_text()
    assert sealed.startswith(bare.rstrip("\n"))
    assert "[AI-generated]" in sealed
    assert json.loads(run("library", "remake", ref, "--json", home=home).stdout)["same"] is True
    run("library", "rm", ref, home=home)
    assert ref in complaint("library", "show", ref, home=home)
    left = json.loads(run("library", "list", "--json", home=home).stdout)
    twin = next(asset for asset in left if asset["sha256"] == first["sha256"])
    assert Path(twin["path"]).exists()  # the same text was written once more, above


def test_speak_writes_a_file_of_the_named_format(home: Path, tmp_path: Path) -> None:
    for suffix in ("wav", "flac", "mp3"):
        file = tmp_path / f"hello.{suffix}"
        done = run("speak", "Hello there.", "--out", str(file), "--json", home=home)
        assert json.loads(done.stdout)["file"] == str(file)
        assert soundfile.info(file).samplerate == 24_000


def test_make_from_standard_input_prints_the_set(home: Path, tiny_model: str) -> None:
    recipe = home.parent / "mine.toml"
    recipe.write_text(
        'description = "x"\n[[steps]]\nname = "copy"\nkind = "text"\n'
        'template = "{{ subject }}"\nsettings = { pattern = "[a-z ]{9,20}[.]" }\n'
    )
    words = ("make", "-", "--recipe", str(recipe), "--model", tiny_model, "--seed", "7")
    done = run(*words, home=home, stdin='{"subject": "green tea"}')
    assert "seed 7" in done.stdout
    assert (home.parent / "out" / "green-tea" / "copy.txt").exists()
    again = json.loads(run(*words, "--json", home=home, stdin="green tea").stdout)
    assert again["folder"] == str(Path("out") / "green-tea-2")
    assert again["items"][0]["text"] in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("make", "nothing.toml"), "there is no file nothing.toml"),
        (("make", "tea", "--recipe", "lunch"), "did you mean launch"),
        (("make", "tea"), "vermilion models pull smollm2-135m"),
        (("make", "-"), "subject is empty"),
        (("write", "tea"), "vermilion models pull smollm2-135m"),
        (("write", "tea", "--model", "gpt-9"), "there is no model"),
        (("write", "写一首诗", "--model", "smollm2-135m"), "pull"),
        (("speak", "Hello.", "--out", "a.aiff"), ".wav, .flac, .mp3"),
        (("speak", "Hello.", "--speed", "9"), "speed must be 0.5 to 2"),
        (("library", "show", "zzzzzzzz"), "zzzzzzzz"),
        (("library", "find", " "), "query"),
        (("models", "show", "gpt-9"), "there is no model"),
        (("models", "rm", "gpt-9"), "there is no model"),
        (("models", "pull", "../../etc"), "etc"),
    ],
)
def test_mistakes_are_one_sentence_with_exit_code_2(
    home: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in complaint(*words, home=home)


def test_mistakes_are_json_where_json_was_asked_for(home: Path) -> None:
    done = run("library", "show", "zzzzzzzz", "--json", home=home, code=2)
    assert json.loads(done.stdout)["kind"] == "NotFoundError"


def test_a_bad_setting_names_its_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERMILION_MAX_BATCH", "many")
    assert "VERMILION_MAX_BATCH" in complaint("write", "tea", home=home)


def test_a_home_that_cannot_be_made_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in complaint("library", "list", home=tmp_path / "file", code=1)


def test_doctor_says_what_is_missing(home: Path) -> None:
    done = run("doctor", home=home)
    assert "vermilion models pull smollm2-135m" in done.stdout
    findings = json.loads(run("doctor", "--json", home=home).stdout)
    assert {"vermilion", "torch", "machine", "home", "speech", "model"} <= {
        finding["what"] for finding in findings
    }
    assert "models pull clip-vit-b-32" in " ".join(done.stdout.split())
