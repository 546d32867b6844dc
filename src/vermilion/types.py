"""The nouns that every room shares. Frozen, plain, free of heavy imports.

A Brief becomes Prompts, a Prompt becomes a Sample, a kept Sample is an Asset, and a
search gives Hits. Everything here can be written as JSON, except a Sample's content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What a person wants.

    Attributes:
        subject: what it is about, in words; the only field that is required.
        audience: who it is for.
        tone: how it should sound, e.g. "warm".
        language: an ISO 639-1 code, "en" or "zh"; empty: read off the subject.
        style: how it should look, for kinds that are looked at.
        facts: statements that may be used; nothing else may be claimed.
        must_mention: words that the finished texts have to contain.
        recipe: name of a recipe or path of a recipe file; empty: chosen by the subject.
        counts: how many of a recipe's step to make, by step name; 0 leaves it out.
        seed: 0 <= seed < 2**63; None draws one, which is kept with the result.
        variables: further values for a recipe's templates.
    """

    subject: str
    audience: str = ""
    tone: str = ""
    language: str = ""
    style: str = ""
    facts: tuple[str, ...] = ()
    must_mention: tuple[str, ...] = ()
    recipe: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    seed: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


SMALL_MODEL = 400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a recipe: a template that becomes `count` prompts of one kind.

    Attributes:
        name: how later steps call it: `{{ name.text }}`.
        kind: what it makes, e.g. "text"; the name of a craft.
        template: Jinja2 source of the prompt's text.
        needs: names of the steps whose results the template uses.
        each: one prompt is made for each of these, known to the template as `item`; or the
            name of a list that an earlier step made, e.g. "outline.points". Empty: `count`.
        count: how many to make.
        settings: the craft's settings (see each craft).
        small: settings that take their place where the model has fewer than
            `SMALL_MODEL` parameters: a tiny model needs a tighter grammar, and a larger one
            writes better without it.
        small_requires: fields of the brief that a small model cannot do without.
        checks: name of a check and its argument; what fails them is rolled again.
        candidates: how many are drawn at once for each one kept (best of n).
        tries: how many times such a draw is made before a failing one is kept and said.
        model: name of the model that makes it; one that a person names takes its place. Empty:
            the usual one.
        rank: name of a measure (see `line.scores`) by which the best candidate is chosen;
            empty: by the craft's own score.
        optional: whether the set is made without it where its model or a part that it needs is
            not here, or does not know the language; what is left out is said.
    """

    name: str
    kind: str
    template: str
    needs: tuple[str, ...] = ()
    each: tuple[str, ...] | str = ()
    count: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    small_requires: tuple[str, ...] = ()
    checks: Mapping[str, Any] = field(default_factory=dict)
    candidates: int = 1
    tries: int = 3
    model: str = ""
    rank: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps that turn a brief into a finished set, in order.

    Attributes:
        name: file name without its ending.
        description: one line for people.
        words: words in a sentence that choose this recipe when none is named.
        asks: regular expression of the requests to `write` that this recipe answers better
            than the model alone. Its group `subject` is the brief's, `amount` is how many are
            made, and any other is a variable of the brief.
        example: such a request, for people whose own is none.
        languages: languages its templates are written for.
        steps: in an order in which every step follows those it needs.
    """

    name: str
    description: str
    steps: tuple[Step, ...]
    words: tuple[str, ...] = ()
    asks: str = ""
    example: str = ""
    languages: tuple[str, ...] = ("en",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One instruction to one model.

    Attributes:
        kind: what is to be made, e.g. "text".
        text: the instruction; for speech, the words to speak.
        model: name of the model in the store.
        seed: 0 <= seed < 2**63; with the model it decides the result.
        negative_text: what to stay away from, for models that know it.
        settings: the craft's settings, already validated, JSON values only.
    """

    kind: str
    text: str
    model: str
    seed: int
    negative_text: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How text is written. Names and meanings are those of transformers where it has them.

    Attributes:
        system: instruction that stands before the conversation.
        examples: earlier turns to follow, pairs of request and answer.
        schema: JSON schema that the answer follows.
        pattern: regular expression that the answer follows.
        grammar: Lark grammar that the answer follows; one of schema, pattern and grammar.
        render: Jinja2 source that makes words of an answer under a schema, whose fields it
            names; empty: the answer's strings, a paragraph each.
        temperature: >= 0; 0 takes the likeliest token each time.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: in (0, 1].
        min_p: in [0, 1].
        repetition_penalty: > 0; 1 changes nothing.
        presence_penalty: -2 to 2, taken off tokens that the new text has (OpenAI's).
        frequency_penalty: -2 to 2, taken off for each time it has them (OpenAI's).
        no_repeat_ngram_size: no run of that many tokens comes twice; 0: any may.
        min_new_tokens: the model does not end the text before.
        max_new_tokens: 1 to 8192.
        stop: strings that end the text; not part of it.
        stop_token_ids: tokens that end the text, besides the model's own.
        num_beams: above 1, search for the likeliest text; temperature is 0 then.
        length_penalty: of beam search; above 0 favours long texts, below 0 short ones.
        early_stopping: of beam search: True, False or "never".
        beam_rank: which text of a beam search it is: 0 for the best, 1 for the next.
        echo: where a model only goes on with a text, having no chat template, whether the
            prompt stands before what it writes.
        logprobs: tell each token's log-probability, and as many alternatives; None: neither.
        watermark: 0 to 10, added to the logits of the tokens that the key makes green; 0 hides
            nothing. A text that follows a schema, pattern or grammar has none.
    """

    system: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    schema: Mapping[str, Any] | None = None
    pattern: str = ""
    grammar: str = ""
    render: str = ""
    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 0.9
    min_p: float = 0.0
    repetition_penalty: float = 1.1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    min_new_tokens: int = 0
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    beam_rank: int = 0
    echo: bool = False
    logprobs: int | None = None
    watermark: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """How text is spoken.

    Attributes:
        voice: "heart", "emma", ...; empty: that of the model that is named.
        speed: 0.5 to 2; 1 is the voice's own pace.
        loudness: integrated, in LUFS (ITU-R BS.1770), -40 to -10; None leaves it as it is.
    """

    voice: str = ""
    speed: float = 1.0
    loudness: float | None = -16.0


SAMPLERS = (
    "ddpm",
    "ddim",
    "euler",
    "euler_ancestral",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "flow_euler",
)
"""Names of the ways from noise to a picture; `models.diffusion.samplers` has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSettings:
    """How a picture is painted. Names and meanings are those of diffusers where it has them.

    Attributes:
        width: in px, a multiple of 8, 8 to 2048; None: the model's own.
        height: likewise.
        num_inference_steps: 1 to 1000; None: the model's own.
        guidance_scale: 0 to 50, how much the prompt counts; None: the model's own.
        guidance_rescale: 0 to 1, against colours that guidance overdrives (arXiv 2305.08891).
        sampler: one of `SAMPLERS`; empty: the model's own.
        eta: 0 to 1, noise that DDIM adds on the way; 0 adds none.
        strength: 0 to 1, how far it may go from the picture that it starts from; with `blend`,
            how far it lies from the first towards the second.
        image: id of the asset that it starts from; empty: noise alone.
        mask: id of an asset of the same picture whose light parts are painted anew and whose
            dark and clear parts stay.
        blend: id of a second asset, to which the first is led over.
        loras: names of adapters and their weights, -10 to 10.
        clip_skip: 0 to 11, layers of the text encoder that are left out at its end.
        fast: whether speed counts more than the last bit of quality.
        size: longer side of the finished file in px, 16 to 4096; None: as it was painted.
        svg: whether the finished file is a drawing (SVG).
        style: a style word that the model knows.
    """

    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float = 0.0
    sampler: str = ""
    eta: float = 0.0
    strength: float = 0.75
    image: str = ""
    mask: str = ""
    blend: str = ""
    loras: tuple[tuple[str, float], ...] = ()
    clip_skip: int = 0
    fast: bool = False
    size: int | None = None
    svg: bool = False
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What a model returned, in memory.

    Attributes:
        prompt: the instruction that it answers.
        content: text; or a waveform of float32 in [-1, 1], shape (samples,) mono; or a picture,
            uint8 (H, W, 3) or (H, W, 4) with straight alpha.
        data: for structured text, the parsed JSON object.
        sample_rate: of a waveform, in Hz.
        notes: what the engine observed, JSON values only: tokens, mean log-probability,
            why it stopped, seconds.
    """

    prompt: Prompt
    content: str | NDArray[np.float32] | NDArray[np.uint8]
    data: Any = None
    sample_rate: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A kept sample: a row in the library and a file named by its SHA-256.

    Attributes:
        id: eight letters and digits; any unique beginning of it is accepted.
        kind: "text", "speech", ...
        media_type: of the file, e.g. "audio/wav".
        sha256: of the file's bytes, hexadecimal.
        size: of the file, in bytes.
        path: where the file lies.
        created_at: UTC.
        text: the words in it: the text itself, or what is spoken.
        recipe: all that is needed to make it again: prompt (kind, text, seed, model,
            settings), weights (SHA-256 of the model's files), versions, device.
        notes: what was observed while it was made: seconds, checks, scores.
        parents: ids of the assets that it was made from.
        set_id: which finished set it belongs to, if any.
        step: name of the recipe's step, and its number among that step's results.
        licence: of the model that made it, as an SPDX expression.
        rating: 1 to 5, or None.
    """

    id: str
    kind: str
    media_type: str
    sha256: str
    size: int
    path: Path
    created_at: datetime
    text: str
    recipe: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    set_id: str | None = None
    step: str | None = None
    index: int = 0
    licence: str = ""
    rating: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An asset that a search found, how well it fits (higher is better), and why."""

    asset: Asset
    score: float
    reason: str
