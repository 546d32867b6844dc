"""How a config.json of diffusers is read into a dataclass, and written again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from reprlib import repr as shortened
from typing import Any


def known_fields(
    config: Mapping[str, Any], known: set[str], only: Mapping[str, tuple[Any, ...]]
) -> dict[str, Any]:
    """The known fields of a config.json, lists as tuples.

    Args:
        config: the parsed file.
        known: names of the fields that are kept.
        only: of others, the values with which they change nothing.

    Raises:
        ValueError: a field that is in neither, or another value; it names it.
    """
    kept = {}
    for name, value in config.items():
        if name in known:
            kept[name] = tuple(value) if isinstance(value, list) else value
        elif name in only:
            all_same = isinstance(value, list) and all(part in only[name] for part in value)
            if not all_same and value not in only[name]:
                raise ValueError(
                    f"{name}: {shortened(value)} is not supported, only {only[name][0]!r} is"
                )
        elif not name.startswith("_"):  # those say who wrote the file
            raise ValueError(f"{name}: this field is not supported")
    return kept


def written_fields(config: Any, class_name: str, left_out: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass as config.json has them, tuples as lists."""
    written: dict[str, Any] = {"_class_name": class_name}
    for field in fields(config):
        if field.name not in left_out and field.name != "architecture":
            value = getattr(config, field.name)
            written[field.name] = list(value) if isinstance(value, tuple) else value
    return written


def check_sizes(name: str, value: Any) -> None:
    """Raise ValueError unless it is a whole number above 0, or some."""
    values = value if isinstance(value, tuple) else (value,)
    for size in values or (None,):
        if type(size) is not int or not 0 < size < 2**24:
            raise ValueError(f"{name}: must be a whole number above 0 (found {shortened(value)})")


def check_choice(name: str, value: Any, known: tuple[Any, ...]) -> None:
    """Raise ValueError unless it is one of those known."""
    if value not in known:
        words = ", ".join(map(str, known))
        raise ValueError(f"{name}: {shortened(value)} is not supported; known are {words}")


def check_dropout(value: Any) -> None:
    """Raise ValueError unless it is a probability below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"dropout: must be from 0 to below 1 (found {shortened(value)})")
