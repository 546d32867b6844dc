"""The generation loop: batches, streams, ends."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.lm import reference
from tests.tiny import tiny_lm_folder
from vermilion.errors import InputError, ModelError
from vermilion.models.lm import grammar, io, schedule
from vermilion.models.lm.beam import BeamSearch
from vermilion.models.lm.decoder import TorchDecoder
from vermilion.models.lm.generate import Generator, Piece, Request
from vermilion.models.lm.logits import Row
from vermilion.models.lm.net import LM
from vermilion.models.lm.sample import Choice, Sampling, choose
from vermilion.models.lm.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0)
PROMPTS = [
    "The red",
    "A",
    "A small shop sells tea, paper and red ink. The painter",
    "印章",
    "The painter mixes the",
]


def finish(pieces: Iterable[Piece]) -> list[Piece]:
    """The last piece of each request, in their order, with all of its text."""
    texts: dict[int, str] = {}
    last: dict[int, Piece] = {}
    for piece in pieces:
        assert piece.index not in last, "a piece after the last"
        texts[piece.index] = texts.get(piece.index, "") + piece.text
        if piece.finish is not None:
            last[piece.index] = replace(piece, text=texts[piece.index])
    assert texts.keys() == last.keys()
    return [last[index] for index in sorted(last)]


def run(net: LM, tokenizer: Tokenizer, requests: Sequence[Request], batch: int = 16) -> list[Piece]:
    return finish(Generator(TorchDecoder(net), tokenizer, batch).generate(requests))


@pytest.fixture
def generator(net: LM, tokenizer: Tokenizer) -> Generator:
    return Generator(TorchDecoder(net), tokenizer)


def greedy_reference(model: Any, ids: list[list[int]], **options: Any) -> list[list[int]]:
    """What transformers writes after prompts of different lengths, padded on the left."""
    width = max(map(len, ids))
    padded = torch.tensor([[0] * (width - len(i)) + i for i in ids])
    mask = torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i in ids])
    out = model.generate(
        padded, attention_mask=mask, do_sample=False, pad_token_id=0, eos_token_id=2, **options
    )
    made = [row[width:].tolist() for row in out]
    return [row[: row.index(2) + 1] if 2 in row else row for row in made]


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_greedy_is_that_of_transformers(
    net: LM, tokenizer: Tokenizer, transformers_model: Any, batch: int
) -> None:
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    expected = greedy_reference(transformers_model, prompts, max_new_tokens=60)
    requests = [Request(ids=ids, sampling=GREEDY, max_new_tokens=60) for ids in prompts]
    for piece, ids in zip(run(net, tokenizer, requests, batch), expected, strict=True):
        assert piece.text == tokenizer.decode(ids).rstrip("\ufffd")
        assert piece.tokens == len(ids)
        assert piece.finish == ("stop" if ids[-1] == 2 else "length")


def test_repetition_penalty_is_that_of_transformers(
    net: LM, tokenizer: Tokenizer, transformers_model: Any
) -> None:
    options = {"max_new_tokens": 40, "repetition_penalty": 1.4}
    sampling = Sampling(temperature=0, repetition_penalty=1.4)
    changed = 0
    for prompt in map(tokenizer.encode, PROMPTS):
        # One by one: transformers penalises its padding as well.
        (ids,) = greedy_reference(transformers_model, [prompt], **options)
        request = Request(ids=prompt, sampling=sampling, max_new_tokens=40)
        penalised, plain = run(net, tokenizer, [request, replace(request, sampling=GREEDY)])
        assert penalised.text == tokenizer.decode(ids).rstrip("\ufffd")
        changed += penalised.text != plain.text
    assert changed >= 3


def test_logprob_is_the_models_own(net: LM, tokenizer: Tokenizer, transformers_model: Any) -> None:
    prompt = tokenizer.encode("The red")
    (ids,) = greedy_reference(transformers_model, [prompt], max_new_tokens=20)
    logits = reference.logits(transformers_model, torch.tensor([prompt + ids]))[0]
    logprobs = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(ids)[:, None])
    request = Request(ids=prompt, sampling=GREEDY, max_new_tokens=20)
    (piece,) = run(net, tokenizer, [request])
    assert piece.logprob == pytest.approx(float(logprobs.sum()), abs=1e-3)


def varied(tokenizer: Tokenizer) -> list[Request]:
    """Requests of many kinds, among them equal prompts and shared beginnings."""
    prefix = tokenizer.encode("A small shop sells tea, paper and red ink.")
    prompts = [tokenizer.encode(p) for p in PROMPTS]
    prompts += [prefix, prefix, prefix, prefix + tokenizer.encode(" The"), prefix[:4], prefix[:1]]
    samplings = [
        Sampling(temperature=0.8, top_k=50, top_p=0.95),
        GREEDY,
        Sampling(temperature=1.3, min_p=0.05),
        Sampling(temperature=0.7, repetition_penalty=1.2),
    ]
    return [
        Request(
            ids=prompt,
            sampling=replace(samplings[i % 4], seed=i),
            max_new_tokens=5 + 7 * (i % 5),
            stop=("tea",) if i % 3 == 0 else (),
        )
        for i, prompt in enumerate(prompts * 2)
    ]


@pytest.fixture(scope="module")
def alone(opened: tuple[LM, Tokenizer]) -> list[Piece]:
    """Each of these requests on its own."""
    net, tokenizer = opened
    return [run(net, tokenizer, [request])[0] for request in varied(tokenizer)]


def assert_same(found: Sequence[Piece], expected: Sequence[Piece]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.text, one.finish, one.tokens) == (other.text, other.finish, other.tokens)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-2)


@pytest.mark.parametrize("batch", [1, 3, 16, 100])
def test_one_seed_one_text_whatever_the_batch(
    net: LM, tokenizer: Tokenizer, alone: list[Piece], batch: int
) -> None:
    assert len({piece.text for piece in alone}) > 15  # else the test could not fail
    assert_same(run(net, tokenizer, varied(tokenizer), batch), alone)


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_one_text_whatever_the_order(
    net: LM, tokenizer: Tokenizer, alone: list[Piece], seed: int
) -> None:
    requests = varied(tokenizer)
    order = random.Random(seed).sample(range(len(requests)), len(requests))
    found = run(net, tokenizer, [requests[i] for i in order], 4)
    assert_same(found, [alone[i] for i in order])


def test_a_choice_that_is_decided_again_is_the_same(
    net: LM, tokenizer: Tokenizer, alone: list[Piece], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchDecoder, "tolerance", 100.0)  # nothing is certain
    assert_same(run(net, tokenizer, varied(tokenizer), 3), alone)


def test_noise_below_the_tolerance_changes_no_text(
    folder: Path, tokenizer: Tokenizer, alone: list[Piece], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if other batch shapes rounded far worse than they do."""
    net, _ = io.load(folder)
    draw = torch.Generator().manual_seed(0)

    def disturb(net: LM, args: Any, options: dict[str, Any], logits: Tensor) -> Tensor:
        noise = torch.rand(logits.shape, generator=draw) - 0.5  # of a gap: less than 1
        return logits if options.get("past") is None else logits + noise

    net.register_forward_hook(disturb, with_kwargs=True)
    disturbed = run(net, tokenizer, varied(tokenizer), 3)
    assert sum(a.text != b.text for a, b in zip(disturbed, alone, strict=True)) > 10
    monkeypatch.setattr(TorchDecoder, "tolerance", 1.0)
    found = run(net, tokenizer, varied(tokenizer), 3)
    assert [piece.text for piece in found] == [piece.text for piece in alone]


def test_a_prompt_that_goes_on_as_another_text_did(net: LM, tokenizer: Tokenizer) -> None:
    """What a text in the batch has just chosen is not in the cache yet and cannot be copied."""
    start = tokenizer.encode("A small shop sells tea")
    first = Request(ids=start, sampling=GREEDY, max_new_tokens=8)
    with torch.inference_mode():
        token = int(net(torch.tensor([start]))[0, -1].argmax())
    second = Request(ids=[*start, token, 5, 6], sampling=GREEDY, max_new_tokens=8)
    (expected,) = run(net, tokenizer, [second])
    assert_same(run(net, tokenizer, [first, second])[1:], [expected])


def test_different_seeds_give_different_texts(net: LM, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("The red")
    requests = [Request(ids=ids, sampling=Sampling(seed=i), max_new_tokens=20) for i in range(20)]
    assert len({piece.text for piece in run(net, tokenizer, requests)}) == 20


def forced(tokenizer: Tokenizer, text: str, **fields: Any) -> Request:
    """A request that can be answered with this text only, in tokens that are up to the model."""
    fields = {"sampling": Sampling(seed=1), "max_new_tokens": 200} | fields
    pattern = grammar.from_pattern(re.escape(text))
    return Request(ids=tokenizer.encode("The red"), grammar=pattern, **fields)


MANY_BYTES = "印章的红色，画🙂的🇨🇳👩‍👩‍👧‍👦é️落款。end"


def test_characters_arrive_whole(generator: Generator, tokenizer: Tokenizer) -> None:
    for seed in range(5):
        request = forced(tokenizer, MANY_BYTES, sampling=Sampling(seed=seed))
        pieces = list(generator.generate([request]))
        assert "".join(piece.text for piece in pieces) == MANY_BYTES
        assert pieces[-1].tokens > len(MANY_BYTES)  # most characters took several steps
        assert len(pieces) > 15  # and came as soon as they were whole
        assert all("\ufffd" not in piece.text for piece in pieces)


def test_half_a_character_at_the_end_is_left_out(
    generator: Generator, tokenizer: Tokenizer
) -> None:
    whole = [
        finish(generator.generate([forced(tokenizer, MANY_BYTES, max_new_tokens=n)]))[0].text
        for n in range(1, 60)
    ]
    assert all(MANY_BYTES.startswith(text) for text in whole)
    assert all(len(a) <= len(b) for a, b in pairwise(whole))


def test_streamed_noise_is_the_decoded_whole(
    generator: Generator, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights write bytes that are no characters; none of the rest may get lost."""
    made: dict[int, int] = {}

    def recorded(logits: Tensor, rows: list[Row]) -> list[Choice]:
        choices = choose(logits, rows)
        made.update({row.step: c.token for row, c in zip(rows, choices, strict=True)})
        return choices

    monkeypatch.setattr(schedule, "choose", recorded)
    for seed in range(30):
        made.clear()
        sampling = Sampling(temperature=3.0, seed=seed)
        request = Request(ids=tokenizer.encode("The"), sampling=sampling, max_new_tokens=80)
        text = "".join(piece.text for piece in generator.generate([request]))
        assert text == tokenizer.decode(list(made.values())).rstrip("\ufffd")


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ((" shop",), "A small"),
        (("small shop sells",), "A "),
        (("ink",), "A small shop sells tea, paper and red "),
        (("A",), ""),
        (("never", "nowhere"), "A small shop sells tea, paper and red ink. 印章🙂"),
        (("red pen", "ink. 印章?"), "A small shop sells tea, paper and red ink. 印章🙂"),
        (("tea", "small", "shop"), "A "),
        (("🙂",), "A small shop sells tea, paper and red ink. 印章"),
        (("章",), "A small shop sells tea, paper and red ink. 印"),
        (("ll s", "ll"), "A sma"),
    ],
)
def test_stop_strings(
    generator: Generator, tokenizer: Tokenizer, stop: tuple[str, ...], expected: str
) -> None:
    text = "A small shop sells tea, paper and red ink. 印章🙂"
    for seed in range(4):
        request = forced(tokenizer, text, stop=stop, sampling=Sampling(seed=seed))
        pieces = list(generator.generate([request]))
        shown = ""
        for piece in pieces:
            shown += piece.text
            assert expected.startswith(shown)  # nothing is shown that has to be taken back
        assert shown == expected
        assert pieces[-1].finish == "stop"


def test_what_was_held_back_is_given_at_the_end(generator: Generator, tokenizer: Tokenizer) -> None:
    text = "red ink and red in"
    request = forced(tokenizer, text, stop=("red inks",), max_new_tokens=100)
    assert finish(generator.generate([request]))[0].text == text
    for count in range(1, 12):
        request = forced(tokenizer, text, stop=("red inks",), max_new_tokens=count)
        free = forced(tokenizer, text, max_new_tokens=count)
        one, other = finish(generator.generate([request, free]))
        assert one.text == other.text
        assert one.tokens == other.tokens <= count


@pytest.mark.parametrize("count", [1, 2, 17])
def test_max_new_tokens(net: LM, tokenizer: Tokenizer, count: int) -> None:
    request = Request(ids=tokenizer.encode("A"), sampling=GREEDY, max_new_tokens=count)
    (piece,) = run(net, tokenizer, [request])
    assert (piece.tokens, piece.finish) == (count, "length")


def test_the_context_ends_a_text(net: LM, tokenizer: Tokenizer, transformers_model: Any) -> None:
    context = net.config.max_position_embeddings
    prompt = (tokenizer.encode("The painter mixes red ink. ") * 50)[: context - 3]
    request = Request(ids=prompt, sampling=GREEDY, max_new_tokens=10_000)
    short = Request(ids=prompt[:5], sampling=GREEDY, max_new_tokens=4)
    long, other = run(net, tokenizer, [request, short])
    assert (long.tokens, long.finish) == (3, "length")
    assert other.tokens == 4
    out = transformers_model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=3)
    assert long.text == tokenizer.decode(out[0, len(prompt) :].tolist())


def test_the_longest_prompt(net: LM, tokenizer: Tokenizer) -> None:
    context = net.config.max_position_embeddings
    ids = [5] * (context - 1)
    (piece,) = run(net, tokenizer, [Request(ids=ids, sampling=GREEDY)])
    assert (piece.tokens, piece.finish) == (1, "length")
    with pytest.raises(
        InputError, match=rf"prompt: it has {context} tokens .* at most {context - 1}"
    ):
        run(net, tokenizer, [Request(ids=[5] * context, sampling=GREEDY)])


def test_any_of_several_end_tokens(folder: Path, net: LM, tokenizer: Tokenizer) -> None:
    request = Request(ids=tokenizer.encode("A"), sampling=GREEDY, max_new_tokens=6)
    (free,) = run(net, tokenizer, [request])
    assert free.finish == "length"
    other, _ = io.load(folder)
    ends = tuple(range(3, other.config.vocab_size))  # all but the special tokens
    other.config = replace(other.config, eos_token_ids=ends)
    (piece,) = run(other, tokenizer, [request])
    assert (piece.text, piece.tokens, piece.finish) == ("", 1, "stop")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"ids": []}, InputError, "prompt: it is empty"),
        ({"max_new_tokens": 0}, InputError, "max_new_tokens: must be at least 1"),
        ({"stop": ("x", "")}, InputError, "stop: a stop string is empty"),
        ({"grammar": "nonsense"}, InputError, "schema, pattern or grammar: it cannot be used"),
        ({"ids": [4, 384]}, ModelError, "do not belong together"),
    ],
)
def test_requests_that_cannot_be_used(
    generator: Generator, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    request = replace(Request(ids=[5], sampling=GREEDY), **changes)
    with pytest.raises(error, match=message) as caught:
        list(generator.generate([Request(ids=[5], sampling=GREEDY, max_new_tokens=1), request]))
    assert "\n" not in str(caught.value)


def test_no_requests(generator: Generator) -> None:
    assert list(generator.generate([])) == []


def test_closing_the_stream_stops_the_work(generator: Generator, tokenizer: Tokenizer) -> None:
    request = Request(ids=tokenizer.encode("A"), sampling=GREEDY, max_new_tokens=50)
    expected = finish(generator.generate([request]))
    stream = generator.generate([request] * 4)
    next(stream)
    stream.close()
    assert list(stream) == []
    assert finish(generator.generate([request])) == expected


def test_two_streams_at_once(generator: Generator, tokenizer: Tokenizer) -> None:
    requests = [
        Request(ids=tokenizer.encode(p), sampling=Sampling(seed=3), max_new_tokens=20)
        for p in PROMPTS[:2]
    ]
    expected = [finish(generator.generate([request]))[0].text for request in requests]
    streams = [generator.generate([request]) for request in requests]
    texts = ["", ""]
    for _ in range(40):
        for i, stream in enumerate(streams):
            texts[i] += getattr(next(stream, None), "text", "")
    assert texts == expected


def test_the_callers_gradients_are_left_alone(generator: Generator, tokenizer: Tokenizer) -> None:
    request = Request(ids=tokenizer.encode("A"), sampling=GREEDY, max_new_tokens=3)
    for _ in generator.generate([request]):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_a_network_with_more_tokens_than_its_tokenizer(tmp_path: Path) -> None:
    net, tokenizer = io.load(tiny_lm_folder(tmp_path, vocab_size=500))
    ids = tokenizer.encode("The red")
    free = Request(ids=ids, sampling=Sampling(temperature=5.0), max_new_tokens=100)
    led = forced(tokenizer, "red ink")
    pieces = run(net, tokenizer, [free, led])
    assert pieces[0].tokens > 20
    assert pieces[1].text == "red ink"


def test_weights_that_are_no_numbers(folder: Path, tokenizer: Tokenizer) -> None:
    net, _ = io.load(folder)
    net.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="the model's logits are not finite"):
        run(net, tokenizer, [Request(ids=[5], sampling=GREEDY)])


def test_beam_search_is_that_of_transformers(
    net: LM, tokenizer: Tokenizer, transformers_model: Any
) -> None:
    beams = BeamSearch(num_beams=3, early_stopping=True)
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    requests = [Request(ids=p, sampling=GREEDY, beams=beams, max_new_tokens=25) for p in prompts]
    mixed = [requests[0], replace(requests[1], beams=None), *requests[2:]]
    options = {"num_beams": 3, "early_stopping": True, "max_new_tokens": 25}
    expected = greedy_reference(transformers_model, prompts, **options)
    (expected[1],) = greedy_reference(transformers_model, prompts[1:2], max_new_tokens=25)
    for batch in (1, 8, 16):
        for piece, ids in zip(run(net, tokenizer, mixed, batch), expected, strict=True):
            assert piece.text == tokenizer.decode(ids).rstrip("\ufffd")
            assert piece.tokens == len(ids)
            assert piece.finish == ("stop" if ids[-1] == 2 else "length")


def test_beam_search_ends_at_a_stop_string_and_at_the_context(
    net: LM, tokenizer: Tokenizer
) -> None:
    beams = BeamSearch(num_beams=3)
    request = Request(ids=tokenizer.encode("A"), sampling=GREEDY, beams=beams, max_new_tokens=20)
    (whole,) = run(net, tokenizer, [request])
    stop = whole.text[5:7]
    (cut,) = run(net, tokenizer, [replace(request, stop=(stop,), max_new_tokens=500)])
    assert stop not in cut.text
    assert cut.finish == "stop"
    context = net.config.max_position_embeddings
    (last,) = run(net, tokenizer, [replace(request, ids=[5] * (context - 2))])
    assert (last.tokens, last.finish) == (2, "length")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": Sampling()}, "^temperature: beam search takes no chances"),
        ({"grammar": grammar.from_pattern("a")}, "^num_beams: beam search follows no schema"),
        ({"sampling": Sampling(temperature=0, logprobs=2)}, "^logprobs: beam search"),
    ],
)
def test_what_beam_search_does_not_do(
    generator: Generator, changes: dict[str, Any], message: str
) -> None:
    request = Request(ids=[5], sampling=GREEDY, beams=BeamSearch(num_beams=2))
    with pytest.raises(InputError, match=message):
        list(generator.generate([replace(request, **changes)]))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_no_repeated_ngrams_as_in_transformers(
    net: LM, tokenizer: Tokenizer, transformers_model: Any, size: int
) -> None:
    sampling, changed = Sampling(temperature=0, no_repeat_ngram_size=size), 0
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    requests = [Request(ids=ids, sampling=sampling, max_new_tokens=60) for ids in prompts]
    pieces = run(net, tokenizer, requests)
    for piece, prompt in zip(pieces, prompts, strict=True):
        options = {"max_new_tokens": 60, "no_repeat_ngram_size": size}
        (ids,) = greedy_reference(transformers_model, [prompt], **options)
        assert piece.text == tokenizer.decode(ids).rstrip("\ufffd")
        (plain,) = greedy_reference(transformers_model, [prompt], max_new_tokens=60)
        changed += ids != plain
    assert changed >= 1


def test_stop_tokens_and_min_new_tokens(net: LM, tokenizer: Tokenizer) -> None:
    request = Request(
        ids=tokenizer.encode("The red"), sampling=Sampling(logprobs=0), max_new_tokens=30
    )
    (piece,) = run(net, tokenizer, [request])
    ids = told(net, tokenizer, request)
    stop = replace(request, stop_token_ids=(ids[6],))
    (ended,) = run(net, tokenizer, [stop])
    assert ended.tokens == ids.index(ids[6]) + 1
    assert ended.finish == "stop"
    assert piece.text.startswith(ended.text)
    later = replace(stop, sampling=replace(request.sampling, min_new_tokens=12))
    made = told(net, tokenizer, later)
    assert len(made) > 12
    assert ids[6] not in made[:12]
    assert 2 not in made[:12]


def told(net: LM, tokenizer: Tokenizer, request: Request) -> list[int]:
    pieces = Generator(TorchDecoder(net), tokenizer).generate([request])
    return [choice.token for piece in pieces for choice in piece.choices]


def test_logprobs_are_told_with_the_text(
    net: LM, tokenizer: Tokenizer, transformers_model: Any
) -> None:
    ids = tokenizer.encode("The red")
    sampling = Sampling(temperature=0.8, top_k=20, repetition_penalty=1.3, logprobs=4, seed=2)
    request = Request(ids=ids, sampling=sampling, max_new_tokens=15)
    other = replace(request, sampling=replace(sampling, logprobs=None))
    pieces = list(Generator(TorchDecoder(net), tokenizer).generate([request, other]))
    assert not any(piece.choices for piece in pieces if piece.index == 1)
    choices = [choice for piece in pieces if piece.index == 0 for choice in piece.choices]
    made = [choice.token for choice in choices]
    assert len(made) == finish(pieces)[0].tokens
    logits = reference.logits(transformers_model, torch.tensor([ids + made]))[0]
    own = logits.log_softmax(-1)[len(ids) - 1 : -1]
    for choice, expected in zip(choices, own, strict=True):
        assert choice.logprob == pytest.approx(float(expected[choice.token]), abs=1e-4)
        best = expected.topk(4)
        assert [token for token, _ in choice.top] == best.indices.tolist()
        assert [p for _, p in choice.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert sum(choice.logprob for choice in choices) == pytest.approx(
        finish(pieces)[0].logprob, abs=1e-3
    )


def test_a_hook_changes_the_logits(net: LM, tokenizer: Tokenizer) -> None:
    """As a text watermark does: it favours tokens by what stands before them."""
    calls: list[tuple[int, int]] = []

    def even(ids: Sequence[int], prompt_length: int, logits: Tensor) -> Tensor:
        calls.append((len(ids), prompt_length))
        green = torch.arange(len(logits)) % 2 == ids[-1] % 2
        return logits + 50 * green

    ids = tokenizer.encode("The red")
    free = Request(ids=ids, sampling=Sampling(logprobs=0), max_new_tokens=20)
    led = replace(free, hooks=(even,))
    pieces = list(Generator(TorchDecoder(net), tokenizer).generate([free, led]))
    made = [[c.token for p in pieces if p.index == i for c in p.choices] for i in range(2)]
    parity = {token % 2 for token in made[1]}
    assert parity == {ids[-1] % 2}
    assert len({token % 2 for token in made[0]}) == 2
    assert told(net, tokenizer, free) == made[0]
    assert set(calls) == {(len(ids) + n, len(ids)) for n in range(len(made[1]))}


def test_min_new_tokens_above_max_new_tokens(generator: Generator) -> None:
    request = Request(ids=[5], sampling=Sampling(min_new_tokens=9), max_new_tokens=8)
    with pytest.raises(InputError, match="^min_new_tokens: 9 is more than max_new_tokens, 8"):
        list(generator.generate([request]))
