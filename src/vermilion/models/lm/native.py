"""The network of net.py, run by decode.c in float32 or int8, and the pages of what it has read.

B sequences, N new tokens of all, V vocabulary, O outputs and K inputs of a matrix.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_int32, c_void_p
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vermilion.errors import ModelError
from vermilion.models.lm.decoder import Memory
from vermilion.models.lm.native_library import (
    BLOCK,
    PAGE,
    PART,
    Layer,
    Matrix,
    Model,
    Scratch,
    library,
)
from vermilion.models.lm.net import LM

_CHUNK = 512  # tokens of a pass, at most
Ints = NDArray[np.int32]
# By their numbers in decode.c.
_ACTIVATIONS = {"silu": 0, "gelu": 1, "gelu_new": 2, "relu": 3, "quick_gelu": 4}
_NORMS = {"rms": 0, "layer": 1}


class Weights:
    """A network's weights as decode.c reads them.

    Args:
        lib: decode.c.
        net: the network; what is needed of it is copied.
        context: most tokens of a text.
        whole: in int8; else in float32.

    Attributes:
        model: the structure `Model` of decode.c.
    """

    def __init__(self, lib: ctypes.CDLL, net: LM, context: int, *, whole: bool) -> None:
        config = net.config
        self._lib, self._whole = lib, whole
        self.config = config
        self.room = context + -context % PAGE
        self._alive: list[Tensor] = []  # what the structures point into
        self._layers = (Layer * config.num_hidden_layers)()
        for number, block in enumerate(net.blocks):
            self._layers[number] = self._layer(block)
        scale = config.attention_scale
        model = Model(
            layers=config.num_hidden_layers,
            size=config.hidden_size,
            inner=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            vocabulary=config.vocab_size,
            norm=_NORMS[config.norm],
            activation=_ACTIVATIONS[config.activation],
            gated=config.gated,
            whole=self._whole,
            eps=config.norm_eps,
            attention_scale=config.head_dim**-0.5 if scale is None else scale,
            embedding=self._floats(net.embedding.weight),
            positions=None if net.positions is None else self._floats(net.positions.weight),
            final_norm=self._floats(net.norm.weight),
            final_norm_bias=self._floats(getattr(net.norm, "bias", None)),
            head=self._matrix(net.head.weight, None),
            layer=self._layers,
        )
        if net.rotary is not None:
            half = config.head_dim // 2
            cosine, sine = net.rotary.angles(torch.arange(context)[None])  # (1, 1, T, D)
            model.cosine = self._floats(cosine[0, 0, :, :half])  # (T, D/2)
            model.sine = self._floats(sine[0, 0, :, :half])  # (T, D/2)
        self.model = model

    def _layer(self, block: Any) -> Layer:
        attention, thought = block.attention, block.feed_forward
        up = thought.gate_up if self.config.gated else thought.up
        return Layer(
            qkv=self._matrix(attention.qkv.weight, attention.qkv.bias),
            attention_out=self._matrix(attention.out.weight, attention.out.bias),
            up=self._matrix(up.weight, up.bias),
            down=self._matrix(thought.down.weight, thought.down.bias),
            attention_norm=self._floats(block.attention_norm.weight),
            attention_norm_bias=self._floats(getattr(block.attention_norm, "bias", None)),
            feed_forward_norm=self._floats(block.feed_forward_norm.weight),
            feed_forward_norm_bias=self._floats(getattr(block.feed_forward_norm, "bias", None)),
            q_norm=self._floats(getattr(attention.q_norm, "weight", None)),
            k_norm=self._floats(getattr(attention.k_norm, "weight", None)),
            window=attention.window or 0,
        )

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.detach().to("cpu").contiguous()
        self._alive.append(tensor)
        return tensor.data_ptr()

    def _floats(self, tensor: Any) -> int | None:
        return None if tensor is None else self._keep(tensor.float())

    def _matrix(self, weight: Tensor, bias: Tensor | None) -> Matrix:
        """A matrix (O, K) as decode.c lays it out, in blocks of 16 outputs."""
        out, inputs = weight.shape
        floats = weight.detach().to("cpu", torch.float32).contiguous()
        if not floats.isfinite().all():  # as bytes they would look like any others
            raise ModelError("the model's weights are not finite; its files are broken")
        rows = out + -out % BLOCK
        layout = {"codes": torch.zeros(rows * inputs)}
        if self._whole:
            layout = self._blocks(floats, rows) or self._bytes(floats, rows)
        else:
            self._call("lay_out", floats, layout)
        if bias is not None:
            layout["bias"] = F.pad(bias.detach().float(), (0, -out % BLOCK))
        kept = {name: self._keep(tensor) for name, tensor in layout.items()}
        return Matrix(**kept, out=out, inputs=inputs)

    def _blocks(self, floats: Tensor, rows: int) -> dict[str, Tensor] | None:
        """Weights that come from a file of four bits, as they are; None for all others."""
        parts = rows * (floats.shape[1] // PART)
        layout = {
            "codes": torch.zeros(parts * PART // 2, dtype=torch.uint8),
            "steps": torch.zeros(parts, dtype=torch.int32),
            "least": torch.zeros(parts),
            "scales": torch.zeros(rows),
        }
        return layout if self._call("pack_blocks", floats, layout) else None

    def _bytes(self, floats: Tensor, rows: int) -> dict[str, Tensor]:
        """Weights rounded to bytes, with a scale for each output."""
        columns = floats.shape[1] + floats.shape[1] % 2
        layout = {
            "codes": torch.zeros(rows * columns, dtype=torch.int8),
            "scales": torch.zeros(rows),
        }
        self._call("pack", floats, layout)
        return layout

    def _call(self, name: str, floats: Tensor, layout: dict[str, Tensor]) -> int:
        """Let a function of decode.c fill a layout with a matrix."""
        found: int = getattr(self._lib, name)(
            c_void_p(floats.data_ptr()),
            *(c_int32(size) for size in floats.shape),
            *(c_void_p(tensor.data_ptr()) for tensor in layout.values()),
            c_int32(torch.get_num_threads()),
        )
        return found

    def scratch(self, tokens: int, threads: int, held: dict[str, Tensor]) -> Scratch:
        """Room for what a pass over so many tokens computes; kept in `held` for the next."""
        config = self.config
        heads = config.num_attention_heads * config.head_dim
        qkv = heads + 2 * config.num_key_value_heads * config.head_dim
        up = config.intermediate_size * (2 if config.gated else 1)
        widest = max(config.hidden_size, heads, config.intermediate_size) + 1
        sizes = {
            "x": tokens * config.hidden_size,
            "wide": tokens * max(qkv, up),
            "seen": tokens * max(config.hidden_size, heads),
            "scores": threads
            * self.room
            * config.num_attention_heads
            // config.num_key_value_heads,
            "scales": tokens * max(1, 2 * (widest // PART)),
            "codes": tokens * widest,  # of four bytes at most
            "unpacked": threads * BLOCK * widest // 4,  # of one byte
        }
        for name, size in sizes.items():
            if name not in held or held[name].numel() < size:
                held[name] = torch.empty(size)
        return Scratch(*(held[name].data_ptr() for name in sizes), widest)


class NativeDecoder:
    """A network on a CPU, and the pages that hold what it has read. A `decoder.Decoder`.

    Args:
        net: the network; what it needs of it is copied.
        memory: most bytes for keys and values.
        dtype: of its matrices, "int8" or "float32".

    Raises:
        ModelError: there is no compiler or not so much memory, or weights are not finite.
    """

    keeps = True
    tolerance = 0.0

    def __init__(self, net: LM, memory: int, dtype: str = "int8") -> None:
        lib = library()
        if lib is None:
            raise ModelError("this decoder needs a C compiler; install gcc or clang")
        whole = dtype == "int8"
        self._lib, self.config = lib, net.config
        config = net.config
        numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * PAGE * config.head_dim
        self._page_bytes: int = numbers * lib.kept_size(c_int32(whole))
        # Reserved, not used: the system gives memory page by page when it is written.
        count = max(2, memory // self._page_bytes)
        try:
            self._pool = torch.empty(count, self._page_bytes, dtype=torch.uint8)
        except RuntimeError:
            raise ModelError(
                f"VERMILION_CACHE_MEMORY: this machine cannot give {memory / 1e9:.0f} GB; lower it"
            ) from None
        self._free = list(range(count - 1, -1, -1))
        self._users = [0] * count
        self.context = min(config.max_position_embeddings, count * PAGE)
        self._weights = Weights(lib, net, self.context, whole=whole)
        self._scratch: dict[str, Tensor] = {}

    @property
    def capacity(self) -> int:
        """See `Decoder.capacity`."""
        return len(self._users) * self._page_bytes

    @property
    def used(self) -> int:
        """See `Decoder.used`."""
        return self.capacity - len(self._free) * self._page_bytes

    def room(self, memory: Memory | None, tokens: int) -> int:
        """See `Decoder.room`."""
        held = 0 if memory is None else len(_pages(memory).pages)
        return max(0, -(-tokens // PAGE) - held) * self._page_bytes

    def start(self) -> Memory:
        """See `Decoder.start`."""
        return _Pages()

    def fork(self, memory: Memory, length: int) -> Memory:
        """See `Decoder.fork`. Whole pages are shared, the last one is copied."""
        new, full = _Pages(), length // PAGE
        last = self._take() if length % PAGE else None  # first, for it may find none
        new.pages = _pages(memory).pages[:full]
        for page in new.pages:
            self._users[page] += 1
        if last is not None:
            self._pool[last] = self._pool[_pages(memory).pages[full]]
            new.pages.append(last)
        new.length = length
        return new

    def free(self, memory: Memory) -> None:
        """See `Decoder.free`."""
        for page in _pages(memory).pages:
            self._users[page] -= 1
            if self._users[page] == 0:
                self._free.append(page)
        memory.length, _pages(memory).pages = 0, []

    def _take(self) -> int:
        if not self._free:
            raise ModelError(
                "the memory for texts is full; raise VERMILION_CACHE_MEMORY or write fewer at once"
            )
        page = self._free.pop()
        self._users[page] = 1
        return page

    def extend(self, memories: Sequence[Memory], tokens: Sequence[Sequence[int]]) -> Tensor:
        """See `Decoder.extend`."""
        held = [_pages(memory) for memory in memories]
        ids = self._ids(np.concatenate([np.asarray(new, np.int32) for new in tokens]))  # (N,)
        for one, new in zip(held, tokens, strict=True):
            if one.length + len(new) > self.config.max_position_embeddings:
                raise ModelError("a text is longer than the network's context")
            while len(one.pages) * PAGE < one.length + len(new):
                one.pages.append(self._take())
        counts = np.array([len(new) for new in tokens])
        ends = counts.cumsum()
        starts = np.array([one.length for one in held])
        owner = np.repeat(np.arange(len(held), dtype=np.int32), counts)  # (N,)
        offsets = np.arange(len(ids)) - np.repeat(ends - counts, counts)
        positions = (np.repeat(starts, counts) + offsets).astype(np.int32)  # (N,)
        most = max(len(one.pages) for one in held)
        pages = np.zeros((len(held), most), np.int32)
        for row, one in zip(pages, held, strict=True):
            row[: len(one.pages)] = one.pages
        logits = torch.empty(len(held), self.config.vocab_size)  # (B, V)
        for first in range(0, len(ids), _CHUNK):
            part = slice(first, first + _CHUNK)
            here = np.flatnonzero((ends > first) & (ends <= first + _CHUNK))
            wanted = (ends[here] - 1 - first).astype(np.int32)
            rows = logits[int(here[0]) : int(here[-1]) + 1] if len(here) else logits[:0]
            self._forward(ids[part], positions[part], owner[part], pages, wanted, rows)
        for one, new in zip(held, tokens, strict=True):
            one.length += len(new)
        return logits

    def _ids(self, ids: Ints) -> Ints:
        """Tokens, (N,), that decode.c may look up as they are."""
        if ids.min() < 0 or ids.max() >= self.config.vocab_size:
            raise ModelError("a token is not in the network's vocabulary")
        return ids

    def alone(self, ids: Sequence[int]) -> Tensor:
        """See `Decoder.alone`."""
        memory = self.start()
        try:
            return self.extend([memory], [ids])
        finally:
            self.free(memory)

    def every(self, ids: Sequence[int]) -> Tensor:
        """Logits of what follows each token of a text, (T, V), float32; to measure it."""
        memory = _Pages()
        try:
            while len(memory.pages) * PAGE < len(ids):
                memory.pages.append(self._take())
            logits = torch.empty(len(ids), self.config.vocab_size)  # (T, V)
            pages = np.array([memory.pages], np.int32)
            for first in range(0, len(ids), _CHUNK):
                new = self._ids(np.asarray(ids[first : first + _CHUNK], np.int32))
                each = np.arange(len(new), dtype=np.int32)
                self._forward(
                    new,
                    each + np.int32(first),
                    np.zeros_like(each),
                    pages,
                    each,
                    logits[first : first + len(new)],
                )
            return logits
        finally:
            self.free(memory)

    def _forward(
        self, ids: Ints, positions: Ints, owner: Ints, pages: Ints, wanted: Ints, logits: Tensor
    ) -> None:
        threads = torch.get_num_threads()
        scratch = self._weights.scratch(max(len(ids), len(wanted)), threads, self._scratch)
        arrays = (ids, positions, owner, pages)
        self._lib.forward(
            ctypes.byref(self._weights.model),
            c_void_p(self._pool.data_ptr()),
            c_int32(len(ids)),
            *(c_void_p(array.ctypes.data) for array in arrays),
            c_int32(pages.shape[1]),
            c_int32(len(wanted)),
            c_void_p(wanted.ctypes.data),
            c_void_p(logits.data_ptr()),
            scratch,
            c_int32(self._weights.room),
            c_int32(threads),
        )


class _Pages(Memory):
    """Pages of the pool, in order."""

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.length = 0


def _pages(memory: Memory) -> _Pages:
    if not isinstance(memory, _Pages):
        raise ModelError("this memory belongs to another decoder")
    return memory
