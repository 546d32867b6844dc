"""decode.c, compiled, and the structures that it is given.

It is compiled once on the machine that runs it, by that machine's C compiler, for its processor.
Without a compiler there is no int8, and models run in float32.
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
from ctypes import POINTER, Structure, c_float, c_int32, c_void_p
from functools import cache
from pathlib import Path

import torch
from platformdirs import user_cache_path

SOURCES = tuple(Path(__file__).with_name(n) for n in ("decode.c", "products.h", "attention.h"))
PAGE = 16  # tokens, as in decode.c
BLOCK = 16  # outputs
# None of them changes what is computed: a loop in vectors gives what it gives one by one.
_FLAGS = (
    "-O3",
    "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
)


class Matrix(Structure):
    """Weights as bytes, as `pack` of decode.c lays them out."""

    _fields_ = (
        ("codes", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        ("out", c_int32),
        ("in", c_int32),
    )


class Layer(Structure):
    """One block of the network."""

    _fields_ = (
        *((name, Matrix) for name in ("qkv", "attention_out", "up", "down")),
        ("attention_norm", c_void_p),
        ("attention_norm_bias", c_void_p),
        ("feed_forward_norm", c_void_p),
        ("feed_forward_norm_bias", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
        ("window", c_int32),
        ("unused", c_int32),
    )


class Model(Structure):
    """A whole network."""

    _fields_ = (
        *(
            (name, c_int32)
            for name in (
                "layers",
                "size",
                "inner",
                "heads",
                "kv_heads",
                "head_dim",
                "vocabulary",
                "norm",
                "activation",
                "gated",
                "whole",
            )
        ),
        ("eps", c_float),
        ("attention_scale", c_float),
        ("embedding", c_void_p),
        ("positions", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("final_norm", c_void_p),
        ("final_norm_bias", c_void_p),
        ("head", Matrix),
        ("layer", POINTER(Layer)),
    )


class Scratch(Structure):
    """Room for what a pass computes."""

    _fields_ = tuple(
        (name, c_void_p) for name in ("x", "wide", "seen", "scores", "scales", "codes")
    )


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


@cache
def library() -> ctypes.CDLL | None:
    """The compiled decode.c; None where there is no C compiler that can compile it."""
    compiler = tuple(shlex.split(os.environ.get("CC") or "cc"))  # "ccache gcc" is usual
    if shutil.which(compiler[0]) is None:
        return None
    # clang's threads need a library that torch does not bring: then one thread has to do.
    for flags, link in (_openmp(), ((), ())):
        loaded = _load(compiler, flags, link)
        if loaded is not None:
            loaded.forward.restype = None
            loaded.pack.restype = loaded.lay_out.restype = None
            loaded.kept_size.restype = ctypes.c_int
            return loaded
    return None


def _load(
    compiler: tuple[str, ...], flags: tuple[str, ...], link: tuple[str, ...]
) -> ctypes.CDLL | None:
    """The library that was compiled with these flags, now or earlier."""
    source = b"\0".join(path.read_bytes() for path in SOURCES)
    told = (" ".join(compiler), platform.machine(), _processor(), *_FLAGS, *flags)
    name = hashlib.sha256(b"\0".join((source, *map(str.encode, told)))).hexdigest()
    path = user_cache_path("vermilion") / "native" / f"{name[:32]}.so"
    if not path.exists() and not _compile(compiler, flags, link, path):
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


def _compile(
    compiler: tuple[str, ...], flags: tuple[str, ...], link: tuple[str, ...], path: Path
) -> bool:
    """Compile decode.c to a path, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            compiled, made = Path(folder) / "decode.o", Path(folder) / "decode.so"
            steps = (
                (*compiler, *_FLAGS, *flags, "-c", str(SOURCES[0]), "-o", str(compiled)),
                (*compiler, "-shared", str(compiled), *link, "-lm", "-o", str(made)),
            )
            for step in steps:
                subprocess.run(step, check=True, capture_output=True, timeout=120)
            made.replace(path)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def available() -> bool:
    """Whether models can run in int8 here."""
    return library() is not None
