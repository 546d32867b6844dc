"""Pictures through the line: kept, made again, finished, sealed; and what is refused."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests import painter
from vermilion.errors import InputError, NotFoundError, RefusedError
from vermilion.line.run import Line
from vermilion.line.verify import verify_file
from vermilion.models.diffusion import samplers
from vermilion.settings import get_settings
from vermilion.types import SAMPLERS, Asset


def pixels(line: Line, asset: Asset) -> np.ndarray:
    with Image.open(io.BytesIO(line.library.read(asset))) as image:
        return np.asarray(image.convert("RGBA"))


def test_pictures_are_kept_with_all_that_makes_them_again(easel: Line) -> None:
    steps: list[tuple[int, int, int]] = []
    made = easel.paint(
        "a red fox",
        n=3,
        seed=0,
        negative_text="rain",
        num_inference_steps=5,
        on_step=lambda *what: steps.append(what),
    )
    assert [asset.index for asset in made] == [0, 1, 2]
    assert len({asset.sha256 for asset in made}) == 3
    assert sorted(steps) == [(number, i + 1, 5) for number in range(3) for i in range(5)]
    first = made[0]
    assert (first.kind, first.media_type, first.text) == ("picture", "image/png", "a red fox")
    assert first.recipe["prompt"]["seed"] == 0
    assert first.recipe["prompt"]["negative_text"] == "rain"
    assert first.notes["picture_safety"]["action"] == "pass"
    assert pixels(easel, first).shape == (64, 64, 4)
    (alone,) = easel.paint("a red fox", seed=0, negative_text="rain", num_inference_steps=5)
    assert alone.sha256 == first.sha256
    for asset in made:
        assert easel.remake(asset.id) == (asset, True)


def test_a_drawing_is_the_child_of_its_picture_and_both_are_made_again(easel: Line) -> None:
    picture, drawing = easel.paint("a fox", seed=4, svg=True, size=512)
    assert (picture.media_type, drawing.media_type) == ("image/png", "image/svg+xml")
    assert drawing.parents == (picture.id,)
    assert pixels(easel, picture).shape == (512, 512, 4)
    assert picture.notes["enlarged"] == "filtered"  # random weights paint nothing flat
    assert picture.notes["painted"] == [64, 64]
    root = ElementTree.fromstring(easel.library.read(drawing))
    assert (root.get("width"), root.get("height")) == ("512", "512")
    assert easel.remake(picture.id)[1]
    assert easel.remake(drawing.id)[1]


def test_what_it_starts_from_is_in_the_library_and_its_parent(easel: Line, tmp_path: Path) -> None:
    sketch, hole = tmp_path / "sketch.png", tmp_path / "hole.png"
    Image.new("RGB", (40, 30), "teal").save(sketch)
    Image.new("L", (40, 30), 255).save(hole)
    (door,) = easel.paint("a blue door", image=sketch, mask=str(hole), strength=0.5, seed=1)
    image, mask = (easel.library.get(ref) for ref in door.parents)
    assert image.recipe["origin"]["file"] == "sketch.png"
    assert mask.recipe["origin"]["file"] == "hole.png"
    settings = door.recipe["prompt"]["settings"]
    assert (settings["image"], settings["mask"]) == (image.id, mask.id)
    assert easel.remake(door.id)[1]
    (again,) = easel.paint("a blue door", image=image.id[:6], mask=mask.id, strength=0.5, seed=1)
    assert again.sha256 == door.sha256
    assert len(easel.library.list(kind="picture")) == 4  # neither file came in twice


def test_a_picture_is_varied_and_two_are_blended(easel: Line) -> None:
    fox, owl = (easel.paint(f"a {word}", seed=2, size=128)[0] for word in ("fox", "owl"))
    (varied,) = easel.paint(vary=fox.id, seed=3)
    prompt = varied.recipe["prompt"]
    assert (prompt["text"], prompt["settings"]["strength"]) == ("a fox", 0.4)
    assert prompt["settings"]["size"] == 128  # as the one that it varies
    assert varied.parents == (fox.id,)
    (blend,) = easel.paint(blend=(fox.id, owl.id), amount=0.25, seed=3)
    assert blend.parents == (fox.id, owl.id)
    assert blend.recipe["prompt"]["text"] == "a fox and a owl"
    assert blend.recipe["prompt"]["settings"]["strength"] == 0.25
    (deeper,) = easel.paint(vary=varied.id, amount=0.5, seed=3)
    assert deeper.recipe["prompt"]["settings"]["image"] == varied.id
    assert deeper.recipe["prompt"]["settings"]["strength"] == 0.5


def test_out_writes_sealed_files(easel: Line, tmp_path: Path) -> None:
    easel.paint("a fox", seed=1, size=256, svg=True, out=tmp_path / "fox.png")
    for name in ("fox.png", "fox.svg"):
        verdict = verify_file(easel.sealer, tmp_path / name, 10**7)
        assert verdict.credential.state == "ours"
        assert verdict.label is not None
    (webp,) = easel.paint("a fox", seed=1, size=256, out=tmp_path / "fox.webp")
    assert verify_file(easel.sealer, tmp_path / "fox.webp", 10**7).asset_id == webp.id
    easel.paint("an owl", n=2, size=256, out=tmp_path / "owls")
    assert len(list((tmp_path / "owls").glob("*.png"))) == 2
    _, owl = easel.paint("an owl", out=tmp_path / "owl.svg")
    assert verify_file(easel.sealer, tmp_path / "owl.svg", 10**7).asset_id == owl.id
    assert not (tmp_path / "owl.png").exists()


def test_a_choice_that_nothing_can_make_is_not_made_and_said(easel: Line) -> None:
    made = easel.paint("a fox", n=4, best=2)
    assert len(made) == 4
    assert "none was chosen: all 4 are kept" in made[0].notes["ranking"]
    assert "ranking" not in easel.paint("a fox", n=2, best=2)[0].notes


def test_what_the_card_says_of_its_pictures_holds_where_nobody_says_more(
    easel: Line, home: Path, painter_folder: Path
) -> None:
    painter.install(home, painter_folder, "large", options={"size": 256, "style": "flat"})
    (picture,) = easel.paint("a fox", model="large")
    assert pixels(easel, picture).shape == (256, 256, 4)
    assert picture.recipe["prompt"]["settings"]["style"] == "flat"
    (own,) = easel.paint("a fox", model="large", size=128, style="soft")
    assert pixels(easel, own).shape == (128, 128, 4)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"prompt": " "}, "prompt: it is empty"),
        ({"width": 60}, "width must be a multiple of 8 .found 60.; 56 is one"),
        ({"height": 4096}, "height must be 8 to 2048"),
        ({"size": 8}, "size must be 16 to 4096"),
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 to 1000"),
        ({"guidance_scale": 51.0}, "guidance_scale must be 0 to 50"),
        ({"guidance_rescale": 1.5}, "guidance_rescale must be 0 to 1"),
        ({"strength": -0.1}, "strength must be 0 to 1"),
        ({"eta": 2.0}, "eta must be 0 to 1"),
        ({"clip_skip": 12}, "clip_skip must be 0 to 11"),
        ({"sampler": "plms"}, "'plms' is not known; there is: ddpm, ddim"),
        ({"loras": [["ink", 99.0]]}, "the weight of ink must be -10 to 10"),
        ({"loras": [["", 1.0]]}, "an adapter has no name"),
        ({"stepz": 3}, "stepz is not a field"),
        ({"n": 0}, "n: must be 1 to 200"),
        ({"best": 2}, "best: must be 1 to 1"),
        ({"vary": "a", "amount": 0.0}, "amount: 0 changes nothing; say more, up to 1"),
        ({"amount": 0.5}, "amount: it belongs to vary and blend"),
        ({"vary": "a", "blend": ("a", "b")}, "vary and blend exclude one another"),
        ({"mask": "hole.png"}, "mask: it needs the picture"),
        ({"image": "no/such.png"}, "from: there is no file no/such.png"),
        ({"out": "fox.bmp"}, "should end in one of .png"),
        ({"out": "fox.png", "n": 2}, "is one file for 2 pictures; name a folder"),
        ({"prompt": "一只狐狸"}, "stickers understands English, not Chinese"),
        ({"model": "smollm2-135m"}, "vermilion models pull smollm2-135m"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_made(
    easel: Line, order: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        easel.paint(**{"prompt": "a fox", **order})
    assert "\n" not in str(caught.value)
    assert easel.library.list() == []


def test_samplers_are_those_that_there_are() -> None:
    assert set(SAMPLERS) == set(samplers.SAMPLERS)


def test_only_pictures_are_painted_from(easel: Line, tiny_model: str, tmp_path: Path) -> None:
    (text,) = easel.write("tea", model=tiny_model, max_new_tokens=8)
    with pytest.raises(InputError, match=f"from: {text.id} is text and no picture"):
        easel.paint("a fox", image=text.id)
    with pytest.raises(InputError, match="makes text and no pictures"):
        easel.paint("a fox", model=tiny_model)
    with pytest.raises(NotFoundError):
        easel.paint("a fox", image="zzzzzzzz")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n????")
    with pytest.raises(InputError, match="damaged|no png file"):
        easel.paint("a fox", image=broken)


def test_rules_are_held_up_for_prompts(
    easel: Line, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERMILION_SAFETY", "refuse")
    get_settings.cache_clear()
    with Line() as strict, pytest.raises(RefusedError):
        strict.paint("a naked child")
    assert easel.library.list() == []


def test_a_photograph_stays_a_person_s_and_the_picture_says_it_was_edited(
    easel: Line, tmp_path: Path
) -> None:
    photo = tmp_path / "me.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    Image.fromarray(noise).save(photo)
    easel.paint("a portrait", image=photo, size=256, out=tmp_path / "out.png", seed=1)
    content = (tmp_path / "out.png").read_bytes()
    assert re.search(rb"compositeWithTrainedAlgorithmicMedia", content)
    assert verify_file(easel.sealer, tmp_path / "out.png", 10**7).credential.state == "ours"
