"""The label in words: read back, read by other parsers, and the words are the same."""

from __future__ import annotations

import json
import random
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seal.sound_files import ALL, EMPTY, LABEL, OTHER, STATEMENT, run
from tests.seal.test_carriers_sound import json_values, statements
from vermilion.errors import InputError
from vermilion.seal import carriers
from vermilion.seal.carriers import json_object, markdown, txt, webpage
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import Statement

yaml = pytest.importorskip("yaml", reason="PyYAML, which reads front matter, is not installed")

MODULES = {"txt": txt, "md": markdown, "html": webpage, "json": json_object}
PAGE = (
    "<!DOCTYPE html>\n<html lang='zh'>\n<head>\n<meta charset='utf-8'>\n<!-- </head> -->\n"
    "<script>let x = '</head>';</script>\n<title>猫 &amp; co</title>\n</head>\n"
    "<body><p>no <meta name=AIGC content='x'> here</p></body>\n</html>\n"
)
TEXTS = {
    "txt": ["", "Hello", "一只猫。\n", "two\r\nlines\r\n", '{"no": "label"}\n', "\ufeffmarked\n"],
    "md": [
        "",
        "# Title\n\nText\n",
        "---\ntitle: Tea\ntags:\n  - a\n---\n# Title\n",
        "---\r\ntitle: Tea\r\n---\r\n# Title\r\n",
        "---\n\nA rule, and no front matter\n",
        "\ufeff---\ntitle: Tea\n...\nText\n",
        "# Not in front\n\n---\nAIGC: no\n---\n",
    ],
    "html": [
        PAGE,
        PAGE.replace("\n", "\r\n"),
        "<p>a fragment",
        "",
        "<html><body>x",
        "\ufeff" + PAGE,
    ],
    "json": [
        "{}",
        '{"a": 1}',
        '{\n  "a": [1, {"AIGC": 2}],\n  "猫": "\\u732b"\n}\n',
        '{"a":1,"a":2}',
        '\ufeff{ }',
        '\r\n{\r\n\t"a": 1.50e3\r\n}',
    ],
}  # fmt: skip
CASES = [(suffix, text) for suffix, texts in TEXTS.items() for text in texts if suffix != "txt"]
OLD = f'{{"AIGC":{LABEL.inner()},"VERMILION":{{"source_type":"x","recipe":{{"seed":0}}}}}}\n'


@pytest.mark.parametrize(("suffix", "text"), CASES)
def test_what_is_written_is_read_and_the_words_are_the_same(suffix: str, text: str) -> None:
    form, module, source = FORMATS[suffix], MODULES[suffix], text.encode()
    assert carriers.read(source, form) == EMPTY
    assert module.without(source) == source
    written = source
    for statement in (*ALL, STATEMENT):
        written = carriers.write(written, form, statement)
        assert carriers.read(written, form) == statement
        assert carriers.write(written, form, statement) == written
        assert module.without(written) == source
    assert carriers.write(written, form, EMPTY) == module.without(written)


@pytest.mark.parametrize("text", TEXTS["txt"])
def test_the_last_line_of_a_text_was_its_label_and_leaves(text: str) -> None:
    text += "" if not text or text.endswith("\n") else "\n"
    found = txt.read(text.encode() + OLD.encode())
    assert found == Statement(label=LABEL, source_type="x", recipe={"seed": 0})
    assert txt.write(text.encode() + OLD.encode(), EMPTY) == text.encode()
    assert txt.read(text.encode()) == EMPTY
    with pytest.raises(InputError, match="the credential beside it"):
        txt.write(text.encode(), OTHER)


@pytest.mark.parametrize("text", TEXTS["md"])
def test_front_matter_is_yaml(text: str) -> None:
    written = markdown.write(text.encode(), STATEMENT).decode().removeprefix("\ufeff")
    front = next(yaml.safe_load_all(written.replace("...", "---")))
    assert front["AIGC"] == json.loads(LABEL.inner())
    assert front["VERMILION"]["recipe"] == STATEMENT.recipe
    assert ("title" in front) == ("title: Tea" in text)


@pytest.mark.parametrize(
    "front",
    [
        "AIGC: {label}",
        "AIGC: '{label}'",
        "title: x\nAIGC:\n    Label: '1'\n    ContentProducer: vermilion\n"
        "    ProduceID: \"a1b2c3d4\"\n    ReservedCode1:\n    PropagateID: ''\nother: y",
    ],
)  # fmt: skip
def test_front_matter_of_others_is_read_and_replaced(front: str) -> None:
    label = LABEL.inner().replace("'", "''") if "'{" in front else LABEL.inner()
    text = f"---\n{front.replace('{label}', label)}\n---\nText\n".encode()
    found = markdown.read(text).label
    assert found is not None
    assert (found.content_producer, found.produce_id) == ("vermilion", "a1b2c3d4")
    written = markdown.write(text, OTHER)
    assert written.count(b"AIGC") == 1
    assert markdown.read(written) == OTHER
    kept = yaml.safe_load(written.decode().split("---")[1])
    assert set(kept) == {"AIGC"} | ({"title", "other"} if "title" in front else set())


def test_front_matter_in_toml_is_said() -> None:
    with pytest.raises(InputError, match="TOML"):
        markdown.write(b"+++\ntitle = 'x'\n+++\nText\n", STATEMENT)


class _Metas(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.path: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "meta" and values.get("name") in ("AIGC", "VERMILION"):
            self.found.append((str(values["name"]), str(values["content"])))
        if tag != "meta":
            self.path.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.path and self.path.pop() != tag:
            pass


@pytest.mark.parametrize("text", [PAGE, "<p>a fragment", "<html><body>x"])
def test_the_label_of_a_page_stands_in_meta_elements(text: str) -> None:
    written = webpage.write(text.encode(), STATEMENT).decode()
    found = _Metas(written).found
    assert json.loads(found[0][1]) == json.loads(LABEL.inner())
    assert json.loads(found[1][1])["recipe"] == STATEMENT.recipe
    head = written.find("<title>")
    assert written.index('name="AIGC"') > head
    assert written.index("charset") < written.index('name="AIGC"') if head > 0 else True


def test_exiftool_reads_the_label_of_a_page(tmp_path: Path) -> None:
    content = webpage.write(PAGE.encode(), STATEMENT)
    printed = run("exiftool", "-a", "-G1", content=content, folder=tmp_path, suffix="html")
    assert "Error" not in printed


@pytest.mark.parametrize("text", TEXTS["json"])
def test_the_label_of_json_is_a_member_and_the_others_stay(text: str) -> None:
    before = json.loads(text.removeprefix("\ufeff"))
    after = json.loads(json_object.write(text.encode(), STATEMENT).decode("utf-8-sig"))
    assert after.pop("AIGC") == json.loads(LABEL.inner())
    assert after.pop("VERMILION")["recipe"] == STATEMENT.recipe
    assert after == before


@pytest.mark.parametrize("text", ["[1]", '"x"', "1", "null", "", "{", '{"a"}', '{"a":1,}', "{} x"])
def test_json_without_a_place_for_a_member_is_said(text: str) -> None:
    for use in (json_object.read, lambda content: json_object.write(content, STATEMENT)):
        with pytest.raises(InputError, match=r"^file: "):
            use(text.encode())


def test_json_that_is_too_deep_is_said() -> None:
    for text in ('{"a":' * 100_000, '{"a":' + "[" * 100_000, '{"a":' + "9" * 10_000 + "}"):
        with pytest.raises(InputError):
            json_object.read(text.encode())


def test_ours_among_other_members_is_taken_out() -> None:
    ours, own = f'"AIGC": {LABEL.inner()}', '"VERMILION": {}'
    for order in (
        [ours, own],
        [ours, '"a": 1', own],
        ['"a": 1', ours, own, '"b": 2'],
        [own, ours, '"a": 1'],
    ):
        text = "{" + ", ".join(order) + "}"
        left = json_object.without(text.encode())
        assert json.loads(left) == {
            k: v for k, v in json.loads(text).items() if k not in ("AIGC", "VERMILION")
        }  # fmt: skip


@pytest.mark.parametrize("suffix", MODULES)
def test_two_labels_are_said_and_replaced(suffix: str) -> None:
    module, label = MODULES[suffix], LABEL.inner()
    content = {
        "txt": f'x\n{{"AIGC":{label}}}\n{{"AIGC":{label}}}\n',
        "md": f"---\nAIGC: {label}\nAIGC: {label}\n---\n",
        "html": "<meta name=AIGC content=1><meta name=aigc content=2>",
        "json": f'{{"AIGC": {label}, "AIGC": {label}}}',
    }[suffix].encode()
    with pytest.raises(InputError, match="AIGC"):
        module.read(content)
    said = EMPTY if suffix == "txt" else OTHER
    assert module.read(module.write(content, said)) == said


@pytest.mark.parametrize("module", MODULES.values())
def test_what_is_not_utf_8_is_said(module: ModuleType) -> None:
    for use in (module.read, module.without, lambda content: module.write(content, EMPTY)):
        with pytest.raises(InputError, match="UTF-8"):
            use("猫猫".encode("utf-16"))


@pytest.mark.parametrize(("suffix", "text"), CASES)
def test_what_is_cut_off_is_said_or_read(suffix: str, text: str) -> None:
    form = FORMATS[suffix]
    content = carriers.write(text.encode(), form, STATEMENT)
    chance = random.Random(0)
    for length in range(len(content)):
        damaged = bytearray(content[:length])
        for cut in (bytes(damaged), _one_changed(damaged, chance)):
            try:
                carriers.read(cut, form)
                carriers.write(cut, form, OTHER)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017


def _one_changed(content: bytearray, chance: random.Random) -> bytes:
    if content:
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["md", "html", "json"]), st.text(max_size=80), statements)
def test_any_statement_comes_back_from_any_text(
    suffix: str, text: str, statement: Statement
) -> None:
    form, module = FORMATS[suffix], MODULES[suffix]
    try:
        content = (json.dumps({"x": text}) if suffix == "json" else text).encode()
        written = carriers.write(content, form, statement)
    except InputError:
        assert suffix == "md"
        return
    assert carriers.read(written, form) == statement
    assert module.without(written).rstrip() == module.without(content).rstrip()


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=8), json_values), st.sampled_from([None, 0, 2, "\t"]))
def test_any_json_object_stays_what_it_is(
    value: dict[str, object], indent: int | str | None
) -> None:
    value = {name: v for name, v in value.items() if name not in ("AIGC", "VERMILION")}
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        content = text.encode()
    except UnicodeEncodeError:
        return
    after = json.loads(json_object.write(content, STATEMENT))
    assert after | value == after
    assert json_object.without(json_object.write(content, STATEMENT)) == json_object.without(
        content
    )
