"""From what a person asks for to a network, a tokenizer, and tokens on disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vermilion.data import documents
from vermilion.data.documents import Piece
from vermilion.data.packed import Encoded, Header, Tokens, pack
from vermilion.errors import InputError, ModelError
from vermilion.models.lm import io
from vermilion.models.lm.adapters import adapt
from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.families import to_transformers
from vermilion.models.lm.net import LM
from vermilion.models.lm.tokenizer import Tokenizer
from vermilion.models.lm.train_tokenizer import byte_level_bpe, capped, characters
from vermilion.train.distributed import whole
from vermilion.train.lm.options import Adapters, Corpus, Shape, Tuning, config_of
from vermilion.train.options import Training
from vermilion.train.run import Base

TokenizerKind = Literal["bpe", "characters"]
KINDS_OF_TOKENIZERS: Mapping[str, TokenizerKind] = {"bpe": "bpe", "characters": "characters"}
BASE_CONTEXT, BASE_TOKENS = 512, 2048  # of a window, and computed at once, where a model is tuned
TOKENIZER_CHARACTERS = 100_000_000  # of the text that a new tokenizer is trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks for.

    Attributes:
        data: file or folder.
        field: of a table or of JSONL that holds the text; None: see `data.documents.read`.
        tokenizer: kind of a new tokenizer; with a base, its own is used.
        base: the model that is trained on; None: a new one.
        shape: of a new model.
        corpus: how files become tokens.
        tuning: dropout, context.
        adapters: LoRA, where that is wanted; None: all weights are trained.
        training: how it is trained.
    """

    data: Path
    field: str | None = None
    tokenizer: TokenizerKind = "bpe"
    base: Base | None = None
    shape: Shape
    corpus: Corpus
    tuning: Tuning
    adapters: Adapters | None = None
    training: Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that a run is made of.

    Attributes:
        net: with its first weights.
        tokenizer: its own.
        tokens: of the training text.
        validation: of what is held back; None: nothing is.
        header: of the token files.
        length: tokens of a window.
        training: with max_steps settled.
        config: the resolved config, JSON values; with it a run is taken up again.
    """

    net: LM
    tokenizer: Tokenizer
    tokens: Tokens
    validation: Tokens | None
    header: Header
    length: int
    training: Training
    config: dict[str, Any]


def prepare(
    request: Request, cache: Path, on_tokens: Callable[[int], None] | None = None
) -> Prepared:
    """Make the tokenizer, the token files and the network, or find them in the cache.

    Args:
        request: what is asked for.
        cache: folder that keeps tokenizers and token files.
        on_tokens: told how many tokens are written.

    Raises:
        InputError: data or sizes that cannot be used.
        ModelError: the base is broken.
    """
    data_sha256 = documents.sha256_of(request.data)
    net, tokenizer = _base(request) if request.base is not None else (None, None)
    if tokenizer is None:
        tokenizer = _new_tokenizer(request, cache, data_sha256)
    folder, header = _packed(request, tokenizer, cache, data_sha256, on_tokens)
    tokens = Tokens(folder, "train", header)
    held = Tokens(folder, "validation", header) if header.validation_tokens > 1 else None
    if net is None:
        net = _new_net(request, tokenizer)
    net = _with_dropout(net, request.tuning.dropout)
    _adapt(net, request)
    length, training = _paced(request, net.config, len(tokens))
    return Prepared(
        net=net,
        tokenizer=tokenizer,
        tokens=tokens,
        validation=held,
        header=header,
        length=length,
        training=training,
        config=_resolved(request, net.config, tokenizer, data_sha256, length, training),
    )


def _base(request: Request) -> tuple[LM, Tokenizer]:
    """The model that is trained on, all its weights free, and its tokenizer."""
    base = request.base
    assert base is not None  # noqa: S101 - for the type
    net, tokenizer = io.load(base.path)
    if tokenizer.chat_template is None and _is_chat(request):
        raise InputError(
            f"data: {request.data} holds conversations and {base.name} has no chat"
            " template; choose another model, or train on a text field with --field"
        )
    return net.train().requires_grad_(requires_grad=True), tokenizer


def _packed(
    request: Request,
    tokenizer: Tokenizer,
    cache: Path,
    data_sha256: str,
    on_tokens: Callable[[int], None] | None,
) -> tuple[Path, Header]:
    """The folder of the token files, made once, and their header."""
    corpus = request.corpus
    parts = (request.field, _fingerprint(tokenizer), corpus.validation, corpus.split)
    key = _sha256(data_sha256, *parts)
    folder = cache / "tokens" / key[:32]
    header = pack(
        documents.read(request.data, request.field),
        lambda pieces: encode(tokenizer, pieces),
        folder,
        key=key,
        vocab_size=tokenizer.fast.get_vocab_size(),
        validation=corpus.validation,
        split=corpus.split,
        on_tokens=on_tokens,
    )
    return folder, header


def _paced(request: Request, config: LMConfig, tokens: int) -> tuple[int, Training]:
    """Tokens of a window, and the training with its steps and parts worked out."""
    training = request.training
    length = request.tuning.context or config.max_position_embeddings
    if request.base is not None:  # published models hold more than a small text or memory does
        length = request.tuning.context or max(1, min(length, BASE_CONTEXT, tokens - 1))
        part = training.micro_batch or max(1, BASE_TOKENS // length)
        training = replace(training, micro_batch=min(part, training.batch_size))
    return length, settled(training, tokens, length)


def _resolved(
    request: Request,
    config: LMConfig,
    tokenizer: Tokenizer,
    data_sha256: str,
    length: int,
    training: Training,
) -> dict[str, Any]:
    """All that bears on the weights, as JSON values."""
    base = request.base
    found = {
        "format": 1,
        "family": "lm",
        "model": to_transformers(config) if base is None else None,
        "base": None if base is None else {"sha256": base.sha256},
        "data": {
            "sha256": data_sha256,
            "field": request.field,
            "tokenizer": request.tokenizer if base is None else "base",
            "tokenizer_sha256": _fingerprint(tokenizer),
            **asdict(request.corpus),
        },
        "tuning": asdict(replace(request.tuning, context=length)),
        "training": asdict(training),
    }
    return found if request.adapters is None else found | {"lora": asdict(request.adapters)}


def _fingerprint(tokenizer: Tokenizer) -> str:
    return _sha256(tokenizer.fast.to_str(), tokenizer.chat_template)


def settled(training: Training, tokens: int, length: int) -> Training:
    """With max_steps worked out where epochs are given."""
    if training.epochs is None:
        return training
    steps = math.ceil(training.epochs * tokens / (length * training.batch_size))
    return replace(training, max_steps=max(1, steps))


def encode(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> Iterator[Encoded]:
    """Tokens of pieces: plain text ends with the end token; see `encode_chat` for conversations."""
    end = tokenizer.eos_id
    plain = iter(tokenizer.encode_many([piece.text for piece in pieces if not piece.messages]))
    for piece in pieces:
        if piece.messages:
            yield encode_chat(tokenizer, piece.messages)
        else:
            ids = next(plain)
            yield ([*ids, end] if piece.ends and end is not None else ids), None


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]) -> Encoded:
    """A conversation by the chat template; the loss counts the assistant's turns alone.

    Raises:
        InputError: the template changes earlier turns when later ones come.
    """
    ids: list[int] = []
    mask: list[int] = []
    before = ""
    messages = tokenizer.disarmed(messages)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = tokenizer.chat(messages[:number])
        answered = tokenizer.chat(messages[: number + 1], add_generation_prompt=False)
        if not (asked.startswith(before) and answered.startswith(asked)):
            raise InputError(
                "messages: the model's chat template rewrites earlier turns; give one question and"
                " one answer a line"
            )
        for text, counts in ((asked[len(before) :], 0), (answered[len(asked) :], 1)):
            new = tokenizer.encode_disarmed(text)
            ids += new
            mask += [counts] * len(new)
        before = answered
    return ids, mask


def _is_chat(request: Request) -> bool:
    first = next(documents.read(request.data, request.field), None)
    return first is not None and bool(first.messages)


def _texts(request: Request) -> Iterator[str]:
    for piece in documents.read(request.data, request.field):
        yield piece.text
        for message in piece.messages:
            yield message["content"]


def _new_tokenizer(request: Request, cache: Path, data_sha256: str) -> Tokenizer:
    """A tokenizer of the data, trained once."""
    chat = _is_chat(request)
    size = request.corpus.vocab_size if request.tokenizer == "bpe" else 0
    key = _sha256("1", data_sha256, request.field, request.tokenizer, size, chat)
    folder = cache / "tokenizers" / key[:32]
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_folder(folder)
    texts: Iterable[str] = _texts(request)
    if request.tokenizer == "bpe":
        made = byte_level_bpe(capped(texts, TOKENIZER_CHARACTERS), size, chat=chat)
    else:
        made = characters(texts, chat=chat)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(folder)
    return Tokenizer.from_folder(folder)


def _new_net(request: Request, tokenizer: Tokenizer) -> LM:
    end = tokenizer.eos_id
    assert end is not None  # noqa: S101 - every new tokenizer has one
    vocab_size = tokenizer.fast.get_vocab_size()
    try:
        config = config_of(request.shape, vocab_size, end, request.tuning.dropout)
        to_transformers(config)
        net = LM(config)
    except (ValueError, ModelError) as error:
        raise InputError(f"set: {error}") from None
    net.init_weights(request.training.seed)
    return net


def _with_dropout(net: LM, dropout: float) -> LM:
    """The same weights in a network that drops features."""
    if dropout == net.config.dropout:
        return net
    with torch.device("meta"):
        other = LM(replace(net.config, dropout=dropout))
    if net.rotary is not None:
        other.rotary = net.rotary  # its frequencies are no part of the state
    other.load_state_dict(net.state_dict(), assign=True)
    if net.config.tie_word_embeddings:
        other.head.weight = other.embedding.weight
    return other.train().requires_grad_(requires_grad=True)


def _adapt(net: LM, request: Request) -> None:
    """Put adapters beside a model's projections, where that is wanted."""
    options = request.adapters
    if options is None:
        return
    names = None if options.lora_targets == "all" else options.lora_targets.split(",")
    adapt(
        net,
        rank=options.lora_r,
        alpha=options.lora_alpha,
        dropout=options.lora_dropout,
        targets=names,
        seed=request.training.seed,
    )


@torch.no_grad()
def unsharded(prepared: Prepared, request: Request, net: LM) -> LM:
    """A network like one whose weights are cut among the processes; all of them have to ask."""
    weights = {name: whole(p) for name, p in net.named_parameters()}
    fresh = LM(prepared.net.config)
    _adapt(fresh, request)
    for name, parameter in fresh.named_parameters():
        parameter.copy_(weights[name])
    return fresh


def _sha256(*parts: Any) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def parameters_of(config: LMConfig) -> int:
    """How many parameters a network has; nothing is allocated."""
    with torch.device("meta"):
        return sum(p.numel() for p in LM(config).parameters())
