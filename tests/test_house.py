"""Promises about the house as a whole: what imports what, no network, what a start costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vermilion

SOURCE = Path(vermilion.__file__).parent


def test_every_public_name_is_found() -> None:
    for name in vermilion.__all__:
        assert getattr(vermilion, name) is not None
    assert set(vermilion.__all__) <= set(dir(vermilion))
    rooms = {path.stem for path in SOURCE.iterdir()}
    assert not rooms & set(vermilion.__all__)  # a room that is imported takes its name
    with pytest.raises(AttributeError, match="no attribute 'mkae'"):
        _ = vermilion.mkae


def test_imports_run_downward_only() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=SOURCE.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_light_rooms_load_no_torch() -> None:
    code = (
        "import sys, vermilion.library, vermilion.runtime.store, vermilion.line.brief,"
        " vermilion.line.recipe, vermilion.line.plan, vermilion.cli, vermilion.line.run\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_files_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(SOURCE)): count
        for path in SOURCE.rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_no_code_runs_from_data() -> None:
    """Neither pickles nor eval, anywhere."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "marshal", "shelve"}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = f"{ast.unparse(node.func)}"
                assert called not in ("torch.load", "np.load", "numpy.load"), path


OFFLINE = """
import socket, sys
def refuse(*a, **k): raise AssertionError("a socket was opened")
socket.socket.connect = refuse; socket.create_connection = refuse; socket.getaddrinfo = refuse
import vermilion as vm
line = vm.Line()
texts = line.write("tea", model=sys.argv[1], seed=1, max_new_tokens=8)
voice = line.speak("Good morning.", seed=1)
assert line.library.find("tea") and line.remake(voice.id)[1]
list(vm.checkup())
try: line.write("tea")
except vm.VermilionError as error: assert "vermilion models pull" in str(error)
line.close()
print("quiet")
"""


def test_nothing_opens_a_socket_unless_asked(home: Path, tiny_model: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, tiny_model], capture_output=True, text=True
    )
    assert done.stdout.strip() == "quiet", done.stderr
