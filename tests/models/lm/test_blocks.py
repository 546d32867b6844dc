"""Weights of four bits as they are: the kernel against NumPy, the network against itself."""

from __future__ import annotations

import copy
import ctypes
import platform
import subprocess
from ctypes import c_int32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.models.lm.test_gguf import write_tensor
from tests.models.lm.test_native import MEMORY, exact, read
from tests.models.lm.test_net import random_ids
from tests.tiny import tiny_lm_folder
from vermilion.models.lm import io, native_library
from vermilion.models.lm.gguf import GGUF
from vermilion.models.lm.native import NativeDecoder
from vermilion.models.lm.native_library import BLOCK, PART, Matrix
from vermilion.models.lm.net import LM

pytestmark = pytest.mark.skipif(not native_library.available(), reason="needs a C compiler")
Floats = NDArray[np.float32]

# A product alone, for which decode.c has no door.
_DOOR = """
#include "decode.c"
void once(const Matrix *m, const float *x, int n, void *codes, float *scales, uint8_t *unpacked,
          float *y) {
    Rows rows = {codes, scales, unpacked, (size_t)m->in};
    for (int i = 0; i < n; i++) take(m, rows, i, x + (size_t)i * m->in);
    multiply(m, rows, n, y, 0);
}
"""


@pytest.fixture(scope="module", params=["-march=native", "-march=x86-64"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """decode.c for this processor, and as any other computes it."""
    if request.param == "-march=x86-64" and platform.machine() != "x86_64":
        pytest.skip("this processor has no plainer kind")
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "door.c").write_text(_DOOR)
    where = f"-I{native_library.SOURCES[0].parent}"
    made = str(folder / "door.so")
    flags = ["-O2", request.param, "-ffp-contract=off", "-fPIC", "-shared", where]
    subprocess.run(["cc", *flags, "door.c", "-lm", "-o", made], cwd=folder, check=True)
    return ctypes.CDLL(made)


def gridded(draw: np.random.Generator, out: int, inputs: int) -> tuple[Floats, Floats]:
    """Weights of four bits (O, K), and the step of each, (O, K)."""
    parts = (out, inputs // PART, 1)
    numbers = draw.integers(0, 16, (*parts[:2], PART))
    numbers[..., :2] = 0, 15
    step = draw.uniform(0.001, 0.1, parts).astype(np.float16).astype(np.float32)
    least = (-step * draw.uniform(0, 15, parts)).astype(np.float16).astype(np.float32)
    weights = (step * numbers + least).astype(np.float32)
    return weights.reshape(out, inputs), np.broadcast_to(step, weights.shape).reshape(out, inputs)


def matrix(lib: ctypes.CDLL, weights: Floats) -> tuple[Matrix | None, list[Any]]:
    out, inputs = weights.shape
    rows = out + -out % BLOCK
    parts = rows * inputs // PART
    held = [
        np.zeros(parts * PART // 2, np.uint8),
        np.zeros(parts, np.int32),
        np.zeros(parts, np.float32),
        np.zeros(rows, np.float32),
    ]
    places = [array.ctypes.data for array in held]
    whole = np.ascontiguousarray(weights)
    sizes = c_int32(out), c_int32(inputs)
    if not lib.pack_blocks(c_void_p(whole.ctypes.data), *sizes, *map(c_void_p, places), c_int32(1)):
        return None, held
    codes, steps, least, scales = places
    return Matrix(codes, scales, steps, least, None, out, inputs), held


def product(lib: ctypes.CDLL, weights: Floats, x: Floats) -> Floats:
    """x (N, K) times weights (O, K), by decode.c: (N, O)."""
    made, held = matrix(lib, weights)
    assert made is not None
    assert held
    room = np.zeros((len(x), 4 * weights.shape[1]), np.uint8)
    scales = np.zeros((len(x), 2 * weights.shape[1] // PART), np.float32)
    unpacked = np.zeros(BLOCK * weights.shape[1], np.uint8)
    y = np.zeros((len(x), len(weights)), np.float32)
    places = (c_void_p(array.ctypes.data) for array in (room, scales, unpacked, y))
    x = np.ascontiguousarray(x)
    lib.once(ctypes.byref(made), c_void_p(x.ctypes.data), c_int32(len(x)), *places)
    return y


def rounded_rows(x: Floats) -> NDArray[np.float64]:
    """Rows (N, K) as bytes with a scale for each 32, and back."""
    cut = x.reshape(len(x), -1, PART)
    most = np.abs(cut).max(2, keepdims=True)
    factor = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > 0)
    whole: NDArray[np.float64] = np.rint(cut * factor) * np.float64(1)
    scale = most / np.float32(127)
    return np.asarray(whole * scale, np.float64).reshape(x.shape)


@pytest.mark.parametrize(("out", "inputs"), [(16, 32), (48, 576), (21, 96), (1, 1536)])
def test_products_are_those_of_whole_numbers(compiled: Any, out: int, inputs: int) -> None:
    draw = np.random.default_rng(out)
    weights, steps = gridded(draw, out, inputs)
    x = draw.normal(size=(23, inputs)).astype(np.float32)
    x[3], x[4, 5], x[5, :PART] = 0, 300, 0  # nothing, an outlier, a part of nothing
    found = product(compiled, weights, x)
    rows = rounded_rows(x)
    expected = rows @ weights.astype(np.float64).T
    # Sums in float32, and steps of 15 bits, each off by half at most, 15 times.
    size = np.abs(rows) @ np.abs(weights).astype(np.float64).T
    off = np.abs(rows).sum(1, keepdims=True) * 15 / 2 / 32767 * steps.max(1)
    assert (np.abs(found - expected) <= off + 3e-6 * size + 1e-6).all()


def test_the_largest_sums_fit(compiled: Any) -> None:
    weights = np.full((16, 64), 15, np.float32)
    weights[:, ::32] = 0
    for sign in (1, -1):
        x = np.full((7, 64), sign * 127, np.float32)
        np.testing.assert_allclose(product(compiled, weights, x), sign * 15 * 127 * 62, rtol=1e-5)


def test_rows_do_not_depend_on_how_many_there_are(compiled: Any) -> None:
    draw = np.random.default_rng(0)
    weights, _ = gridded(draw, 37, 288)
    x = draw.normal(size=(103, 288)).astype(np.float32)
    together = product(compiled, weights, x)
    for first, count in ((0, 1), (7, 2), (30, 3), (50, 4), (60, 5), (70, 6), (5, 98)):
        part = product(compiled, weights, x[first : first + count])
        assert np.array_equal(part, together[first : first + count])


def test_what_lies_on_no_grid_is_refused(compiled: Any) -> None:
    draw = np.random.default_rng(1)
    weights, _ = gridded(draw, 20, 64)
    assert matrix(compiled, weights)[0] is not None
    assert matrix(compiled, np.full((16, 32), 0.3, np.float32))[0] is not None
    assert matrix(compiled, draw.normal(size=(20, 64)).astype(np.float32))[0] is None
    assert matrix(compiled, weights[:, :48])[0] is None
    for off in (0.01, np.inf, np.nan):
        broken = weights.copy()
        broken[19, 40] += off * (weights[19].max() - weights[19].min())
        assert matrix(compiled, broken)[0] is None


@pytest.mark.parametrize(
    ("name", "taken"),
    [("Q4_0", True), ("Q4_1", True), ("Q4_K", True), ("Q5_1", False), ("Q8_0", False)],
)
def test_files_of_four_bits_are_known_by_their_weights(
    tmp_path: Path, compiled: Any, name: str, taken: bool
) -> None:
    raw = np.random.default_rng(2)
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    data = raw.integers(0, 256, (24, 512 // values, size), np.uint8)
    for at in (0, 2):  # scales that are finite and of a like size
        if at == 0 or name in ("Q4_1", "Q4_K", "Q5_1"):
            halves = raw.uniform(0.01, 0.02, data.shape[:2]).astype(np.float16)
            data[..., at : at + 2] = halves[..., None].view(np.uint8)
    path = tmp_path / "weights.gguf"
    write_tensor(path, data.reshape(24, -1), kind)
    (only,) = GGUF(path).tensors
    weights = GGUF(path).load(only).numpy()
    assert (matrix(compiled, weights)[0] is not None) == taken


@pytest.fixture(scope="module")
def four_bits(tmp_path_factory: pytest.TempPathFactory) -> LM:
    """A tiny network with the matrices of its layers in four bits; not its head."""
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 1400,
    }
    net, _ = io.load(tiny_lm_folder(tmp_path_factory.mktemp("nets") / "net", **sizes))
    net = copy.deepcopy(net)
    for module in net.blocks.modules():
        if isinstance(module, nn.Linear):
            cut = module.weight.detach().view(len(module.weight), -1, PART)
            low, high = cut.amin(2, keepdim=True), cut.amax(2, keepdim=True)
            step = (high - low) / 15
            grid = ((cut - low) / step).round() * step + low
            module.weight = nn.Parameter(grid.flatten(1), requires_grad=False)
    return net


def kinds(decoder: NativeDecoder) -> list[bool]:
    """Of each matrix of the layers: whether it is in four bits."""
    return [
        layer_matrix.steps is not None
        for layer in decoder._weights._layers
        for layer_matrix in (layer.qkv, layer.attention_out, layer.up, layer.down)
    ]


def test_a_network_of_four_bits(four_bits: LM) -> None:
    decoder, ids = NativeDecoder(four_bits, MEMORY), random_ids(6, 90)
    assert all(kinds(decoder))
    assert decoder._weights.model.head.steps is None
    found = torch.cat([decoder.alone(row.tolist()) for row in ids])  # (B, V)
    plain = exact(four_bits, ids)
    # Activations in bytes, and the head rounded to bytes.
    assert (found - plain).abs().max() / plain.std() < 0.1
    changed = copy.deepcopy(four_bits)
    out: Any = changed.get_submodule("blocks.0.attention.out")
    out.weight[3, 5] += 0.01
    others = kinds(NativeDecoder(changed, MEMORY))
    assert not others[1]
    assert sum(others) == len(others) - 1


def test_four_bits_do_not_depend_on_passes_batches_or_threads(four_bits: LM) -> None:
    decoder = NativeDecoder(four_bits, MEMORY)
    texts = [random_ids(n, seed=n).tolist() for n in (1, 2, 15, 16, 17, 33, 120)]
    alone = torch.cat([decoder.alone(ids) for ids in texts])
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        memories = [decoder.start() for _ in texts]
        assert torch.equal(decoder.extend(memories, texts), alone)
        forks = [decoder.fork(memory, 1) for memory in memories[2:]]
        again = decoder.extend(forks, [ids[1:] for ids in texts[2:]])
        assert torch.equal(again, alone[2:])
        for memory in (*memories, *forks):
            decoder.free(memory)
        assert torch.equal(read(decoder, texts[-1], 1, 16, 17, 50, 99), alone[-1:])
        assert torch.equal(read(decoder, texts[-2], *range(1, 33)), alone[-2:-1])
    torch.set_num_threads(1)
    assert decoder.used == 0
