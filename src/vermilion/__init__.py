"""Vermilion: one brief in, a finished set out.

    import vermilion as vm

    finished = vm.make("a launch set for a small roastery's new dark roast, warm tone")
    taglines = vm.write("Three taglines for a rainy-day bookshop", n=3)
    greeting = vm.speak("Freshly roasted this morning.", out="hello.wav")
    vectors = vm.embed(["rain on a tin roof", "a wet afternoon"])
    engine = vm.load("smollm2-135m")

Importing this loads neither torch nor a model: each name is found when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "checkup": "vermilion.diagnosis:look",
    "make": "vermilion.line.run",
    "write": "vermilion.line.run",
    "speak": "vermilion.line.run",
    "remake": "vermilion.line.run",
    "embed": "vermilion.line.run",
    "load": "vermilion.line.run",
    "export": "vermilion.line.keep",
    "measure": "vermilion.runtime.measure",
    "get_settings": "vermilion.settings",
    "Line": "vermilion.line.run",
    "FinishedSet": "vermilion.line.finished",
    "Watcher": "vermilion.line.finished",
    "Library": "vermilion.library",
    "Store": "vermilion.runtime.store",
    "train_lm": "vermilion.train.lm.door",
    "plan_lm": "vermilion.train.lm.door",
    "training_settings": "vermilion.train.lm.options",
    "read_settings": "vermilion.train.options",
    "parse_set": "vermilion.train.options",
    "Asset": "vermilion.types",
    "Brief": "vermilion.types",
    "Hit": "vermilion.types",
    "Prompt": "vermilion.types",
    "Recipe": "vermilion.types",
    "Sample": "vermilion.types",
    "Step": "vermilion.types",
    "InputError": "vermilion.errors",
    "VermilionError": "vermilion.errors",
}

if TYPE_CHECKING:
    from vermilion.diagnosis import look as checkup
    from vermilion.errors import InputError, VermilionError
    from vermilion.library import Library
    from vermilion.line.finished import FinishedSet, Watcher
    from vermilion.line.keep import export
    from vermilion.line.run import Line, embed, load, make, remake, speak, write
    from vermilion.runtime.measure import measure
    from vermilion.runtime.store import Store
    from vermilion.settings import get_settings
    from vermilion.train.lm.door import plan_lm, train_lm
    from vermilion.train.lm.options import training_settings
    from vermilion.train.options import parse_set, read_settings
    from vermilion.types import Asset, Brief, Hit, Prompt, Recipe, Sample, Step

__all__ = [
    "Asset",
    "Brief",
    "FinishedSet",
    "Hit",
    "InputError",
    "Library",
    "Line",
    "Prompt",
    "Recipe",
    "Sample",
    "Step",
    "Store",
    "VermilionError",
    "Watcher",
    "__version__",
    "checkup",
    "embed",
    "export",
    "get_settings",
    "load",
    "make",
    "measure",
    "parse_set",
    "plan_lm",
    "read_settings",
    "remake",
    "speak",
    "train_lm",
    "training_settings",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vermilion' has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    value = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
