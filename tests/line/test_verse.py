"""Regulated verse: the form holds whatever the weights are, the rule chooses, requests are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from vermilion.data import prosody
from vermilion.errors import InputError
from vermilion.line import recipe as recipes
from vermilion.line import verse
from vermilion.line.checks import Scene, failures
from vermilion.line.run import Line
from vermilion.models.lm import io
from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.net import LM
from vermilion.models.lm.train_tokenizer import characters
from vermilion.types import Brief, Recipe

STORKS = "白日依山尽，\n黄河入海流。\n欲穷千里目，\n更上一层楼。"
KNOWN = "五绝七律|秋思" + STORKS + "天地风云山水花月人心春夏夜雨江河"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a model of characters with random weights."""
    folder = tmp_path_factory.mktemp("models") / "random"
    tokenizer = characters([KNOWN])
    config = LMConfig(
        vocab_size=tokenizer.fast.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        eos_token_ids=(0,),
    )
    torch.manual_seed(0)
    io.save(LM(config), tokenizer, folder)
    return str(folder)


@pytest.mark.parametrize("form", prosody.FORMS)
def test_the_form_holds_whatever_the_weights_are(line: Line, model: str, form: str) -> None:
    (asset,) = line.write(f"{form} 秋思", model=model, seed=1)
    lines, size = prosody.FORMS[form]
    printed = asset.text.split("\n")
    assert [len(row) for row in printed] == [size + 1] * lines
    assert [row[-1] for row in printed] == ["，", "。"] * (lines // 2)
    assert prosody.form_of(prosody.lines_of(asset.text)) == form
    assert asset.recipe["prompt"]["text"] == f"{form}|秋思"
    assert set(asset.notes["measures"]) == {"tone", "rhyme"}


def test_a_poem_comes_out_again(line: Line, model: str) -> None:
    (asset,) = line.write("五绝 秋思", model=model, seed=3, temperature=0.5)
    assert asset.recipe["prompt"]["settings"]["temperature"] == 0.5
    assert line.remake(asset.id) == (asset, True)


def test_the_best_by_the_rule_is_kept(line: Line, model: str) -> None:
    few = line.write("五绝 秋思", model=model, seed=2)[0]
    scores = few.notes["measures"]
    step = recipes.find("verse").steps[0]
    single = Recipe(
        name="single",
        description="one draw",
        steps=(replace(step, candidates=1, tries=1),),
        languages=("zh",),
    )
    brief = Brief(subject="秋思", variables={"form": "五绝"}, counts={"poem": 8})
    draws = line.make(brief, recipe=single, seed=2, models={"text": model})
    mean = sum(sum(i.asset.notes["measures"].values()) for i in draws.items) / 8
    assert sum(scores.values()) > mean


@pytest.mark.parametrize(
    ("request_", "form", "subject"),
    [
        ("七绝 秋思", "七绝", "秋思"),
        ("五律：山居", "五律", "山居"),
        ("七律《登高》", "七律", "登高"),
        ("写一首五绝 雪", "五绝", "雪"),
    ],
)
def test_requests_that_are_answered(request_: str, form: str, subject: str) -> None:
    found = recipes.answering(request_)
    assert found is not None
    recipe, brief, amount = found
    assert (recipe.name, brief.subject, dict(brief.variables), amount) == (
        "verse", subject, {"form": form}, 1,
    )  # fmt: skip
    assert recipe.steps[0].model == "verse"


@pytest.mark.parametrize("wrong", ["六绝 雪", "七绝", "七绝 ", "七绝《》", "七绝 moon", "一首诗"])
def test_what_verse_cannot_write_is_one_sentence(line: Line, wrong: str) -> None:
    with pytest.raises(InputError, match="ask as in '七绝 秋思'") as caught:
        line.write(wrong, model="verse")
    assert "\n" not in str(caught.value)


def test_other_requests_stay_with_the_usual_model() -> None:
    assert recipes.answering("七夕的故事") is None
    assert recipes.answering("a poem about rain", "smollm2-135m") is None


def test_characters_that_the_model_does_not_know(line: Line, model: str) -> None:
    with pytest.raises(InputError, match="has never seen 龘; write it with other"):
        line.write("七绝 秋龘", model=model)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (STORKS, None),
        (STORKS[:12], "has none of the forms"),
        (STORKS.replace("更上一层楼", "黄河入海流"), "says 黄河 twice"),
        (STORKS.replace("楼", "塔"), "has 50% of its rhymes"),
        (STORKS.replace("楼", "流"), "rhymes a character with itself"),
        ("天天天天天，\n天天地天楼。\n地地风天天，\n地山天云流。", "says 天天 twice"),
        ("风天山天天，\n云水花春楼。\n夜地月人心，\n江水河天流。", "of its tones"),
    ],
)
def test_faults(text: str, fault: str | None) -> None:
    checks = {"verse": {"tone": 0.85, "rhyme": 1.0}}
    found = failures(text, checks, Scene(brief=Brief(subject="楼"), language="zh"))
    if fault is None:
        assert found == ()
    else:
        (only,) = found
        assert fault in only


def test_measures_without_a_form_are_nothing() -> None:
    assert verse.measures("白日依山") == {"tone": 0.0, "rhyme": 0.0}


def test_an_unknown_measure_is_one_sentence() -> None:
    text = Path(recipes.__file__).parent.parent / "recipes" / "verse.toml"
    wrong = text.read_text(encoding="utf-8").replace('rank = "verse"', 'rank = "beauty"')
    with pytest.raises(InputError, match="rank must be of verse"):
        recipes.from_text(wrong, "mine")


@pytest.mark.parametrize("form", prosody.FORMS)
def test_the_model_that_comes_with_the_package(line: Line, form: str) -> None:
    (asset,) = line.write(f"{form} 秋思", seed=1)
    assert asset.recipe["model"]["name"] == "verse"
    assert prosody.form_of(prosody.lines_of(asset.text)) == form
    assert asset.notes["measures"]["tone"] >= 0.8
    assert asset.notes["measures"]["rhyme"] >= 0.5


def test_it_opens_in_transformers(line: Line) -> None:
    _, path = line.store.locate("verse")
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(path)
    net, tokenizer = io.load(path)
    poem = "五绝|登鹳雀楼\n" + STORKS
    ids = tokenizer.encode(poem)
    assert ids == tokens(poem, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(poem)
    assert tokenizer.decode(ids) == poem
    batch = torch.tensor([ids])
    with torch.no_grad():
        torch.testing.assert_close(net(batch), theirs(batch).logits, rtol=1e-4, atol=1e-4)
