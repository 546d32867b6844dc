"""Recipes: those that come with the package, and bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vermilion.errors import InputError, NotFoundError
from vermilion.line import recipe as recipes
from vermilion.line.brief import read_brief
from vermilion.line.plan import plan, prompts, tags
from vermilion.settings import get_settings
from vermilion.types import Brief

BRIEFS = Path(__file__).parent / "data/briefs/briefs.json"
GOOD = """
description = "one line"
[[steps]]
name = "copy"
kind = "text"
template = "{{ subject }}"
"""


@pytest.mark.parametrize("name", ["launch", "story", "lesson"])
def test_shipped_recipes_can_be_planned(home: Path, name: str) -> None:
    recipe = recipes.find(name)
    assert recipe.description
    assert {step.kind for step in recipe.steps} == {"text", "speech", "picture"}
    assert plan(Brief(subject="tea"), recipe, get_settings(), {})


@pytest.mark.parametrize(
    ("sentence", "name"),
    [
        ("a launch set for a small roastery's new dark roast, warm tone", "launch"),
        ("write me a story about a lost kite", "story"),
        ("a lesson about how rainbows form", "lesson"),
        ("a rainy-day bookshop", "launch"),
    ],
)
def test_a_sentence_chooses_its_recipe(home: Path, sentence: str, name: str) -> None:
    assert recipes.choose(read_brief(sentence)).name == name


def test_a_persons_own_recipe_is_a_file(tmp_path: Path, home: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    recipe = recipes.find(str(tmp_path / "mine.toml"))
    assert recipe.name == "mine"
    assert recipe.steps[0].template == "{{ subject }}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("description", "descripton"), "descripton is not a field .* did you mean description"),
        (('kind = "text"\n', ""), "kind is missing"),
        (("kind", "sort"), "sort is not a field"),
        (('name = "copy"', 'name = "My Copy"'), "name must be unique, of small letters"),
        (("{{ subject }}", "{{ subject"), "steps.copy.template, line 1"),
        (("{{ subject }}", "{% for i in range(9) %}{% endfor %}"), "not allowed in a template"),
        (('kind = "text"', 'kind = "text"\nneeds = ["later"]'), "needs names 'later'"),
        (('kind = "text"', 'kind = "text"\ncandidates = 0'), "candidates must be 1 to 64"),
        (('kind = "text"', 'kind = "text"\nchecks = { lenght = 3 }'), "'lenght' is no check"),
        (('kind = "text"', 'kind = "text"\nchecks = { about = "x" }'), "checks.about"),
        (("[[steps]]", "[steps]"), "steps must be a list"),
        (('"one line"', '"one line'), "this is not TOML"),
    ],
)
def test_a_bad_recipe_is_one_sentence(home: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        recipes.from_text(GOOD.replace(*change, 1), "mine")
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_answered_with_a_near_one(home: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean launch"):
        recipes.find("lunch")


@pytest.mark.parametrize(
    ("recipe", "brief", "message"),
    [
        (GOOD.replace("text", "sculpture"), {}, "asks for 'sculpture', which no engine makes yet"),
        (GOOD.replace("subject", "colour"), {}, "uses 'colour', which nothing gives"),
        (GOOD + "settings = { temprature = 1.0 }", {}, "did you mean temperature"),
        (GOOD + "settings = { temperature = -1.0 }", {}, "temperature must be 0 to 10"),
        (GOOD, {"counts": {"copies": 2}}, "counts.copies is no step"),
        (GOOD, {"counts": {"copy": 0}}, "leaves out every step"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_any_work(
    home: Path, recipe: str, brief: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan(Brief(subject="tea", **brief), recipes.from_text(recipe, "mine"), get_settings(), {})


def test_another_language_is_asked_for_without_english_patterns(home: Path) -> None:
    brief = Brief(subject="一家雨天书店", counts={"voice": 0, "picture": 0})
    planned = plan(brief, recipes.find("launch"), get_settings(), {})
    for step in planned:
        assert step.settings["system"].endswith("只用中文写。")
        assert step.small == step.settings
    post = prompts(planned[-1], brief, {}, 1)[0]
    assert post.settings["schema"]["properties"]["hashtags"]["items"] == {"enum": ["一家雨天书店"]}


def test_the_fifty_briefs_reach_the_recipes_that_they_name(home: Path) -> None:
    rows = json.loads(BRIEFS.read_text(encoding="utf-8"))
    assert len({row["name"] for row in rows}) == len(rows) == 50
    for row in rows:
        answer = recipes.answering(row["brief"]) if isinstance(row["brief"], str) else None
        recipe, brief = answer[:2] if answer else (recipes.find(row["recipe"]), None)
        assert recipe.name == row["recipe"]
        brief = read_brief(row["brief"]) if brief is None else brief
        first, *_ = plan(brief, recipe, get_settings(), {})
        assert brief.subject in prompts(first, brief, {}, 1, small=True)[0].text


def test_hashtags_leave_the_order_out() -> None:
    found = tags(Brief(subject="announce the reopening of the village library"))
    assert "announce" not in found
    assert {"villagelibrary", "reopening"} <= set(found)


def test_a_briefs_variables_reach_the_template(home: Path) -> None:
    recipe = recipes.from_text(GOOD.replace("subject", "colour"), "mine")
    assert plan(Brief(subject="tea", variables={"colour": "red"}), recipe, get_settings(), {})
