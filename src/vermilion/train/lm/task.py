"""A language model as the loop sees it. B batch, T tokens, C hidden size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vermilion.data.packed import Tokens
from vermilion.data.windows import Windows, in_order
from vermilion.models.lm.decoder import TorchDecoder
from vermilion.models.lm.generate import Generator, Request
from vermilion.models.lm.loss import IGNORED, chunked_loss, perplexity
from vermilion.models.lm.net import LM
from vermilion.models.lm.sample import Sampling
from vermilion.models.lm.tokenizer import Tokenizer

_CPU_TOKENS = 1024  # at once: 2,048 took a twentieth longer, 8,192 a fifth
_SAMPLE_TOKENS = 120
_TEMPERATURE = 0.8
_SAMPLES = 2

Batch = tuple[Tensor, Tensor]
"""Ids, (B, T), and targets, (B, T), both int64."""


class LanguageTask:
    """Next-token prediction on windows of a row of tokens; see `train.task.Task`.

    Args:
        net: what is trained.
        tokenizer: for the samples.
        windows: of the text that is trained on.
        validation: what is held back; None: nothing.
        batch_size: windows of a batch of the validation.
        prompts: what the samples begin with; by default what is held back gives them.
    """

    unit = "tokens"
    columns: tuple[str, ...] = ("perplexity",)

    def __init__(
        self,
        net: LM,
        tokenizer: Tokenizer,
        windows: Windows,
        validation: Tokens | None,
        *,
        batch_size: int,
        prompts: tuple[str, ...] = (),
    ) -> None:
        self.model: nn.Module = net
        self.net, self.tokenizer, self.windows = net, tokenizer, windows
        self.validation, self.batch_size, self.prompts = validation, batch_size, prompts
        self.per_item = windows.length
        self.at_once = max(1, _CPU_TOKENS // windows.length)

    def batch(self, first: int, size: int, device: torch.device) -> Batch:
        """Windows number `first` to `first + size - 1`."""
        return _batch(*self.windows.batch(first, size), device)

    def weight(self, batch: Batch) -> float:
        """How many tokens are predicted."""
        return float((batch[1] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, summed over the tokens, ()."""
        assert isinstance(model, LM)  # noqa: S101 - for the type
        return chunked_loss(model.features(batch[0]), model.head.weight, batch[1])

    def held_back(self, batches: int, device: torch.device) -> Iterator[Batch]:
        """Batches of what is held back: all of it, or evenly spread parts of it."""
        if self.validation is None:
            return
        length = min(self.windows.length, len(self.validation) - 1)
        if length < 1:
            return
        windows = (len(self.validation) - 1) // length
        count = -(-windows // self.batch_size)
        for number in np.linspace(0, count - 1, min(batches, count)).round().astype(int).tolist():
            first = number * self.batch_size
            size = min(self.batch_size, windows - first)
            yield _batch(*in_order(self.validation, length, first, size), device)

    def figures(self, loss: float) -> dict[str, float]:
        """Mean loss per token in nats, and perplexity."""
        return {"loss": loss, "perplexity": perplexity(loss)}

    def samples(self, model: nn.Module, step: int) -> str:
        """Texts that the model writes at temperature 0.8."""
        prompts = [self.tokenizer.encode(text) for text in self.prompts] or self._beginnings()
        room = self.windows.length
        asked = [
            Request(
                ids=ids[-max(1, room // 2) :],
                sampling=Sampling(temperature=_TEMPERATURE, seed=step),
                max_new_tokens=max(1, min(_SAMPLE_TOKENS, room - len(ids))),
            )
            for ids in prompts
        ]
        texts = [self.tokenizer.decode(ids) for ids in prompts]
        generator = Generator(TorchDecoder(self.net), self.tokenizer)
        # The cache holds what the weights are; training in bfloat16 leaves them as float32.
        with torch.autocast(self.net.device.type, enabled=False):
            for piece in generator.generate(asked):
                texts[piece.index] += piece.text
        return "\n\n".join(text.strip() for text in texts)

    def _beginnings(self) -> list[list[int]]:
        """A few tokens each, from places in what is held back, else in the text itself."""
        source = self.validation if self.validation is not None else self.windows.tokens
        length = min(8, len(source) - 1)
        return [
            source.window(len(source) * i // (_SAMPLES + 1), length)[0].tolist()
            for i in range(1, _SAMPLES + 1)
        ]


def _batch(ids: NDArray[np.int64], mask: NDArray[np.uint8] | None, device: torch.device) -> Batch:
    """Inputs and targets of windows of T + 1 tokens, (B, T + 1)."""
    whole = torch.from_numpy(ids)  # (B, T + 1)
    targets = whole[:, 1:].clone()  # (B, T)
    if mask is not None:
        targets[torch.from_numpy(mask[:, 1:]) == 0] = IGNORED
    return whole[:, :-1].to(device), targets.to(device)
