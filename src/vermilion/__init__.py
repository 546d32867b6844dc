"""Vermilion: one brief in, a finished set out.

    import vermilion as vm

    finished = vm.make("a launch set for a small roastery's new dark roast, warm tone")
    taglines = vm.write("Three taglines for a rainy-day bookshop", n=3)
    greeting = vm.speak("Freshly roasted this morning.", out="hello.wav")
    (fox,) = vm.paint("a red fox", out="fox.png")
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
    "make": "vermilion.line.default",
    "write": "vermilion.line.default",
    "speak": "vermilion.line.default",
    "paint": "vermilion.line.default",
    "PaintTarget": "vermilion.line.painted:Target",
    "remake": "vermilion.line.default",
    "embed": "vermilion.line.default",
    "embed_pictures": "vermilion.line.default",
    "embed_mixed": "vermilion.line.default",
    "find": "vermilion.line.default",
    "find_by_meaning": "vermilion.line.finding:find",
    "index_pictures": "vermilion.line.finding",
    "is_picture": "vermilion.line.sight",
    "look": "vermilion.line.labels",
    "load": "vermilion.line.default",
    "add": "vermilion.line.default",
    "export": "vermilion.line.default",
    "seal_copy": "vermilion.line.default",
    "verify": "vermilion.line.default",
    "export_asset": "vermilion.line.release:export",
    "verify_file": "vermilion.line.verify",
    "sealer_of": "vermilion.line.verify",
    "index_training_set": "vermilion.line.known",
    "files_in": "vermilion.line.verify",
    "hidden_words": "vermilion.line.verify",
    "add_file": "vermilion.line.files",
    "seal_file": "vermilion.line.files",
    "SealOptions": "vermilion.seal.order",
    "Sealer": "vermilion.seal.seal",
    "measure": "vermilion.runtime.measure",
    "get_settings": "vermilion.settings",
    "Line": "vermilion.line.run",
    "FinishedSet": "vermilion.line.finished",
    "Watcher": "vermilion.line.finished",
    "Library": "vermilion.library",
    "Store": "vermilion.runtime.store",
    "train_lm": "vermilion.train.lm.door",
    "plan_lm": "vermilion.train.lm.door",
    "train_diffusion": "vermilion.train.diffusion.door",
    "plan_diffusion": "vermilion.train.diffusion.door",
    "diffusion_settings": "vermilion.train.diffusion.options",
    "train_clip": "vermilion.train.contrast.door",
    "train_simclr": "vermilion.train.contrast.door",
    "train_student": "vermilion.train.contrast.door",
    "plan_clip": "vermilion.train.contrast.door",
    "plan_simclr": "vermilion.train.contrast.door",
    "contrast_settings": "vermilion.train.contrast.options",
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
    from vermilion.line.default import (
        add,
        embed,
        embed_mixed,
        embed_pictures,
        export,
        find,
        load,
        make,
        paint,
        remake,
        seal_copy,
        speak,
        verify,
        write,
    )
    from vermilion.line.files import add_file, seal_file
    from vermilion.line.finding import find as find_by_meaning
    from vermilion.line.finding import index_pictures
    from vermilion.line.finished import FinishedSet, Watcher
    from vermilion.line.known import index_training_set
    from vermilion.line.labels import look
    from vermilion.line.painted import Target as PaintTarget
    from vermilion.line.release import export as export_asset
    from vermilion.line.run import Line
    from vermilion.line.sight import is_picture
    from vermilion.line.verify import files_in, hidden_words, sealer_of, verify_file
    from vermilion.runtime.measure import measure
    from vermilion.runtime.store import Store
    from vermilion.seal.order import SealOptions
    from vermilion.seal.seal import Sealer
    from vermilion.settings import get_settings
    from vermilion.train.contrast.door import (
        plan_clip,
        plan_simclr,
        train_clip,
        train_simclr,
        train_student,
    )
    from vermilion.train.contrast.options import contrast_settings
    from vermilion.train.diffusion.door import plan_diffusion, train_diffusion
    from vermilion.train.diffusion.options import diffusion_settings
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
    "PaintTarget",
    "Prompt",
    "Recipe",
    "Sample",
    "SealOptions",
    "Sealer",
    "Step",
    "Store",
    "VermilionError",
    "Watcher",
    "__version__",
    "add",
    "add_file",
    "checkup",
    "contrast_settings",
    "diffusion_settings",
    "embed",
    "embed_mixed",
    "embed_pictures",
    "export",
    "export_asset",
    "files_in",
    "find",
    "find_by_meaning",
    "get_settings",
    "hidden_words",
    "index_pictures",
    "index_training_set",
    "is_picture",
    "load",
    "look",
    "make",
    "measure",
    "paint",
    "parse_set",
    "plan_clip",
    "plan_diffusion",
    "plan_lm",
    "plan_simclr",
    "read_settings",
    "remake",
    "seal_copy",
    "seal_file",
    "sealer_of",
    "speak",
    "train_clip",
    "train_diffusion",
    "train_lm",
    "train_simclr",
    "train_student",
    "training_settings",
    "verify",
    "verify_file",
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
