"""C files that are compiled once on the machine that runs them, for its processor.

The compiler is the machine's own (CC, else cc), and what it makes is kept in the user's cache.
Without one there is none of it, and torch's operators do the work.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import torch
from platformdirs import user_cache_path

FAST = (
    "-O3",
    "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
)
"""Flags that leave what is computed as it is written, but for products that are joined with a
sum where the processor can; `-ffp-contract=off` keeps it from that."""


_held = threading.local()


def room(numbers: int) -> torch.Tensor:
    """Room for so many float32 numbers or more that a function computes in.

    A thread keeps one, as large as it ever asked for: to ask the system for it anew costs more
    than many of the functions. What is in it is lost at the next call.
    """
    held: torch.Tensor | None = getattr(_held, "room", None)
    if held is None or held.numel() < numbers:
        _held.room = None  # two need not be held at once
        held = _held.room = torch.empty(numbers)
    return held


def _openmp() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Flags to compile and to link with, and where torch's own OpenMP is, loaded for the link.

    Two OpenMP libraries in one process would each keep a thread a core waiting for work.
    """
    if sys.platform != "linux":
        return (), ()
    found = sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*"))
    found += sorted(Path(torch.__file__).parent.parent.glob("torch.libs/libgomp*.so*"))
    if not found:
        return ("-fopenmp",), ("-fopenmp",)
    ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)
    return ("-fopenmp",), ()


def compiled(sources: Sequence[Path], flags: Sequence[str]) -> ctypes.CDLL | None:
    """A C file as a library; None where there is no compiler that can compile it.

    Args:
        sources: the file, and those that it includes.
        flags: for the compiler.
    """
    compiler = tuple(shlex.split(os.environ.get("CC") or "cc"))  # "ccache gcc" is usual
    if shutil.which(compiler[0]) is None:
        return None
    # clang's threads need a library that torch does not bring: then one thread has to do.
    for threads, link in (_openmp(), ((), ())):
        loaded = _load(sources, compiler, (*flags, *threads), link)
        if loaded is not None:
            return loaded
    return None


def _load(
    sources: Sequence[Path],
    compiler: tuple[str, ...],
    flags: tuple[str, ...],
    link: tuple[str, ...],
) -> ctypes.CDLL | None:
    """The library that was compiled with these flags, now or earlier."""
    source = b"\0".join(path.read_bytes() for path in sources)
    told = (" ".join(compiler), platform.machine(), _processor(), *flags)
    name = hashlib.sha256(b"\0".join((source, *map(str.encode, told)))).hexdigest()
    path = user_cache_path("vermilion") / "native" / f"{name[:32]}.so"
    if not path.exists() and not _compile(
        sources[0], (*compiler, *flags), (*compiler, *link), path
    ):
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _processor() -> str:
    """What a compiled file depends on besides its source: the processor's features."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor()


def _compile(source: Path, compiler: Sequence[str], linker: Sequence[str], path: Path) -> bool:
    """Compile a C file to a path, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made, whole = Path(folder) / "made.o", Path(folder) / "made.so"
            steps = (
                (*compiler, "-c", str(source), "-o", str(made)),
                (*linker, "-shared", str(made), "-lm", "-o", str(whole)),
            )
            for step in steps:
                subprocess.run(step, check=True, capture_output=True, timeout=120)
            whole.replace(path)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
