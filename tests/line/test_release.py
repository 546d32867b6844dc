"""Exports: sealed, under a name that people can read, with what is known of the asset."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.line.test_files import A1111, LARGEST, picture
from tests.seal import sound_files
from vermilion.errors import InputError
from vermilion.line.files import add_file, seal_file
from vermilion.line.release import about, export
from vermilion.line.run import Line
from vermilion.line.verify import verify_file
from vermilion.seal.order import SealOptions
from vermilion.types import Asset


def kept(line: Line, content: bytes = b"Fresh from the roaster.\n", **options: object) -> Asset:
    values = {
        "kind": "text",
        "media_type": "text/plain",
        "suffix": "txt",
        "text": "Fresh from the roaster.",
        "recipe": {
            "prompt": {"text": "a secret prompt", "seed": 1},
            "model": {"name": "a-model", "training_data": "public domain"},
        },
        "licence": "Apache-2.0",
    }
    return line.library.keep(content, **{**values, **options})  # type: ignore[arg-type]


def test_an_export_says_what_is_known(line: Line, tmp_path: Path) -> None:
    asset = kept(line)
    paths = export(line.library, line.sealer, asset, tmp_path / "out")
    names = [path.name for path in paths]
    assert names == [
        f"fresh-from-the-roaster-{asset.id}.txt",
        f"fresh-from-the-roaster-{asset.id}.txt.c2pa",
    ]
    verdict = verify_file(line.sealer, paths[0], LARGEST)
    assert verdict.exit_code == 0
    assert verdict.credential.said.model == "a-model"
    assert verdict.credential.said.prompt is None
    assert "secret" not in paths[0].read_text()


def test_parents_stand_in_the_credential(line: Line, tmp_path: Path) -> None:
    first = kept(line)
    second = kept(line, b"Fresher still.\n", text="Fresher still.", parents=[first.id])
    said = about(line.library, line.sealer, second)
    assert said.family == (first.id,)
    (path, _) = export(line.library, line.sealer, second, tmp_path)
    verdict = verify_file(line.sealer, path, LARGEST)
    (ingredient,) = verdict.credential.ingredients
    assert (ingredient.state, ingredient.relation) == ("ours", "inputTo")
    assert ingredient.said.asset_id == first.id


def test_other_formats(line: Line, tmp_path: Path) -> None:
    asset = kept(
        line,
        sound_files.sound("wav", seconds=2.0),
        kind="speech",
        media_type="audio/wav",
        suffix="wav",
    )
    (path,) = export(line.library, line.sealer, asset, tmp_path, "mp3")
    assert path.suffix == ".mp3"
    assert verify_file(line.sealer, path, LARGEST).exit_code == 0
    with pytest.raises(InputError, match=r"\.wav cannot be made a \.png"):
        export(line.library, line.sealer, asset, tmp_path, "png")


@pytest.mark.parametrize(
    ("licence", "words"),
    [("CC-BY-NC-4.0", "forbids commercial use"), ("NOASSERTION", "not known"), ("", "none is")],
)
def test_licences_stop_a_commercial_export(
    line: Line, tmp_path: Path, licence: str, words: str
) -> None:
    asset = kept(line, licence=licence)
    with pytest.raises(InputError, match=words):
        export(line.library, line.sealer, asset, tmp_path, options=SealOptions(commercial=True))
    assert list(tmp_path.glob("*.txt")) == []
    assert export(line.library, line.sealer, asset, tmp_path)


def test_a_guests_work_is_not_called_ais(line: Line, tmp_path: Path) -> None:
    path = picture(tmp_path / "holiday.png")
    asset, _ = add_file(line.library, line.sealer, path, LARGEST, guard=line.guard)
    with pytest.raises(InputError, match="nothing says that AI made it.*vermilion seal"):
        export(line.library, line.sealer, asset, tmp_path / "out")
    seal_file(
        line.library, line.sealer, path, LARGEST, guard=line.guard
    )  # now a person has said so
    (exported,) = export(line.library, line.sealer, asset, tmp_path / "out")
    verdict = verify_file(line.sealer, exported, LARGEST)
    assert verdict.exit_code == 0
    assert verdict.credential.actions[0].name == "c2pa.opened"


def test_a_guest_that_a_tool_made_is_labelled_and_not_called_ours(
    line: Line, tmp_path: Path
) -> None:
    path = picture(tmp_path / "fox.png", parameters=A1111)
    asset, _ = add_file(line.library, line.sealer, path, LARGEST, guard=line.guard)
    (exported,) = export(
        line.library, line.sealer, asset, tmp_path, options=SealOptions(private=False)
    )
    verdict = verify_file(line.sealer, exported, LARGEST)
    assert verdict.statement.parameters == A1111
    assert verdict.credential.said.model == ""
    assert [one.title for one in verdict.credential.ingredients] == ["fox.png"]


def test_a_private_export_of_a_guest_tells_neither_its_prompt_nor_its_name(
    line: Line, tmp_path: Path
) -> None:
    path = picture(tmp_path / "my-folder.png", parameters=A1111)
    asset, _ = add_file(line.library, line.sealer, path, LARGEST, guard=line.guard)
    (exported,) = export(line.library, line.sealer, asset, tmp_path / "out")
    assert exported.name == f"my-folder-{asset.id}.png"
    assert b"red fox" not in exported.read_bytes()
    assert b"my-folder" not in exported.read_bytes()
    verdict = verify_file(line.sealer, exported, LARGEST)
    assert [one.title for one in verdict.credential.ingredients] == [f"original {asset.id}"]


def test_a_photograph_that_something_was_made_from_is_not_signed_as_ais(
    line: Line, tmp_path: Path
) -> None:
    photograph, _ = add_file(
        line.library, line.sealer, picture(tmp_path / "me.png"), LARGEST, guard=line.guard
    )
    fox = picture(tmp_path / "fox.png", parameters=A1111)
    theirs, _ = add_file(line.library, line.sealer, fox, LARGEST, guard=line.guard)
    child = kept(line, b"A new one.\n", text="New.", parents=[photograph.id, theirs.id])
    (path, _) = export(line.library, line.sealer, child, tmp_path / "out")
    verdict = verify_file(line.sealer, path, LARGEST)
    assert verdict.credential.state == "ours"
    person, tool = verdict.credential.ingredients
    assert (person.state, person.said.asset_id) == ("none", "")
    assert (tool.state, tool.said.asset_id) == ("ours", theirs.id)
