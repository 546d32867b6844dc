"""Plain text: the label as the last line, {"AIGC":{...},"VERMILION":{...}}."""

from __future__ import annotations

from vermilion.seal.carriers import words
from vermilion.seal.labels import Statement


def write(content: bytes, statement: Statement) -> bytes:
    """The text with this statement as its last line, instead of any that stood there.

    Raises:
        InputError: the text is not UTF-8, or a part of the statement cannot be written.
    """
    mark, text = words.text_of(without(content))
    said = ",".join(f'"{name}":{value}' for name, value in words.members(statement).items())
    if not said:
        return (mark + text).encode()
    newline = words.newline_of(text)
    between = "" if not text or text.endswith("\n") else newline
    return f"{mark}{text}{between}{{{said}}}{newline}".encode()


def read(content: bytes) -> Statement:
    """What the text's last line says about it.

    Raises:
        InputError: the text is not UTF-8, or its label is damaged.
    """
    _, text = words.text_of(content)
    start, line = _last_line(text)
    if not line:
        return Statement()
    if _last_line(text[:start])[1]:
        words.twice("AIGC")
    found = words.from_json(line)
    return words.statement_of(found if isinstance(found, dict) else {})


def without(content: bytes) -> bytes:
    """The text without its label.

    Raises:
        InputError: the text is not UTF-8, or has too many labels.
    """
    mark, text = words.text_of(content)
    start, line = _last_line(text)
    taken = 0
    while line:
        taken += 1
        words.few(taken)
        text = text[:start]
        start, line = _last_line(text)
    return (mark + text).encode()


def _last_line(text: str) -> tuple[int, str]:
    """Where the last line that is not empty begins, and the line; empty where it is no label."""
    stripped = text.rstrip()
    start = max(stripped.rfind("\n"), stripped.rfind("\r")) + 1
    line = stripped[start:]
    ours = line.startswith(tuple(f'{{"{name}":' for name in words.OURS)) and line.endswith("}")
    return start, line if ours else ""
