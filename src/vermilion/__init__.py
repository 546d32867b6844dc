"""Vermilion: one brief in, a finished set out.

    import vermilion as vm

    finished = vm.make("a launch set for a small roastery's new dark roast, warm tone")
    taglines = vm.write("Three taglines for a rainy-day bookshop", n=3)
    greeting = vm.speak("Freshly roasted this morning.", out="hello.wav")
    engine = vm.load("smollm2-135m")

Importing this loads neither torch nor a model: each name is found when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "make": "vermilion.line.run",
    "write": "vermilion.line.run",
    "speak": "vermilion.line.run",
    "remake": "vermilion.line.run",
    "load": "vermilion.line.run",
    "Line": "vermilion.line.run",
    "FinishedSet": "vermilion.line.run",
    "Library": "vermilion.library",
    "Store": "vermilion.runtime.store",
    "Asset": "vermilion.types",
    "Brief": "vermilion.types",
    "Hit": "vermilion.types",
    "Prompt": "vermilion.types",
    "Recipe": "vermilion.types",
    "Sample": "vermilion.types",
    "Step": "vermilion.types",
    "VermilionError": "vermilion.errors",
}

if TYPE_CHECKING:
    from vermilion.errors import VermilionError
    from vermilion.library import Library
    from vermilion.line.run import FinishedSet, Line, load, make, remake, speak, write
    from vermilion.runtime.store import Store
    from vermilion.types import Asset, Brief, Hit, Prompt, Recipe, Sample, Step

__all__ = [
    "Asset",
    "Brief",
    "FinishedSet",
    "Hit",
    "Library",
    "Line",
    "Prompt",
    "Recipe",
    "Sample",
    "Step",
    "Store",
    "VermilionError",
    "__version__",
    "load",
    "make",
    "remake",
    "speak",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vermilion' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
