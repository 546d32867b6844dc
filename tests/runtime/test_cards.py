from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from vermilion.disk import human_size
from vermilion.errors import InputError, ModelError
from vermilion.runtime.cards import Card, FileFacts, catalog, check_name, read_card, write_card
from vermilion.seal.rights import commercial_use

FACTS = FileFacts("a" * 64, 3)
CARD = Card(
    name="x", kind="text", family="lm", source="hf:o/n", files={"b.json": FACTS, "a/b.gguf": FACTS}
)


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    card = replace(CARD, folder=tmp_path, stamps={"b.json": 5}, options={"british": True})
    write_card(tmp_path, card)
    assert read_card(tmp_path) == card


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "../x"}, "name: String should match"),
        ({"files": {"../x": {"sha256": "a" * 64, "size": 1}}}, "'../x' leaves the model's folder"),
        ({"files": {"x": {"sha256": "a", "size": 1}}}, r"files\.x\.sha256"),
        ({"files": {"x": {"sha256": "a" * 64, "size": -1}}}, r"files\.x\.size"),
        ({"kind": None}, "kind"),
    ],
)
def test_a_broken_card_names_the_field_and_the_remedy(
    tmp_path: Path, change: dict[str, object], field: str
) -> None:
    write_card(tmp_path, CARD)
    path = tmp_path / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(
        ModelError, match=rf"card\.json: .*{field}.*; remove the model with"
    ) as info:
        read_card(tmp_path)
    assert "\n" not in str(info.value)


def test_text_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ModelError, match=r"card\.json: the file: Invalid JSON"):
        read_card(tmp_path)


def test_the_fingerprint_is_that_of_the_sorted_list() -> None:
    listing = f"{'a' * 64}  a/b.gguf\n{'a' * 64}  b.json\n"
    assert CARD.weights_sha256 == hashlib.sha256(listing.encode()).hexdigest()
    renamed = replace(CARD, files={"b.json": FACTS, "c.gguf": FACTS})
    assert renamed.weights_sha256 != CARD.weights_sha256


def test_what_an_engine_opens() -> None:
    folder = Path("home")
    assert CARD.entry(folder) == folder / "a/b.gguf"
    files = {"pkg/config.json": FACTS, "pkg/model.safetensors": FACTS}
    assert replace(CARD, files=files).entry(folder) == folder / "pkg"
    pipeline = dict.fromkeys(("model_index.json", "unet/config.json", "vae/config.json"), FACTS)
    assert replace(CARD, files=pipeline).entry(folder) == folder
    assert replace(CARD, files={"v1.safetensors": FACTS}).entry(folder) == folder / "v1.safetensors"


@pytest.mark.parametrize("name", ["a", "Qwen2.5-0.5B", "a_b", "0"])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "..", "a b", "ä", "a\n", "a" * 65])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match="use up to 64 letters, digits"):
        check_name(name)


def test_the_catalog_is_complete() -> None:
    for name, card in catalog().items():
        assert card.name == name
        stated = {"stable-diffusion": "LicenseRef-CreativeML-OpenRAIL-M", "clip-vit": "MIT"}
        known = [licence for begin, licence in stated.items() if name.startswith(begin)]
        assert card.licence == (known or ["Apache-2.0"])[0]
        assert commercial_use(card.licence) == "allowed"
        assert card.languages
        assert card.good_for
        assert card.download_size is not None
    assert {card.kind for card in catalog().values()} == {
        *("text", "speech", "embedding", "picture")
    }


def test_the_catalog_agrees_with_the_voices_package() -> None:
    voices = pytest.importorskip("hibari.voices").VOICES
    for name, voice in voices.items():
        card = catalog()[f"hibari-{name}"]
        ((file, facts),) = card.files.items()
        assert Path(file).name == voice["file"]
        assert facts == FileFacts(voice["sha256"], voice["bytes"])
        assert card.options == {"voice": name, "british": voice["british"]}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown size"),
        (999, "999 bytes"),
        (1_500, "1.5 kB"),
        (92_871_040, "93 MB"),
        (999_600_000, "1.0 GB"),
        (3_100_000_000, "3.1 GB"),
    ],
)
def test_human_size(size: int | None, text: str) -> None:
    assert human_size(size) == text
