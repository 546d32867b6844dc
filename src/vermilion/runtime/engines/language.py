"""The engine of language models: prompts to text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import llguidance
import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from vermilion.errors import InputError
from vermilion.models.lm import grammar, io, native_library
from vermilion.models.lm.beam import BeamSearch
from vermilion.models.lm.decoder import Decoder, TorchDecoder
from vermilion.models.lm.generate import Generator, Request
from vermilion.models.lm.logits import LogitsHook
from vermilion.models.lm.native import NativeDecoder
from vermilion.models.lm.sample import Choice, Sampling
from vermilion.models.lm.tokenizer import Tokenizer
from vermilion.nn.packed import pack
from vermilion.runtime.cards import Card
from vermilion.runtime.device import choose_device, choose_dtype
from vermilion.runtime.engines import GreenTokens, OnPiece
from vermilion.settings import Settings
from vermilion.types import Prompt, Sample, TextSettings


class LanguageEngine:
    """A language model of the room `models.lm`, opened.

    Args:
        decoder: the network and its memory.
        tokenizer: its tokenizer.
        parameters: how many weights the network has.
        device: where it runs, and in which numbers.
        max_batch: most texts that are written at once.

    Attributes:
        decoder: the same.
        tokenizer: the same.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        *,
        parameters: int,
        device: str,
        max_batch: int = 64,
    ) -> None:
        self.decoder, self.tokenizer = decoder, tokenizer
        self.parameters, self.device = parameters, device
        self.versions: Mapping[str, str] = {
            "torch": torch.__version__,
            "llguidance": llguidance.__version__,
        }
        self._generator = Generator(decoder, tokenizer, max_batch)
        self._green: GreenTokens | None = None

    @classmethod
    def memory(cls, card: Card, path: Path) -> int:
        """About how many bytes the opened model takes: its weights as float32."""
        return io.count_parameters(path) * 4

    @classmethod
    def open(cls, card: Card, path: Path, settings: Settings) -> Self:
        """Open a transformers folder or a GGUF file.

        Raises:
            ModelError: the files are broken or of an architecture that is not supported; or
                int8 is asked for where there is none.
        """
        device = choose_device(settings)
        dtype = choose_dtype(settings, device, card.options.get("int8"))
        half = dtype == "bfloat16"
        net, tokenizer = io.load(path, device, torch.bfloat16 if half else torch.float32)
        parameters = sum(weight.numel() for weight in net.parameters())
        memory = settings.cache_memory or psutil.virtual_memory().available // 4
        decoder: Decoder
        if device == "cpu" and not half and native_library.available():
            decoder = NativeDecoder(net, memory, dtype)
        else:
            if device == "cpu":
                pack(net)
            decoder = TorchDecoder(net, memory)
        return cls(
            decoder,
            tokenizer,
            parameters=parameters,
            device=f"{device} {dtype}",
            max_batch=settings.max_batch,
        )

    def use_watermark(self, greens: Callable[[int], GreenTokens]) -> None:
        """See `Watermarked.use_watermark`; the key is asked for when a text first needs it."""
        size, made = self.decoder.config.vocab_size, list[GreenTokens]()

        def green(ids: Sequence[int]) -> NDArray[np.bool_]:
            if not made:
                made.append(greens(size))
            return made[0](ids)

        self._green = green

    def generate(
        self, prompts: Sequence[Prompt], on_piece: OnPiece | None = None
    ) -> Iterator[tuple[int, Sample]]:
        """Yield (number, sample) as texts are finished; see `Engine.generate`.

        A sample's notes: "tokens", "logprob" (mean per token, natural logarithm),
        "finish" ("stop" or "length"), "echo" (True where the prompt stands before the text)
        and, where the settings ask for them, "logprobs": for each token its text, id, logprob
        and, under "top", its likeliest alternatives.

        Raises:
            InputError: a prompt is too long, or its schema, pattern or grammar cannot be used.
        """
        texts = [""] * len(prompts)
        echoes = [self._echo(prompt) for prompt in prompts]
        told: list[list[dict[str, Any]]] = [[] for _ in prompts]
        for piece in self._generator.generate([self._request(prompt) for prompt in prompts]):
            text, echoes[piece.index] = echoes[piece.index] + piece.text, ""
            texts[piece.index] += text
            if on_piece is not None and text:
                on_piece(piece.index, text)
            told[piece.index] += [self._told(choice) for choice in piece.choices]
            if piece.finish is not None:
                notes: dict[str, Any] = {
                    "tokens": piece.tokens,
                    "logprob": round(piece.logprob / piece.tokens, 6),
                    "finish": piece.finish,
                }
                prompt = prompts[piece.index]
                if self._echo(prompt):
                    notes["echo"] = True
                if prompt.settings.get("logprobs") is not None:
                    notes["logprobs"] = told[piece.index]
                yield piece.index, Sample(prompt=prompt, content=texts[piece.index], notes=notes)

    def _echo(self, prompt: Prompt) -> str:
        """What stands before the text: the prompt, where the model just goes on with it."""
        settings = TextSettings(**prompt.settings)
        led = settings.schema is not None or settings.pattern or settings.grammar
        told = settings.echo and self.tokenizer.chat_template is None and not led
        return prompt.text if told else ""

    def _told(self, choice: Choice) -> dict[str, Any]:
        chosen, *top = (
            {
                "token": self.tokenizer.fast.decode([token], skip_special_tokens=False),
                "id": token,
                "logprob": round(logprob, 6),
            }
            for token, logprob in [(choice.token, choice.logprob), *choice.top]
        )
        return {**chosen, "top": top}

    def _request(self, prompt: Prompt) -> Request:
        settings = TextSettings(**prompt.settings)
        strange = self._strangers(prompt.text)
        if strange:
            raise InputError(
                f"prompt: {prompt.model} has never seen {strange}; write it with other characters"
            )
        return Request(
            ids=self._ids(prompt.text, settings),
            sampling=Sampling(
                temperature=settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                min_p=settings.min_p,
                repetition_penalty=settings.repetition_penalty,
                presence_penalty=settings.presence_penalty,
                frequency_penalty=settings.frequency_penalty,
                no_repeat_ngram_size=settings.no_repeat_ngram_size,
                min_new_tokens=settings.min_new_tokens,
                logprobs=settings.logprobs,
                seed=prompt.seed,
            ),
            max_new_tokens=settings.max_new_tokens,
            stop=tuple(settings.stop),
            stop_token_ids=tuple(settings.stop_token_ids),
            grammar=grammar.from_settings(settings.schema, settings.pattern, settings.grammar),
            hooks=self._hooks(settings),
            beams=_beams(settings),
            beam_rank=settings.beam_rank,
        )

    def _hooks(self, settings: TextSettings) -> tuple[LogitsHook, ...]:
        """The text watermark, where the settings ask for one."""
        led = settings.schema is not None or settings.pattern or settings.grammar
        delta, green = settings.watermark, self._green
        if delta == 0 or led:
            return ()
        if green is None:
            raise InputError("watermark: this model was opened without a key; set it to 0")

        def hook(ids: Sequence[int], prompt_length: int, logits: Tensor) -> Tensor:
            # The array is not written to, but torch warns of one that must not be.
            chosen = torch.from_numpy(green(ids).copy())  # (V,)
            return logits.add_(chosen.to(logits.device), alpha=delta)

        return (hook,)

    def _strangers(self, text: str) -> str:
        """Characters that a model which was trained on characters does not know."""
        spelt = [c for c in dict.fromkeys(text) if len(self.tokenizer.encode_plain(c)) > 1]
        return "".join(spelt) if spelt and self._of_characters else ""

    @cached_property
    def _of_characters(self) -> bool:
        """Whether each token is a character, the rest being spelt in bytes it was not taught."""
        return bool(json.loads(self.tokenizer.fast.to_str())["model"].get("merges") == [])

    def _ids(self, text: str, settings: TextSettings) -> list[int]:
        """The conversation as the model was tuned for it; plain text where it was not."""
        turns = [part for example in settings.examples for part in example] + [text]
        if self.tokenizer.chat_template is None:
            turns = [settings.system, *turns]
            return self.tokenizer.encode_prompt("\n\n".join(filter(None, turns)))
        messages = [{"role": "system", "content": settings.system}] if settings.system else []
        for number, turn in enumerate(turns):
            messages.append({"role": "assistant" if number % 2 else "user", "content": turn})
        return self.tokenizer.encode_chat(messages)


def _beams(settings: TextSettings) -> BeamSearch | None:
    if settings.num_beams == 1:
        return None
    return BeamSearch(
        num_beams=settings.num_beams,
        length_penalty=settings.length_penalty,
        early_stopping=settings.early_stopping,
    )
