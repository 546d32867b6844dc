"""A finished set with pictures, and its page: whole, safe, sealed; and a set without a painter."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from tests import painter
from vermilion.errors import InputError
from vermilion.line import recipe as recipes
from vermilion.line.run import Line
from vermilion.line.subjects import drawable, seen
from vermilion.line.verify import verify_file

SHEET = """
description = "pictures and a caption"
[[steps]]
name = "headline"
kind = "text"
template = "Write about {{ subject }}."
[steps.settings]
pattern = "[a-z ]{5,20}[.]"
[[steps]]
name = "picture"
kind = "picture"
optional = true
needs = ["headline"]
count = 3
template = "{{ subject }}{% if style %}, {{ style }}{% endif %}"
settings = { size = 128 }
[[steps]]
name = "after"
kind = "text"
needs = ["picture"]
template = "About {{ picture.text }}."
[steps.settings]
pattern = "[a-z ]{5,20}[.]"
"""


class Page(HTMLParser):
    """What is in a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def values(self, tag: str, name: str) -> list[str]:
        return [str(attrs[name]) for kind, attrs in self.tags if kind == tag and name in attrs]


def test_a_set_has_pictures_and_a_page_that_shows_them(
    easel: Line, tiny_model: str, tmp_path: Path
) -> None:
    folder = tmp_path / "foxes"
    finished = easel.make(
        {"subject": "a red fox", "style": "flat", "seed": 5},
        recipe=recipes.from_text(SHEET, "sheet"),
        models={"text": tiny_model},
        out=folder,
    )
    pictures = finished["picture"]
    assert [item.asset.text for item in pictures] == ["a red fox, flat"] * 3
    assert len({item.asset.sha256 for item in pictures}) == 3
    assert easel.remake(pictures[1].asset.id)[1]
    assert finished.page == folder / "index.html"
    page = Page(finished.page)
    shown = page.values("img", "src")
    assert [unquote(src) for src in shown] == [f"picture-{i}.png" for i in (1, 2, 3)]
    assert all((folder / unquote(src)).is_file() for src in shown)
    with Image.open(folder / "picture-1.png") as image:
        assert image.size == (128, 128)
    assert all("a red fox" in alt for alt in page.values("img", "alt"))
    assert finished["headline"][0].asset.text in page.words
    assert "AI-generated" in page.words
    assert "vermilion verify ." in page.words
    assert "stickers, licence Apache-2.0" in page.words
    links = page.values("a", "href")
    assert {"headline.txt", "after.txt"} <= set(links)
    verdict = verify_file(easel.sealer, finished.page, 10**6)
    assert verdict.credential.state == "ours"
    assert verdict.label is not None
    described = json.loads((folder / "set.json").read_text())
    assert (described["page"], described["left_out"]) == ("index.html", [])


def test_nothing_in_a_page_is_fetched_or_run(easel: Line, tiny_model: str, tmp_path: Path) -> None:
    evil = "<script>x()</script>\" onload='y' </style><img src=//e.x> {{ 7 }}"
    sheet = SHEET.replace("About {{ picture.text }}.", "More.").replace("{{ subject }}.", "it.")
    finished = easel.make(
        {"subject": evil, "audience": evil, "style": evil, "seed": 1},
        recipe=recipes.from_text(sheet, "sheet"),
        models={"text": tiny_model},
        out=tmp_path / "x",
    )
    assert finished.page is not None
    page = Page(finished.page)
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "iframe", "object", "embed", "link", "form", "base"}
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert all("/" not in src and ":" not in src for src in page.values("img", "src"))
    assert evil in page.words  # as words, whole
    assert any(evil in alt for alt in page.values("img", "alt"))
    assert "url(" not in page.words
    assert "@import" not in page.words


def test_a_set_is_made_without_a_painter_and_says_so(
    line: Line, tiny_model: str, tmp_path: Path
) -> None:
    finished = line.make(
        "a red fox",
        recipe=recipes.from_text(SHEET, "sheet"),
        models={"text": tiny_model, "picture": "nobody"},
        out=tmp_path / "fox",
    )
    assert [item.asset.step for item in finished.items] == ["headline"]
    (sentence,) = finished.left_out
    assert sentence.startswith("picture was left out: there is no model 'nobody'")
    assert finished.page is not None
    assert sentence in Page(finished.page).words


def test_what_several_steps_lack_is_said_once(line: Line, tiny_model: str) -> None:
    cover = '[[steps]]\nname = "cover"\nkind = "picture"\noptional = true\ntemplate = "x"\n'
    finished = line.make(
        "a fox",
        recipe=recipes.from_text(SHEET + cover, "sheet"),
        models={"text": tiny_model, "picture": "nobody"},
    )
    (sentence,) = finished.left_out
    assert sentence.startswith("picture and cover were left out: there is no model 'nobody'")


def test_a_step_that_may_not_be_missing_stops_the_set(line: Line, tiny_model: str) -> None:
    strict = recipes.from_text(SHEET.replace("optional = true\n", ""), "strict")
    with pytest.raises(InputError, match="'nobody'"):
        line.make("a fox", recipe=strict, models={"text": tiny_model, "picture": "nobody"})
    assert line.library.list() == []


def test_a_chinese_set_has_a_chinese_page_without_english_pictures(
    easel: Line, tiny_model: str, tmp_path: Path
) -> None:
    recipe = recipes.from_text(SHEET, "sheet")
    finished = easel.make(
        "一只狐狸", recipe=recipe, models={"text": tiny_model}, out=tmp_path / "zh"
    )
    assert "stickers understands English, not Chinese" in finished.left_out[0]
    assert finished.page is not None
    page = Page(finished.page)
    assert page.values("html", "lang") == ["zh"]
    assert "人工智能生成" in page.words
    assert page.values("html", "lang") == ["zh"]


def test_an_earlier_page_is_replaced(easel: Line, tiny_model: str, tmp_path: Path) -> None:
    recipe = recipes.from_text(SHEET, "sheet")
    options = {"recipe": recipe, "models": {"text": tiny_model}, "out": tmp_path / "s"}
    easel.make("an owl", **options)
    easel.make({"subject": "a fox", "counts": {"picture": 1}}, **options, overwrite=True)
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert names == {
        "after.txt", "credentials", "headline.txt", "index.html", "picture.png", "set.json",
    }  # fmt: skip
    beside = {path.name for path in (tmp_path / "s" / "credentials").iterdir()}
    assert "index.html.c2pa" in beside


def test_a_recipe_names_no_picture_of_the_library(easel: Line, tiny_model: str) -> None:
    recipe = recipes.from_text(SHEET.replace("size = 128", 'image = "abc"'), "x")
    with pytest.raises(InputError, match="settings.image: a recipe cannot name a picture"):
        easel.make("a fox", recipe=recipe, models={"text": tiny_model})


@pytest.mark.parametrize("name", ["launch", "story", "lesson"])
def test_the_shipped_recipes_paint_and_do_without(name: str) -> None:
    steps = [step for step in recipes.find(name).steps if step.kind == "picture"]
    assert steps
    assert all(step.optional for step in steps)


@pytest.mark.parametrize(
    ("subject", "thing"),
    [
        ("Night Shift, a dark roast coffee from Harbor Lane Roasters", "coffee"),
        ("a small roastery's new dark roast", "coffee"),
        ("a bookshop called The Dry Page", "books"),
        ("a red fox who cannot sleep", "red fox"),
        ("a snail who wants to see the sea", "snail"),
        ("a lighthouse keeper who is afraid of the dark", "lighthouse"),
        ("Pomelo, an app for cooks", "phone"),
        ("how volcanoes work", "volcano"),
        ("why the sky is blue", "cloud"),
        ("a quixotic ziggurat", "ziggurat"),
    ],
)
def test_what_is_drawn_for_a_subject(subject: str, thing: str) -> None:
    assert drawable(subject) == thing


def test_what_a_text_names_besides_its_subject() -> None:
    text = 'Just then, a wise owl came along. "Are you the fox?" said the owl.'
    assert seen(text, "a red fox") == "owl"
    assert seen("They sat down and waited.", "a red fox") == ""


def test_a_chinese_set_is_painted_where_its_words_are_known(
    home: Path, painter_folder: Path, tiny_model: str, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(painter_folder, folder)
    (folder / "painter" / "words.zh.tsv").write_text("狐狸\tfox\n", encoding="utf-8")
    painter.install(home, folder, languages=("en", "zh"))
    recipe = recipes.from_text(SHEET, "sheet")
    with Line() as line:
        known = line.make("一只狐狸", recipe=recipe, models={"text": tiny_model})
        other = line.make("一头鲸鱼", recipe=recipe, models={"text": tiny_model})
    assert "picture" in [item.asset.step for item in known.items]
    # What it cannot read costs the set its picture and nothing else.
    assert [item.asset.step for item in other.items] == ["headline"]
    (sentence,) = other.left_out
    assert sentence.startswith("picture was left out: text: the model does not know '鲸鱼'")
