"""The plug-in door. Built-in crafts and engines come in through it too.

A package adds to Vermilion with an entry point in its pyproject.toml:

    [project.entry-points."vermilion.crafts"]
    haiku = "my_package.haiku:HaikuCraft"

Groups:
    vermilion.crafts   name of a kind → class with the interface `line.crafts.Craft`
    vermilion.engines  name of a model family → class with the interface `runtime.engines.Engine`
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vermilion.errors import NotFoundError, VermilionError

CRAFTS = "vermilion.crafts"
ENGINES = "vermilion.engines"


@cache
def names(group: str) -> tuple[str, ...]:
    """Names that are registered in a group, sorted. Nothing is imported for it."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


@cache
def resolve(group: str, name: str) -> Any:
    """Import what is registered under a name.

    Raises:
        NotFoundError: nothing is registered under that name.
        VermilionError: two packages claim the name, or its module cannot be imported.
    """
    found: list[EntryPoint] = list(entry_points(group=group, name=name))
    if not found:
        known = ", ".join(names(group)) or "none"
        raise NotFoundError(f"{group}: nothing is registered as {name!r} (there is: {known})")
    if len({point.value for point in found}) > 1:
        claims = ", ".join(sorted({point.value for point in found}))
        raise VermilionError(f"{group}: {name!r} is registered by {claims}; remove all but one")
    try:
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise VermilionError(
            f"{group}: {found[0].value} of {name!r} cannot be imported: {error}"
        ) from error
