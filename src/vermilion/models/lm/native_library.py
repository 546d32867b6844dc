"""decode.c, compiled, and the structures that it is given.

It is compiled once on the machine that runs it, by that machine's C compiler, for its processor.
Without a compiler there is no int8, and models run in float32.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

from vermilion.nn.compiled import FAST, compiled

SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("decode.c", "products.h", "blocks.h", "multiply.h", "attention.h")
)
PAGE = 16  # tokens, as in decode.c
BLOCK = 16  # outputs
PART = 32  # inputs
# A loop in vectors gives what it gives one by one.
_FLAGS = (*FAST, "-ffp-contract=off")


class Matrix(Structure):
    """Weights as `lay_out`, `pack` or `pack_blocks` of decode.c lay them out."""

    _fields_ = (
        ("codes", c_void_p),
        ("scales", c_void_p),
        ("steps", c_void_p),
        ("least", c_void_p),
        ("bias", c_void_p),
        ("out", c_int32),
        ("inputs", c_int32),  # `in` is a word of Python
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

    _fields_ = (
        *(
            (name, c_void_p)
            for name in ("x", "wide", "seen", "scores", "scales", "codes", "unpacked")
        ),
        ("widest", c_int64),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled decode.c; None where there is no C compiler that can compile it."""
    loaded = compiled(SOURCES, _FLAGS)
    if loaded is not None:
        loaded.forward.restype = None
        loaded.pack.restype = loaded.lay_out.restype = None
        loaded.kept_size.restype = loaded.pack_blocks.restype = ctypes.c_int
    return loaded


def available() -> bool:
    """Whether models can run in int8 here."""
    return library() is not None
