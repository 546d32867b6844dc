"""Continues texts: the door to sampling and to beam search. Read schedule.py for the loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from vermilion.errors import InputError
from vermilion.models.lm import grammar
from vermilion.models.lm.beam import BeamSearch, Hypothesis, Task, search
from vermilion.models.lm.decoder import Decoder
from vermilion.models.lm.logits import Row
from vermilion.models.lm.request import Piece, Request, check
from vermilion.models.lm.sample import Choice
from vermilion.models.lm.schedule import Scheduler, Writing
from vermilion.models.lm.text_stream import TextStream
from vermilion.models.lm.tokenizer import Tokenizer

__all__ = ["Generator", "Piece", "Request"]


class Generator:
    """Continues many texts side by side, for many callers.

    Args:
        decoder: reads tokens: a network and its memory.
        tokenizer: its tokenizer.
        max_batch: most texts that are written at once; the others wait.
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, max_batch: int = 16) -> None:
        self.decoder, self.tokenizer, self.max_batch = decoder, tokenizer, max_batch
        self._scheduler = Scheduler(decoder, tokenizer, max_batch)
        self._eos = frozenset(decoder.config.eos_token_ids) | (
            frozenset() if tokenizer.eos_id is None else {tokenizer.eos_id}
        )

    def generate(self, requests: Sequence[Request]) -> Iterator[Piece]:
        """Yield pieces of all requests as they are made; closing the iterator stops the work.

        Several iterators may be read at once, from one thread or from many: their texts are
        written side by side.

        Raises:
            InputError: a request is empty, longer than the model's context, or has a grammar
                that cannot be read.
            ModelError: the model's weights or its tokenizer are broken.
        """
        for request in requests:
            check(request, self.decoder.config)
        searches = [(i, r) for i, r in enumerate(requests) if r.beams is not None]
        writings = [self._start(i, r) for i, r in enumerate(requests) if r.beams is None]
        try:
            self._scheduler.submit(writings)
            yield from self._sample(writings)
        finally:
            self._scheduler.cancel(writings)
        yield from self._search(searches)

    def _sample(self, writings: list[Writing]) -> Iterator[Piece]:
        while writings:
            for writing in writings:
                while writing.pieces:
                    yield writing.pieces.popleft()
                if writing.failed is not None:
                    raise writing.failed
            # `done` is asked first: another thread may be adding the last piece right now.
            writings = [w for w in writings if not w.done or w.pieces or w.failed is not None]
            if writings:
                self._scheduler.advance(writings)

    def _start(self, index: int, request: Request) -> Writing:
        matcher = None
        if request.grammar is not None:
            matcher = grammar.start(self.tokenizer, request.grammar)
        text = TextStream(self.tokenizer, request.stop)
        return Writing(index, request, self._row(request), text, matcher)

    def _row(self, request: Request) -> Row:
        return Row(
            request.sampling,
            request.ids,
            ends=self._eos | set(request.stop_token_ids),
            hooks=request.hooks,
            tolerance=self.decoder.tolerance,
        )

    def _search(self, asked: Sequence[tuple[int, Request]]) -> Iterator[Piece]:
        """Search for the likeliest texts, as many prompts at once as the batch has room for.

        Requests beside one another that only ask for another of the texts share a search.
        """
        groups = [list(group) for _, group in groupby(asked, lambda pair: _searched(pair[1]))]
        waiting = [(number, _searched(group[0][1])) for number, group in enumerate(groups)]
        while waiting:
            count = 1
            while count < len(waiting) and _beams(waiting[: count + 1]) <= self.max_batch:
                count += 1
            batch, waiting = waiting[:count], waiting[count:]
            tasks = [self._task(request) for _, request in batch]
            with self._scheduler.pause(self._memory(batch)):
                found = list(search(self.decoder, tasks))
            for number, texts in found:
                for index, request in groups[batch[number][0]]:
                    yield self._found(index, request, _ranked(texts, request))

    def _memory(self, batch: Sequence[tuple[int, Request]]) -> int:
        """Most bytes that searches take."""
        context, room = self.decoder.config.max_position_embeddings, self.decoder.room
        return sum(
            request.beams.num_beams
            * room(None, min(context, len(request.ids) + request.max_new_tokens))
            for _, request in batch
            if request.beams is not None
        )

    def _task(self, request: Request) -> Task:
        def stopped(ids: Sequence[int]) -> bool:
            text = self.tokenizer.decode(ids)
            return any(stop in text for stop in request.stop)

        context = self.decoder.config.max_position_embeddings
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


def _searched(request: Request) -> Request:
    """The search that a request is answered by: it tells all texts, and takes no chances."""
    beams = request.beams or BeamSearch(num_beams=1)
    return replace(
        request,
        sampling=replace(request.sampling, seed=0),
        beams=replace(beams, num_return_sequences=beams.num_beams),
        beam_rank=0,
    )


def _ranked(texts: Sequence[Hypothesis], request: Request) -> Hypothesis:
    if request.beam_rank >= len(texts):
        raise InputError(
            f"beam_rank: the search found only {len(texts)} texts; ask for fewer, or ban less"
        )
    return texts[request.beam_rank]


def _beams(requests: Sequence[tuple[int, Request]]) -> int:
    return sum(request.beams.num_beams for _, request in requests if request.beams is not None)
