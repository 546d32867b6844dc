"""Every form of data, written by other hands than ours: tarfile, csv, json, pyarrow."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data.pictures.making import encoded, put, smooth
from vermilion.data.pictures import Decoding, Fields, Pictures, read
from vermilion.errors import InputError, MissingExtraError, NotFoundError


def told(pictures: Pictures) -> dict[str, tuple[tuple[str, ...], int, str]]:
    """Captions, label and split by name."""
    labels, splits = pictures.labels.tolist(), pictures.index.splits[pictures.items].tolist()
    return {
        pictures.name(i): (pictures.captions(i), labels[i], splits[i]) for i in range(len(pictures))
    }


def captions(pictures: Pictures) -> dict[str, tuple[str, ...]]:
    return {name: about[0] for name, about in told(pictures).items()}


def test_a_folder_without_captions(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.jpg", "a/b/d.png", ".hidden/e.png", "__MACOSX/._b.png", "x.pdf"):
        put(tmp_path / name)
    pictures = read(tmp_path, validation=0)
    assert list(told(pictures)) == ["b.PNG", "a/c.jpg", "a/b/d.png"]
    assert not pictures.captioned
    item = pictures[0]
    assert np.array_equal(item.pixels, smooth(20, 30))
    assert (item.caption, item.label, item.name) == ("", None, "b.PNG")
    assert pictures.faults.count == 0
    assert pictures.faults.report() == ""
    assert read(tmp_path, size=8, how=Decoding(channels=4)).item(0).pixels.shape == (8, 8, 4)


def test_captions_by_file_names(tmp_path: Path) -> None:
    names = {
        "a red fox.png": "a red fox",
        "a_blue_door-frame.png": "a blue door-frame",
        "a-green-hat.png": "a green hat",
        "one_cup (2).png": "one cup",
        "狐狸.png": "狐狸",
    }
    for name in names:
        put(tmp_path / name)
    put(tmp_path / "_.png")
    pictures = read(tmp_path, captions="name")
    assert captions(pictures) == {name: (text,) for name, text in names.items()}
    assert pictures.faults.sentences == ["_.png: has no caption, or an empty one"]


def test_captions_in_text_files(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path / f"{number:02}.png")
        put(tmp_path / f"{number:02}.txt", f" a  picture\nof {number}\n\n")
    put(tmp_path / "alone.txt", "nothing")
    put(tmp_path / "00.txt", " \n")
    put(tmp_path / "01.txt", "Größe".encode("latin-1"))
    (tmp_path / "02.txt").unlink()
    put(tmp_path / "03.txt", b"\xef\xbb\xbfmarked")
    pictures = read(tmp_path, max_faults=0.2)
    assert len(pictures) == 37
    assert captions(pictures)["05.png"] == ("a picture", "of 5")
    assert captions(pictures)["03.png"] == ("marked",)
    assert pictures.faults.kinds == {"no caption": 2, "encoding": 1, "no picture": 1}
    assert "01.png: its caption is not UTF-8" in pictures.faults.sentences
    assert "alone.txt: has no picture of the same name beside it" in pictures.faults.sentences
    with pytest.raises(
        InputError, match=r"4 of 41 pictures cannot be used, more than 0\.05 .*none"
    ):
        read(tmp_path)
    assert not read(tmp_path, captions="none").captioned


def test_classes_are_folders(tmp_path: Path) -> None:
    for name in ("cat/a.png", "cat/deep/b.png", "ape/c.png", "dog/d.png", "stray.png"):
        put(tmp_path / name)
    pictures = read(tmp_path, classes=True)
    assert pictures.classes == ("ape", "cat", "dog")
    assert {name: about[1] for name, about in told(pictures).items()} == {
        "cat/a.png": 1, "cat/deep/b.png": 1, "ape/c.png": 0, "dog/d.png": 2,
    }  # fmt: skip
    assert pictures.faults.sentences == ["stray.png: lies in no folder that names its class"]
    assert pictures[0].label == 0


def test_classes_below_folders_of_splits(tmp_path: Path) -> None:
    for name in ("train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "test/dog/d.png"):
        put(tmp_path / name)
    pictures = read(tmp_path, classes=True)
    assert pictures.classes == ("cat", "dog")
    assert told(pictures)["val/cat/c.png"] == ((), 0, "validation")
    assert pictures.splits == ("test", "train", "validation")
    assert [pictures.part("train").name(i) for i in range(2)] == [
        "train/cat/a.png",
        "train/dog/b.png",
    ]


def lines(path: Path, *records: Any) -> Path:
    return put(
        path, "".join(f"{json.dumps(r) if not isinstance(r, str) else r}\n" for r in records)
    )


def test_jsonl_in_the_form_of_the_corpus_of_drawings(tmp_path: Path) -> None:
    splits = ["train", "train", "validation-concept", "validation-style"]
    for number in range(4):
        put(tmp_path / "pictures" / f"{number}.png")
    lines(
        tmp_path / "captions.jsonl",
        *(
            {"file": f"pictures/{n}.png", "caption": f"a {n}, flat", "label": f"{n % 2} word",
             "tags": ["x", "y"], "split": splits[n]}
            for n in range(4)
        ),
    )  # fmt: skip
    for path in (tmp_path, tmp_path / "captions.jsonl"):
        pictures = read(path)
        assert told(pictures)["pictures/3.png"] == (("a 3, flat",), 1, "validation-style")
        assert len(pictures.part("train")) == 2
        assert len(pictures.part("validation")) == 2
        assert len(pictures.part("validation-concept")) == 1
    with pytest.raises(InputError, match="'test' has no pictures; there are train, validation-con"):
        pictures.part("test")
    several = read(tmp_path, fields=Fields(caption="label, tags"))
    assert captions(several)["pictures/1.png"] == ("1 word", "x", "y")


@pytest.mark.parametrize("fields", [("file_name", "text"), ("image", "caption"), ("path", "title")])
def test_jsonl_of_other_makers(tmp_path: Path, fields: tuple[str, str]) -> None:
    put(tmp_path / "a.png")
    path = lines(tmp_path / "any.jsonl", {fields[0]: "a.png", fields[1]: "one"})
    assert captions(read(path)) == {"a.png": ("one",)}
    assert captions(read(tmp_path, captions="any.jsonl")) == {"a.png": ("one",)}
    assert captions(read(tmp_path, captions=path)) == {"a.png": ("one",)}


def test_bad_rows_of_jsonl_are_counted_and_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "data" / "a.png")
    put(tmp_path / "data" / "b.png")
    put(tmp_path / "out.png")
    (tmp_path / "data" / "folder.png").mkdir()
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "out.png")
    path = lines(
        tmp_path / "data" / "x.jsonl",
        {"file": "a.png", "text": "one"},
        {"file": "a.png", "text": ["one", " two "]},
        "{",
        "[1]",
        {"text": "three"},
        {"file": "gone.png", "text": "four"},
        {"file": "https://example.org/a.png", "text": "five"},
        {"file": "../out.png", "text": "six"},
        {"file": str(tmp_path / "out.png"), "text": "seven"},
        {"file": "link.png", "text": "eight"},
        {"file": "folder.png", "text": "nine"},
        {"file": "a.png", "text": {"en": "ten"}},
        {"file": "b.png", "text": " "},
        {"file": "./sub/../b\0.png", "text": "eleven"},
        "",
    )
    with path.open("ab") as file:
        file.write(b'{"file": "a.png", "text": "Gr\xf6\xdfe"}\n')
    pictures = read(path, max_faults=1, fields=Fields(picture="file"))
    assert captions(pictures) == {"a.png": ("one", "two")}
    assert pictures.faults.kinds == {
        "malformed": 3, "missing": 4, "outside": 4, "no caption": 1, "encoding": 1,
    }  # fmt: skip
    assert pictures.faults.rows == 15
    assert "x.jsonl, line 6 (gone.png): the picture is not there" in pictures.faults.sentences
    assert "x.jsonl, line 3: is no JSON object" in pictures.faults.sentences
    assert "b.png: has no caption, or an empty one" in pictures.faults.sentences
    with pytest.raises(InputError, match=r"13 of 15 pictures cannot be used.*max_faults"):
        read(path, max_faults=0.5)


def test_a_link_out_of_a_folder_is_left_out(tmp_path: Path) -> None:
    put(tmp_path / "out.png")
    put(tmp_path / "data" / "in.png")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "data" / "same.png").symlink_to(tmp_path / "data" / "in.png")
    (tmp_path / "data" / "ring").symlink_to(tmp_path / "data")
    pictures = read(tmp_path / "data")
    assert list(told(pictures)) == ["in.png", "same.png"]
    assert pictures.faults.sentences == ["link.png: the link leads out of the folder"]


@pytest.mark.parametrize("swapped", [False, True])
def test_conceptual_captions(tmp_path: Path, swapped: bool) -> None:
    """Caption and address, or CC12M's address and caption; no header; nothing is quoted."""
    rows = [
        ('a "fine view', "pictures/0.png"),
        ("a view, and more", "pictures/1.png"),
        ("far away", "http://example.org/2.jpg"),
        ("gone", "pictures/3.png"),
    ]
    for number in range(2):
        put(tmp_path / "pictures" / f"{number}.png")
    text = "".join("\t".join(reversed(row) if swapped else row) + "\n" for row in rows)
    pictures = read(put(tmp_path / "Train_GCC.tsv", text), max_faults=0.5)
    assert captions(pictures) == {
        "pictures/0.png": ('a "fine view',),
        "pictures/1.png": ("a view, and more",),
    }
    assert pictures.faults.kinds == {"missing": 2}
    with pytest.raises(InputError, match="2 of 4 .*missing 2.*line 3.*is an address"):
        read(tmp_path / "Train_GCC.tsv")


def test_csv_with_a_header(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"{number}.png")
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerows(
            [
                ["title", "filepath", "label", "split"],
                ['one, "two"\nthree', "0.png", "7", "train"],
                ["four", "1.png", "0", "val"],
                ["five", "2.png", "7", "train"],
                ["short", "2.png"],
            ]
        )
    pictures = read(path)
    assert told(pictures)["0.png"] == (('one, "two" three',), 7, "train")
    assert told(pictures)["1.png"] == (("four",), 0, "validation")
    assert pictures.classes == tuple("01234567")
    assert pictures.faults.sentences == ["a.csv, line 6: has 2 columns where the first row has 4"]
    named = read(path, fields=Fields(picture="filepath", caption="split", label="title"))
    assert named.classes == ("five", "four", 'one, "two"\nthree')


def test_several_rows_of_a_picture_are_one_item(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "b.png")
    rows = "image,caption\na.png,one\nb.png,two\na.png,three\na.png,one\n"
    assert captions(read(put(tmp_path / "c.csv", rows))) == {
        "a.png": ("one", "three"),
        "b.png": ("two",),
    }


def test_encodings_of_tables(tmp_path: Path) -> None:
    for number in range(30):
        put(tmp_path / f"{number}.png")
    rows = "".join(f"{n}.png\tGröße {n}\n" for n in range(30))
    wide = put(tmp_path / "wide.tsv", ("file\tcaption\n" + rows).encode("utf-16"))
    assert captions(read(wide))["3.png"] == ("Größe 3",)
    some = rows.encode().replace("Größe 7".encode(), "Größe 7".encode("latin-1"))
    pictures = read(put(tmp_path / "some.tsv", some))
    assert pictures.faults.sentences == ["some.tsv, line 8 (7.png): the caption is not UTF-8"]
    with pytest.raises(InputError, match=r"30 of 30 .*encoding 30.*iconv"):
        read(put(tmp_path / "all.tsv", rows.encode("latin-1")))


def coco(folder: Path) -> None:
    """COCO 2017 as it is unpacked, small: two pictures for training, one for validation."""
    for name in ("train2017/000009.jpg", "train2017/000025.jpg", "val2017/000139.jpg"):
        put(folder / name)
    images = [
        {"id": 9, "file_name": "000009.jpg", "width": 30, "height": 20},
        {"id": 25, "file_name": "000025.jpg", "width": 30, "height": 20},
    ]
    categories = [
        {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 18, "name": "dog", "supercategory": "animal"},
    ]
    files: dict[str, Any] = {
        "captions_train2017": {
            "images": images,
            "annotations": [
                {"image_id": 25, "id": 1, "caption": "A dog that waits.\n"},
                {"image_id": 9, "id": 2, "caption": "A person brushes."},
                {"image_id": 25, "id": 3, "caption": "One dog."},
                {"image_id": 77, "id": 4, "caption": "Of no picture."},
            ],
        },
        "captions_val2017": {
            "images": [{"id": 139, "file_name": "000139.jpg"}],
            "annotations": [{"image_id": 139, "id": 5, "caption": "A room."}],
        },
        "instances_train2017": {
            "images": images,
            "categories": categories,
            "annotations": [
                {"image_id": 9, "category_id": 1, "area": 40.5, "bbox": [0, 0, 9, 9]},
                {"image_id": 9, "category_id": 90, "area": 30.0, "iscrowd": 0},
                {"image_id": 9, "category_id": 90, "area": 30.0},
                {"image_id": 25, "category_id": 18, "bbox": [1, 2, 10, 20]},
                {"image_id": 25, "category_id": 1, "area": 100},
            ],
        },
    }
    for name, content in files.items():
        put(folder / "annotations" / f"{name}.json", json.dumps(content))


def test_coco(tmp_path: Path) -> None:
    coco(tmp_path)
    pictures = read(tmp_path)
    assert told(pictures) == {
        "train2017/000009.jpg": (("A person brushes.",), 2, "train"),
        "train2017/000025.jpg": (("A dog that waits.", "One dog."), 1, "train"),
        "val2017/000139.jpg": (("A room.",), -1, "validation"),
    }
    assert pictures.classes == ("person", "dog", "toothbrush")
    assert pictures.faults.sentences == [
        "captions_train2017.json: an annotation is about picture 77, which is not in the list"
    ]
    one = read(tmp_path / "annotations" / "captions_train2017.json")
    assert list(captions(one)) == ["train2017/000009.jpg", "train2017/000025.jpg"]
    assert one.classes == ()
    only = read(tmp_path / "annotations" / "instances_train2017.json")
    assert captions(only) == {
        "train2017/000009.jpg": ("toothbrush, person",),
        "train2017/000025.jpg": ("dog, person",),
    }
    with pytest.raises(InputError, match=r"is not COCO's JSON.*\.jsonl"):
        read(put(tmp_path / "a.json", '[{"file": "a.png"}]'))


def archive(path: Path, *members: tuple[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def test_webdataset(tmp_path: Path) -> None:
    """The layout of the format's description: neighbours that differ after the first dot."""
    pictures_of = [encoded(smooth(20, 30, n)) for n in range(6)]
    long = "deep/" + "long-name/" * 15 + "sample"
    archive(
        tmp_path / "train-000000.tar",
        ("__index__.txt", "of the archive itself"),
        ("a/000.png", pictures_of[0]),
        ("a/000.txt", "first\n"),
        ("a/000.cls", "3"),
        ("b/000.cls", "1"),
        ("b/000.json", json.dumps({"caption": "from json", "label": 9})),
        ("b/000.seg.png", pictures_of[5]),
        ("b/000.png", pictures_of[1]),
        (f"{long}.png", pictures_of[2]),
        (f"{long}.txt", "long"),
    )
    archive(tmp_path / "val-000000.tar", ("c.png", pictures_of[3]), ("c.txt", "held back"))
    for path in (tmp_path, tmp_path / "train-000000.tar"):
        about = told(read(path, validation=0))
        assert about["train-000000.tar/a/000.png"] == (("first",), 3, "train")
        assert about["train-000000.tar/b/000.png"][:2] == (("from json",), 1)
        assert about[f"train-000000.tar/{long}.png"][:2] == (("long",), -1)
    whole = read(tmp_path)
    assert len(whole) == 4
    for i in range(4):
        assert np.array_equal(whole[i].pixels, smooth(20, 30, i))
        assert whole.measure(i) == (20, 30)
    assert told(whole)["val-000000.tar/c.png"] == (("held back",), -1, "validation")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train-000000.tar", "val-000000.tar"]


def test_bad_samples_of_webdataset(tmp_path: Path) -> None:
    picture = encoded(smooth(20, 30))
    path = archive(
        tmp_path / "x.tar",
        ("0.png", picture), ("0.txt", "good"),
        ("1.txt", "without a picture"),
        ("2.png", picture),
        ("3.png", picture), ("3.txt", ""),
        ("4.png", picture), ("4.txt", "Größe".encode("latin-1")),
        ("5.png", picture), ("5.json", "{"),
        ("6.png", picture), ("6.jpg", picture), ("6.txt", "two pictures"),
        ("7.png", picture), ("7.json", '{"caption": {"en": "x"}}'),
    )  # fmt: skip
    pictures = read(path, max_faults=1)
    assert list(captions(pictures)) == ["x.tar/0.png", "x.tar/6.png"]
    assert pictures.faults.kinds == {
        "no picture": 1, "no caption": 2, "encoding": 1, "malformed": 3,
    }  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"7.png") + 600])
    cut = read(path, max_faults=1)
    assert "damaged" in cut.faults.kinds
    assert len(cut) == 2
    with tarfile.open(tmp_path / "y.tar", "w:gz") as tar:
        tar.add(path, "a.png")
    with pytest.raises(InputError, match=r"is compressed.*unpack it to a plain \.tar"):
        read(tmp_path / "y.tar")


def test_parquet_of_the_datasets_library(tmp_path: Path) -> None:
    def file(name: str, numbers: range) -> None:
        features = {
            "image": {"_type": "Image"},
            "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        }
        table = pa.table(
            {
                "image": [{"bytes": encoded(smooth(20, 30, n)), "path": None} for n in numbers],
                "caption": [f"number {n}" for n in numbers],
                "label": [n % 2 for n in numbers],
            }
        ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        parquet.write_table(table, tmp_path / name, row_group_size=2)

    file("train-00000-of-00002.parquet", range(5))
    file("train-00001-of-00002.parquet", range(5, 7))
    file("test-00000-of-00001.parquet", range(7, 8))
    pictures = read(tmp_path, validation=0)
    assert pictures.classes == ("cat", "dog")
    assert pictures.splits == ("test", "train")
    order = [0, *range(1, 8)]
    by_caption = {pictures.captions(i)[0]: i for i in range(8)}
    for n in np.random.default_rng(0).permutation(order).tolist():
        item = pictures[by_caption[f"number {n}"]]
        assert np.array_equal(item.pixels, smooth(20, 30, n))
        assert item.label == n % 2
    assert told(pictures)["train-00000-of-00002.parquet#4"] == (("number 4",), 0, "train")


def test_parquet_of_bytes_and_of_paths(tmp_path: Path) -> None:
    contents = [encoded(smooth(20, 30)), None, b""]
    parquet.write_table(pa.table({"img": contents}), tmp_path / "a.parquet")
    pictures = read(tmp_path / "a.parquet")
    assert np.array_equal(pictures[0].pixels, smooth(20, 30))
    for i in (1, 2):
        with pytest.raises(InputError, match=f"a.parquet#{i}: the row has no picture in it"):
            pictures.item(i)
    put(tmp_path / "b.png")
    paths = pa.table({"path": ["b.png", "gone.png"], "text": ["x", "y"]})
    parquet.write_table(paths, tmp_path / "b.parquet")
    assert captions(read(tmp_path / "b.parquet")) == {"b.png": ("x",)}
    parquet.write_table(pa.table({"image": [[1, 2]]}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match="in the column 'image'; it needs bytes or paths"):
        read(tmp_path / "c.parquet")
    with pytest.raises(InputError, match="is not Parquet"):
        read(put(tmp_path / "d.parquet", "no"))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(pa.table({"image": [b""]}), tmp_path / "a.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"vermilion\[train\]"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "options", "sentence"),
    [
        ("a.png", None, {}, "of a kind that is not known; name a folder of pictures"),
        ("a.jsonl", "{}", {"captions": "name"}, "captions: .* has its own"),
        ("a.jsonl", '{"fil": "a.png"}', {}, "none of the usual fields for the picture among fil"),
        ("a.jsonl", '{"file": "a.png"}', {"fields": Fields(caption="fle")}, "mean 'file'?"),
        ("a.jsonl", '{"file": "a.png"}', {"classes": True}, "usual fields for the label"),
        ("a.jsonl", "", {}, "no picture that can be used"),
        ("a.csv", "", {}, "has no rows in it"),
        ("a.csv", "a,b,c\n", {}, "3 columns and no header"),
        ("a.csv", "a,b\nc,d\n", {}, "cannot be told which column"),
        ("a.csv", "a.png\tb\n", {}, "parted by tabs; name it .tsv"),
        ("a.tsv", "file\tcaption\n", {}, "no picture that can be used"),
        ("a.tsv", "a.png\tx\n", {"validation": 1}, "validation"),
        ("a.tsv", "a.png\tx\n", {"max_faults": 2}, "max_faults: must be from 0 to 1"),
        ("a.tsv", "a.png\tx\n", {"size": 0}, "size: sides must be from 1"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(
    tmp_path: Path, name: str, content: str | None, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        read(put(tmp_path / name, content), **options)


def test_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist; name a folder or a file"):
        read(tmp_path / "gone")
    with pytest.raises(InputError, match="has no picture that can be used"):
        read(tmp_path)
    put(tmp_path / "a.png")
    with pytest.raises(InputError, match="captions: x.csv does not exist; write name, txt, none"):
        read(tmp_path, captions="x.csv")
    with pytest.raises(InputError, match="validation: must be from 0 to below 1"):
        read(tmp_path, validation=1.0)
    lines(tmp_path / "t.jsonl", {"file": "a.png", "label": -4})
    with pytest.raises(InputError, match="label: numbers of classes must be from 0 .*found -4"):
        read(tmp_path / "t.jsonl")


def test_a_validation_split_stays_when_data_are_added(tmp_path: Path) -> None:
    for number in range(300):
        put(tmp_path / f"{number}.png", b"x")
    before = told(read(tmp_path, validation=0.2))
    held = {name for name, about in before.items() if about[2] == "validation"}
    assert 30 < len(held) < 90
    for number in range(300, 400):
        put(tmp_path / f"{number}.png", b"x")
    after = told(read(tmp_path, validation=0.2))
    assert held == {n for n, about in after.items() if about[2] == "validation" and n in before}
    more = {n for n, about in told(read(tmp_path, validation=0.3)).items() if about[2] != "train"}
    assert held < more


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        put(tmp_path / name)
    except OSError:
        pytest.skip("this disk takes no such name")
    pictures = read(tmp_path)
    assert np.array_equal(pictures[0].pixels, smooth(20, 30))
    pictures.fingerprint()
    with pytest.raises(InputError, match=r"caf\?.png: its caption is not UTF-8"):
        read(tmp_path, captions="name")
    put(tmp_path / name, b"broken")
    with pytest.raises(InputError, match=r"caf\?.png: the file is no picture"):
        read(tmp_path).item(0)


def test_a_fingerprint_knows_names_sizes_and_times(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        put(tmp_path / name)
        os.utime(tmp_path / name, ns=(0, 10**9))
    first = read(tmp_path).fingerprint()
    assert read(tmp_path).fingerprint() == first
    os.utime(tmp_path / "b.png", ns=(0, 10**9 + 1))
    assert read(tmp_path).fingerprint() != first
    os.utime(tmp_path / "b.png", ns=(0, 10**9))
    assert read(tmp_path).fingerprint() == first
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert read(tmp_path).fingerprint() != first
