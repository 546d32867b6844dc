from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from vermilion.data import documents
from vermilion.data.documents import Piece, files_of, read, sha256_of
from vermilion.errors import InputError, NotFoundError

CHAT = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Please."}]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_gives_its_texts_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.md", "two")
    write(tmp_path / "a.txt", "one")
    write(tmp_path / "deep" / "c.txt", "three")
    write(tmp_path / ".git" / "d.txt", "hidden")
    write(tmp_path / "e.py", "code")
    assert [piece.text for piece in read(tmp_path)] == ["one", "two", "three"]


def test_a_long_text_comes_in_pieces_that_join_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_PIECE", 50)
    text = "A line, and more.\n\n  Indented.\nNext line of it.\n" * 20
    pieces = list(read(write(tmp_path / "a.txt", text)))
    assert len(pieces) > 5
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(piece.text[0].strip() for piece in pieces)


def test_jsonl_of_texts_and_of_conversations(tmp_path: Path) -> None:
    lines = [{"text": "one"}, {"text": " "}, {"messages": CHAT}, {"text": "two"}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    assert list(read(path)) == [Piece("one"), Piece(messages=tuple(CHAT)), Piece("two")]
    other = write(tmp_path / "b.jsonl", json.dumps({"body": "here"}))
    assert list(read(other, "body")) == [Piece("here")]


def test_columns_of_tables(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", 'name,text\nx,"one, two"\ny,\nz,"three\nfour"\n')
    assert [piece.text for piece in read(table)] == ["one, two", "three\nfour"]
    tabs = write(tmp_path / "a.tsv", "body\tn\nfive\t1\n")
    assert [piece.text for piece in read(tabs, "body")] == ["five"]
    columns = pa.table({"text": ["six", None, "seven"], "messages": [CHAT, CHAT, CHAT]})
    parquet.write_table(columns, tmp_path / "a.parquet")
    assert [piece.text for piece in read(tmp_path / "a.parquet")] == ["six", "seven"]
    assert next(read(tmp_path / "a.parquet", "messages")).messages == tuple(CHAT)


@pytest.mark.parametrize(
    ("name", "content", "field", "sentence"),
    [
        ("a.txt", b"", None, "is empty"),
        ("a.txt", b" \n ", None, "has no text"),
        ("a.txt", "Größe".encode("latin-1"), None, "not UTF-8 .byte 0xf6.*iconv"),
        ("a.txt", b"text", "body", "field: .* is plain text"),
        ("a.jsonl", b"{", None, "line 1: this is not JSON"),
        ("a.jsonl", b"[1]", None, "line 1: this is not a JSON object"),
        ("a.jsonl", b'{"txt": "x"}', None, "no field 'text' among txt; did you mean --field txt"),
        ("a.jsonl", b'{"messages": [{"role": "bot", "content": "x"}]}', None, "needs a role"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}', None, "assistant's"),
        ("a.csv", b"name,n\nx,1\n", "nmae", "no field 'nmae' among name, n; did you mean"),
        ("a.csv", b'text\n"x\n', None, "mend it"),
        ("a.parquet", b"nothing", None, "is not Parquet"),
        ("a.docx", b"PK", None, "kind that is not known; use .txt"),
    ],
)
def test_bad_data_is_one_sentence(
    tmp_path: Path, name: str, content: bytes, field: str | None, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        list(read(path, field))
    assert "\n" not in str(caught.value)


def test_nothing_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist; name a file or a folder"):
        files_of(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no .txt and no .md"):
        files_of(tmp_path)


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    write(tmp_path / "x" / "a.txt", "one")
    write(tmp_path / "x" / "b.txt", "two")
    before = sha256_of(tmp_path / "x")
    assert sha256_of(tmp_path / "x") == before
    write(tmp_path / "x" / "b.txt", "owt")
    assert sha256_of(tmp_path / "x") != before
