"""Token files and the order of windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vermilion.data.documents import Piece
from vermilion.data.packed import Encoded, Header, Tokens, pack
from vermilion.data.windows import Windows, in_order
from vermilion.errors import InputError, StorageError


def letters(pieces: Sequence[Piece]) -> Iterable[Encoded]:
    """A letter a token; 0 ends a document; capitals count for the loss where there are any."""
    for piece in pieces:
        ids = [ord(letter) for letter in piece.text] + ([0] if piece.ends else [])
        mask = [int(chr(i).isupper()) for i in ids] if piece.text != piece.text.lower() else None
        yield ids, mask


def packed(
    folder: Path, texts: Sequence[str], validation: float = 0.0, vocab_size: int = 128
) -> Header:
    pieces = [Piece(text) for text in texts]
    return pack(
        pieces, letters, folder, key="k", vocab_size=vocab_size, validation=validation, split="auto"
    )


@pytest.mark.parametrize(("vocab_size", "dtype"), [(1 << 16, "uint16"), (70_000, "uint32")])
def test_tokens_are_kept_in_order(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    header = packed(tmp_path / "t", ["ab", "cde"], vocab_size=vocab_size)
    tokens = Tokens(tmp_path / "t", "train", header)
    assert header.dtype == dtype
    assert tokens.ids.tolist() == [97, 98, 0, 99, 100, 101, 0]
    assert tokens.mask is None


def test_the_mask_goes_with_them(tmp_path: Path) -> None:
    header = packed(tmp_path / "t", ["ab", "cDe", "f"])
    tokens = Tokens(tmp_path / "t", "train", header)
    assert tokens.mask is not None
    assert tokens.mask.tolist() == [1, 1, 1, 0, 1, 0, 0, 1, 1]


def test_the_end_of_each_of_few_documents_is_held_back(tmp_path: Path) -> None:
    header = packed(tmp_path / "t", ["abcdefghi", "klmnopqrs"], 0.2)
    assert header.split == "tail"
    train, held = (Tokens(tmp_path / "t", n, header).ids for n in ("train", "validation"))
    assert bytes(train.tolist()).decode() == "abcdefghklmnopqr"
    assert bytes(held.tolist()).decode() == "i\0s\0"


def test_whole_documents_of_many_are_held_back(tmp_path: Path) -> None:
    texts = [f"d{i}" for i in range(200)]
    header = packed(tmp_path / "t", texts, 0.1)
    held = bytes(Tokens(tmp_path / "t", "validation", header).ids.tolist()).decode()
    train = bytes(Tokens(tmp_path / "t", "train", header).ids.tolist()).decode()
    assert header.split == "document"
    assert 19 <= len(held.split("\0")[:-1]) <= 20
    assert sorted(held.split("\0")[:-1] + train.split("\0")[:-1]) == sorted(texts)


def test_they_are_made_once_and_their_size_is_checked(tmp_path: Path) -> None:
    header = packed(tmp_path / "t", ["ab"])

    def refuse(pieces: Sequence[Piece]) -> Iterable[Encoded]:
        raise AssertionError

    again = pack(
        [Piece("ab")], refuse, tmp_path / "t", key="k", vocab_size=128, validation=0.0, split="auto"
    )
    assert again == header
    with (tmp_path / "t" / "train.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(StorageError, match="has 7 bytes where its header says 6"):
        Tokens(tmp_path / "t", "train", header)
    with pytest.raises(InputError, match="no text"):
        packed(tmp_path / "empty", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t"]


def row(tmp_path: Path, count: int) -> Tokens:
    header = packed(tmp_path / "t", ["".join(chr(1 + i % 120) for i in range(count - 1))])
    return Tokens(tmp_path / "t", "train", header)


def test_an_epoch_sees_every_window_once(tmp_path: Path) -> None:
    windows = Windows(row(tmp_path, 1003), 10, seed=3)
    for epoch in range(3):
        first = epoch * windows.count
        starts = sorted(windows.start(first + i) for i in range(windows.count))
        assert np.diff(starts).tolist() == [10] * (windows.count - 1)
        assert starts[-1] + 11 <= 1003
    orders = [[windows.start(e * windows.count + i) for i in range(5)] for e in range(3)]
    assert orders[0] != orders[1] != orders[2]


def test_the_order_is_a_function_of_seed_and_number(tmp_path: Path) -> None:
    tokens = row(tmp_path, 500)
    one, two = Windows(tokens, 8, seed=1), Windows(tokens, 8, seed=1)
    whole, _ = one.batch(64, 12)
    parts = [two.batch(70, 6)[0], two.batch(64, 6)[0]]
    assert np.array_equal(whole, np.concatenate(parts[::-1]))
    assert whole.shape == (12, 9)
    assert not np.array_equal(whole, Windows(tokens, 8, seed=2).batch(64, 12)[0])


def test_windows_in_order_lie_behind_one_another(tmp_path: Path) -> None:
    tokens = row(tmp_path, 40)
    ids, mask = in_order(tokens, 5, 1, 2)
    assert ids.tolist() == [tokens.ids[5:11].tolist(), tokens.ids[10:16].tolist()]
    assert mask is None


@pytest.mark.parametrize("count", [9, 10])
def test_the_shortest_row(tmp_path: Path, count: int) -> None:
    tokens = row(tmp_path, count)
    if count == 9:
        with pytest.raises(InputError, match=r"context of 9 is longer than the text.*has 9 tokens"):
            Windows(tokens, 9, seed=0)
    else:
        assert Windows(tokens, 9, seed=0).batch(0, 3)[0].shape == (3, 10)
