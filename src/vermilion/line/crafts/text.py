"""The craft of text: structured answers become words, and nothing ends mid-sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from vermilion.errors import InputError
from vermilion.line.checks import Scene, failures
from vermilion.line.crafts import Encoded
from vermilion.line.reading import checked
from vermilion.line.template import compile_template, render
from vermilion.settings import Settings
from vermilion.types import Sample, TextSettings

_LAST_END = re.compile(r"^.*[.!?。！？…][\"”’')\]]*", re.DOTALL)


class TextCraft:
    """Makes text files of what language models answer."""

    def settings(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See `Craft.settings`; the fields are those of `TextSettings`."""
        settings = checked(TextSettings, dict(values), where)
        if settings.num_beams > 1 and "temperature" not in values:
            settings = replace(settings, temperature=0.0)
        bounds = {
            "temperature": (settings.temperature, 0, 10),
            "top_k": (settings.top_k, 0, 10**6),
            "top_p": (settings.top_p, 1e-6, 1),
            "min_p": (settings.min_p, 0, 1),
            "repetition_penalty": (settings.repetition_penalty, 0.01, 10),
            "presence_penalty": (settings.presence_penalty, -2, 2),
            "frequency_penalty": (settings.frequency_penalty, -2, 2),
            "no_repeat_ngram_size": (settings.no_repeat_ngram_size, 0, 1000),
            "min_new_tokens": (settings.min_new_tokens, 0, settings.max_new_tokens),
            "max_new_tokens": (settings.max_new_tokens, 1, 8192),
            "num_beams": (settings.num_beams, 1, 64),
            "beam_rank": (settings.beam_rank, 0, settings.num_beams - 1),
            "length_penalty": (settings.length_penalty, -10, 10),
            "logprobs": (settings.logprobs or 0, 0, 20),
            "watermark": (settings.watermark, 0, 10),
        }
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:
                raise InputError(f"{where}.{name} must be {least} to {most} (found {value})")
        led = [settings.schema is not None, settings.pattern != "", settings.grammar != ""]
        if sum(led) > 1:
            raise InputError(
                f"{where}: schema, pattern and grammar exclude one another; keep one of them"
            )
        if "" in settings.stop:
            raise InputError(f"{where}.stop: a stop string is empty; leave it out")
        if min(settings.stop_token_ids, default=0) < 0:
            raise InputError(f"{where}.stop_token_ids: a token's number is 0 or more")
        if settings.num_beams > 1:
            _check_beams(settings, any(led), where)
        if settings.render:
            compile_template(settings.render, f"{where}.render")
        return asdict(settings)

    def each(self, values: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
        """See `Craft.each`; a beam search gives its `n` best texts."""
        beams, first = values["num_beams"], values["beam_rank"]
        if beams == 1:
            return [dict(values) for _ in range(n)]
        if first + n > beams:
            raise InputError(
                f"n: a search with {beams} beams finds {beams} texts; lower n,"
                f" or raise num_beams to {first + n}"
            )
        return [{**values, "beam_rank": first + i} for i in range(n)]

    def model(self, values: Mapping[str, Any], settings: Settings) -> str:
        """See `Craft.model`."""
        return settings.text_model

    def finish(self, sample: Sample) -> Sample:
        """Parse a structured answer and put it into words; cut an unfinished last sentence.

        The sample's note "whole" tells whether the text ends where it should. A prompt that
        stands before the text (note "echo") is left as it is.
        """
        settings = TextSettings(**sample.prompt.settings)
        if sample.notes.get("echo"):
            return _continued(sample)
        text = str(sample.content).strip()
        cut = sample.notes.get("finish") == "length"
        if settings.schema is not None:
            return _structured(sample, text, settings.render)
        whole = not cut or settings.pattern != "" or settings.grammar != ""
        if cut:
            text, whole = _whole_sentences(text)
        notes = {**sample.notes, "whole": whole and text != ""}
        return replace(sample, content=text, notes=notes)

    def failures(self, sample: Sample, checks: Mapping[str, Any], scene: Scene) -> Sequence[str]:
        """See `Craft.failures`."""
        if not sample.notes.get("whole", True):
            return ("is cut off",)
        return failures(str(sample.content), checks, scene)

    def score(self, sample: Sample) -> float:
        """The mean log-probability of its tokens: what the model itself finds likeliest."""
        return float(sample.notes["logprob"])

    def text(self, sample: Sample) -> str:
        """See `Craft.text`."""
        return str(sample.content)

    def encode(self, sample: Sample) -> Encoded:
        """A UTF-8 text file that ends with a new line."""
        text = self.text(sample)
        content = (text.rstrip() + "\n").encode()
        return Encoded(content=content, media_type="text/plain", suffix="txt", text=text)


def _whole_sentences(text: str) -> tuple[str, bool]:
    """A text that the limit cut off, up to its last end of a sentence, and whether it has one."""
    last = _LAST_END.match(text)
    return (last[0], True) if last else (text, False)


def _continued(sample: Sample) -> Sample:
    """A prompt and what a model went on with, which decides whether the text is whole."""
    prompt = sample.prompt.text
    added, whole = str(sample.content).removeprefix(prompt), True
    if sample.notes.get("finish") == "length":
        added, whole = _whole_sentences(added)
    notes = {**sample.notes, "whole": whole and added.strip() != ""}
    return replace(sample, content=(prompt + added).strip(), notes=notes)


def _check_beams(settings: TextSettings, led: bool, where: str) -> None:
    place = f"{where}.num_beams: beam search"
    if settings.temperature > 0:
        raise InputError(f"{place} takes no chances; leave temperature out, or set it to 0")
    if led:
        raise InputError(f"{place} follows no schema, pattern or grammar; set it to 1")
    if settings.logprobs:
        raise InputError(f"{place} tells no alternatives; set logprobs to 0, or num_beams to 1")


def _structured(sample: Sample, text: str, source: str) -> Sample:
    try:
        data = json.loads(text)
    except json.JSONDecodeError:  # the answer was longer than max_new_tokens
        return replace(sample, content=text, notes={**sample.notes, "whole": False})
    if source:
        values = data if isinstance(data, dict) else {"answer": data}
        words = render(source, values, "settings.render")
    else:
        words = "\n\n".join(_strings(data))
    return replace(sample, content=words, data=data, notes={**sample.notes, "whole": True})


def _strings(data: Any) -> list[str]:
    if isinstance(data, dict):
        return [text for value in data.values() for text in _strings(value)]
    if isinstance(data, list):
        return [text for value in data for text in _strings(value)]
    return [str(data)]
