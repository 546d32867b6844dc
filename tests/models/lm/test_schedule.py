"""Many callers of one network at once."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.lm.test_generate import finish, varied
from tests.models.lm.test_net import random_ids
from vermilion.errors import InputError, ModelError
from vermilion.models.lm import native_library
from vermilion.models.lm.beam import BeamSearch
from vermilion.models.lm.decoder import Decoder, Memory, TorchDecoder
from vermilion.models.lm.generate import Generator, Piece, Request
from vermilion.models.lm.native import NativeDecoder
from vermilion.models.lm.net import LM
from vermilion.models.lm.sample import Sampling
from vermilion.models.lm.tokenizer import Tokenizer
from vermilion.models.lm.turns import Turns

pytestmark = pytest.mark.skipif(not native_library.available(), reason="needs a C compiler")

GREEDY = Sampling(temperature=0)
MEMORY = 2**24


class Counting:
    """A decoder that writes down what it is asked to read."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.calls: list[list[int]] = []  # how many tokens of each text, by call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def extend(self, memories: Sequence[Memory], tokens: Sequence[Sequence[int]]) -> Tensor:
        self.calls.append([len(new) for new in tokens])
        return self._decoder.extend(memories, tokens)

    @property
    def read(self) -> int:
        return sum(map(sum, self.calls))


@pytest.fixture
def decoder(net: LM) -> Counting:
    return Counting(NativeDecoder(net, MEMORY))


def endless(tokenizer: Tokenizer, count: int, seed: int = 0, prompt: str = "The red") -> Request:
    """A text of just so many tokens."""
    sampling = Sampling(seed=seed, min_new_tokens=count)
    return Request(ids=tokenizer.encode(prompt), sampling=sampling, max_new_tokens=count)


def texts(pieces: Sequence[Piece]) -> list[tuple[str, str | None, int]]:
    return [(piece.text, piece.finish, piece.tokens) for piece in pieces]


@pytest.mark.parametrize("make", [lambda net: NativeDecoder(net, MEMORY), TorchDecoder])
def test_many_threads_get_the_texts_they_would_get_alone(
    net: LM, tokenizer: Tokenizer, make: Callable[[LM], Decoder]
) -> None:
    requests = [replace(r, max_new_tokens=min(r.max_new_tokens, 20)) for r in varied(tokenizer)]
    shares = [[requests[(4 * n + i) % len(requests)] for i in range(4)] for n in range(8)]
    expected = [texts(finish(Generator(make(net), tokenizer).generate(s))) for s in shares]
    decoder = make(net)
    generator = Generator(decoder, tokenizer, 6)

    def work(share: list[Request]) -> list[tuple[str, str | None, int]]:
        torch.set_num_threads(1)
        return texts(finish(generator.generate(share)))

    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(work, shares)) == expected


def test_pieces_come_while_others_write(net: LM, tokenizer: Tokenizer) -> None:
    """Whoever takes all the steps does not keep the others from their pieces."""
    decoder = Counting(NativeDecoder(net, MEMORY))
    generator = Generator(decoder, tokenizer)
    steps: dict[int, list[int]] = {}
    started = threading.Barrier(8)

    def work(number: int) -> None:
        torch.set_num_threads(1)
        started.wait()
        steps[number] = [
            len(decoder.calls) for _ in generator.generate([endless(tokenizer, 200, number)])
        ]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(decoder.calls) < 400  # they were written side by side
    waits = sorted(b - a for seen in steps.values() for a, b in pairwise(seen))
    assert len(waits) > 500
    assert waits[len(waits) * 99 // 100] <= 12  # with a lock of Python's it is 20 to 30


def test_turns_go_round() -> None:
    turns, order, ready = Turns(), list[int](), threading.Barrier(3)

    def work(number: int) -> None:
        ready.wait()
        for _ in range(50):
            with turns.take() as mine:
                assert mine
                order.append(number)
                time.sleep(0.0005)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    settled = order[10:-50]
    assert all(len(set(settled[i : i + 6])) == 3 for i in range(len(settled) - 6))


def test_a_turn_that_is_not_needed_is_not_waited_for() -> None:
    turns = Turns()
    with turns.take() as first:
        assert first
        with turns.take(lambda: True) as second, turns.take_if_free() as third:
            assert not second
            assert not third
    with turns.take_if_free() as free:
        assert free


def test_closing_stops_within_a_step(decoder: Counting, tokenizer: Tokenizer) -> None:
    generator = Generator(decoder, tokenizer)
    other = generator.generate([endless(tokenizer, 60, 1)])
    next(other)
    pieces = generator.generate([endless(tokenizer, 100, n, "A small") for n in range(5)])
    next(pieces)
    assert len(decoder.calls[-1]) > 1
    pieces.close()
    before = len(decoder.calls)
    rest = list(other)
    assert rest[-1].finish == "length"
    assert all(call == [1] for call in decoder.calls[before:])


def test_nothing_is_held_by_a_network_without_memory_to_spare(
    net: LM, tokenizer: Tokenizer
) -> None:
    decoder = TorchDecoder(net)
    pieces = Generator(decoder, tokenizer).generate([endless(tokenizer, 50)])
    next(pieces)
    assert decoder.used > 0
    pieces.close()
    assert decoder.used == 0
    Generator(decoder, tokenizer).generate([endless(tokenizer, 50)]).close()  # never begun
    assert decoder.used == 0


def test_an_iterator_that_is_collected_in_the_middle_of_a_step(
    net: LM, tokenizer: Tokenizer
) -> None:
    """It is closed by the very thread that is taking a step."""

    class Collecting(Counting):
        def extend(self, memories: Sequence[Memory], tokens: Sequence[Sequence[int]]) -> Tensor:
            if len(memories) == 2:
                gc.collect()
            return super().extend(memories, tokens)

    page = NativeDecoder(net, MEMORY).room(None, 1)
    decoder = Collecting(NativeDecoder(net, 16 * page))
    generator = Generator(decoder, tokenizer)
    (expected,) = finish(generator.generate([endless(tokenizer, 30)]))
    gc.disable()
    try:
        lost: list[Any] = [generator.generate([endless(tokenizer, 100, 5)])]
        next(lost[0])
        lost.append(lost)  # a cycle, which only the collector finds
        del lost
        (found,) = finish(generator.generate([endless(tokenizer, 30)]))
    finally:
        gc.enable()
    assert found.text == expected.text
    assert len(decoder.calls[-1]) == 1
    whole = endless(tokenizer, 256 - len(tokenizer.encode("The red")))
    assert list(generator.generate([whole]))[-1].finish == "length"  # no page was lost


def test_a_small_memory_lets_texts_wait(net: LM, tokenizer: Tokenizer) -> None:
    requests = varied(tokenizer)
    expected = texts(finish(Generator(NativeDecoder(net, MEMORY), tokenizer).generate(requests)))
    page = NativeDecoder(net, MEMORY).room(None, 1)
    for pages in (5, 8, 13):
        decoder = Counting(NativeDecoder(net, pages * page))
        found = finish(Generator(decoder, tokenizer, 64).generate(requests))
        assert texts(found) == expected
        assert max(map(len, decoder.calls)) <= pages  # each has at least a page


def test_what_can_never_fit(net: LM, tokenizer: Tokenizer) -> None:
    page = NativeDecoder(net, MEMORY).room(None, 1)
    decoder = Counting(NativeDecoder(net, 6 * page))
    generator = Generator(decoder, tokenizer)
    others = generator.generate([endless(tokenizer, 50)])
    next(others)
    with pytest.raises(InputError, match="max_new_tokens: .* VERMILION_CACHE_MEMORY"):
        list(generator.generate([endless(tokenizer, 150)]))
    assert len(decoder.calls) < 40  # it does not wait for the others to end
    assert list(others)[-1].finish == "length"


def test_beams_make_what_is_remembered_give_way(net: LM, tokenizer: Tokenizer) -> None:
    page = NativeDecoder(net, MEMORY).room(None, 1)
    decoder = NativeDecoder(net, 8 * page)
    generator = Generator(decoder, tokenizer)
    search = Request(
        ids=tokenizer.encode("The red"),
        sampling=GREEDY,
        beams=BeamSearch(num_beams=3),
        max_new_tokens=24,
    )
    (expected,) = finish(Generator(NativeDecoder(net, MEMORY), tokenizer).generate([search]))
    for seed in range(4):
        list(generator.generate([endless(tokenizer, 40, seed, "A small shop")]))
    assert decoder.used > 5 * page
    running = generator.generate([endless(tokenizer, 60)])
    next(running)
    (found,) = finish(generator.generate([search]))
    assert found.text == expected.text
    assert list(running)[-1].finish == "length"
    too_many = replace(search, beams=BeamSearch(num_beams=20))
    with pytest.raises(ModelError, match="VERMILION_CACHE_MEMORY"):
        list(generator.generate([too_many]))
    assert decoder.used == 0  # and it leaks nothing


def broken_hook(ids: Sequence[int], length: int, logits: Tensor) -> Tensor:
    if len(ids) > length + 3:
        raise KeyError("a hook's own mistake")
    return logits


def nothing_left(ids: Sequence[int], length: int, logits: Tensor) -> Tensor:
    return logits if len(ids) <= length + 3 else torch.full_like(logits, -torch.inf)


@pytest.mark.parametrize(("hook", "error"), [(broken_hook, KeyError), (nothing_left, InputError)])
@pytest.mark.parametrize("stepping", ["the other", "itself"])
def test_a_failure_stays_with_its_own_text(
    decoder: Counting, tokenizer: Tokenizer, hook: Any, error: type[Exception], stepping: str
) -> None:
    generator = Generator(decoder, tokenizer)
    good = [endless(tokenizer, 30, n) for n in range(3)]
    expected = texts(finish(generator.generate(good)))
    neighbours = generator.generate(good)
    first = [next(neighbours)]
    failing = generator.generate([replace(endless(tokenizer, 30, 9, "A"), hooks=(hook,))])
    next(failing)
    if stepping == "the other":
        assert texts(finish(first + list(neighbours))) == expected
    with pytest.raises(error):
        list(failing)
    if stepping == "itself":
        assert texts(finish(first + list(neighbours))) == expected


def test_an_interrupted_step_leaves_nobody_waiting(net: LM, tokenizer: Tokenizer) -> None:
    class Interrupted(Counting):
        armed = False

        def extend(self, memories: Sequence[Memory], tokens: Sequence[Sequence[int]]) -> Tensor:
            logits = super().extend(memories, tokens)
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            return logits

    decoder = Interrupted(NativeDecoder(net, MEMORY))
    generator = Generator(decoder, tokenizer)
    first, second = (generator.generate([endless(tokenizer, 30, n)]) for n in range(2))
    next(first)
    next(second)
    decoder.armed = True
    with pytest.raises(KeyboardInterrupt):
        list(first)
    with pytest.raises(ModelError, match="broke off a step"):
        list(second)
    assert finish(generator.generate([endless(tokenizer, 5)]))[0].tokens == 5


def test_a_common_beginning_is_read_once(decoder: Counting, tokenizer: Tokenizer) -> None:
    common = random_ids(100).tolist()
    requests = [
        Request(ids=[*common, *range(20 + n, 25 + n)], sampling=GREEDY, max_new_tokens=1)
        for n in range(64)
    ]
    generator = Generator(decoder, tokenizer, 64)
    list(generator.generate(requests))
    assert decoder.read == 105 + 63 * 5
    list(generator.generate(requests))  # all but the last token of each is known
    assert decoder.read == 105 + 63 * 5 + 64
    longer = replace(requests[0], ids=[*common, *random_ids(9, seed=3).tolist()])
    list(generator.generate([longer]))
    assert decoder.read == 105 + 63 * 5 + 64 + 9


def test_first_come_first_served(net: LM, tokenizer: Tokenizer) -> None:
    generator = Generator(NativeDecoder(net, MEMORY), tokenizer, 2)
    requests = [
        replace(endless(tokenizer, 6), ids=random_ids(30, seed=n).tolist()) for n in range(8)
    ]
    ends = [p.index for p in generator.generate(requests) if p.finish is not None]
    assert [sorted(ends[i : i + 2]) for i in range(0, 8, 2)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_large_text_is_not_overtaken(net: LM, tokenizer: Tokenizer) -> None:
    page = NativeDecoder(net, MEMORY).room(None, 1)
    generator = Generator(NativeDecoder(net, 8 * page), tokenizer)
    sizes = [60, 100, 5, 5]  # the second has no room beside the first, the others would
    requests = [
        replace(endless(tokenizer, size), ids=random_ids(12, seed=n).tolist())
        for n, size in enumerate(sizes)
    ]
    firsts = list(dict.fromkeys(piece.index for piece in generator.generate(requests)))
    assert firsts.index(1) < firsts.index(2)
