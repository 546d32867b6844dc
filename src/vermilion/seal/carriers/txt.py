"""Plain text, which has no place for a label: the credential beside the file holds it.

Texts that Vermilion sealed at first end with it instead, as {"AIGC":{...},"VERMILION":{...}};
that last line is still read, and taken out when the file is sealed anew.
"""

from __future__ import annotations

from vermilion.errors import InputError
from vermilion.seal.carriers import words
from vermilion.seal.labels import Statement


def write(content: bytes, statement: Statement) -> bytes:
    """The text without a statement that stood in it.

    Raises:
        InputError: the text is not UTF-8, or there is something to state.
    """
    if statement != Statement():
        raise InputError("file: a .txt holds no label; the credential beside it does")
    return without(content)


def read(content: bytes) -> Statement:
    """What the text's last line says about it, as it did before labels stood beside the file.

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
