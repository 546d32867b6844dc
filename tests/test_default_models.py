"""The default models themselves: what a new user gets. `make test` pulls them first."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vermilion.errors import InputError, NotFoundError
from vermilion.line.run import Line
from vermilion.runtime.store import Store
from vermilion.settings import Settings, get_settings

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.models

# Commands of the README that a test cannot run, and why.
LEFT_OUT = {
    "make demo": "it is `make models` and the second command of the list, which is run here",
    "make test": "this is it",
    "vermilion models pull": "needs a hub",
    "vermilion make brief.toml --model qwen2.5-0.5b": "needs a model of 1 GB",
    'vermilion write "..." --model ./my-model.gguf': "stands for a file of one's own",
    "给一家雨天书店": "needs a model of 1 GB",
    "vermilion train lm": "takes hours; tests/train trains small models by the same command",
    'vermilion write "It is a truth" --model austen': "needs the model that was trained",
    "vermilion train diffusion": "takes hours; tests/train trains small models by the same command",
    "vermilion train clip": "likewise",
    "export VERMILION_PICTURE_MODEL": "names a model of 2 GB",
    "vermilion paint --vary ID": "stands for an asset; tests/cli/test_paint.py has some",
    'vermilion paint "a lighthouse': "is for the model of 2 GB",
    'vermilion paint "a blue door"': "likewise, and needs a sketch",
    'vermilion paint "a red fox" --model mine': "needs the model that was trained",
    "火箭": "the English rocket is painted",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh home in which the default models are here, and a folder with the examples."""
    store = Store(get_settings().models_dir)
    try:
        store.locate("smollm2-135m")
    except NotFoundError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("house")
    (folder / "home").mkdir()
    (folder / "home" / "models").symlink_to(store.models_dir)
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "portrait.png").write_bytes((ROOT / "docs/images/seal-marks.png").read_bytes())
    (folder / "brief.toml").write_bytes((ROOT / "examples/briefs/rainbow.toml").read_bytes())
    return folder


def commands(readme: str) -> list[str]:
    """The shell commands in a README, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def run(command: str, house: Path) -> subprocess.CompletedProcess[str]:
    command = re.sub(r"^vermilion", f"{shlex.quote(sys.executable)} -m vermilion", command)
    environment = {**os.environ, "VERMILION_HOME": str(house / "home")}
    return subprocess.run(
        command, shell=True, cwd=house, env=environment, capture_output=True, text=True, timeout=240
    )


def test_the_readmes_commands_run(house: Path) -> None:
    wanted = [c for c in commands("README.md") if not any(c.startswith(p) for p in LEFT_OUT)]
    assert len(wanted) >= 8
    for command in wanted:
        done = run(command, house)
        assert done.returncode == 0, command + "\n" + done.stdout + done.stderr


def test_both_readmes_name_the_same_commands() -> None:
    chinese = set(commands("README.zh-CN.md"))
    known = set(commands("README.md"))
    assert {c for c in chinese if not any(p in c for p in LEFT_OUT)} <= known


def test_the_readmes_python_runs(house: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = shlex.quote(block)
    done = run(f"{shlex.quote(sys.executable)} -c {code}", house)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 4


def test_the_example_set_passes_its_checks_and_comes_out_again(house: Path) -> None:
    settings = Settings(home=house / "home")
    with Line(settings) as line:
        finished = line.make(ROOT / "examples/briefs/coffee.toml")
        assert len(finished.items) == 7
        for item in finished.items:
            assert item.failures == ()
        assert "Night Shift" in finished["headline"][0].asset.text
        for post in finished["post"]:
            assert len(re.findall(r"#\w+", post.asset.text)) in (2, 3, 4)
    with Line(Settings(home=house / "home", max_batch=1)) as line:
        for item in finished.items:
            assert line.remake(item.asset.id)[1]


def test_a_lessons_answers_are_right(house: Path) -> None:
    brief = json.loads(json.dumps({"subject": "rainbows", "seed": 1, "counts": {"narration": 0}}))
    facts = [
        "sunlight is a mix of all colours",
        "raindrops bend the light as it enters and leaves them",
        "red is on the outside of the bow and violet on the inside",
    ]
    with Line(Settings(home=house / "home")) as line:
        finished = line.make({**brief, "facts": facts}, recipe="lesson")
    assert len(finished["question"]) == 5
    for item in finished["question"]:
        sentence, *options, answer = item.asset.text.split("\n")
        right = next(o for o in options if o.startswith(answer.removeprefix("Answer: ") + ")"))
        gap = re.split(r"_+", re.split(r"[?:] ", sentence, maxsplit=1)[1])
        told = gap[0] + right.split(") ", 1)[1] + gap[1]
        assert told.rstrip(".").lower() in " ".join(facts).lower()


def test_chinese_is_refused_with_the_model_to_pull(house: Path) -> None:
    with (
        Line(Settings(home=house / "home")) as line,
        pytest.raises(InputError, match=r"vermilion models pull qwen2\.5-0\.5b"),
    ):
        line.write("给一家雨天书店写三句宣传语")


def test_the_first_word_is_shown_while_the_rest_is_written(house: Path) -> None:
    ours, theirs = pty.openpty()
    words = ["write", "Tell me about the sea.", "--seed", "1", "--max-new-tokens", "120"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vermilion", *words],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "VERMILION_HOME": str(house / "home")},
    )
    os.close(theirs)
    first = os.read(ours, 64)
    still_writing = process.poll() is None
    begun, text = time.monotonic(), first
    while process.poll() is None and time.monotonic() - begun < 120:
        try:
            text += os.read(ours, 4096)
        except OSError:  # the terminal is closed when the process ends
            break
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert first
    assert still_writing
    assert re.search(r"[.!?][\"')]*\s*$", text.decode())
