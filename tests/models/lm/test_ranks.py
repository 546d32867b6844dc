"""Several texts of one beam search, each asked for by a request of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.lm import reference
from tests.tiny import tiny_lm_folder
from vermilion.errors import InputError
from vermilion.models.lm import io
from vermilion.models.lm.beam import BeamSearch
from vermilion.models.lm.decoder import TorchDecoder
from vermilion.models.lm.generate import Generator, Request
from vermilion.models.lm.sample import Sampling

PROMPT = [5, 9, 17]


def test_ranks_are_the_sequences_of_transformers(tmp_path: Path) -> None:
    folder = tiny_lm_folder(tmp_path / "m", seed=3)
    net, tokenizer = io.load(folder)
    passes: list[int] = []

    class Counting(TorchDecoder):
        def extend(self, memories, tokens):  # type: ignore[no-untyped-def]
            passes.append(len(tokens))
            return super().extend(memories, tokens)

    generator = Generator(Counting(net), tokenizer)
    first = Request(
        ids=PROMPT,
        sampling=Sampling(temperature=0),
        max_new_tokens=8,
        beams=BeamSearch(num_beams=4),
    )
    asked = [
        replace(first, beam_rank=rank, sampling=Sampling(temperature=0, seed=rank))
        for rank in (0, 2, 3)
    ]
    other = replace(first, ids=[40])
    found = {piece.index: piece.text for piece in generator.generate([*asked, other])}
    assert len(passes) <= 9  # both prompts are searched side by side, each once
    out = reference.open_folder(folder).generate(
        torch.tensor([PROMPT]), do_sample=False, num_beams=4, num_return_sequences=4,
        max_new_tokens=8, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    expected = [tokenizer.decode(ids[len(PROMPT) :]) for ids in out.tolist()]
    assert [found[i] for i in range(3)] == [expected[rank].rstrip("\ufffd") for rank in (0, 2, 3)]
    (alone,) = generator.generate([asked[2]])
    assert alone.text == found[2]
    with pytest.raises(InputError, match=r"^beam_rank: must be 0 to 3, below num_beams"):
        list(generator.generate([replace(first, beam_rank=4)]))


def test_a_search_that_finds_too_few(tmp_path: Path) -> None:
    net, tokenizer = io.load(tiny_lm_folder(tmp_path / "m", seed=3))

    def only(ids, length, logits):  # type: ignore[no-untyped-def]
        logits[3:] = -float("inf")
        return logits

    request = Request(
        ids=PROMPT, sampling=Sampling(temperature=0), max_new_tokens=1, hooks=(only,),
        beams=BeamSearch(num_beams=8), beam_rank=7,
    )  # fmt: skip
    with pytest.raises(InputError, match="^beam_rank: the search found only 3 texts"):
        list(Generator(TorchDecoder(net), tokenizer).generate([request]))
