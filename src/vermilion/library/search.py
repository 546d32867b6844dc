"""Full-text search over what an asset says and over the prompt that asked for it.

FTS5 splits text at spaces and signs, but Chinese, Japanese, Korean, Thai, Lao, Burmese and
Khmer run on without them. A dictionary would have to be shipped and would miss names; the
trigram tokenizer finds nothing shorter than three characters, and most Chinese words have two.
So each character of these scripts becomes a word of its own, by an invisible space around it,
and a word of a query becomes a phrase of such characters: 咖啡 is found wherever 咖 is followed
by 啡, and 茶 is found too. Text and query go through the same function, which also brings
full-width forms and the like to one form (NFKC). The tokenizer folds case and accents.

The index is written in the transaction that writes the row. It keeps the words it was made of:
an index that does not has to be told them again to forget them, and a later version of
`spread` would tell it others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    table,
)

from vermilion.errors import InputError
from vermilion.library.db import asset
from vermilion.library.rows import ASSETS, storable

_WORDS = table("asset_words", column("rowid"), column("text"), column("prompt"))
_INDEX: ColumnElement[Any] = literal_column(
    "asset_words"
)  # how FTS5's functions want the table named
_TEXT_WEIGHT, _PROMPT_WEIGHT = 1.0, 0.5

_GLUE = "\u200b"
_OPEN, _CLOSE = "\x02", "\x03"
_MARKED = re.compile(f"{_OPEN}(.*?){_CLOSE}", re.DOTALL)
_UNUSABLE = str.maketrans("", "", f"\x00{_OPEN}{_CLOSE}")  # FTS5 stops reading at NUL
_MOST_QUOTED = 3

_UNSPACED = re.compile(
    "(["
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
    "\uac00-\ud7af"  # Korean
    "])"
)


def spread(text: str) -> str:
    """Text as it is indexed: in one form (NFKC), unspaced scripts one character a word."""
    usable = text.translate(_UNUSABLE)
    return _UNSPACED.sub(rf"{_GLUE}\1{_GLUE}", unicodedata.normalize("NFKC", usable))


def index(connection: Connection, number: int, text: str, recipe: Mapping[str, Any]) -> None:
    """Make an asset findable by its text and its prompt's text."""
    prompt = recipe.get("prompt")
    asked = prompt.get("text") if isinstance(prompt, Mapping) else None
    values = {
        "rowid": number,
        "text": spread(text),
        "prompt": spread(asked) if isinstance(asked, str) else "",
    }
    connection.execute(insert(_WORDS).values(values))


def forget(connection: Connection, number: int) -> None:
    """Take an asset out of the index."""
    connection.execute(delete(_WORDS).where(_WORDS.c.rowid == number))


def find(
    connection: Connection, query: str, kind: str | None, limit: int
) -> Iterator[tuple[RowMapping, float, str]]:
    """Assets that contain every word of a query, the best first.

    Yields:
        A row of `ASSETS`, its score (BM25, more than 0, higher is better), and the reason.

    Raises:
        InputError: the query is empty.
    """
    expression = _expression(query)
    if not expression:
        return
    matches = _INDEX.op("MATCH")(expression)
    cost = func.bm25(_INDEX, _TEXT_WEIGHT, _PROMPT_WEIGHT).label("cost")
    best = (
        select(_WORDS.c.rowid, cost)
        .join(asset, asset.c.number == _WORDS.c.rowid)
        .where(matches)
        .order_by(cost, asset.c.number.desc())
        .limit(limit)
    )
    if kind is not None:
        best = best.where(asset.c.kind == storable("kind", kind))
    top = best.subquery("top")
    # Marking reads whole texts: it is done for the few that are shown, not for all that match.
    marked = [func.highlight(_INDEX, i, _OPEN, _CLOSE).label(f"marked_{i}") for i in (0, 1)]
    rows = connection.execute(
        ASSETS.add_columns(top.c.cost, *marked)
        .join(top, top.c.rowid == asset.c.number)
        .join(_WORDS, _WORDS.c.rowid == asset.c.number)
        .where(matches)
        .order_by(top.c.cost, asset.c.number.desc())
    )
    for row in rows.mappings():
        yield row, -row["cost"], _reason(row["marked_0"], row["marked_1"])


def _expression(query: str) -> str:
    """A query in FTS5's language, in which quoted words have no special meaning."""
    if not query.strip():
        raise InputError("query: is empty; write the words to look for")
    # A command line may hand over bytes that were no UTF-8 as halves of pairs.
    readable = query.encode(errors="replace").decode()
    # NFKC turns other quotation marks into this one, so it is taken out last.
    parts = spread(readable).replace('"', " ").split()
    words = [f'"{part}"' for part in parts if any(map(str.isalnum, part))]
    return " ".join(words) + " *" if words else ""


def _reason(text: str, prompt: str) -> str:
    reasons = []
    said: set[str] = set()
    for field, marked in (("text", text), ("prompt", prompt)):
        found: dict[str, str] = {}
        for fragment in _MARKED.findall(marked):
            word = fragment.replace(_GLUE, "")
            found.setdefault(word.casefold(), word)
        words = [f'"{word}"' for key, word in found.items() if key not in said]
        if words:
            reasons.append(f"{field} contains {', '.join(words[:_MOST_QUOTED])}")
        said.update(found)
    return " and ".join(reasons)
