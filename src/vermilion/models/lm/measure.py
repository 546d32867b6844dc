"""What int8 costs a model in quality and gains it in speed: both measured, never assumed.

T tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.errors import InputError
from vermilion.models.lm.decoder import Decoder
from vermilion.models.lm.loss import perplexity
from vermilion.models.lm.native import NativeDecoder
from vermilion.models.lm.net import LM
from vermilion.models.lm.tokenizer import Tokenizer

_WINDOW = 512
_MEMORY = 2**30
_STEPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A model in int8 beside itself in float32, in the same decoder, on the same text and machine.

    Attributes:
        float32_perplexity: of the text, exp of the mean loss.
        int8_perplexity: likewise.
        tokens: of the text.
        float32_tokens_per_second: of one text that is written alone.
        int8_tokens_per_second: likewise.
    """

    float32_perplexity: float
    int8_perplexity: float
    tokens: int
    float32_tokens_per_second: float
    int8_tokens_per_second: float

    @property
    def perplexity(self) -> float:
        """Of int8, as a ratio to that of float32: 1.01 predicts a hundredth worse."""
        return self.int8_perplexity / self.float32_perplexity

    @property
    def speed(self) -> float:
        """Of int8, as a ratio to that of float32."""
        return self.int8_tokens_per_second / self.float32_tokens_per_second


def measure(
    net: LM, tokenizer: Tokenizer, text: str, watch: Callable[[int, int], None] | None = None
) -> Measured:
    """Measure a model.

    Args:
        net: the network, in float32 on the CPU.
        tokenizer: its tokenizer.
        text: of the kind that the model writes, and that it was not trained on.
        watch: called with the windows done, and with how many there are.

    Raises:
        InputError: the text is too short.
        ModelError: int8 is not available here.
    """
    ids = tokenizer.encode_plain(text)
    if len(ids) < 2 * _WINDOW:
        raise InputError(
            f"data: it has {len(ids)} tokens; give at least {2 * _WINDOW} that say something"
        )
    decoders = [NativeDecoder(net, _MEMORY, dtype) for dtype in ("float32", "int8")]
    windows = list(_windows(ids, min(_WINDOW, *(decoder.context for decoder in decoders))))
    losses = [0.0, 0.0]
    for number, window in enumerate(windows):
        for i, decoder in enumerate(decoders):
            losses[i] += _loss(decoder.every(window), window)
        if watch is not None:
            watch(number + 1, len(windows))
    count = sum(len(window) - 1 for window in windows)
    float32, int8 = (perplexity(loss / count) for loss in losses)
    speeds = _speeds(decoders, windows[0][:64])
    return Measured(
        float32_perplexity=float32,
        int8_perplexity=int8,
        tokens=count,
        float32_tokens_per_second=speeds[0],
        int8_tokens_per_second=speeds[1],
    )


def _windows(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids) - size + 1, size):
        yield ids[start : start + size]


def _loss(logits: Tensor, window: Sequence[int]) -> float:
    """Sum of the losses of a window's tokens but the first, under logits (T, V)."""
    return float(F.cross_entropy(logits[:-1], torch.tensor(window[1:]), reduction="sum"))


def _speeds(decoders: Sequence[Decoder], prompt: Sequence[int]) -> list[float]:
    """Tokens a second of one text, of each decoder in turn; medians."""
    times: list[list[float]] = [[] for _ in decoders]
    for _ in range(3):
        for decoder, taken in zip(decoders, times, strict=True):
            memory = decoder.start()
            decoder.extend([memory], [prompt])
            for token in prompt[:_STEPS]:
                started = time.perf_counter()
                decoder.extend([memory], [[token]])
                taken.append(time.perf_counter() - started)
            decoder.free(memory)
    return [1 / median(taken) for taken in times]
