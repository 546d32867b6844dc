"""Prompts as people write them: words that count more or less, and more words than fit.

    a (red) fox        "red" counts 1.1 times as much; ((red)) 1.1 * 1.1 times
    a [red] fox        1 / 1.1 times
    a (red fox:1.3)    1.3 times
    \\( \\) \\[ \\] \\\\     the signs themselves
    BREAK              what follows begins a new chunk of its own

This is the notation of AUTOMATIC1111's stable-diffusion-webui, read anew here: a bracket that is
not closed ends with the text, a closing one without its opening is a sign like others.

What a weight w does to a token's vector z is the rule of compel (for w > 1) and of ComfyUI (for
every w): it is moved away from or towards the vector z_0 that stands in its place when the prompt
is empty,

    z' = z_0 + w (z - z_0)                                                                  (1)

which changes nothing at w = 1, makes the word disappear at w = 0, and works for every text tower.
The webui scales z itself and then the whole chunk, so that its mean stays; that is a division by
a number that is near 0 for many towers, and it lets one prompt's weights change its other words.

A tower reads a fixed number of tokens, 77 of which two are ends in CLIP. A longer prompt is cut
into chunks that are read one by one and laid one behind the other: attention sees them all.

N items, T tokens, L tokens of a chunk, D features.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vermilion.errors import InputError

STEP = 1.1  # what a pair of brackets is worth
MOST = 10.0  # a larger weight is a mistake: far below it no picture is left
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_PARTS = re.compile(
    rf"\\(?P<escaped>[()\[\]\\])|(?P<open>[(\[])|:\s*(?P<weight>{_NUMBER})\s*\)|(?P<close>[)\]])"
    r"|(?P<words>[^()\[\]\\:]+|.)",
    re.DOTALL,
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_CLOSED_BY = {"(": ")", "[": "]"}
# How many tokens back from a chunk's end a comma is looked for, as the webui does it.
_BACK = 20


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a prompt.

    Attributes:
        text: its words.
        weight: how much they count; 1 as they are.
        breaks: whether a new chunk begins before it.
    """

    text: str
    weight: float = 1.0
    breaks: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a tower reads at once.

    Attributes:
        ids: (L,) tokens, ends and padding included.
        weights: (L,) how much each counts; 1 for ends and padding.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """How a tower wants its tokens.

    Attributes:
        length: L, of a chunk.
        bos: token that begins one.
        eos: token that ends one.
        pad: token that fills one up.
        comma: token of a comma, before which a long prompt is cut rather than elsewhere; None:
            it is cut where it is full.
    """

    length: int
    bos: int
    eos: int
    pad: int
    comma: int | None = None


def parse(text: str) -> tuple[Span, ...]:
    """Read a prompt's weights.

    Returns:
        Its spans in order; neighbours of one weight are one span. At least one.

    Raises:
        InputError: a weight is beyond -10 to 10.
    """
    pieces: list[tuple[str, float]] = []
    opened: list[tuple[str, int]] = []  # a bracket, and the number of the first piece in it

    def close(factor: float) -> None:
        _, first = opened.pop()
        pieces[first:] = [(words, weight * factor) for words, weight in pieces[first:]]

    for part in _PARTS.finditer(text):
        last = opened[-1][0] if opened else ""
        if part["open"]:
            opened.append((part["open"], len(pieces)))
        elif part["weight"] and last == "(":
            close(float(part["weight"]))
        elif part["close"] and part["close"] == _CLOSED_BY.get(last):
            close(STEP if last == "(" else 1 / STEP)
        else:
            pieces.append((part["escaped"] or part[0], 1.0))
    while opened:
        close(STEP if opened[-1][0] == "(" else 1 / STEP)
    strange = next((weight for _, weight in pieces if abs(weight) > MOST), None)
    if strange is not None:
        raise InputError(f"prompt: the weight {strange:g} is beyond {-MOST:g} to {MOST:g}")
    return _joined(pieces)


def _joined(pieces: Sequence[tuple[str, float]]) -> tuple[Span, ...]:
    """Spans of what was read, cut at BREAK."""
    runs: list[tuple[str, float]] = []
    for words, weight in pieces:
        if runs and runs[-1][1] == weight:
            runs[-1] = runs[-1][0] + words, weight
        else:
            runs.append((words, weight))
    spans: list[Span] = []
    for words, weight in runs:
        first, *others = _BREAK.split(words)
        # Nothing before BREAK is no span of its own, but for a prompt that is empty.
        if first or not others:
            spans.append(Span(first, weight))
        spans += [Span(other, weight, breaks=True) for other in others]
    return tuple(spans) or (Span(""),)


def is_plain(text: str) -> bool:
    """Whether a prompt has no weight and no BREAK: its spans are the text as it stands."""
    return parse(text) == (Span(text),)


def chunks(text: str, tokenize: Callable[[str], Sequence[int]], ends: Ends) -> tuple[Chunk, ...]:
    """Cut a prompt into what a tower reads at once.

    Args:
        text: the prompt.
        tokenize: gives a text's tokens without ends.
        ends: how the tower wants them.

    Returns:
        At least one chunk. A prompt without weights that fits gives the one that the plain
        tokenizer gives.

    Raises:
        InputError: a weight is beyond -10 to 10.
    """
    room = ends.length - 2
    done: list[Chunk] = []
    open_: list[tuple[int, float]] = []
    for span in parse(text):
        if span.breaks:
            done.append(_filled(open_, ends))
            open_ = []
        open_ += [(token, span.weight) for token in tokenize(span.text)]
        while len(open_) > room:
            cut = _cut(open_, room, ends.comma)
            done.append(_filled(open_[:cut], ends))
            open_ = open_[cut:]
    return (*done, _filled(open_, ends)) if open_ or not done else tuple(done)


def _cut(tokens: Sequence[tuple[int, float]], room: int, comma: int | None) -> int:
    """How many of the tokens a full chunk takes: up to a comma near its end, if there is one."""
    for place in range(room, max(room - _BACK, 0), -1):
        if comma is not None and tokens[place - 1][0] == comma:
            return place
    return room


def _filled(tokens: Sequence[tuple[int, float]], ends: Ends) -> Chunk:
    padding = ends.length - 2 - len(tokens)
    return Chunk(
        ids=(ends.bos, *(token for token, _ in tokens), ends.eos, *(ends.pad,) * padding),
        weights=(1.0, *(weight for _, weight in tokens), 1.0, *(1.0,) * padding),
    )


def encode(
    texts: Sequence[str],
    tokenize: Callable[[str], Sequence[int]],
    hidden: Callable[[Tensor], Tensor],
    ends: Ends,
    *,
    least: int = 1,
) -> Tensor:
    """Vectors of prompts, for cross-attention.

    Args:
        texts: N prompts.
        tokenize: gives a text's tokens without ends.
        hidden: the tower, (M, L) int64 → (M, L, D).
        ends: how the tower wants its tokens.
        least: chunks that each gets at least; shorter prompts are filled up with empty ones, so
            that a condition and its negative have the same length.

    Returns:
        (N, T, D), T = L times the chunks of the longest.

    Raises:
        InputError: a weight is beyond -10 to 10.
    """
    cut = [chunks(text, tokenize, ends) for text in texts]
    empty = _filled((), ends)
    most = max(least, *map(len, cut))
    rows = [chunk for one in cut for chunk in (*one, *(empty,) * (most - len(one)))]
    # A tower reads each distinct chunk once: an empty negative prompt is in every batch.
    distinct = list(dict.fromkeys(chunk.ids for chunk in (*rows, empty)))
    place = {ids: number for number, ids in enumerate(distinct)}
    vectors = hidden(torch.tensor(distinct))  # (M, L, D)
    z = vectors[[place[chunk.ids] for chunk in rows]]  # (N * chunks, L, D)
    z = weighted(z, vectors[place[empty.ids]], [chunk.weights for chunk in rows])
    return z.reshape(len(texts), -1, z.shape[-1])  # (N, T, D)


def weighted(z: Tensor, z_0: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """Move tokens' vectors by their weights, eq. 1; those of weight 1 keep every bit.

    Args:
        z: (N, L, D).
        z_0: of an empty prompt, (L, D).
        weights: N rows of L.
    """
    w = torch.tensor(weights, dtype=z.dtype, device=z.device)[..., None]  # (N, L, 1)
    return torch.where(w == 1, z, z_0 + w * (z - z_0))
