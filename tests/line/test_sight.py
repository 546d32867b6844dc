"""Looking, embedding, ranking, and finding by what pictures show: with a tiny real CLIP."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import vermilion as vm
from tests.models.contrast.reference import photo, tiny_clip_folder
from tests.painter import take_the_place
from vermilion.cli.app import app
from vermilion.errors import InputError, NotFoundError
from vermilion.line import finding
from vermilion.line.default import default_line
from vermilion.line.finding import find, index_pictures, merged, vectors_name
from vermilion.line.run import Line
from vermilion.line.sight import best_of, encoder_name, read_picture
from vermilion.models.contrast.evaluate import PROMPTS
from vermilion.runtime.loader import Loader
from vermilion.settings import get_settings
from vermilion.types import Hit, Prompt, Sample

LABELS = ["red ink", "a small shop", "tea"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-clip"
    tiny_clip_folder(path)
    return path


@pytest.fixture
def seeing(line: Line, clip: Path) -> Line:
    """A line whose store has a model that knows pictures, under a usual name."""
    line.store.pull(str(clip), name="toy-search")
    take_the_place(line.store, "toy-search", "search")
    return line


@pytest.fixture(autouse=True)
def fresh_line() -> Iterator[None]:
    default_line.cache_clear()
    yield
    default_line.cache_clear()


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo(40, 32, seed)).save(buffer, "PNG")
    return buffer.getvalue()


def kept(line: Line, count: int, first: int = 0) -> list[str]:
    return [
        line.library.keep(
            png(seed), kind="picture", media_type="image/png", suffix="png",
            text=f"picture number {seed}", recipe={},
        ).id
        for seed in range(first, first + count)
    ]  # fmt: skip


def run(*command: str) -> Any:
    return CliRunner().invoke(app, list(command))


def test_look_gives_probabilities(seeing: Line, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(3))
    guesses = vm.look(path, LABELS)
    assert {guess.label for guess in guesses} == set(LABELS)
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-5)
    assert [g.probability for g in guesses] == sorted(
        (g.probability for g in guesses), reverse=True
    )
    engine: Any = seeing.load("search")
    vector = engine.embed_pictures([read_picture(path, 1 << 20)])
    expected = engine.probabilities(vector, engine.embed(LABELS))[0]
    by_label = {guess.label: guess.probability for guess in guesses}
    assert [by_label[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-6)
    # With an ensemble each label's vector is the mean over its sentences, made 1 long.
    means = np.stack(
        [engine.embed([p.replace("{}", label) for p in PROMPTS]).mean(0) for label in LABELS]
    )
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    several = {g.label: g.probability for g in vm.look(path, LABELS, ensemble=True)}
    assert [several[label] for label in LABELS] == pytest.approx(
        engine.probabilities(vector, means)[0].tolist(), abs=1e-5
    )
    done = run("look", str(path), "--labels", ", ".join(LABELS), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0] == {
        "label": guesses[0].label, "probability": pytest.approx(guesses[0].probability),
    }  # fmt: skip
    assert run("look", str(path), "--labels", ", ".join(LABELS), "-q").stdout.strip() == (
        guesses[0].label
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [(["one"], "give two"), (["a", " a"], "given twice"), (["a", ""], "give two")],
)
def test_labels_that_cannot_be_used(
    labels: list[str], said: str, seeing: Line, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(3))
    with pytest.raises(InputError, match=said):
        vm.look(path, labels)


def test_wrong_pictures_are_one_sentence(seeing: Line, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no file"):
        vm.look(tmp_path / "none.png", LABELS)
    broken = tmp_path / "broken.png"
    broken.write_bytes(png(1)[:60])
    with pytest.raises(InputError, match=r"broken\.png"):
        vm.look(broken, LABELS)
    done = run("look", str(broken), "--labels", "a,b")
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_without_a_model_the_command_that_pulls_one_is_named(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(3))
    assert encoder_name(line.loader) is None
    with pytest.raises(NotFoundError, match="models pull clip-vit-b-32"):
        vm.look(path, LABELS)
    with pytest.raises(NotFoundError, match="models pull clip-vit-b-32"):
        vm.embed_pictures([path])


def test_embed_takes_pictures_and_texts(seeing: Line, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(3))
    done = run("embed", str(path), "red ink", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["kind"] for row in rows] == ["picture", "text"]
    np.testing.assert_allclose(rows[0]["vector"], vm.embed_pictures([path])[0], atol=1e-6)
    np.testing.assert_allclose(
        rows[1]["vector"], seeing.embed(["red ink"], model="search")[0], atol=1e-6
    )
    assert run("embed", str(path), "red ink").exit_code == 0
    missing = run("embed", "nowhere.png")
    assert missing.exit_code == 2
    assert "there is no file nowhere.png" in missing.output
    empty = run("embed", " ", str(path))
    assert empty.exit_code == 2


def test_the_best_fit_comes_first(seeing: Line) -> None:
    prompt = Prompt(kind="picture", text="red ink", model="x", seed=0)
    drawn = [(n, Sample(prompt=prompt, content=photo(32, 32, n))) for n in range(6)]
    engine: Any = seeing.load("search")
    scores = engine.embed_pictures([s.content for _, s in drawn]) @ engine.embed(["red ink"])[0]
    found = list(best_of(seeing.loader, drawn, "red ink", 2))
    assert [number for number, _, _ in found] == np.argsort(-scores)[:2].tolist()
    assert found[0][2]["fit"] == pytest.approx(scores.max(), abs=1e-4)
    assert found[0][2]["ranked_by"] == "search"


def test_pictures_are_found_by_what_they_show(seeing: Line) -> None:
    ids = kept(seeing, 5)
    hits, missing = find(seeing.library, seeing.loader, "number 3")
    assert missing == 0
    assert hits[0].asset.id == ids[3]  # by both
    assert "contains" in hits[0].reason
    assert "looks like it" in hits[0].reason
    assert {hit.asset.id for hit in hits} == set(ids)
    engine: Any = seeing.load("search")
    (words,) = engine.embed(["tea"])
    vectors = engine.embed_pictures([photo(40, 32, seed) for seed in range(5)])
    expected = [ids[n] for n in np.argsort(-(vectors @ words))]
    hits, _ = find(seeing.library, seeing.loader, "tea")
    assert [hit.asset.id for hit in hits] == expected
    assert [hit.asset.id for hit in find(seeing.library, seeing.loader, "tea", limit=2)[0]] == (
        expected[:2]
    )
    assert vm.find("tea")[0].asset.id == expected[0]


def test_words_alone_where_no_model_is_there(line: Line) -> None:
    ids = kept(line, 3)
    hits, missing = find(line.library, line.loader, "number 2")
    assert ([hit.asset.id for hit in hits], missing) == ([ids[2]], 0)
    with pytest.raises(NotFoundError, match="models pull"):
        index_pictures(line.library, line.loader)


def test_another_model_looks_again_and_goes_on_where_it_was(
    seeing: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(seeing, 20)
    name, count = index_pictures(seeing.library, seeing.loader)
    assert (name, count) == ("search", 20)
    assert index_pictures(seeing.library, seeing.loader) == ("search", 0)
    old = vectors_name(seeing.loader.open("search")[0])
    tiny_clip_folder(tmp_path / "other", seed=7)
    seeing.store.pull(str(tmp_path / "other"), name="other")
    monkeypatch.setenv("VERMILION_PICTURE_ENCODER", "other")
    get_settings.cache_clear()
    loader = Loader(seeing.store, get_settings())
    new = vectors_name(loader.open("other")[0])
    monkeypatch.setattr(finding, "AT_ONCE", 8)
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_pictures(seeing.library, loader, stop)
    assert told == [(8, 20)]
    assert seeing.library.without_vectors(new, "picture")[0] == 12
    assert seeing.library.without_vectors(old, "picture")[0] == 0  # until all is looked at
    told.clear()
    assert index_pictures(seeing.library, loader, lambda *both: told.append(both)) == (
        "other",
        12,
    )
    assert told == [(8, 12), (12, 12)]
    assert seeing.library.without_vectors(old, "picture")[0] == 20
    done = run("library", "index", "--json")
    assert json.loads(done.stdout) == {"model": "other", "pictures": 0}


def test_what_cannot_be_read_is_passed_over(seeing: Line) -> None:
    ids = kept(seeing, 3)
    seeing.library.get(ids[1]).path.write_bytes(b"no picture any more")
    hits, missing = find(seeing.library, seeing.loader, "tea")
    assert missing == 0
    assert {hit.asset.id for hit in hits} == {ids[0], ids[2]}


def test_many_pictures_are_left_to_the_background(
    seeing: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "_SOON", 4)
    kept(seeing, 10)
    hits, missing = find(seeing.library, seeing.loader, "tea")
    assert (len(hits), missing) == (4, 6)


def test_lists_are_merged_by_rank(line: Line) -> None:
    a, b, c = (line.library.get(ref) for ref in kept(line, 3))
    words = [Hit(asset=a, score=9.0, reason="words"), Hit(asset=b, score=1.0, reason="words")]
    sight = [Hit(asset=b, score=0.3, reason="sight"), Hit(asset=c, score=0.2, reason="sight")]
    found = merged([words, sight], 3)
    assert [hit.asset.id for hit in found] == [b.id, a.id, c.id]
    assert found[0].score == pytest.approx(1 / 62 + 1 / 61)
    assert found[0].reason == "words; sight"


def test_paint_keeps_those_that_fit_best(easel: Line, clip: Path) -> None:
    easel.store.pull(str(clip), name="toy-search")
    take_the_place(easel.store, "toy-search", "search")
    every = easel.paint("a red fox", n=4, seed=1)
    best = easel.paint("a red fox", n=4, seed=1, best=2)
    assert [asset.notes["ranked_by"] for asset in best] == ["search", "search"]
    assert best[0].notes["fit"] >= best[1].notes["fit"]
    assert best[0].notes["of"] == 4
    assert "ranking" not in best[0].notes
    engine: Any = easel.load("search")
    pictures = [read_picture(asset.path, 1 << 20) for asset in every]
    scores = engine.embed_pictures(pictures) @ engine.embed(["a red fox"])[0]
    assert [asset.index for asset in best] == np.argsort(-scores)[:2].tolist()
    assert best[0].sha256 == every[best[0].index].sha256
