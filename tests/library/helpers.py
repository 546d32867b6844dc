"""What the tests and the programs they start have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vermilion.library import Library
from vermilion.types import Asset


def keep(library: Library, text: str, content: bytes | None = None, /, **changes: Any) -> Asset:
    """Keep a text; its own bytes are the content, unless others are given."""
    values: dict[str, Any] = {
        "kind": "text",
        "media_type": "text/plain",
        "suffix": "txt",
        "text": text,
        "recipe": {"prompt": {"kind": "text", "text": "", "seed": 0}},
    }
    return library.keep(text.encode() if content is None else content, **(values | changes))


def pending(directory: Path) -> list[Path]:
    return sorted((directory / "files" / "pending").iterdir())


def kept_files(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / "files").glob("??/*") if path.is_file())
