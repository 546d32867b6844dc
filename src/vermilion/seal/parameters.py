"""How a picture was made, in the text that A1111 writes and many tools read.

    a lighthouse in the rain
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x512, Model: sd15, Version: ...

The form has no escapes for the prompt itself: a prompt whose lines look like the other parts is
read back wrongly, here as elsewhere. The recipe as JSON stands beside it for that reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LONGEST = 1 << 20  # characters of a text that is read
_PAIR = re.compile(r'(\w[\w \-/]{0,99}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_LONGEST_LINE = 1 << 16
_NEGATIVE = "Negative prompt:"
_FEWEST = 3  # pairs that a last line has; with less it belongs to the prompt (A1111's rule)

# Names in the text, and what the parts are called here: names of diffusers where it has them.
_NAMES = {
    "Steps": "num_inference_steps",
    "Sampler": "sampler",
    "Schedule type": "scheduler",
    "CFG scale": "guidance_scale",
    "Seed": "seed",
    "Size": "size",
    "Model hash": "model_hash",
    "Model": "model",
    "Denoising strength": "strength",
    "Clip skip": "clip_skip",
    "Version": "version",
}
_WHOLE = frozenset({"num_inference_steps", "seed", "clip_skip"})
_REAL = frozenset({"guidance_scale", "strength"})
_OTHER_NAMES = {
    "num_inference_steps": ("num_inference_steps", "steps"),
    "guidance_scale": ("guidance_scale", "cfg_scale"),
    "strength": ("strength", "denoising_strength"),
}


def to_parameters(recipe: Mapping[str, Any]) -> str:
    """The text of an asset's recipe.

    Args:
        recipe: as `types.Asset.recipe` holds it: prompt (text, negative_text, seed, model,
            settings), model (name, weights), versions.

    Returns:
        The text; empty if the recipe has no prompt.
    """
    prompt = recipe.get("prompt")
    if not isinstance(prompt, Mapping):
        return ""
    settings = prompt.get("settings") or {}
    model = recipe.get("model") or {}
    values: dict[str, Any] = {
        ours: settings[name]
        for ours in _NAMES.values()
        for name in _OTHER_NAMES.get(ours, (ours,))
        if settings.get(name) is not None
    }
    if settings.get("width") is not None and settings.get("height") is not None:
        values["size"] = f"{settings['width']}x{settings['height']}"
    values["seed"] = prompt.get("seed")
    values["model"] = model.get("name") or prompt.get("model")
    values["model_hash"] = (model.get("weights") or "")[:10] or None
    values["version"] = f"vermilion {(recipe.get('versions') or {}).get('vermilion', '')}".strip()
    pairs = [
        f"{shown}: {_quoted(values[name])}"
        for shown, name in _NAMES.items()
        if values.get(name) is not None
    ]
    negative = prompt.get("negative_text") or ""
    lines = [str(prompt.get("text") or "").strip()]
    lines += [f"{_NEGATIVE} {negative.strip()}"] if negative.strip() else []
    return "\n".join([*lines, ", ".join(pairs)])


def _quoted(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if any(sign in text for sign in ',\n:"'):
        return json.dumps(text, ensure_ascii=False)
    return text


def pairs_of(line: str) -> dict[str, str]:
    """The pairs of a last line, names as they are written; quotes are taken away."""
    found: dict[str, str] = {}
    for name, value in _PAIR.findall(line[:_LONGEST_LINE]):
        value = value.strip()
        if value.startswith('"') and value.endswith('"') and len(value) > 1:
            try:
                value = str(json.loads(value))
            except ValueError:
                value = value[1:-1]
        found.setdefault(name.strip(), value)
    return found


def recognised(text: str) -> bool:
    """Whether a text has the form, so that it is not taken for somebody's comment."""
    last = text.strip()[:LONGEST].rpartition("\n")[2]
    pairs = pairs_of(last)
    return len(pairs) >= _FEWEST and ("Steps" in pairs or "Seed" in pairs)


def parse(text: str) -> dict[str, Any]:
    """Read the text.

    Args:
        text: in A1111's form; a text of other form is all prompt.

    Returns:
        `prompt` and `negative_prompt`; as far as they are said `num_inference_steps`, `sampler`,
        `scheduler`, `guidance_scale`, `seed`, `width`, `height`, `model`, `model_hash`,
        `strength`, `clip_skip`, `version`; all else under the name that it has in the text.
        Numbers are numbers, unless they cannot be read as such.
    """
    lines = text[:LONGEST].strip().split("\n")
    pairs = pairs_of(lines[-1])
    if len(pairs) < _FEWEST:
        pairs = {}
    else:
        lines.pop()
    parts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in lines:
        line = line.strip()
        if line.startswith(_NEGATIVE):
            negative, line = True, line.removeprefix(_NEGATIVE).strip()
        parts[negative].append(line)
    read: dict[str, Any] = {"prompt": "\n".join(parts[0]), "negative_prompt": "\n".join(parts[1])}
    for shown, value in pairs.items():
        name = _NAMES.get(shown, shown)
        size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value) if name == "size" else None
        if size is not None:
            read["width"], read["height"] = int(size[1]), int(size[2])
        else:
            read[name] = number(value, name)
    return read


def number(value: Any, name: str) -> Any:
    """A setting as the number that it is; what is none stays as it is."""
    if name in _WHOLE and re.fullmatch(r"-?\d{1,20}", str(value)):
        return int(value)
    if name in _REAL and re.fullmatch(r"-?\d{1,9}(\.\d{1,12})?", str(value)):
        return float(value)
    return value
