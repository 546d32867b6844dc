"""Which device and which numbers a model runs in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vermilion.errors import ModelError
from vermilion.models.lm import native_library
from vermilion.runtime.device import choose_device, choose_dtype
from vermilion.settings import Settings

GOOD = {"perplexity": 1.01, "speed": 1.5}
needs_compiler = pytest.mark.skipif(not native_library.available(), reason="needs a C compiler")


@pytest.mark.parametrize(
    ("dtype", "device", "measured", "chosen"),
    [
        ("auto", "cpu", None, "float32"),
        ("auto", "cpu", {"perplexity": 1.02, "speed": 3.0}, "float32"),
        ("auto", "cpu", {"perplexity": 1.0, "speed": 1.0}, "float32"),
        ("auto", "cuda", GOOD, "bfloat16"),
        ("auto", "cuda:1", None, "bfloat16"),
        ("float32", "cpu", GOOD, "float32"),
        ("float32", "cuda", None, "float32"),
        ("bfloat16", "cpu", None, "bfloat16"),
        pytest.param("auto", "cpu", GOOD, "int8", marks=needs_compiler),
        pytest.param("int8", "cpu", None, "int8", marks=needs_compiler),
    ],
)
def test_numbers(dtype: str, device: str, measured: dict[str, Any] | None, chosen: str) -> None:
    assert choose_dtype(Settings(dtype=dtype), device, measured) == chosen


def test_int8_runs_on_no_gpu() -> None:
    with pytest.raises(ModelError, match="VERMILION_DTYPE: int8 runs on a CPU"):
        choose_dtype(Settings(dtype="int8"), "cuda", GOOD)


def test_devices() -> None:
    assert choose_device(Settings(device="cpu")) == "cpu"
    if torch.cuda.is_available():
        assert choose_device(Settings()) == "cuda"
    else:
        assert choose_device(Settings()) == "cpu"
        with pytest.raises(ModelError, match="VERMILION_DEVICE: this machine has no CUDA device"):
            choose_device(Settings(device="cuda:0"))


def test_threads() -> None:
    before = torch.get_num_threads()
    choose_device(Settings(device="cpu", threads=3))
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def doctor(home: Path, **variables: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "vermilion", "doctor", "--json"],
        env=os.environ | {"VERMILION_HOME": str(home)} | variables,
        capture_output=True,
        text=True,
    )
    (found,) = (f for f in json.loads(done.stdout) if f["what"] == "int8")
    return found


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_doctor_says_that_a_compiler_is_missing(tmp_path: Path, compiler: str) -> None:
    found = doctor(tmp_path, CC=compiler)
    assert found["state"] == "missing"
    assert "no C compiler" in found["found"]
    assert "apt install gcc" in found["remedy"] or "xcode-select" in found["remedy"]
    assert "as fast" in found["remedy"]


@needs_compiler
def test_doctor_says_that_int8_is_available(tmp_path: Path) -> None:
    assert doctor(tmp_path)["state"] == "good"
    if shutil.which("cc"):
        assert doctor(tmp_path, CC="env LANG=C cc")["state"] == "good"
