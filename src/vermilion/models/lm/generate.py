"""The generation loop: sequences join a batch, take a token each step, and leave it.

B sequences in the batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from llguidance import LLMatcher
from tokenizers.decoders import DecodeStream
from torch import Tensor

from vermilion.errors import InputError, ModelError
from vermilion.models.lm import grammar, sample
from vermilion.models.lm.beam import BeamSearch, CachedDecoder, Hypothesis, Task, search
from vermilion.models.lm.logits import LogitsHook, Row
from vermilion.models.lm.net import LM
from vermilion.models.lm.sample import Choice, Sampling, choose
from vermilion.models.lm.tokenizer import Tokenizer
from vermilion.nn.attention import KeyValueCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A text to be continued.

    Attributes:
        ids: its tokens, at least one.
        sampling: how each token is chosen.
        max_new_tokens: at least 1.
        stop: strings that end the text, none empty; they are not part of it.
        stop_token_ids: tokens that end the text, besides the model's own.
        grammar: that the new text has to follow, see `grammar`; None: free.
        hooks: change the logits before each choice, see `logits.LogitsHook`.
        beams: search for the likeliest text instead of choosing token by token; its best one
            comes as one piece. Not with a grammar, temperature above 0, or logprobs above 0.
    """

    ids: Sequence[int]
    sampling: Sampling
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    grammar: str | None = None
    hooks: tuple[LogitsHook, ...] = ()
    beams: BeamSearch | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some new text of one request; with `finish`, its last.

    Attributes:
        index: of the request.
        text: what is new; may be empty.
        finish: None, "stop" (the model or a stop string ended it) or "length".
        tokens: number of tokens made so far.
        logprob: sum of their log-probabilities.
        choices: those made since the piece before, where `Sampling.logprobs` is not None.
    """

    index: int
    text: str
    finish: str | None
    tokens: int
    logprob: float
    choices: tuple[Choice, ...] = ()


_FIRST_ROOM = 128  # new tokens


class _Text:
    """Token ids turned into text piece by piece, up to a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._stream = DecodeStream(skip_special_tokens=True)
        self._undecoded: list[int] = []
        self._held = ""

    def add(self, token: int) -> tuple[str, bool]:
        """The text that can be shown now, and whether a stop string was reached."""
        self._undecoded.append(token)
        new = self._stream.step(self._tokenizer.fast, token)  # None within a character
        if new:
            self._held += new
            self._undecoded.clear()
        at = min((i for s in self._stop if (i := self._held.find(s)) >= 0), default=-1)
        if at >= 0:
            text, self._held = self._held[:at], ""
            return text, True
        keep = max((_overlap(self._held, s) for s in self._stop), default=0)
        text = self._held[: len(self._held) - keep]
        self._held = self._held[len(text) :]
        return text, False

    def rest(self) -> str:
        """What was held back because it might have become a stop string or a character."""
        text = self._held + self._tokenizer.decode(self._undecoded).rstrip(
            "\N{REPLACEMENT CHARACTER}"
        )
        self._held = ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(slots=True)
class _Sequence:
    """A request while it is being worked on. The last of `ids` is not yet in the cache."""

    index: int
    request: Request
    text: _Text
    matcher: LLMatcher | None
    row: Row
    logprob: float = 0.0
    choices: list[Choice] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return self.row.ids


def _check_search(request: Request) -> None:
    if request.sampling.temperature > 0:
        raise InputError("temperature: beam search takes no chances; make it 0, or num_beams 1")
    if request.grammar is not None:
        raise InputError("num_beams: beam search follows no schema, pattern or grammar; make it 1")
    if request.sampling.logprobs:
        raise InputError("logprobs: beam search tells no alternatives; make it 0, or num_beams 1")


class Generator:
    """Continues many texts side by side.

    Args:
        net: the model, in evaluation mode.
        tokenizer: its tokenizer.
        max_batch: most sequences that are decoded at once; the others wait.
    """

    def __init__(self, net: LM, tokenizer: Tokenizer, max_batch: int = 16) -> None:
        self.net, self.tokenizer, self.max_batch = net, tokenizer, max_batch
        self._eos = frozenset(net.config.eos_token_ids) | (
            frozenset() if tokenizer.eos_id is None else {tokenizer.eos_id}
        )

    def generate(self, requests: Sequence[Request]) -> Iterator[Piece]:
        """Yield pieces of all requests as they are made; closing the iterator stops the work.

        Raises:
            InputError: a request is empty, longer than the model's context, or has a grammar
                that cannot be read.
            ModelError: the model's weights or its tokenizer are broken.
        """
        for request in requests:
            self._check(request)
        searches = [(i, r) for i, r in enumerate(requests) if r.beams is not None]
        waiting = [self._start(i, r) for i, r in enumerate(requests) if r.beams is None][::-1]
        if waiting:
            yield from self._sample(waiting)
        yield from self._search(searches)

    def _sample(self, waiting: list[_Sequence]) -> Iterator[Piece]:
        """Write token by token; the last of the waiting comes first."""
        requests = [sequence.request for sequence in waiting]
        # Few texts reach max_new_tokens: there is room for their beginning, and it grows.
        length = max(len(r.ids) + min(r.max_new_tokens, _FIRST_ROOM) for r in requests)
        rows = min(self.max_batch, len(requests))
        cache = self.net.new_cache(rows, length)
        active: list[_Sequence] = []
        while waiting or active:
            while waiting and len(active) < rows:
                sequence = waiting.pop()
                logits = self._prefill(sequence, active, cache)
                active.append(sequence)
                (choice,) = self._choose([sequence], logits)
                yield from self._advance(active, len(active) - 1, choice, cache)
            yield from self._decode(active, cache)

    def _check(self, request: Request) -> None:
        context = self.net.config.max_position_embeddings
        if not request.ids:
            raise InputError("prompt: it is empty; write what the text should be about")
        if len(request.ids) >= context:
            raise InputError(
                f"prompt: it has {len(request.ids)} tokens and the model reads at most"
                f" {context - 1}; shorten it or choose a model with a longer context"
            )
        if max(request.ids) >= self.net.config.vocab_size:
            raise ModelError(
                f"the tokenizer knows the token {max(request.ids)} and the network has only"
                f" {self.net.config.vocab_size}; the model's files do not belong together"
            )
        if "" in request.stop:
            raise InputError("stop: a stop string is empty; leave it out")
        if request.max_new_tokens < 1:
            raise InputError(f"max_new_tokens: must be at least 1 (found {request.max_new_tokens})")
        if request.beams is not None:
            _check_search(request)
        least = request.sampling.min_new_tokens
        if least > request.max_new_tokens:
            raise InputError(
                f"min_new_tokens: {least} is more than max_new_tokens, {request.max_new_tokens};"
                " lower the one or raise the other"
            )

    def _start(self, index: int, request: Request) -> _Sequence:
        matcher = None
        if request.grammar is not None:
            matcher = grammar.start(self.tokenizer, request.grammar)
        text = _Text(self.tokenizer, request.stop)
        return _Sequence(index, request, text, matcher, self._row(request))

    def _row(self, request: Request) -> Row:
        return Row(
            request.sampling,
            request.ids,
            ends=self._eos | set(request.stop_token_ids),
            hooks=request.hooks,
            tolerance=sample.TOLERANCE,
        )

    def _search(self, waiting: Sequence[tuple[int, Request]]) -> Iterator[Piece]:
        """Search for the likeliest texts, as many prompts at once as the batch has room for."""
        while waiting:
            count = 1
            while count < len(waiting) and _beams(waiting[: count + 1]) <= self.max_batch:
                count += 1
            batch, waiting = waiting[:count], waiting[count:]
            tasks = [self._task(request) for _, request in batch]
            for number, (best, *_) in search(CachedDecoder(self.net, _beams(batch)), tasks):
                yield self._found(*batch[number], best)

    def _task(self, request: Request) -> Task:
        def stopped(ids: Sequence[int]) -> bool:
            text = self.tokenizer.decode(ids)
            return any(stop in text for stop in request.stop)

        context = self.net.config.max_position_embeddings
        return Task(
            row=self._row(request),
            beams=request.beams or BeamSearch(num_beams=1),
            max_new_tokens=min(request.max_new_tokens, context - len(request.ids)),
            stopped=stopped if request.stop else None,
        )

    def _found(self, index: int, request: Request, best: Hypothesis) -> Piece:
        ended = best.ids[-1] in self._eos | set(request.stop_token_ids)
        text = self.tokenizer.decode(best.ids[:-1] if ended else best.ids)
        stops = [at for stop in request.stop if (at := text.find(stop)) >= 0]
        text = text[: min(stops)] if stops else text.rstrip("\N{REPLACEMENT CHARACTER}")
        told = request.sampling.logprobs is not None
        pairs = zip(best.ids, best.logprobs, strict=True) if told else ()
        choices = tuple(Choice(token, logprob, certain=True) for token, logprob in pairs)
        finish = "stop" if ended or stops else "length"
        return Piece(index, text, finish, len(best.ids), sum(best.logprobs), choices)

    def _prefill(self, new: _Sequence, active: list[_Sequence], cache: KeyValueCache) -> Tensor:
        """Compute the prompt in the next free row; a beginning shared with a row is copied."""
        row, shared, source = len(active), 0, -1
        for i, other in enumerate(active):
            common = _common_prefix(new.ids, other.ids[:-1])
            if common > shared:
                shared, source = common, i
        shared = min(shared, len(new.ids) - 1)  # at least one token has to be computed
        if shared:
            cache.copy_row(source, row, shared)
        ids = torch.tensor([new.ids[shared:]], device=self.net.device)  # (1, T)
        positions = torch.arange(shared, len(new.ids), device=self.net.device)[None]  # (1, T)
        past = cache.at(positions, first_row=row)
        return self._logits(ids, positions=positions, past=past)  # (1, V)

    def _decode(self, active: list[_Sequence], cache: KeyValueCache) -> Iterator[Piece]:
        """One token for every sequence in the batch."""
        if not active:
            return
        longest = max(len(sequence.ids) for sequence in active)
        if longest > cache.length:
            cache.grow(length=2 * longest)
        ids = torch.tensor([[s.ids[-1]] for s in active], device=self.net.device)  # (B, 1)
        positions = torch.tensor([[len(s.ids) - 1] for s in active], device=self.net.device)
        logits = self._logits(ids, positions=positions, past=cache.at(positions))  # (B, V)
        choices = self._choose(active, logits)
        # From the last row to the first: when a sequence leaves, the last takes its row.
        for row in reversed(range(len(active))):
            yield from self._advance(active, row, choices[row], cache)

    def _logits(self, ids: Tensor, **where: Any) -> Tensor:
        """(B, T) → (B, V), after the last token."""
        # Not around the loop: between two pieces it would hold in the caller's code as well.
        with torch.inference_mode():
            batch, tokens = ids.shape
            last = torch.arange(1, batch + 1, device=ids.device) * tokens - 1  # (B,)
            logits: Tensor = self.net(ids, last=last, **where)  # (B, V)
        return logits

    def _advance(
        self,
        active: list[_Sequence],
        row: int,
        choice: Choice,
        cache: KeyValueCache,
    ) -> Iterator[Piece]:
        """Take the next token of one row; let the sequence go when it is its last."""
        sequence = active[row]
        sequence.row.append(choice.token)
        if sequence.request.sampling.logprobs is not None:
            sequence.choices.append(choice)
        sequence.logprob += choice.logprob
        text, finish = self._read(sequence, choice.token)
        if finish is not None:
            last = len(active) - 1
            if row != last:
                cache.copy_row(last, row, len(active[last].ids))
                active[row] = active[last]
            active.pop()
        if text or finish is not None:
            choices, sequence.choices = tuple(sequence.choices), []
            made = sequence.row.step
            yield Piece(sequence.index, text, finish, made, sequence.logprob, choices)

    def _choose(self, sequences: Sequence[_Sequence], logits: Tensor) -> list[Choice]:
        """The next token of each sequence; logits are (B, V)."""
        led = [(s, s.matcher) for s in sequences if s.matcher is not None]
        if led:
            masks = grammar.allowed([m for _, m in led], self.tokenizer, logits.shape[1])
            for (sequence, _), mask in zip(led, masks, strict=True):
                sequence.row.allowed = mask
        choices = choose(logits, [s.row for s in sequences])
        for i, sequence in enumerate(sequences):
            if not choices[i].certain:
                alone = self._logits(torch.tensor([sequence.ids], device=self.net.device))
                (choices[i],) = choose(alone, [sequence.row])
        return choices

    def _read(self, sequence: _Sequence, token: int) -> tuple[str, str | None]:
        """The new text of a sequence, and why it ends here, if it does."""
        complete = sequence.matcher is not None and grammar.follow(sequence.matcher, token)
        if token in sequence.row.ends:
            return sequence.text.rest(), "stop"
        text, stopped = sequence.text.add(token)
        if stopped:
            return text, "stop"
        if complete:
            return text + sequence.text.rest(), "stop"
        context = self.net.config.max_position_embeddings
        if sequence.row.step >= sequence.request.max_new_tokens or len(sequence.ids) >= context:
            return text + sequence.text.rest(), "length"
        return text, None


def _beams(requests: Sequence[tuple[int, Request]]) -> int:
    return sum(request.beams.num_beams for _, request in requests if request.beams is not None)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
