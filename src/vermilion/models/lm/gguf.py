"""GGUF files, version 2 and 3: metadata, and tensors restored to float32.

The layout follows the format's specification in the ggml project (docs/gguf.md); the block
formats are those of ggml-quants. Shapes: N blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vermilion.errors import ModelError

MAGIC = b"GGUF"
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies and how it is stored; `shape` is in torch's order."""

    shape: tuple[int, ...]
    type: int
    offset: int


class GGUF:
    """An open GGUF file. Tensors are restored one at a time, when they are asked for.

    Attributes:
        metadata: the file's key-value pairs.
        tensors: name → TensorInfo.

    Raises:
        ModelError: not a GGUF file, truncated, or with a tensor type that is not known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                if file.read(4) != MAGIC:
                    raise ModelError(f"{path}: this is not a GGUF file; pull the model again")
                # A private copy-on-write map: torch wants writable memory; nothing is written.
                self._map = mmap(file.fileno(), 0, access=ACCESS_COPY)
        except OSError as error:
            raise ModelError(
                f"{path}: cannot be read ({error.strerror}); pull the model again"
            ) from None
        try:
            self._read_header()
        except (struct.error, ValueError) as error:
            raise ModelError(
                f"{path}: the GGUF header is broken ({error}); pull it again"
            ) from None
        for name, info in self.tensors.items():
            self._check(name, info)

    def _read_header(self) -> None:
        self._at = 4
        version, tensor_count, pair_count = self._take("<IQQ")
        if version not in (2, 3):
            raise ValueError(f"version {version} instead of 2 or 3")
        self.metadata: dict[str, Any] = {}
        for _ in range(pair_count):
            key = self._string()
            self.metadata[key] = self._value(self._take("<I")[0])
        infos = []
        for _ in range(tensor_count):
            name = self._string()
            shape = self._take(f"<{self._take('<I')[0]}Q")[::-1]
            infos.append((name, shape, *self._take("<IQ")))
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment <= 0 or alignment % 8:
            raise ValueError(f"general.alignment is {alignment!r} instead of a multiple of 8")
        start = -(-self._at // alignment) * alignment
        self.tensors = {
            name: TensorInfo(shape, type_, start + offset) for name, shape, type_, offset in infos
        }

    def _take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._map, self._at)
        self._at += struct.calcsize(layout)
        return values

    def _string(self) -> str:
        (length,) = self._take("<Q")
        if self._at + length > len(self._map):
            raise ValueError("a string reaches beyond the end of the file")
        text = self._map[self._at : self._at + length].decode()
        self._at += length
        return text

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            item, count = self._take("<IQ")
            if item == _STRING:
                return [self._string() for _ in range(count)]
            if item not in _SCALARS:
                raise ValueError(f"an array of type {item}")
            return list(self._take(f"<{count}{_SCALARS[item]}"))
        if kind not in _SCALARS:
            raise ValueError(f"a value of type {kind}")
        return self._take(f"<{_SCALARS[kind]}")[0]

    def _check(self, name: str, info: TensorInfo) -> None:
        if info.type not in _BLOCKS:
            known = ", ".join(block.name for block in _BLOCKS.values())
            raise ModelError(
                f"{self.path}: the tensor {name} is of GGUF type {info.type}; readable are {known}"
            )
        if not info.shape or 0 in info.shape or info.shape[-1] % _BLOCKS[info.type].values:
            raise ModelError(
                f"{self.path}: the tensor {name} cannot have the shape {info.shape}; pull it again"
            )
        if info.offset % 8:
            raise ModelError(f"{self.path}: the tensor {name} is out of line; pull it again")
        if info.offset + self._size(info) > len(self._map):
            raise ModelError(
                f"{self.path}: the file is truncated, it ends within {name}; pull it again"
            )

    @staticmethod
    def _size(info: TensorInfo) -> int:
        block = _BLOCKS[info.type]
        return prod(info.shape) // block.values * block.bytes

    def load(self, name: str) -> Tensor:
        """A tensor as float32, in torch's order of dimensions."""
        info = self.tensors[name]
        block = _BLOCKS[info.type]
        raw = torch.frombuffer(
            self._map, dtype=torch.uint8, count=self._size(info), offset=info.offset
        )
        return block.restore(raw.view(-1, block.bytes)).reshape(info.shape)


@dataclass(frozen=True, slots=True)
class _Block:
    name: str
    values: int
    bytes: int
    restore: Callable[[Tensor], Tensor]


def _half(raw: Tensor) -> Tensor:
    """(N, 2k) bytes → (N, k) float32."""
    return raw.contiguous().view(torch.float16).float()


def _f32(raw: Tensor) -> Tensor:
    return raw.clone().view(torch.float32)


def _q4_0(raw: Tensor) -> Tensor:
    scale, packed = _half(raw[:, :2]), raw[:, 2:]  # (N, 1), (N, 16)
    out = torch.empty(len(raw), 32)
    torch.mul((packed & 15).float().sub_(8), scale, out=out[:, :16])
    torch.mul((packed >> 4).float().sub_(8), scale, out=out[:, 16:])
    return out


def _q4_1(raw: Tensor) -> Tensor:
    scale, least, packed = _half(raw[:, :2]), _half(raw[:, 2:4]), raw[:, 4:]  # packed (N, 16)
    out = torch.empty(len(raw), 32)
    torch.mul(packed & 15, scale, out=out[:, :16])
    torch.mul(packed >> 4, scale, out=out[:, 16:])
    return out.add_(least)


def _fives(packed: Tensor, fifth: Tensor) -> Tensor:
    """Five-bit values of 32: four bits from packed, (N, 16), one from fifth, (N, 4)."""
    values = torch.cat((packed & 15, packed >> 4), dim=1)  # (N, 32)
    shifts = torch.arange(8, dtype=torch.uint8)
    bits = ((fifth[..., None] >> shifts) & 1).view(-1, 32)  # (N, 32)
    return values | (bits << 4)


def _q5_0(raw: Tensor) -> Tensor:
    return (_fives(raw[:, 6:], raw[:, 2:6]).to(torch.int8) - 16) * _half(raw[:, :2])


def _q5_1(raw: Tensor) -> Tensor:
    return _fives(raw[:, 8:], raw[:, 4:8]) * _half(raw[:, :2]) + _half(raw[:, 2:4])


def _q8_0(raw: Tensor) -> Tensor:
    return raw[:, 2:].contiguous().view(torch.int8) * _half(raw[:, :2])


def _scales_and_mins(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Of 8 parts of 32 values: a 6-bit scale and a 6-bit minimum each, (N, 8, 1) as float32."""
    scale, least = _half(raw[:, :2])[..., None], _half(raw[:, 2:4])[..., None]  # (N, 1, 1)
    low, high, mixed = raw[:, 4:8], raw[:, 8:12], raw[:, 12:16]  # (N, 4) each
    scales = torch.cat((low & 63, (mixed & 15) | ((low >> 6) << 4)), dim=1)[..., None]  # (N, 8, 1)
    mins = torch.cat((high & 63, (mixed >> 4) | ((high >> 6) << 4)), dim=1)[..., None]  # (N, 8, 1)
    return scale * scales, least * mins


def _q4_k(raw: Tensor) -> Tensor:
    scales, mins = _scales_and_mins(raw)
    packed = raw[:, 16:].view(-1, 4, 1, 32)
    values = torch.cat((packed & 15, packed >> 4), dim=2).view(-1, 8, 32)  # (N, 8, 32)
    return values * scales - mins


def _q5_k(raw: Tensor) -> Tensor:
    scales, mins = _scales_and_mins(raw)
    packed = raw[:, 48:].view(-1, 4, 1, 32)
    values = torch.cat((packed & 15, packed >> 4), dim=2).view(-1, 8, 32)  # (N, 8, 32)
    shifts = torch.arange(8, dtype=torch.uint8).view(1, 8, 1)
    fifth = (raw[:, None, 16:48] >> shifts) & 1  # (N, 8, 32)
    return (values | (fifth << 4)) * scales - mins


def _q6_k(raw: Tensor) -> Tensor:
    """256 values in 16 parts of 16; four bits of each value lie in one place, two in another."""
    low = raw[:, :128].view(-1, 2, 1, 64)
    low = torch.cat((low & 15, low >> 4), dim=2).view(-1, 2, 4, 32)  # (N, 2, 4, 32)
    high = raw[:, 128:192].view(-1, 2, 1, 32)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8).view(1, 1, 4, 1)
    high = (high >> shifts) & 3  # (N, 2, 4, 32)
    values = (low | (high << 4)).view(-1, 16, 16).to(torch.int8) - 32
    scales = raw[:, 192:208].contiguous().view(torch.int8)[..., None]  # (N, 16, 1)
    return values * (_half(raw[:, 208:210])[..., None] * scales)


_BLOCKS = {
    0: _Block("F32", 1, 4, _f32),
    1: _Block("F16", 1, 2, _half),
    2: _Block("Q4_0", 32, 18, _q4_0),
    3: _Block("Q4_1", 32, 20, _q4_1),
    6: _Block("Q5_0", 32, 22, _q5_0),
    7: _Block("Q5_1", 32, 24, _q5_1),
    8: _Block("Q8_0", 32, 34, _q8_0),
    12: _Block("Q4_K", 256, 144, _q4_k),
    13: _Block("Q5_K", 256, 176, _q5_k),
    14: _Block("Q6_K", 256, 210, _q6_k),
}
