"""int8 on a CPU: against the float network, and bit for bit against itself."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.lm.test_generate import PROMPTS, finish, varied
from tests.models.lm.test_net import MODELS, random_ids
from tests.tiny import VOCAB, tiny_lm_folder
from vermilion.errors import ModelError
from vermilion.models.lm import grammar, io, native_library
from vermilion.models.lm.beam import BeamSearch
from vermilion.models.lm.decoder import TorchDecoder
from vermilion.models.lm.generate import Generator, Piece, Request
from vermilion.models.lm.native import NativeDecoder
from vermilion.models.lm.native_library import PAGE
from vermilion.models.lm.net import LM
from vermilion.models.lm.sample import Sampling
from vermilion.models.lm.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(not native_library.available(), reason="needs a C compiler")

MEMORY = 2**24
GREEDY = Sampling(temperature=0)
# Neither blocks of 16 outputs, nor pairs of inputs, nor eight floats come out even.
ODD: dict[str, dict[str, Any]] = {
    "llama, odd sizes": {
        "hidden_size": 63,
        "intermediate_size": 37,
        "head_dim": 10,
        "vocab_size": VOCAB + 7,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
    },
    "qwen3, odd sizes": {
        "model_type": "qwen3",
        "hidden_size": 36,
        "intermediate_size": 101,
        "head_dim": 6,
        "attention_bias": True,
    },
    "gpt2, odd sizes": {"model_type": "gpt2", "n_embd": 35, "n_head": 5, "n_inner": 51},
    "gpt-neo, odd sizes": {
        "model_type": "gpt_neo",
        "hidden_size": 51,
        "num_heads": 3,
        "intermediate_size": 77,
        "window_size": 5,
    },
}
ALL = MODELS | ODD


def rounded(net: LM) -> LM:
    """The float network with its matrices rounded to bytes, a scale for each row."""
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if isinstance(module, nn.Linear):  # an embedding that is the head's matrix stays
            weight = module.weight.detach()
            most = weight.abs().amax(1, keepdim=True)
            module.weight = nn.Parameter((weight * (127 / most)).round() * (most / 127))
    return twin


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LM]:
    """Each of `ALL`, opened when it is first asked for."""
    folder = tmp_path_factory.mktemp("nets")

    class Opened(dict[str, LM]):
        def __missing__(self, name: str) -> LM:
            self[name], _ = io.load(tiny_lm_folder(folder / str(len(self)), **ALL[name]))
            return self[name]

    return Opened()


@torch.inference_mode()
def exact(net: LM, ids: Tensor) -> Tensor:
    """Logits of what follows the last token of each row, (B, V)."""
    return net(ids)[:, -1]


def read(decoder: NativeDecoder, ids: Sequence[int], *cuts: int) -> Tensor:
    """Logits of what follows a text that is read in passes, (1, V)."""
    memory = decoder.start()
    logits = torch.empty(0)
    for first, last in zip((0, *cuts), (*cuts, len(ids)), strict=True):
        logits = decoder.extend([memory], [ids[first:last]])
    decoder.free(memory)
    return logits


@pytest.mark.parametrize("name", ALL)
def test_logits_are_those_of_the_rounded_network(nets: dict[str, LM], name: str) -> None:
    net = nets[name]
    decoder = NativeDecoder(net, MEMORY)
    ids = random_ids(6, 90)
    found = torch.cat([decoder.alone(row.tolist()) for row in ids])  # (B, V)
    same, plain = exact(rounded(net), ids), exact(net, ids)
    spread = plain.std()
    off, lost = (found - same).abs().max() / spread, (found - plain).abs().max() / spread
    assert off < 0.012  # activations in 12 bits, keys and values in half precision
    assert lost < 0.15


def test_greedy_text_is_mostly_that_of_the_rounded_network(net: LM, tokenizer: Tokenizer) -> None:
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    prompts += [row.tolist() for row in random_ids(15, 12)]
    requests = [Request(ids=ids, sampling=GREEDY, max_new_tokens=12) for ids in prompts]
    ours = finish(Generator(NativeDecoder(net, MEMORY), tokenizer).generate(requests))
    theirs = finish(Generator(TorchDecoder(rounded(net)), tokenizer).generate(requests))
    assert sum(a.text == b.text for a, b in zip(ours, theirs, strict=True)) >= 16  # of 20


@pytest.fixture(params=["int8", "float32"])
def decoder(net: LM, request: pytest.FixtureRequest) -> NativeDecoder:
    return NativeDecoder(net, MEMORY, request.param)


@pytest.mark.parametrize("name", ALL)
def test_float32_is_the_float_network(nets: dict[str, LM], name: str) -> None:
    decoder, ids = NativeDecoder(nets[name], MEMORY, "float32"), random_ids(3, 90)
    found = torch.cat([decoder.alone(row.tolist()) for row in ids])  # (B, V)
    torch.testing.assert_close(found, exact(nets[name], ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "gpt-neo", *ODD])
def test_logits_do_not_depend_on_passes_batches_or_threads(
    nets: dict[str, LM], name: str, dtype: str
) -> None:
    decoder = NativeDecoder(nets[name], MEMORY, dtype)
    texts = [random_ids(length, seed=length).tolist() for length in (1, 2, 15, 16, 17, 33, 100)]
    alone = torch.cat([decoder.alone(ids) for ids in texts])
    assert decoder.used == 0
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        memories = [decoder.start() for _ in texts]
        assert torch.equal(decoder.extend(memories, texts), alone)
        for memory in reversed(memories):
            decoder.free(memory)
        assert torch.equal(read(decoder, texts[-1], 1, 16, 17, 50, 99), alone[-1:])
        assert torch.equal(read(decoder, texts[-2], *range(1, 33)), alone[-2:-1])
    torch.set_num_threads(1)
    assert decoder.used == 0


def test_a_text_longer_than_a_pass(tmp_path: Path) -> None:
    net, _ = io.load(tiny_lm_folder(tmp_path / "long", max_position_embeddings=1400))
    decoder = NativeDecoder(net, MEMORY)
    long, short = random_ids(1300).tolist(), random_ids(20, seed=1).tolist()
    memories = [decoder.start() for _ in range(3)]
    found = decoder.extend(memories, [short, long, short])
    assert torch.equal(found[:1], found[2:])
    assert torch.equal(found[:1], decoder.alone(short))
    assert torch.equal(found[1:2], read(decoder, long, 511, 512, 513, 1024))


@pytest.mark.parametrize("seed", range(4))
def test_forks_in_any_order_are_the_texts_alone(decoder: NativeDecoder, seed: int) -> None:
    """Also at lengths that fill no page, after others were freed, and of forks of forks."""
    draw = random.Random(seed)
    living: list[tuple[Any, list[int]]] = []
    for _ in range(60):
        action = draw.choice(["start", "fork", "free", "extend", "extend"])
        if action == "start" or not living:
            living.append((decoder.start(), []))
        elif action == "free":
            decoder.free(living.pop(draw.randrange(len(living)))[0])
        elif action == "fork":
            memory, ids = draw.choice(living)
            length = draw.randint(0, memory.length)
            living.append((decoder.fork(memory, length), ids[:length]))
            assert living[-1][0].length == length
        else:
            some = draw.sample(living, draw.randint(1, len(living)))
            some = [one for one in some if len(one[1]) < 200]
            new = [draw.choices(range(VOCAB), k=draw.choice([1, 1, 7, 16, 40])) for _ in some]
            if some:
                found = decoder.extend([memory for memory, _ in some], new)
                for (memory, ids), tokens, logits in zip(some, new, found, strict=True):
                    ids += tokens
                    assert memory.length == len(ids)
                    assert torch.equal(logits[None], decoder.alone(ids))
    for memory, _ in living:
        decoder.free(memory)
    assert decoder.used == 0


def test_pages_are_shared(decoder: NativeDecoder) -> None:
    first = decoder.start()
    decoder.extend([first], [random_ids(5 * PAGE + 3).tolist()])
    page = decoder.room(None, 1)
    assert decoder.used == 6 * page == decoder.room(None, 5 * PAGE + 3)
    whole, part = decoder.fork(first, 5 * PAGE), decoder.fork(first, 5 * PAGE + 1)
    assert decoder.used == 7 * page  # only the page that has begun is copied
    decoder.free(first)
    assert decoder.used == 6 * page
    decoder.free(whole)
    assert decoder.used == 6 * page
    decoder.free(part)
    assert decoder.used == 0


def test_memory_that_is_full_leaks_nothing(net: LM) -> None:
    page = NativeDecoder(net, MEMORY).room(None, 1)
    decoder = NativeDecoder(net, 3 * page)
    memory = decoder.start()
    decoder.extend([memory], [[5] * (3 * PAGE - 1)])
    with pytest.raises(ModelError, match="VERMILION_CACHE_MEMORY"):
        decoder.fork(memory, PAGE + 1)
    with pytest.raises(ModelError, match="VERMILION_CACHE_MEMORY"):
        decoder.extend([memory], [[5, 5]])
    decoder.free(memory)
    assert decoder.used == 0
    with pytest.raises(ModelError, match="another decoder"):
        decoder.fork(TorchDecoder(net).start(), 0)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_what_cannot_be_read_or_kept(folder: Path, net: LM, dtype: str) -> None:
    decoder = NativeDecoder(net, MEMORY, dtype)
    for ids, complaint in (([5, VOCAB], "vocabulary"), ([-1], "vocabulary"), ([5] * 257, "longer")):
        with pytest.raises(ModelError, match=complaint):
            decoder.alone(ids)
    assert decoder.used == 0
    with pytest.raises(ModelError, match="VERMILION_CACHE_MEMORY: .* cannot give"):
        NativeDecoder(net, 2**60, dtype)
    broken, _ = io.load(folder)
    with torch.no_grad():
        broken.blocks[1].feed_forward.down.weight[3, 5] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        NativeDecoder(broken, MEMORY, dtype)


@pytest.fixture(scope="module")
def alone(opened: tuple[LM, Tokenizer]) -> list[Piece]:
    net, tokenizer = opened
    generator = Generator(NativeDecoder(net, MEMORY), tokenizer)
    return [finish(generator.generate([request]))[0] for request in asked(tokenizer)]


def asked(tokenizer: Tokenizer) -> list[Request]:
    """Of all kinds: chance, penalties, stop strings, grammars, beams."""
    start = tokenizer.encode("The price is")
    led = [
        Request(
            ids=start,
            sampling=Sampling(seed=seed),
            grammar=grammar.from_pattern(r"[0-9]{3,9} (tea|ink)"),
            max_new_tokens=30,
        )
        for seed in range(4)
    ]
    beams = [
        Request(
            ids=tokenizer.encode(prompt),
            sampling=GREEDY,
            beams=BeamSearch(num_beams=3),
            max_new_tokens=12,
        )
        for prompt in PROMPTS[:2]
    ]
    return varied(tokenizer) + led + beams


@pytest.mark.parametrize("batch", [1, 3, 16, 64])
def test_one_seed_one_text(net: LM, tokenizer: Tokenizer, alone: list[Piece], batch: int) -> None:
    requests = asked(tokenizer)
    assert len({piece.text for piece in alone}) > 15
    order = random.Random(batch).sample(range(len(requests)), len(requests))
    decoder = NativeDecoder(net, MEMORY)
    generator = Generator(decoder, tokenizer, batch)
    for _ in range(2):  # the second time with what is remembered
        found = finish(generator.generate([requests[i] for i in order]))
        for piece, i in zip(found, order, strict=True):
            assert (piece.text, piece.finish, piece.tokens) == (
                alone[i].text,
                alone[i].finish,
                alone[i].tokens,
            )
            assert piece.logprob == pytest.approx(alone[i].logprob, abs=1e-3)


def test_without_a_compiler_there_is_no_int8(tmp_path: Path) -> None:
    code = (
        "from vermilion.models.lm import native_library\n"
        "from vermilion.runtime.device import choose_dtype\n"
        "from vermilion.settings import Settings\n"
        "print(native_library.available())\n"
        "print(choose_dtype(Settings(), 'cpu', {'perplexity': 1.0, 'speed': 2.0}))\n"
        "try: choose_dtype(Settings(dtype='int8'), 'cpu', None)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    for compiler in ("false", "no-such-compiler"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=os.environ | {"CC": compiler, "XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        available, dtype, complaint = done.stdout.splitlines()
        assert (available, dtype) == ("False", "float32")
        assert complaint.startswith("ModelError VERMILION_DTYPE: int8 needs a C compiler")
