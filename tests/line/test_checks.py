"""Each check passes a good text and fails a bad one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from vermilion.errors import InputError
from vermilion.line.checks import Scene, failures, validate_checks
from vermilion.line.phrases import called, clause, hero, introduced, told
from vermilion.line.quiz import gaps
from vermilion.line.template import render
from vermilion.types import Brief

SHOP = Brief(
    subject="a rainy-day bookshop called The Dry Page",
    facts=("hot tea for every reader", "open until 9"),
    must_mention=("The Dry Page",),
)
CHINESE = Brief(subject="雨天书店", facts=("每天营业到9点",))


@pytest.mark.parametrize(
    ("check", "argument", "good", "bad"),
    [
        ("length", {"min": 2, "max": 4}, "Come and read.", "Come."),
        ("length", {"max": 1, "unit": "sentences"}, "Come in.", "Come in. Sit down."),
        ("length", {"max": 4, "unit": "characters"}, "Tea.", "Hot tea."),
        ("mention", True, "The Dry Page is open.", "The shop is open."),
        ("mention", ["tea"], "Hot tea.", "Hot soup."),
        ("about", 1, "A bookshop for rain.", "A barber."),
        ("adds", 2, "A bookshop with chairs and lamps.", "A rainy-day bookshop."),
        ("grounded", True, "The Dry Page is open until 9.", "It is open until 10."),
        ("grounded", True, "Come to The Dry Page.", "Come to Baker Street."),
        ("no_repetition", True, "Come in. Sit down.", "Come in. Come in."),
        ("no_repetition", True, "Tea and books.", "Tea and tea."),
        ("no_repetition", True, "A crater is a hole.", "A volcano is a large volcano."),
        ("language", True, "Come in.", "进来坐坐。"),
        ("avoid", ["click here"], "Come in.", "Click here now."),
        ("claims", True, "Hot tea for you.", "Free tea for you."),
        ("claims", True, "A quiet place.", "The best place."),
        ("whole_end", True, "It comes with tea.", "It comes with the."),
        ("whole_end", True, "Tea, books and rain.", "At the shop, ."),
    ],
)
def test_check(check: str, argument: Any, good: str, bad: str) -> None:
    scene = Scene(brief=SHOP)
    assert failures(good, {check: argument}, scene) == ()
    assert len(failures(bad, {check: argument}, scene)) == 1


@pytest.mark.parametrize(
    ("check", "argument", "good", "bad"),
    [
        ("length", {"max": 6}, "来喝杯茶。", "来喝一杯热热的茶吧。"),
        ("grounded", True, "营业到9点。", "营业到10点。"),
        ("no_repetition", True, "进来。坐下。", "进来。进来。"),
        ("language", True, "雨天来看书。", "Come in."),
    ],
)
def test_check_of_chinese(check: str, argument: Any, good: str, bad: str) -> None:
    scene = Scene(brief=CHINESE, language="zh")
    assert failures(good, {check: argument}, scene) == ()
    assert len(failures(bad, {check: argument}, scene)) == 1


def test_the_brief_may_promise_what_a_text_may_not() -> None:
    brief = Brief(subject="a free concert", facts=("the best seats",))
    assert failures("The best free seats.", {"claims": True}, Scene(brief=brief)) == ()


def test_a_fact_may_end_as_a_person_wrote_it() -> None:
    scene = Scene(brief=Brief(subject="a tube", facts=("Pump it up before you put it in",)))
    assert failures("Pump it up before you put it in.", {"whole_end": True}, scene) == ()
    assert failures("Pump it up and put it in.", {"whole_end": True}, scene) == ("ends in 'in'",)


def test_a_long_name_may_come_twice() -> None:
    brief = Brief(subject="our beginner yoga class in the park")
    text = "Join our beginner yoga class in the park. Our beginner yoga class in the park is new."
    assert failures(text, {"no_repetition": True}, Scene(brief=brief)) == ()


def test_distinct() -> None:
    scene = Scene(brief=SHOP, taken=["Hot tea for every reader."])
    assert failures("Open until late.", {"distinct": 0.5}, scene) == ()
    assert failures("Hot tea for each reader.", {"distinct": 0.5}, scene)


@pytest.mark.parametrize("text", ["Sure, here is your post.", "当然，这是您的文案。"])
def test_an_answer_does_not_talk_to_the_person_who_asked(text: str) -> None:
    assert failures(text, {}, Scene(brief=SHOP)) == ("talks to the person who asked",)


def test_an_instruction_is_not_repeated_and_the_brief_may_be() -> None:
    prompt = (
        "Product: hot tea for every reader\nFor: readers\nWrite one short post that people like."
    )
    scene = Scene(brief=SHOP, prompt=prompt)
    assert failures("Write one short post that people like.", {}, scene)
    assert failures("We have hot tea for every reader, for readers.", {}, scene) == ()


def test_unknown_checks_and_wrong_arguments_are_named() -> None:
    with pytest.raises(InputError, match="nice"):
        validate_checks({"nice": True}, "recipe x")
    with pytest.raises(InputError, match=r"checks\.about"):
        validate_checks({"about": "much"}, "recipe x")


@pytest.mark.parametrize(
    ("subject", "name", "full"),
    [
        ("a bookshop called The Dry Page", "The Dry Page", "The Dry Page, a bookshop"),
        ("Pomelo, an app for cooks", "Pomelo", "Pomelo, an app for cooks"),
        ("a small roastery's new dark roast", "our new dark roast", "our new dark roast"),
        ("Mill Street's rye bread", "Mill Street's rye bread", "Mill Street's rye bread"),
        ("a weekly farmers' market", "our weekly farmers' market", None),
        ("a children's book", "our children's book", None),
        ("handmade candles", "our handmade candles", "our handmade candles"),
        ("announce the reopening of the pool", "the reopening of the pool", None),
    ],
)
def test_what_a_subject_is_called(subject: str, name: str, full: str | None) -> None:
    assert called(subject) == name
    assert introduced(subject) == (full or name)


@pytest.mark.parametrize(
    ("fact", "subject", "sentence"),
    [
        ("roasted on Mondays", "a coffee", "It is roasted on Mondays"),
        ("burn for forty hours", "candles", "They burn for forty hours"),
        ("open until nine", "a bookshop", "We are open until nine"),
        ("Mats are provided.", "a yoga class", "Mats are provided"),
        ("every Saturday", "a yoga class", "Join us every Saturday"),
        ("costs 24 euros", "an umbrella", "It costs 24 euros"),
        ("notes of cocoa", "a coffee", "It has notes of cocoa"),
        ("exports to a spreadsheet", "an app", "It exports to a spreadsheet"),
    ],
)
def test_a_fact_becomes_a_sentence(fact: str, subject: str, sentence: str) -> None:
    assert re.fullmatch(told(fact, subject), sentence)


def test_a_fact_within_a_sentence() -> None:
    assert clause("The handle turns.") == "the handle turns"
    assert clause("Apollo 11 landed.") == "Apollo 11 landed"


def test_a_hero_has_the_name_that_the_brief_gives() -> None:
    assert hero("a robot who is afraid") == "the robot"
    assert hero("Mira, a girl") == "Mira"
    assert hero("a small robot who is afraid", ["the robot is called Pim"]) == "Pim"


PLANTS = (
    "plants take in water through their roots",
    "leaves take in carbon dioxide from the air",
    "sunlight gives the energy",
    "plants make sugar and give off oxygen",
)


@pytest.mark.parametrize("source", [PLANTS, ". ".join(PLANTS) + "."])
def test_answers_are_right_by_construction(source: Any) -> None:
    made = gaps(source, 5)
    assert len(made) == 5
    for gap in made:
        assert gap.options["ABCD".index(gap.letter)] == gap.answer
        assert len({option.lower() for option in gap.options}) == 4
        whole = gap.sentence.replace("____", gap.answer).rstrip(".").lower()
        assert whole in {fact.lower() for fact in PLANTS}
        others = set(gap.options) - {gap.answer}
        assert not any(f" {option.lower()} " in f" {whole} " for option in others)
    assert len({gap.letter for gap in made}) == 4


def test_numbers_are_asked_for_with_other_numbers() -> None:
    (gap, *_) = gaps(["the bridge opened in 1932"], 5)
    assert gap.answer == "1932"
    assert all(option.isdigit() for option in gap.options)


def test_a_verb_is_not_asked_for_together_with_its_noun() -> None:
    facts = ["the sun warms the sea and water evaporates", "the line says how many parts it has"]
    answers = {gap.answer for gap in gaps(facts, 5)}
    assert not answers & {"sun warms", "water evaporates", "line says"}
    assert {"sun", "line"} <= answers


def test_one_fact_is_enough_for_a_question() -> None:
    assert len(gaps(["bees make honey in the hive"], 5)) >= 1
    assert gaps([], 5) == []


def test_filters_in_a_template() -> None:
    source = "{{ facts | nth(4) }} {% for hand in facts | deal(2) %}{{ hand | anyof }}{% endfor %}"
    assert render(source, {"facts": ["a", "b", "c"]}, "x") == "a (?:a|c)(?:b)"
