"""What is asked of a language model, and what comes back piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vermilion.errors import InputError, ModelError
from vermilion.models.lm.beam import BeamSearch
from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.logits import LogitsHook
from vermilion.models.lm.sample import Choice, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A text to be continued.

    Attributes:
        ids: its tokens, at least one.
        sampling: how each token is chosen.
        max_new_tokens: at least 1.
        stop: strings that end the text, none empty; they are not part of it.
        stop_token_ids: tokens that end the text, besides the model's own.
        grammar: that the new text has to follow, see `grammar`; None: free.
        hooks: change the logits before each choice, see `logits.LogitsHook`.
        beams: search for the likeliest texts instead of choosing token by token; one of them
            comes as one piece. Not with a grammar, temperature above 0, or logprobs above 0.
        beam_rank: which of them: 0 for the best, 1 for the next, below num_beams.
    """

    ids: Sequence[int]
    sampling: Sampling
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    grammar: str | None = None
    hooks: tuple[LogitsHook, ...] = ()
    beams: BeamSearch | None = None
    beam_rank: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Some new text of one request; with `finish`, its last.

    Attributes:
        index: of the request.
        text: what is new; may be empty.
        finish: None, "stop" (the model or a stop string ended it) or "length".
        tokens: number of tokens made so far.
        logprob: sum of their log-probabilities.
        choices: those made since the piece before, where `Sampling.logprobs` is not None.
    """

    index: int
    text: str
    finish: str | None
    tokens: int
    logprob: float
    choices: tuple[Choice, ...] = ()


def check(request: Request, config: LMConfig) -> None:
    """See that a network can answer a request.

    Raises:
        InputError: it is empty, longer than the network's context, or contradicts itself.
        ModelError: it has tokens that the network does not know.
    """
    context = config.max_position_embeddings
    if not request.ids:
        raise InputError("prompt: it is empty; write what the text should be about")
    if len(request.ids) >= context:
        raise InputError(
            f"prompt: it has {len(request.ids)} tokens and the model reads at most"
            f" {context - 1}; shorten it or choose a model with a longer context"
        )
    if max(request.ids) >= config.vocab_size:
        raise ModelError(
            f"the tokenizer knows the token {max(request.ids)} and the network has only"
            f" {config.vocab_size}; the model's files do not belong together"
        )
    if "" in request.stop:
        raise InputError("stop: a stop string is empty; leave it out")
    if request.max_new_tokens < 1:
        raise InputError(f"max_new_tokens: must be at least 1 (found {request.max_new_tokens})")
    if request.beams is not None:
        _check_search(request, request.beams)
    least = request.sampling.min_new_tokens
    if least > request.max_new_tokens:
        raise InputError(
            f"min_new_tokens: {least} is more than max_new_tokens, {request.max_new_tokens};"
            " lower the one or raise the other"
        )


def _check_search(request: Request, beams: BeamSearch) -> None:
    if not 0 <= request.beam_rank < beams.num_beams:
        raise InputError(
            f"beam_rank: must be 0 to {beams.num_beams - 1}, below num_beams"
            f" (found {request.beam_rank})"
        )
    if request.sampling.temperature > 0:
        raise InputError("temperature: beam search takes no chances; make it 0, or num_beams 1")
    if request.grammar is not None:
        raise InputError("num_beams: beam search follows no schema, pattern or grammar; make it 1")
    if request.sampling.logprobs:
        raise InputError("logprobs: beam search tells no alternatives; make it 0, or num_beams 1")
