"""The page's Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.data.pictures.making import encoded, put, smooth
from vermilion.data.pictures import buckets

PAGE = Path(__file__).parents[3] / "docs" / "pictures.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(30):
        put(tmp_path / "pictures" / f"{number}.png", encoded(smooth(20, 20, number)))
        put(tmp_path / "pictures" / f"{number}.txt", f"number {number}")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S))
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["numbers"].shape == (16, 3, 64, 64)  # type: ignore[attr-defined]
    assert names["caption"] == "number 0"


def test_the_buckets_of_the_page_are_those() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shapes = [f"{high}x{wide}" for high, wide in buckets(512)]
    assert f"{', '.join(shapes[:-1])} and {shapes[-1]}" in " ".join(text.split())
