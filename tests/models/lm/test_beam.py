"""Beam search, against transformers' generate on tiny random models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.lm import reference
from tests.tiny import tiny_lm_folder
from vermilion.errors import InputError, ModelError
from vermilion.models.lm import io
from vermilion.models.lm.beam import BeamSearch, Hypothesis, Task, search
from vermilion.models.lm.decoder import Memory, TorchDecoder
from vermilion.models.lm.logits import Row
from vermilion.models.lm.net import LM
from vermilion.models.lm.sample import Sampling

PROMPTS = [[5, 9, 17], [40], [100, 7, 7, 100, 7, 7, 30], [12, 200, 300, 12, 200]]
ENDS = tuple(range(3, 63))  # so many that texts end at many lengths


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same tiny model, ours and that of transformers."""
    folder = tmp_path_factory.mktemp("models") / request.param
    tiny_lm_folder(folder, model_type=request.param, seed=3)
    return io.load(folder)[0], reference.open_folder(folder)


def found(
    net: LM,
    prompts: Sequence[Sequence[int]],
    beams: BeamSearch,
    *,
    ends: Sequence[int] = (2,),
    count: int = 20,
    **sampling: Any,
) -> list[list[Hypothesis]]:
    chance = Sampling(temperature=0, **sampling)
    tasks = [
        Task(row=Row(chance, prompt, ends=ends), beams=beams, max_new_tokens=count)
        for prompt in prompts
    ]
    decoder = TorchDecoder(net)
    return [texts for _, texts in sorted(search(decoder, tasks))]


def expected(
    model: Any,
    prompts: Sequence[Sequence[int]],
    beams: BeamSearch,
    *,
    ends: Sequence[int] = (2,),
    count: int = 20,
    **options: Any,
) -> list[list[tuple[tuple[int, ...], float]]]:
    """What transformers finds, padded on the left: new tokens and scores."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        num_beams=beams.num_beams,
        length_penalty=beams.length_penalty,
        early_stopping=beams.early_stopping,
        num_return_sequences=beams.num_return_sequences,
        max_new_tokens=count,
        pad_token_id=0,
        eos_token_id=list(ends),
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    texts = []
    for row, score in zip(out.sequences[:, width:].tolist(), out.sequences_scores, strict=True):
        end = next((i for i, token in enumerate(row) if token in ends), len(row) - 1)
        texts.append((tuple(row[: end + 1]), float(score)))
    each = beams.num_return_sequences
    return [texts[i : i + each] for i in range(0, len(texts), each)]


def assert_same(
    ours: list[list[Hypothesis]], theirs: list[list[tuple[tuple[int, ...], float]]]
) -> None:
    for texts, others in zip(ours, theirs, strict=True):
        assert [text.ids for text in texts] == [ids for ids, _ in others]
        for text, (_, score) in zip(texts, others, strict=True):
            assert text.score == pytest.approx(score, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
def test_tokens_and_scores_of_transformers(
    models: Any, early_stopping: Any, length_penalty: float
) -> None:
    net, model = models
    lengths = set()
    for num_beams, ends in ((2, ENDS[:20]), (5, ENDS), (4, ENDS[:3])):
        beams = BeamSearch(
            num_beams=num_beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            num_return_sequences=num_beams,
        )
        ours = found(net, PROMPTS, beams, ends=ends)
        assert_same(ours, expected(model, PROMPTS, beams, ends=ends))
        lengths |= {len(text.ids) for texts in ours for text in texts}
    if length_penalty < 2 or early_stopping is True:
        assert len(lengths) >= 4  # texts did end early


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.6},
        {"repetition_penalty": 0.8},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3},
        {"min_new_tokens": 7},
        {"min_new_tokens": 4, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
    ],
    ids=str,
)
def test_penalties_and_bans_of_transformers(models: Any, options: dict[str, Any]) -> None:
    net, model = models
    beams = BeamSearch(num_beams=4, num_return_sequences=4, early_stopping=True)
    ends, changed = ENDS[:4] if "no_repeat_ngram_size" in options else ENDS, 0
    plain = found(net, PROMPTS, beams, ends=ends, count=40)
    ours = found(net, PROMPTS, beams, ends=ends, count=40, **options)
    for number, prompt in enumerate(PROMPTS):
        # One by one: transformers counts its padding among the n-grams.
        theirs = expected(model, [prompt], beams, ends=ends, count=40, **options)
        assert_same(ours[number : number + 1], theirs)
        changed += ours[number] != plain[number]
    assert changed >= 1


def test_one_beam_is_greedy(models: Any) -> None:
    net, model = models
    ours = found(net, PROMPTS, BeamSearch(num_beams=1, early_stopping=True))
    for (text,), prompt in zip(ours, PROMPTS, strict=True):
        made = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=20, pad_token_id=0
        )
        assert list(text.ids) == made[0, len(prompt) :].tolist()


def test_a_prompts_texts_do_not_depend_on_the_others(models: Any) -> None:
    net, _ = models
    beams = BeamSearch(num_beams=3, num_return_sequences=3, early_stopping=True)
    together = found(net, PROMPTS, beams, ends=ENDS)
    lengths = {max(len(text.ids) for text in texts) for texts in together}
    assert len(lengths) > 1  # searches end at different steps
    for prompt, texts in zip(PROMPTS, together, strict=True):
        (alone,) = found(net, [prompt], beams, ends=ENDS)
        assert [text.ids for text in alone] == [text.ids for text in texts]


def test_limits_of_their_own(models: Any) -> None:
    net, _ = models
    beams = BeamSearch(num_beams=3)
    counts = [1, 9, 4]
    tasks = [
        Task(row=Row(Sampling(temperature=0), PROMPTS[0]), beams=beams, max_new_tokens=count)
        for count in counts
    ]
    ended = list(search(TorchDecoder(net), tasks))
    assert [number for number, _ in ended] == [0, 2, 1]  # as they end
    for number, (text,) in ended:
        assert len(text.ids) == counts[number]
        assert [text.ids] == [t.ids for t in found(net, PROMPTS[:1], beams, count=len(text.ids))[0]]


def test_logprobs_are_the_models_own(models: Any) -> None:
    net, model = models
    beams = BeamSearch(num_beams=3, num_return_sequences=3, length_penalty=1.0)
    (texts,) = found(net, PROMPTS[:1], beams, repetition_penalty=1.5, ends=ENDS)
    for text in texts:
        ids = torch.tensor([PROMPTS[0] + list(text.ids)])
        own = reference.logits(model, ids)[0].log_softmax(-1)
        made = own[len(PROMPTS[0]) - 1 : -1].gather(1, torch.tensor(text.ids)[:, None])[:, 0]
        assert list(text.logprobs) == pytest.approx(made.tolist(), abs=1e-4)
    (plain,) = found(net, PROMPTS[:1], beams, ends=ENDS)
    for text in plain:
        assert text.score == pytest.approx(sum(text.logprobs) / len(text.ids), abs=1e-5)


def test_what_a_caller_says_ends_a_text(models: Any) -> None:
    net, _ = models
    beams, seen = BeamSearch(num_beams=3, num_return_sequences=3, early_stopping=True), set()

    def stopped(ids: Sequence[int]) -> bool:
        seen.add(len(ids))
        return len(ids) >= 3 and ids[-1] % 5 == 0

    row = Row(Sampling(temperature=0), PROMPTS[0])
    task = Task(row=row, beams=beams, max_new_tokens=40, stopped=stopped)
    ((_, texts),) = search(TorchDecoder(net), [task])
    assert {1, 2, 3} <= seen
    assert any(len(text.ids) < 40 for text in texts)
    for text in texts:
        assert len(text.ids) == 40 or (len(text.ids) >= 3 and text.ids[-1] % 5 == 0)
    assert row.ids == PROMPTS[0]


class Table:
    """A decoder that looks up what follows a token; what a network would have to learn."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def start(self) -> Memory:
        memory = Memory()
        memory.length = 0
        return memory

    def fork(self, memory: Memory, length: int) -> Memory:
        return self.start()

    def free(self, memory: Memory) -> None:
        pass

    def extend(self, memories: Sequence[Memory], tokens: Sequence[Sequence[int]]) -> Tensor:
        assert len(memories) == len(tokens) == len({id(memory) for memory in memories})
        return self.table[[new[-1] for new in tokens]]


def run_table(table: list[list[float]], **options: Any) -> list[Hypothesis]:
    beams = BeamSearch(**{"num_beams": 2, "num_return_sequences": 2} | options)
    row = Row(Sampling(temperature=0), [0], ends=(3,))
    task = Task(row=row, beams=beams, max_new_tokens=4)
    ((_, texts),) = search(Table(torch.tensor(table).log()), [task])
    return texts


def test_it_finds_what_greedy_misses() -> None:
    table = [
        [0.0, 0.6, 0.4, 0.0],  # the likelier first step leads to worse ones
        [0.25, 0.25, 0.25, 0.25],
        [0.05, 0.0, 0.0, 0.95],
        [1.0, 0.0, 0.0, 0.0],
    ]
    best = run_table(table, length_penalty=0.0)[0]
    assert best.ids == (2, 3)
    assert best.score == pytest.approx(float(torch.tensor(0.4 * 0.95).log()))


def test_of_equal_scores_the_smaller_token_is_first() -> None:
    same = [[0.25] * 4] * 4
    texts = run_table(same, early_stopping=True, length_penalty=0.0)
    assert [text.ids for text in texts] == [(0, 0, 0, 0), (0, 0, 0, 1)]


def test_a_ban_that_leaves_nothing(models: Any) -> None:
    task = Task(
        row=Row(Sampling(temperature=0, no_repeat_ngram_size=1), [0, 1, 2]),
        beams=BeamSearch(num_beams=2),
        max_new_tokens=9,
    )
    with pytest.raises(InputError, match="no_repeat_ngram_size: it leaves no token"):
        list(search(Table(torch.zeros(4, 4)), [task]))


def test_logits_that_are_no_numbers() -> None:
    with pytest.raises(ModelError, match="not finite"):
        run_table([[float("nan")] * 4] * 4)


def test_beams_take_no_chances(models: Any) -> None:
    task = Task(row=Row(Sampling(), [1]), beams=BeamSearch(num_beams=2), max_new_tokens=2)
    with pytest.raises(InputError, match="^temperature: "):
        next(search(Table(torch.zeros(4, 4)), [task]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_beams", 0),
        ("length_penalty", float("nan")),
        ("early_stopping", "always"),
        ("num_return_sequences", 0),
        ("num_return_sequences", 4),
    ],
)
def test_values_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{field}: must be"):
        BeamSearch(**{"num_beams": 3, field: value})
