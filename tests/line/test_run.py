"""The whole line with a tiny real model and a real voice: what is made, kept, and made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile

from vermilion.errors import InputError, NotFoundError, StorageError
from vermilion.line import recipe as recipes
from vermilion.line.finished import Watcher
from vermilion.line.plan import derive_seed
from vermilion.line.run import Line
from vermilion.line.verify import verify_file
from vermilion.settings import Settings
from vermilion.types import Prompt, Recipe

COPY = """
description = "two texts and a voice"
[[steps]]
name = "copy"
kind = "text"
count = 2
candidates = 2
tries = 2
template = "Write about {{ subject }}, number {{ number }}."
[steps.settings]
max_new_tokens = 64
[steps.settings.schema]
type = "object"
required = ["a"]
additionalProperties = false
properties = { a = { type = "string", pattern = "^[a-z ]{5,20}[.]$" } }
[[steps]]
name = "voice"
kind = "speech"
needs = ["copy"]
template = "Hello, {{ subject }}. {{ copy.text }}"
"""


@pytest.fixture
def copy() -> Recipe:
    return recipes.from_text(COPY, "copy")


def test_a_set_is_made_kept_and_copied_out(
    line: Line, copy: Recipe, tiny_model: str, tmp_path: Path
) -> None:
    finished = line.make(
        "green tea", recipe=copy, seed=1, out=tmp_path / "tea", models={"text": tiny_model}
    )
    assert [(i.asset.step, i.asset.index) for i in finished.items] == [
        ("copy", 0), ("copy", 1), ("voice", 0),
    ]  # fmt: skip
    names = ["copy-1.txt", "copy-2.txt", "credentials", "index.html", "set.json", "voice.wav"]
    assert sorted(path.name for path in (tmp_path / "tea").iterdir()) == names
    for item in finished.items:
        assert item.file is not None
        verdict = verify_file(line.sealer, item.file, 10**6)
        assert verdict.credential.state == "ours"
        assert verdict.asset_id == item.asset.id
        assert verdict.label is not None
        assert b"AIGC" not in line.library.read(item.asset)
        assert item.asset.set_id == finished.id
        assert item.seconds > 0
    first, second, voice = (item.asset for item in finished.items)
    assert voice.parents == (first.id, second.id)
    assert voice.text == f"Hello, green tea. {first.text}\n\n{second.text}"
    assert first.recipe["origin"]["brief"]["seed"] == 1
    assert len(first.recipe["model"]["weights"]) == 64
    assert {"vermilion", "torch"} <= set(first.recipe["versions"])
    wave, rate = soundfile.read(voice.path)
    assert rate == 24_000
    assert pyloudnorm.Meter(rate).integrated_loudness(wave) == pytest.approx(-16, abs=0.3)
    described = json.loads((tmp_path / "tea" / "set.json").read_text())
    assert [item["file"] for item in described["items"]] == [
        "copy-1.txt",
        "copy-2.txt",
        "voice.wav",
    ]
    assert {hit.asset.id for hit in line.library.find("green tea")} == {
        first.id,
        second.id,
        voice.id,
        line.library.list(kind="page")[0].id,
    }


def test_one_seed_gives_one_set_at_any_batch_size(
    home: Path, copy: Recipe, tiny_model: str
) -> None:
    made = []
    for max_batch in (1, 3, 16):
        with Line(Settings(home=home, max_batch=max_batch)) as line:
            finished = line.make("tea", recipe=copy, seed=9, models={"text": tiny_model})
            made.append([item.asset.sha256 for item in finished.items])
    assert made[0] == made[1] == made[2]
    with Line(Settings(home=home)) as line:
        other = line.make("tea", recipe=copy, seed=10, models={"text": tiny_model})
    assert [item.asset.sha256 for item in other.items] != made[0]


def test_seed_zero_is_a_seed(line: Line, copy: Recipe, tiny_model: str) -> None:
    brief = {"subject": "tea", "seed": 0}
    one, two = (line.make(brief, recipe=copy, models={"text": tiny_model}) for _ in range(2))
    assert one.brief.seed == 0
    assert [i.asset.sha256 for i in one.items] == [i.asset.sha256 for i in two.items]


def test_remake_gives_the_same_bytes(home: Path, copy: Recipe, tiny_model: str) -> None:
    with Line(Settings(home=home, max_batch=16)) as line:
        finished = line.make("tea", recipe=copy, seed=3, models={"text": tiny_model})
    with Line(Settings(home=home, max_batch=1)) as line:
        for item in finished.items:
            again, same = line.remake(item.asset.id[:6])
            assert same
            assert again.id == item.asset.id


def test_what_comes_out_differently_is_kept_as_a_child(line: Line, tiny_model: str) -> None:
    (asset,) = line.write("tea", model=tiny_model, seed=1, max_new_tokens=8)
    content = line.library.read(asset) + b"!"
    recipe = dict(asset.recipe)
    changed = line.library.keep(
        content, kind="text", media_type="text/plain", suffix="txt", text="", recipe=recipe
    )
    again, same = line.remake(changed.id)
    assert not same
    assert again.parents == (changed.id,)
    assert again.sha256 == asset.sha256


def test_checks_that_cannot_pass_are_said_and_the_text_is_kept(line: Line, tiny_model: str) -> None:
    hopeless = recipes.from_text(
        COPY.replace(
            'template = "Write', 'checks = { mention = ["Earl Grey"] }\ntemplate = "Write'
        ),
        "hopeless",
    )
    finished = line.make("tea", recipe=hopeless, seed=1, models={"text": tiny_model})
    for item in finished["copy"]:
        assert item.failures == ("does not mention 'Earl Grey'",)
        assert item.draws == 4
        assert line.library.get(item.asset.id).notes["failures"] == list(item.failures)
    assert finished["voice"][0].failures == ()


def test_the_best_of_several_is_kept_by_the_stated_rule(line: Line, tiny_model: str) -> None:
    drawn: list[float] = []
    one = COPY.split("[[steps]]")
    recipe = recipes.from_text(f"{one[0]}[[steps]]{one[1]}".replace("count = 2", "count = 1"), "x")
    best = line.make("tea", recipe=recipe, seed=4, models={"text": tiny_model}).items[0]
    for draw in range(2):
        prompt = dict(best.asset.recipe["prompt"])
        prompt["seed"] = derive_seed(4, prompt["text"], 0, draw)
        ((_, sample),) = line.load(tiny_model).generate([Prompt(**prompt)])
        drawn.append(sample.notes["logprob"])
    assert best.asset.notes["logprob"] == pytest.approx(max(drawn), abs=1e-4)
    assert drawn[0] != drawn[1]


def test_breaking_off_keeps_what_is_finished(line: Line, copy: Recipe, tiny_model: str) -> None:
    class Impatient(Watcher):
        def step(self, name: str, kind: str, count: int) -> None:
            if name == "voice":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        line.make("tea", recipe=copy, seed=1, models={"text": tiny_model}, watcher=Impatient())
    assert [asset.step for asset in line.library.list()] == ["copy", "copy"]


def test_a_step_can_be_left_out_or_made_more_often(
    line: Line, copy: Recipe, tiny_model: str
) -> None:
    brief = {"subject": "tea", "seed": 1, "counts": {"voice": 0, "copy": 3}}
    finished = line.make(brief, recipe=copy, models={"text": tiny_model})
    assert [item.asset.step for item in finished.items] == ["copy"] * 3


def test_bad_orders_are_refused_before_any_work(
    line: Line, copy: Recipe, tiny_model: str, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    models = {"text": tiny_model}
    with pytest.raises(InputError, match="is not empty"):
        line.make("tea", recipe=copy, models=models, out=tmp_path / "full")
    with pytest.raises(InputError, match="is a file"):
        line.make("tea", recipe=copy, models=models, out=tmp_path / "full" / "mine.txt")
    with pytest.raises(StorageError, match="cannot be made"):
        line.make("tea", recipe=copy, models=models, out=tmp_path / "full" / "mine.txt" / "x")
    with pytest.raises(NotFoundError, match="vermilion models pull smollm2-135m"):
        line.make("tea", recipe=copy)
    with pytest.raises(NotFoundError, match="there is no model 'gpt-9'"):
        line.make("tea", recipe=copy, models={"text": "gpt-9"})
    with pytest.raises(InputError, match="hibari-heart speaks English, not Chinese"):
        line.make("一家茶店", recipe=copy, models=models)
    with pytest.raises(InputError, match="seed: must be between"):
        line.make("tea", recipe=copy, models=models, seed=2**63)
    assert line.library.list() == []
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_set_is_replaced_only_when_asked(
    line: Line, copy: Recipe, tiny_model: str, tmp_path: Path
) -> None:
    brief = {"subject": "tea", "counts": {"voice": 0}}
    options = {"recipe": copy, "models": {"text": tiny_model}, "out": tmp_path / "set"}
    line.make(brief, **options)
    (tmp_path / "set" / "notes.md").write_text("mine")
    with pytest.raises(InputError, match="holds a finished set; name another or add --overwrite"):
        line.make(brief, **options)
    line.make({**brief, "counts": {"voice": 0, "copy": 1}}, **options, overwrite=True)
    names = sorted(path.name for path in (tmp_path / "set").iterdir())
    assert names == ["copy.txt", "credentials", "index.html", "notes.md", "set.json"]
    beside = (tmp_path / "set" / "credentials").iterdir()
    assert sorted(path.name for path in beside) == ["copy.txt.c2pa", "index.html.c2pa"]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_set_stays_when_the_new_one_fails(
    line: Line, copy: Recipe, tiny_model: str, tmp_path: Path
) -> None:
    options = {"models": {"text": tiny_model}, "out": tmp_path / "set", "overwrite": True}
    line.make({"subject": "tea", "counts": {"voice": 0}}, recipe=copy, **options)
    before = _files(tmp_path / "set")
    with pytest.raises(InputError, match="facts is empty"):
        line.make("tea", recipe="lesson", **options)
    assert _files(tmp_path / "set") == before
    with pytest.raises(InputError, match="facts is empty"):
        line.make("tea", recipe="lesson", **{**options, "out": tmp_path / "new"})
    assert not (tmp_path / "new").exists()


def test_write_and_speak(line: Line, tiny_model: str, tmp_path: Path) -> None:
    pieces: dict[int, str] = {}

    def hear(number: int, piece: object) -> None:
        pieces[number] = pieces.get(number, "") + str(piece)

    texts = line.write("tea", n=3, model=tiny_model, seed=5, max_new_tokens=12, on_piece=hear)
    assert [text.index for text in texts] == [0, 1, 2]
    assert set(pieces) == {0, 1, 2}
    alone = line.write("tea", model=tiny_model, seed=5, max_new_tokens=12)
    assert alone[0].sha256 == texts[0].sha256
    spoken = []
    asset = line.speak(
        "One sentence. And another one.",
        out=tmp_path / "a.flac",
        seed=1,
        speed=1.2,
        on_piece=lambda number, wave: spoken.append(wave),
    )
    assert len(spoken) == 2
    assert soundfile.info(tmp_path / "a.flac").samplerate == 24_000
    flac, _ = soundfile.read(tmp_path / "a.flac")
    wav, _ = soundfile.read(asset.path)
    # The copy has the mark behind it and a watermark in it; the library's file has neither.
    assert len(flac) > len(wav) + 24_000
    assert np.corrcoef(flac[: len(wav)], wav)[0, 1] > 0.98
    assert verify_file(line.sealer, tmp_path / "a.flac", 10**7).asset_id == asset.id


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed": 3.0}, "speed must be 0.5 to 2"),
        ({"loudness": 0.0}, "loudness must be -40 to -10"),
        ({"speeed": 1.0}, "did you mean speed"),
        ({"out": "a.aiff"}, "should end in one of .wav, .flac, .mp3"),
        ({"voice": "emma"}, "vermilion models pull hibari-emma"),
        ({"voice": "nobody"}, "there is no model 'hibari-nobody'"),
    ],
)
def test_speaking_wrongly_is_one_sentence(line: Line, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        line.speak("Hello.", **settings)
    assert line.library.list() == []


def test_nothing_to_say_or_write(line: Line, tiny_model: str) -> None:
    with pytest.raises(InputError, match="it is empty"):
        line.speak("  ")
    with pytest.raises(InputError, match="nothing in it that can be spoken"):
        line.speak("...")
    for request in ("tea", "Three taglines for a bookshop"):
        with pytest.raises(InputError, match="n: must be 1 to 200"):
            line.write(request, n=0, model=tiny_model)
    with pytest.raises(InputError, match="shorten it"):
        line.write("tea " * 2000, model=tiny_model)
