"""How other tools say that a picture was made: their keys read as one kind of recipe.

| tool | where it writes | what |
| --- | --- | --- |
| A1111, Forge, SD.Next | PNG `parameters`, EXIF UserComment, GIF comment | a text |
| ComfyUI | PNG `prompt` and `workflow`, EXIF of WebP, tags of films | graphs as JSON |
| InvokeAI | PNG `invokeai_metadata`; before 3 `sd-metadata`, before 2 `Dream` | JSON; a command |
| Fooocus | PNG `parameters` and `fooocus_scheme`, EXIF | JSON, or A1111's text |

What they say is not trusted: lengths are limited, and what cannot be read is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vermilion.seal import carriers, graphs, parameters
from vermilion.seal.formats import Format
from vermilion.seal.labels import Statement

LONGEST = 8 << 20  # characters of a key that is read
_LONGEST_TEXT = 100_000
_LARGEST = 1 << 64  # of numbers that are taken
_FOOOCUS = {
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "sampler": "sampler",
    "scheduler": "scheduler",
    "base_model_hash": "model_hash",
    "clip_skip": "clip_skip",
    "performance": "performance",
    "sharpness": "sharpness",
    "styles": "styles",
    "version": "version",
}
_INVOKE = {
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "scheduler": "scheduler",
    "width": "width",
    "height": "height",
    "strength": "strength",
    "clip_skip": "clip_skip",
    "app_version": "version",
}
_DREAM = {
    "s": "num_inference_steps",
    "S": "seed",
    "W": "width",
    "H": "height",
    "C": "guidance_scale",
    "A": "sampler",
    "f": "strength",
}
_DREAM_SHAPE = re.compile(r'\s*"((?:\\.|[^"\\])*)"(.*)', re.DOTALL)
_DREAM_OPTION = re.compile(r"(?:^|\s)-([A-Za-z])\s*([^\s-]\S{0,63})")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRecipe:
    """How another tool made a picture, as far as the picture says it.

    Attributes:
        tool: "A1111", "ComfyUI", "InvokeAI" or "Fooocus".
        prompt: what was asked for; empty: not found.
        negative_prompt: what to stay away from.
        model: the file or name of the model; empty: not said.
        seed: None: not said.
        settings: names of diffusers where it has them, as `parameters.parse` gives them.
        raw: the keys as they stand in the file, name to text.
    """

    tool: str
    prompt: str = ""
    negative_prompt: str = ""
    model: str = ""
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, str] = field(default_factory=dict)


def read(content: bytes, form: Format) -> ForeignRecipe | None:
    """How another tool made a file.

    Args:
        content: the file.
        form: its format.

    Returns:
        What the first key says that has a prompt, or else the first; None: there is no such key,
        or what there is is ours.

    Raises:
        InputError: the file is damaged.
    """
    return of(carriers.read(content, form))


def of(statement: Statement) -> ForeignRecipe | None:
    """The same for a file that was read already."""
    raw = dict(statement.foreign)
    # Where our own recipe stands, the parameters are a rendering of it.
    if statement.parameters and not statement.recipe:
        raw["parameters"] = statement.parameters
    found = [
        read_key(raw)
        for key, read_key in _READERS.items()
        if key in raw and len(raw[key]) <= LONGEST
    ]
    told = [recipe for recipe in found if recipe is not None]
    return next((recipe for recipe in told if recipe.prompt), told[0] if told else None)


def _recipe(tool: str, raw: Mapping[str, str], values: Mapping[str, Any]) -> ForeignRecipe:
    """A recipe of values under our names, of which only those are taken that are what they say."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        value = parameters.number(value, name)
        if isinstance(value, str) and value:
            settings[name] = value[:_LONGEST_TEXT]
        elif isinstance(value, int | float) and abs(value) < _LARGEST:
            settings[name] = value
    seed = settings.pop("seed", None)
    texts = {name: _text(settings.pop(name, "")) for name in ("prompt", "negative_prompt", "model")}
    return ForeignRecipe(
        tool=tool,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        settings=settings,
        raw=raw,
        **texts,
    )


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _json(words: str) -> Mapping[str, Any]:
    """A JSON object; empty: it is none."""
    try:
        value = json.loads(words)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _renamed(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: value[theirs] for theirs, ours in names.items() if theirs in value}


def _comfy(raw: Mapping[str, str]) -> ForeignRecipe:
    graph = graphs.from_prompt(_json(raw.get("prompt", "")))
    node = graphs.sampler_of(graph)
    if node is None:
        graph = graphs.from_workflow(_json(raw.get("workflow", "")))
        node = graphs.sampler_of(graph)
    if node is None:
        return ForeignRecipe(tool="ComfyUI", raw=raw)

    def get(*names: str, ways: tuple[str, ...]) -> Any:
        return graphs.setting(graph, node, names, ways)

    values = {
        "prompt": graphs.words(graph, node, "positive"),
        "negative_prompt": graphs.words(graph, node, "negative"),
        "seed": get("seed", "noise_seed", ways=("seed", "noise_seed", "noise")),
        "num_inference_steps": get("steps", ways=("steps", "sigmas")),
        "guidance_scale": get("cfg", "guidance", ways=("cfg", "guider", "positive")),
        "sampler": get("sampler_name", ways=("sampler",)),
        "scheduler": get("scheduler", ways=("sigmas",)),
        "strength": get("denoise", ways=("sigmas",)),
        "model": get("ckpt_name", "unet_name", "model_name", ways=("model", "guider")),
        "width": get("width", ways=("latent_image",)),
        "height": get("height", ways=("latent_image",)),
    }
    return _recipe("ComfyUI", raw, values)


def _invoke(raw: Mapping[str, str]) -> ForeignRecipe:
    said = _json(raw["invokeai_metadata"])
    model = said.get("model")
    values = _renamed(said, _INVOKE) | {
        "prompt": said.get("positive_prompt") or said.get("positive_conditioning"),
        "negative_prompt": said.get("negative_prompt") or said.get("negative_conditioning"),
        "seed": said.get("seed"),
    }
    if isinstance(model, Mapping):
        values["model"] = model.get("name") or model.get("model_name")
        values["model_hash"] = model.get("hash")
    return _recipe("InvokeAI", raw, values)


def _old_invoke(raw: Mapping[str, str]) -> ForeignRecipe:
    said = _json(raw["sd-metadata"])
    image = said.get("image")
    image = image if isinstance(image, Mapping) else {}
    prompt = image.get("prompt")
    if isinstance(prompt, list):
        parts = [part.get("prompt") for part in prompt[:100] if isinstance(part, Mapping)]
        prompt = " ".join(part for part in parts if isinstance(part, str))
    values = _renamed(image, _INVOKE) | _split(_text(prompt))
    values |= {"seed": image.get("seed"), "sampler": image.get("sampler")}
    values |= {"model": said.get("model_weights"), "model_hash": said.get("model_hash")}
    return _recipe("InvokeAI", raw, values | {"version": said.get("app_version")})


def _dream(raw: Mapping[str, str]) -> ForeignRecipe:
    shape = _DREAM_SHAPE.fullmatch(raw["Dream"][:_LONGEST_TEXT])
    if shape is None:
        return ForeignRecipe(tool="InvokeAI", raw=raw)
    values = _split(shape[1].replace('\\"', '"'))
    for option, value in _DREAM_OPTION.findall(shape[2]):
        if option in _DREAM:
            name = _DREAM[option]
            whole = name in ("width", "height") and value.isdecimal() and len(value) < 7
            values[name] = int(value) if whole else value
    return _recipe("InvokeAI", raw, values)


def _split(prompt: str) -> dict[str, Any]:
    """InvokeAI's old prompts: what stands in brackets is negative."""
    return {
        "prompt": " ".join(_BRACKETS.sub(" ", prompt).split()),
        "negative_prompt": ", ".join(part.strip() for part in _BRACKETS.findall(prompt)),
    }


def _parameters(raw: Mapping[str, str]) -> ForeignRecipe:
    words = raw["parameters"]
    said = _json(words) if words.lstrip().startswith("{") else {}
    if "base_model" not in said:
        tool = "Fooocus" if "fooocus_scheme" in raw else "A1111"
        return _recipe(tool, raw, parameters.parse(words))
    values = _renamed(said, _FOOOCUS) | {
        "prompt": said.get("prompt"),
        "negative_prompt": said.get("negative_prompt"),
        "seed": parameters.number(said.get("seed"), "seed"),
        "model": said.get("base_model"),
    }
    size = re.fullmatch(r"\((\d{1,6}), (\d{1,6})\)", str(said.get("resolution", ""))[:20])
    if size is not None:
        values |= {"width": int(size[1]), "height": int(size[2])}
    return _recipe("Fooocus", raw, values)


# In this order: the keys that say most come first.
_READERS: Mapping[str, Callable[[Mapping[str, str]], ForeignRecipe]] = {
    "invokeai_metadata": _invoke,
    "prompt": _comfy,
    "workflow": _comfy,
    "parameters": _parameters,
    "sd-metadata": _old_invoke,
    "Dream": _dream,
}
