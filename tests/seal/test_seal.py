"""The line that every export passes: each kind sealed and read back, and nothing released that
does not read back."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from skimage import data

from tests.seal import pictures_files, sound_files
from vermilion.errors import InputError, SealError, StorageError
from vermilion.seal import carriers, credentials, seal, verify
from vermilion.seal.authority import Authority
from vermilion.seal.claims import Parent
from vermilion.seal.formats import FORMATS, format_of
from vermilion.seal.labels import EDITED_WITH_AI, Label, Statement
from vermilion.seal.marks.sound import Spoken
from vermilion.seal.order import About, SealOptions
from vermilion.seal.seal import Sealer

ABOUT = About(
    asset_id="k3f9x2ab",
    title="a test",
    model="a-model",
    licence="Apache-2.0",
    prompt="a secret prompt",
    recipe={"prompt": {"text": "a secret prompt", "seed": 7, "model": "a-model", "settings": {}}},
)
WORDS = {
    "txt": "Fresh from the roaster.\n",
    "md": "# Coffee\n\nFresh from the roaster.\n",
    "html": "<html><body><p>Fresh from the roaster.</p></body></html>\n",
    "json": '{"text": "Fresh from the roaster."}\n',
}


def texture(width: int = 256, height: int = 192) -> Image.Image:
    """A picture with enough in it to hide something."""
    noise = np.random.default_rng(3).normal(0, 40, (height // 4, width // 4, 3))
    rough = Image.fromarray(np.clip(128 + noise, 0, 255).astype(np.uint8))
    return rough.resize((width, height), Image.Resampling.BICUBIC)


def content(suffix: str) -> bytes:
    """A small file of a kind."""
    form = FORMATS[suffix]
    if form.medium == "picture":
        return pictures_files.saved(texture(), suffix)
    if suffix == "svg":
        return pictures_files.drawing()
    if suffix == "pdf":
        return pictures_files.document()
    if form.medium == "sound":
        return sound_files.sound(suffix, seconds=3.0)
    if form.medium == "film":
        return sound_files.film(suffix)
    return WORDS[suffix].encode()


@pytest.fixture
def sealer(tmp_path: Path) -> Sealer:
    return _sealer(tmp_path / "seal")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    return _sealer(tmp_path_factory.mktemp("seal"))


def _sealer(folder: Path) -> Sealer:
    """With a key that is always the same: whether a small picture holds a mark hangs on it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    key = folder / "watermark.key"
    key.touch(mode=0o600)
    key.write_bytes(bytes(range(32)))
    return Sealer(folder, producer="Example-Studio")


def found(sealer: Sealer, sealed: seal.Sealed, content: bytes | None = None) -> verify.Verdict:
    return verify.examine(
        sealed.content if content is None else content,
        sealed.form,
        sealed.sidecar,
        authority=sealer.authority,
        key=sealer.key,
        ledger=sealer.ledger,
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_kind_is_sealed_and_reads_back(shared: Sealer, suffix: str) -> None:
    sealed = shared.seal(content(suffix), FORMATS[suffix], ABOUT)
    verdict = found(shared, sealed)
    assert verdict.credential.state == "ours"
    assert verdict.credential.asset_id == verdict.asset_id == "k3f9x2ab"
    assert verdict.label == Label(content_producer="Example-Studio", produce_id="k3f9x2ab")
    states = {finding.what: finding.state for finding in verdict.findings}
    assert states["ledger"] == "good"
    # A few words and a drawing with many parts have no fingerprint.
    bare = suffix in ("svg", "txt", "md", "json", "pdf")
    assert states.pop("originality") == ("unknown" if bare else "good")
    assert {state for what, state in states.items() if what != "watermark"} == {"good"}
    if FORMATS[suffix].medium == "picture" and suffix != "gif":
        assert states["watermark"] == "good"
    assert (sealed.sidecar is None) == FORMATS[suffix].embeds
    assert b"a secret prompt" not in sealed.content
    assert "mark" in sealed.notes


@pytest.mark.parametrize("suffix", ["png", "jpg", "svg", "wav", "mp4", "md", "pdf", "txt"])
def test_public_files_say_how_they_were_made(shared: Sealer, suffix: str) -> None:
    sealed = shared.seal(content(suffix), FORMATS[suffix], ABOUT, SealOptions(private=False))
    verdict = found(shared, sealed)
    assert verdict.credential.said.prompt == "a secret prompt"
    assert verdict.statement.recipe["prompt"]["seed"] == 7


def test_the_label_of_a_text_lies_beside_it_and_is_signed(sealer: Sealer, tmp_path: Path) -> None:
    form = FORMATS["txt"]
    sealed = sealer.seal(content("txt"), form, ABOUT)
    assert sealed.content == b"Fresh from the roaster.\n\n\n[AI-generated]\n"
    assert sealed.sidecar is not None
    alone = sealer.verify(sealed.content, form)
    assert alone.label is None
    assert (alone["label"].state, alone["source"].state) == ("absent", "absent")
    # Edited to another number of the same length, it breaks the signature.
    forged = sealed.sidecar.replace(b"k3f9x2ab", b"k3f9x2aa")
    assert forged != sealed.sidecar
    assert sealer.verify(sealed.content, form, forged).exit_code == 10
    # A stranger who signed a label that is none: said, and not believed.
    said = Statement(label=Label(content_producer="a", produce_id="b"))
    claim = dataclasses.replace(seal.claim_of(ABOUT, SealOptions()), statement=said)
    with patch.object(Label, "outer", lambda self: '{"AIGC":{"Label":"9"}}'):
        odd = credentials.sign(b"words", form, claim, [], Authority.open(tmp_path / "other"))
    verdict = sealer.verify(b"words", form, odd.sidecar)
    assert verdict["label"].state == "bad"
    assert "lacks ContentProducer" in verdict["label"].words


def test_what_a_public_text_told_leaves_with_a_private_one_made_of_it(sealer: Sealer) -> None:
    form = FORMATS["txt"]
    public = sealer.seal(content("txt"), form, ABOUT, SealOptions(private=False))
    assert b"a secret prompt" in public.sidecar
    parent = Parent(content=public.content, form=form, title="first", sidecar=public.sidecar)
    about = dataclasses.replace(ABOUT, asset_id="k3f9x2ac", sources=(parent,))
    private = sealer.seal(b"Another cup.\n", form, about)
    assert b"a secret prompt" not in private.content + private.sidecar
    verdict = found(sealer, private)
    assert verdict.exit_code == 0
    assert [one.state for one in verdict.credential.ingredients] == ["ours"]


def test_a_private_credential_holds_the_prompts_digest(sealer: Sealer) -> None:
    verdict = found(sealer, sealer.seal(content("png"), FORMATS["png"], ABOUT))
    assert verdict.credential.said.prompt is None
    digest = hashlib.sha256(b"a secret prompt").hexdigest()
    assert verdict.credential.said.prompt_digest == digest


def test_what_does_not_read_back_is_not_released(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(content: bytes, form: object, statement: Statement) -> bytes:
        return content

    monkeypatch.setattr(carriers, "write", forgetful)
    with pytest.raises(SealError, match="k3f9x2ab was not released.*label"):
        sealer.seal(content("png"), FORMATS["png"], ABOUT)
    assert sealer.ledger.audit().entries == 0


def test_a_mark_is_left_out_with_a_reason_only(sealer: Sealer) -> None:
    with pytest.raises(InputError, match="reason"):
        SealOptions(mark=False)
    options = SealOptions(mark=False, reason="the client adds the mark in print")
    sealed = sealer.seal(WORDS["txt"].encode(), FORMATS["txt"], ABOUT, options)
    assert b"AI-generated" not in sealed.content
    (entry,) = [match.entry for match in sealer.ledger.find(asset_id="k3f9x2ab")]
    assert entry.action == "opted-out"
    assert entry.reason == "the client adds the mark in print"
    assert found(sealer, sealed).exit_code == verify.EXIT_CODES["mark"]


def test_licences_that_forbid_commercial_use_stop_it(sealer: Sealer) -> None:
    options = SealOptions(commercial=True)
    assert sealer.seal(content("png"), FORMATS["png"], ABOUT, options).content
    for licence, words in (("CC-BY-NC-4.0", "forbids"), ("", "none is stated")):
        about = About(asset_id="k3f9x2ab", model="a-model", licence=licence)
        with pytest.raises(InputError, match=words):
            sealer.seal(content("png"), FORMATS["png"], about, options)


def test_marks_are_worded_in_the_contents_language(sealer: Sealer) -> None:
    about = About(asset_id="k3f9x2ab", language="zh")
    sealed = sealer.seal("雨后的第一杯咖啡。\n".encode(), FORMATS["txt"], about)
    assert "AI生成" in sealed.content.decode()


def test_a_label_of_others_stays_and_ours_says_who_spreads(sealer: Sealer) -> None:
    theirs = Label(content_producer="Other-Studio", produce_id="99")
    labelled = carriers.write(content("png"), FORMATS["png"], Statement(label=theirs))
    about = About(
        asset_id="k3f9x2ab",
        edited=True,
        said=Statement(label=theirs),
        sources=(Parent(content=labelled, form=FORMATS["png"], title="theirs.png"),),
    )
    verdict = found(sealer, sealer.seal(labelled, FORMATS["png"], about))
    assert verdict.label is not None
    assert verdict.label.content_producer == "Other-Studio"
    assert verdict.label.content_propagator == "Example-Studio"
    assert verdict.label.propagate_id == "k3f9x2ab"
    assert verdict.statement.source_type == EDITED_WITH_AI
    assert [one.title for one in verdict.credential.ingredients] == ["theirs.png"]


def test_an_edits_history_is_a_chain(sealer: Sealer) -> None:
    first = sealer.seal(content("png"), FORMATS["png"], ABOUT)
    parent = Parent(content=first.content, form=first.form, title="first")
    second = sealer.seal(
        first.content,
        first.form,
        About(asset_id="m4f9x2ab", edited=True, sources=(parent,)),
        target=format_of("jpg"),
    )
    (ingredient,) = found(sealer, second).credential.ingredients
    assert ingredient.state == "ours"
    assert ingredient.said.asset_id == "k3f9x2ab"


def test_pictures_and_sounds_change_their_format_and_nothing_else_does(sealer: Sealer) -> None:
    sealed = sealer.seal(content("wav"), FORMATS["wav"], ABOUT, target=FORMATS["mp3"])
    assert sealed.form.suffix == "mp3"
    assert found(sealer, sealed).credential.state == "ours"
    for suffix, target in (("txt", "md"), ("png", "wav"), ("svg", "png")):
        with pytest.raises(InputError, match=rf"\.{suffix} cannot be made a \.{target}"):
            sealer.seal(content(suffix), FORMATS[suffix], ABOUT, target=FORMATS[target])


def test_a_stripped_copy_is_found_by_watermark_and_ledger(sealer: Sealer) -> None:
    sealed = sealer.seal(content("png"), FORMATS["png"], ABOUT)
    with Image.open(io.BytesIO(sealed.content)) as image:
        copy = pictures_files.saved(image.convert("RGB"), "jpg", quality=80)
    verdict = verify.examine(
        copy,
        FORMATS["jpg"],
        None,
        authority=sealer.authority,
        key=sealer.key,
        ledger=sealer.ledger,
    )
    assert verdict.credential.state == "none"
    assert verdict.asset_id == "k3f9x2ab"
    watermark, ledger = verdict["watermark"], verdict["ledger"]
    assert watermark is not None
    assert watermark.facts["asset_id"] == "k3f9x2ab"
    assert ledger is not None
    assert ledger.facts["asset_id"] == "k3f9x2ab"
    assert "lost its credential" in verdict.summary


def test_a_copy_that_looks_like_nothing_is_led_back_by_its_watermark(sealer: Sealer) -> None:
    cat = pictures_files.saved(Image.fromarray(data.chelsea()), "png")
    sealed = sealer.seal(cat, FORMATS["png"], ABOUT)
    with Image.open(io.BytesIO(sealed.content)) as image:
        part = image.convert("RGB").crop((20, 20, 430, 290))
    ledger = sealer.verify(pictures_files.saved(part, "png"), FORMATS["png"])["ledger"]
    assert ledger is not None
    assert (ledger.state, ledger.facts["asset_id"]) == ("unknown", "k3f9x2ab")
    assert ledger.words.startswith("asset k3f9x2ab, which its watermark names, was sealed here on")
    stranger = sealer.verify(pictures_files.saved(texture(300, 320), "png"), FORMATS["png"])
    assert stranger["ledger"] is not None
    assert stranger["ledger"].state == "absent"


def test_what_has_no_fingerprint_is_said_to_be_compared_with_nothing(sealer: Sealer) -> None:
    sealer.seal(content("png"), FORMATS["png"], ABOUT)
    short = sealer.verify(b"Three short words.\n", FORMATS["txt"])["originality"]
    assert short is not None
    assert (short.state, short.words[:21]) == ("unknown", "it has no fingerprint")


def test_the_notes_say_whether_the_watermark_reads_back(sealer: Sealer) -> None:
    sealed = sealer.seal(content("png"), FORMATS["png"], ABOUT)
    assert sealed.notes["found"]["watermark"].startswith("ours, of asset k3f9x2ab")
    tiny = pictures_files.saved(Image.new("RGB", (16, 16), "white"), "png")
    bare = SealOptions(mark=False, reason="an icon")
    sealed = sealer.seal(tiny, FORMATS["png"], About(asset_id="k3f9x2ac"), bare)
    assert sealed.notes["found"]["watermark"].startswith("none; it is too plain")


def test_a_likeness_alone_does_not_make_it_ours(sealer: Sealer) -> None:
    words = b"A cup before the rain, and the street is still quiet at seven in the morning.\n"
    sealer.seal(words, FORMATS["txt"], ABOUT)
    alike = sealer.verify(words + b"\n", FORMATS["txt"])
    ledger = alike["ledger"]
    assert ledger is not None
    assert (ledger.state, ledger.facts["asset_id"]) == ("unknown", "k3f9x2ab")
    assert alike.asset_id == ""
    assert alike.summary.startswith("It resembles k3f9x2ab, which was sealed here")
    same = sealer.verify(words, FORMATS["txt"])  # the unsealed original, byte for byte
    ledger = same["ledger"]
    assert ledger is not None
    assert ledger.state == "good"
    assert same.asset_id == "k3f9x2ab"


def test_a_changed_file_is_told_apart(sealer: Sealer) -> None:
    sealed = sealer.seal(content("md"), FORMATS["md"], ABOUT)
    edited = sealed.content.replace(b"Fresh", b"Stale")
    verdict = found(sealer, sealed, edited)
    assert verdict.credential.state == "invalid"
    assert verdict.exit_code == verify.EXIT_CODES["signature"]


def test_a_stranger_is_not_us(sealer: Sealer, tmp_path: Path) -> None:
    forger = Sealer(tmp_path / "forger", producer="Example-Studio")
    verdict = found(sealer, forger.seal(content("png"), FORMATS["png"], ABOUT))
    assert verdict.credential.state == "unknown-signer"
    assert verdict.exit_code == verify.EXIT_CODES["signer"]
    watermark = verdict["watermark"]
    assert watermark is not None
    assert watermark.state == "absent"


def test_nothing_says_nothing(sealer: Sealer) -> None:
    verdict = verify.examine(
        WORDS["txt"].encode(),
        FORMATS["txt"],
        None,
        authority=sealer.authority,
        key=sealer.key,
        ledger=sealer.ledger,
    )
    assert verdict.exit_code == verify.EXIT_CODES["signature"]
    assert "does not prove that a person did" in verdict.summary


def test_many_are_sealed_side_by_side(sealer: Sealer) -> None:
    orders = [
        (content("png"), FORMATS["png"], About(asset_id=f"k3f9x2a{letter}")) for letter in "bcdf"
    ]
    sealed = sealer.seal_all(orders)
    ids = [found(sealer, one).credential.asset_id for one in sealed]
    assert ids == ["k3f9x2ab", "k3f9x2ac", "k3f9x2ad", "k3f9x2af"]
    assert sealer.ledger.audit().entries == 4
    assert sealer.ledger.audit().ok
    assert json.dumps([dict(one.notes) for one in sealed])


def test_a_thing_made_again_is_no_copy_and_anothers_is(sealer: Sealer) -> None:
    text = b"A cup before the rain, and the street is still quiet at seven in the morning.\n"
    sealer.seal(text, FORMATS["txt"], About(asset_id="k3f9x2ab"))
    again = sealer.seal(text, FORMATS["txt"], About(asset_id="k3f9x2ac"))
    originality = found(sealer, again)["originality"]
    assert originality is not None
    assert originality.state == "good"
    copied = sealer.seal(text + b"\n", FORMATS["txt"], About(asset_id="k3f9x2ad"))
    originality = found(sealer, copied)["originality"]
    assert originality is not None
    assert originality.state == "bad"
    assert originality.facts["asset_id"] in ("k3f9x2ab", "k3f9x2ac")


def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "seal")
    sealer.seal(content("txt"), FORMATS["txt"], ABOUT)
    (sealer.folder / "watermark.key").unlink()
    with pytest.raises(StorageError, match="restore it from a backup"):
        Sealer(sealer.folder).seal(content("txt"), FORMATS["txt"], ABOUT)
    assert not (sealer.folder / "watermark.key").exists()


@pytest.mark.parametrize("suffix", ["png", "txt", "mp4"])
def test_a_public_parents_prompt_leaves_a_private_child(sealer: Sealer, suffix: str) -> None:
    form = FORMATS[suffix]
    first = sealer.seal(content(suffix), form, ABOUT, SealOptions(private=False))
    parent = Parent(content=first.content, form=form, title="first", sidecar=first.sidecar)
    about = About(asset_id="m4f9x2ab", edited=True, sources=(parent,), language="zh")
    for private in (True, False):
        child = sealer.seal(content(suffix), form, about, SealOptions(private=private))
        held = child.content + (child.sidecar or b"")
        assert (b"a secret prompt" in held) is not private
        verdict = found(sealer, child)
        assert verdict.credential.state == "ours"
        (ingredient,) = verdict.credential.ingredients
        assert ingredient.state == "ours"
        assert (ingredient.said.prompt is None) is private


def test_a_file_of_ours_with_other_bytes_than_were_released_is_told(sealer: Sealer) -> None:
    form = FORMATS["mp4"]
    sealed = sealer.seal(content("mp4"), form, ABOUT)
    assert sealer.verify(sealed.content, form)["ledger"].state == "good"
    # C2PA leaves boxes `free` out of its hash, so that the signature holds.
    longer = sealed.content + b"\0\0\0\x0cfreemore"
    verdict = sealer.verify(longer, form)
    assert verdict.credential.state == "ours"
    assert verdict["ledger"].state == "bad"
    assert "asset k3f9x2ab was sealed here on" in verdict["ledger"].words
    assert "not as these bytes" in verdict["ledger"].words
    assert verdict.exit_code == 16


def test_a_spoken_mark_needs_somebody_who_speaks(sealer: Sealer) -> None:
    options = SealOptions(spoken=True)
    with pytest.raises(InputError, match="no voice is at hand"):
        sealer.seal(content("wav"), FORMATS["wav"], ABOUT, options)
    assert sealer.seal(content("png"), FORMATS["png"], ABOUT, options).content
    buzz = np.sin(np.cumsum(0.2 + 0.1 * np.sin(np.arange(16_000) / 900))).astype(np.float32)
    spoken = Spoken("Made by AI.", buzz, 16_000)
    speaking = Sealer(sealer.folder, "Example-Studio", voice=lambda language: spoken)
    sealed = speaking.seal(content("wav"), FORMATS["wav"], ABOUT, options, FORMATS["mp3"])
    assert sealed.notes["found"]["mark"] == "it ends with the spoken words: Made by AI."


def test_looking_makes_no_keys(tmp_path: Path) -> None:
    looking = Sealer(tmp_path / "seal")
    (tmp_path / "seal").mkdir()
    looking.verify(content("png"), FORMATS["png"])
    assert list((tmp_path / "seal").iterdir()) == []
