"""The corpus of drawings, from packages of a few drawings."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.data.corpora.test_packages import written
from vermilion.data.corpora.__main__ import main
from vermilion.data.corpora.drawings import build as building
from vermilion.data.corpora.drawings import names, readers, sources
from vermilion.data.corpora.drawings.build import build
from vermilion.data.corpora.drawings.sets import SETS
from vermilion.data.corpora.drawings.split import CONCEPT, STYLE, TRAIN, assign
from vermilion.data.corpora.packages import Package
from vermilion.errors import FetchError, InputError

pytest.importorskip("svg2png_py", reason="the extra 'drawings' is not installed")

DOT = '<circle cx="{0}" cy="{0}" r="5" fill="{1}" fill-opacity=".5"/>'
FIELDS = "file caption set group style concept family label tags label_zh tags_zh licence credit"

EMOJI = [("1F408", "cat", ["pet"], "猫", ["宠物"]), ("1F98A", "fox", ["face"], "狐狸", [])]
EMOJI += [("1F1E7-1F1EA", "flag: Belgium", ["BE"], "旗: 比利时", ["旗"])]


def emojibase(chinese: bool) -> bytes:
    rows = [
        {"hexcode": code, "label": zh if chinese else en, "tags": zh_tags if chinese else tags}
        for code, en, tags, zh, zh_tags in EMOJI
    ]
    return json.dumps(rows).encode()


def icon_set(name: str) -> bytes:
    """Two to four drawings: a cat, one in a skin tone, a broken one, a hidden one."""
    drawn = next(s for s in SETS if s.name == name)
    colour = f"#{hash_of(name):06x}"
    icons: dict[str, Any] = {
        "cat": {"body": DOT.format(8, colour)},
        "cat-light-skin-tone": {"body": DOT.format(4, colour)},
        "house": {"body": DOT.format(9, colour)},
        "old": {"body": DOT.format(10, colour), "hidden": True},
        "facebook-logo": {"body": DOT.format(11, colour)},
    }
    if drawn.group != "emoji":
        icons.pop("cat-light-skin-tone")
    if name == "fluent-emoji-flat":
        icons["cat-house"] = icons["house"]
    if name == "noto":
        icons["fox"] = {"body": "<g><circle"}
    if name == "twemoji":
        icons["fox"] = {"body": DOT.format(8, f"#{hash_of('noto'):06x}")}
    if name == "circle-flags":
        icons = {
            "be": {"body": DOT.format(8, "#0000ff")},
            "lang-cs": {"body": DOT.format(3, "red")},
        }
    if "" not in drawn.styles:
        icons = {
            f"{icon}-{ending}": body for icon, body in icons.items() for ending in drawn.styles
        }
    facts = {"license": {"spdx": drawn.declared or drawn.licence}}
    return json.dumps({"info": facts, "icons": icons, "width": 16, "height": 16}).encode()


def hash_of(text: str) -> int:
    return sum(ord(c) * 31**k for k, c in enumerate(text)) % 0xFFFFFF


def clip(title: str, keyword: str, extra: str = "") -> bytes:
    return (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="20mm" height="40mm"'
        ' xmlns:dc="http://a/dc" xmlns:rdf="http://a/rdf" xmlns:cc="http://a/cc">'
        f"<metadata><dc:title>{title}</dc:title><rdf:li>{keyword}</rdf:li><dc:creator><cc:Agent>"
        f"<dc:title>Ann Artist</dc:title></cc:Agent></dc:creator>{extra}</metadata>"
        '<rect x="50" y="100" width="30" height="60" fill="#00ff00"/></svg>'
    ).encode()


def webp() -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (40, 20), (200, 40, 40, 128)).save(file, "WEBP", lossless=True)
    return file.getvalue()


CLIPS = "usr/share/openclipart/svg"
CONTENT: dict[Package, dict[str, bytes]] = {
    sources.EMOJIBASE: {
        "package/en/data.json": emojibase(chinese=False),
        "package/zh/data.json": emojibase(chinese=True),
        "package/en/shortcodes/github.json": b'{"1F408": "cat2"}',
        "package/en/shortcodes/joypixels.json": b'{"1F98A": ["fox", "fox_face"]}',
    },
    sources.ICONIFY: {
        f"package/json/{s.name}.json": icon_set(s.name)
        for s in SETS
        if s.package is sources.ICONIFY
    },
    sources.ICON_PARK: {
        "package/icons.json": json.dumps(
            [{"name": "house", "title": "房子", "tag": ["家", "房子"], "category": "Base"}]
        ).encode()
    },
    sources.FLUENT_3D: {
        "package/assets/1f98a.webp": webp(),
        "package/assets/1f98a-1f3fb.webp": webp(),
    },
    sources.OPENCLIPART: {
        f"{CLIPS}/animals/fox_01.svg": clip("Fox 01", "pet"),
        f"{CLIPS}/animals/cat_gpl.svg": clip("Cat", "pet", "<x>http://a/licenses/GPL/2.0/</x>"),
        f"{CLIPS}/signs/flags/cat.svg": clip("Cat", "pet"),
        f"{CLIPS}/animals/xyz.svg": clip("Qwrtz", "pet"),
        f"{CLIPS}/animals/xyz2.svg": clip("Volpe del cat", "pet"),
    },
    sources.TABLER: {"package/icons.json": b'{"house": {"tags": ["dwelling", 5]}}'},
    sources.LUCIDE: {"package/tags.json": b'{"house": ["dwelling"]}'},
    sources.MDI: {"package/meta.json": b'[{"name": "house", "aliases": ["my-home"]}]'},
    sources.PHOSPHOR: {
        "package/dist/index.mjs": b'const n = [{\n name: "house",\n tags: ["*new*", "villa"],\n}];'
    },
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for package, content in CONTENT.items():
        written(folder, package.file, content)
    return folder


@pytest.fixture
def small(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages with the pinned names, whose hashes are not looked at."""
    monkeypatch.setattr(building, "obtain", lambda p, folder, *, download: folder / p.file)
    return packages


def built(small: Path, out: Path, sets: Sequence[str] = ()) -> tuple[building.Drawings, list[Any]]:
    made = build(small, out, size=32, sets=sets, processes=1, quiet=True)
    return made, [json.loads(line) for line in made.path.read_text().splitlines()]


def test_every_picture_has_a_whole_line_and_its_licence(small: Path, tmp_path: Path) -> None:
    made, lines = built(small, tmp_path / "out")
    assert {line["set"] for line in lines} == {s.name for s in SETS}
    by_name = {s.name: s for s in SETS}
    for line in lines:
        assert list(line) == [*FIELDS.split(), "split"]
        assert line["licence"] == by_name[line["set"]].licence
        assert line["licence"] in sources.LICENCES
        assert line["label"]
        assert line["credit"]
        with Image.open(tmp_path / "out" / line["file"]) as image:
            assert (image.mode, image.size) == ("RGBA", (32, 32))
    alike = {}
    for line in lines:
        key = (line["family"], by_name[line["set"]].kin or line["set"])
        assert alike.setdefault(key, line["split"]) == line["split"]
    files = {f"pictures/{path.name}" for path in (tmp_path / "out" / "pictures").iterdir()}
    assert files == {line["file"] for line in lines}
    assert made.lines[-2].split()[1] == str(len(lines))


def test_what_a_drawing_shows(small: Path, tmp_path: Path) -> None:
    made, lines = built(small, tmp_path / "out")
    found = {line["file"].removeprefix("pictures/").removesuffix(".png"): line for line in lines}
    cat = found["noto--cat"]
    assert (cat["concept"], cat["label"], cat["tags"]) == ("1F408", "cat", ["pet"])
    assert (cat["label_zh"], cat["tags_zh"], cat["caption"]) == ("猫", ["宠物"], "cat, soft")
    assert found["tabler--cat"]["concept"] == "1F408"
    house = found["tabler--house"]
    assert (house["concept"], house["label_zh"]) == ("label:house", "房子")
    assert house["tags"] == ["dwelling", "5"]
    assert found["ph--house"]["tags"] == ["villa"]
    assert found["mdi--house"]["tags"] == ["my home"]
    assert found["circle-flags--be"]["label"] == "flag: Belgium"
    fox = found["openclipart--fox_01"]
    assert (fox["concept"], fox["credit"], fox["tags"]) == ("1F98A", "Ann Artist", ["pet", "face"])
    assert not [name for name in found if "tone" in name or "1f3fb" in name or "old" in name]
    assert not [name for name in found if "gpl" in name or "xyz" in name or "facebook" in name]
    assert "openclipart--cat" not in found
    assert made.sets["noto"].broken == 1
    left_out = (tmp_path / "out" / "left-out.txt").read_text()
    assert "noto--fox: " in left_out
    assert "twemoji--fox: the same pixels as noto--cat" in left_out
    assert made.sets["twemoji"].copies == 1
    assert "猫\tcat\n" in (tmp_path / "out" / "words.zh.tsv").read_text(encoding="utf-8")
    assert "fluent-emoji-flat--cat-house: the same pixels as fluent-emoji-flat--house" in left_out


def test_the_credits_name_every_set_package_and_author(small: Path, tmp_path: Path) -> None:
    built(small, tmp_path / "out")
    credits = (tmp_path / "out" / "CREDITS.txt").read_text()
    notice = (tmp_path / "out" / "NOTICE").read_text()
    for drawn in SETS:
        for word in (drawn.title, drawn.author, drawn.licence, drawn.url):
            assert word in credits
            assert word in notice
    for package in CONTENT:
        assert package.sha256 in credits
    assert "Ann Artist (1)" in credits
    assert "openmoji" not in credits


def test_the_same_folder_comes_out_each_time(small: Path, tmp_path: Path) -> None:
    first, _ = built(small, tmp_path / "a", ["emoji"])
    built(small, tmp_path / "b")
    second, lines = built(small, tmp_path / "b", ["emoji"])
    assert first.path.read_bytes() == second.path.read_bytes()
    assert len(list((tmp_path / "b" / "pictures").iterdir())) == len(lines)


def test_a_package_that_changed_is_refused(packages: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="has SHA-256"):
        build(packages, tmp_path / "out", processes=1, quiet=True)


def test_another_licence_is_refused(small: Path) -> None:
    content = json.loads(icon_set("noto"))
    content["info"]["license"]["spdx"] = "CC-BY-SA-4.0"
    known = readers.Words(names.Emoji({}, {}))
    with pytest.raises(FetchError, match="CC-BY-SA-4.0"):
        list(readers.iconify(SETS[0], content, known))


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drawings", str(tmp_path / "none"), "--quiet"]) == 2
    assert "--download" in capsys.readouterr().err


def test_bad_requests_are_one_sentence(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--sets: there is no openmoji"):
        build(small, tmp_path, sets=["openmoji"])
    with pytest.raises(InputError, match="--size: 8 px"):
        build(small, tmp_path, size=8)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match="is no part of a corpus"):
        build(small, tmp_path)


def test_the_command_reports(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["drawings", str(tmp_path / "out"), "--packages", str(small), "--sets", "noto"]
    assert main([*given, "--size", "16", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "validation-concept" in said
    assert str(tmp_path / "out" / "captions.jsonl") in said


def test_the_split_is_by_family_and_never_changes() -> None:
    drawn = [(f"thing {k}", style) for k in range(2000) for style in ("flat", "3d", "line")]
    split = assign(drawn)
    held = {family for (family, _), part in zip(drawn, split, strict=True) if part == CONCEPT}
    rest = {family for (family, _), part in zip(drawn, split, strict=True) if part != CONCEPT}
    trained = {family for (family, _), part in zip(drawn, split, strict=True) if part == TRAIN}
    assert not held & rest
    assert rest == trained
    assert 0.03 < len(held) / 2000 < 0.07
    assert 0.02 < split.count(STYLE) / len(drawn) < 0.06
    assert assign(drawn[::-1])[::-1] == split
    alone = assign([pair for pair in drawn if pair[1] == "flat"])
    assert alone.count(STYLE) == 0
    assert [part == CONCEPT for part in alone] == [part == CONCEPT for part in split[::3]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("woman astronaut", "astronaut"),
        ("man running facing right", "person running"),
        ("cat face", "cats"),
        ("arrow with heart", "heart arrow"),
    ],
)
def test_families_take_alike_things_together(one: str, other: str) -> None:
    assert names.family(one) == names.family(other)
    assert names.family("right arrow") != names.family("left arrow")


def test_an_icon_that_has_an_emojis_label_is_of_its_family() -> None:
    shirt = names.Subject(concept="1F455", label="t-shirt", label_zh="T恤")
    known = readers.Words(names.Emoji({"1F455": shirt}, {"tshirt": "1F455"}))
    icon = known.icon("tshirt-2", ("clothes",))
    assert icon is not None
    assert (icon.concept, icon.family, icon.label_zh) == ("1F455", shirt.family, "T恤")
    assert icon.tags == ("clothes",)


def test_names_become_words() -> None:
    assert names.icon_words("building-2") == ["building"]
    assert names.icon_words("download-two") == ["download"]
    assert names.icon_words("circle-3") == ["circle", "3"]
    assert names.icon_words("a") == ["letter", "a"]
    assert names.parted(["bouquetofflowers"], {"bouquet", "flowers"}) == [
        "bouquet",
        "of",
        "flowers",
    ]
    assert names.parted(["guapimao"], {"bouquet"}) == []
    assert names.is_toned("cook-medium", {"cook", "cook-medium"})
    assert not names.is_toned("traffic-light", {"traffic-light"})
