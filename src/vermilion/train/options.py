"""What can be set about training, a sentence a field, and how `--set` finds the fields.

A field's sentence is read by people in the code and in `--help`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from vermilion.errors import InputError, NotFoundError


def about(text: str, **limits: Any) -> Any:
    """A field's sentence and its limits."""
    return Field(description=text, **limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a model is trained; the same for every family."""

    max_steps: Annotated[int, about("Steps of the optimiser.", ge=1)] = 2000
    epochs: Annotated[
        float | None, about("Times to go over the data; sets max_steps where given.", gt=0)
    ] = None
    batch_size: Annotated[
        int, about("Items of one step, over all processes and accumulated parts.", ge=1)
    ] = 32
    micro_batch: Annotated[
        int | None,
        about(
            "Items a process computes at once, the rest is accumulated; by default what suits it.",
            ge=1,
        ),
    ] = None
    learning_rate: Annotated[float, about("Highest learning rate.", gt=0)] = 1e-3
    min_learning_rate: Annotated[
        float, about("Where it ends, as a fraction of the highest.", ge=0, le=1)
    ] = 0.1
    warmup_steps: Annotated[int, about("Steps of the linear warm-up.", ge=0)] = 100
    schedule: Annotated[
        Literal["cosine", "wsd", "constant"], about("Shape of the learning rate after that.")
    ] = "cosine"
    decay_fraction: Annotated[
        float, about("Part of the steps in which wsd decays.", gt=0, le=1)
    ] = 0.2
    weight_decay: Annotated[float, about("Decoupled decay of matrices.", ge=0)] = 0.1
    adam_beta1: Annotated[float, about("AdamW's first momentum.", ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, about("AdamW's second momentum.", ge=0, lt=1)] = 0.95
    adam_epsilon: Annotated[float, about("Added to AdamW's divisor.", gt=0)] = 1e-8
    max_grad_norm: Annotated[
        float, about("Gradients are scaled down to this norm; 0: never.", ge=0)
    ] = 1.0
    ema_decay: Annotated[
        float, about("Decay of the running mean of the weights; 0: none is kept.", ge=0, lt=1)
    ] = 0.0
    ema_gamma: Annotated[
        float | None,
        about(
            "In place of ema_decay: exponent of a mean whose memory grows with the run, such as"
            " 6.94 (Karras et al. 2024, eq. 6).",
            gt=0,
            le=1000,
        ),
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        about("Of the arithmetic; auto: bfloat16 on CUDA, else float32."),
    ] = "auto"
    seed: Annotated[int, about("Of first weights, order and dropout.", ge=0, lt=2**63)] = 1337
    eval_steps: Annotated[int, about("Steps between validations; 0: only at the end.", ge=0)] = 200
    eval_batches: Annotated[int, about("Most batches of one validation.", ge=1)] = 20
    sample_steps: Annotated[int, about("Steps between samples; 0: none.", ge=0)] = 500
    save_steps: Annotated[int, about("Steps between checkpoints; 0: by time only.", ge=0)] = 500
    save_minutes: Annotated[float, about("Minutes between checkpoints; 0: by steps.", ge=0)] = 10.0
    keep: Annotated[int, about("Checkpoints that are kept.", ge=1)] = 2
    log_steps: Annotated[int, about("Steps between lines of the log.", ge=1)] = 10
    patience: Annotated[
        int, about("Validations without a better loss after which it stops; 0: never.", ge=0)
    ] = 0
    tensorboard: Annotated[
        bool | None, about("Write TensorBoard's files; by default where it is installed.")
    ] = None
    sharding: Annotated[
        Literal["auto", "off", "full"],
        about("Several processes: full cuts weights among them (FSDP); auto: if they do not fit."),
    ] = "auto"

    @property
    def keeps_mean(self) -> bool:
        """Whether a running mean of the weights is kept."""
        return self.ema_decay > 0 or self.ema_gamma is not None


# What may differ when a run is taken up again, since no weight depends on it.
HARMLESS = frozenset(
    {
        "eval_steps",
        "eval_batches",
        "sample_steps",
        "save_steps",
        "save_minutes",
        "keep",
        "log_steps",
        "patience",
        "tensorboard",
        "sharding",
        "cache_latents",
    }
)

# Other spellings, as GPT-2, nanoGPT and transformers' TrainingArguments have them.
ALIASES = {
    "steps": "max_steps",
    "max_iters": "max_steps",
    "num_train_epochs": "epochs",
    "train_batch_size": "batch_size",
    "per_device_train_batch_size": "micro_batch",
    "lr": "learning_rate",
    "warmup_iters": "warmup_steps",
    "lr_scheduler_type": "schedule",
    "beta1": "adam_beta1",
    "beta2": "adam_beta2",
    "grad_clip": "max_grad_norm",
    "grad_norm_clip": "max_grad_norm",
    "eval_interval": "eval_steps",
    "eval_iters": "eval_batches",
    "log_interval": "log_steps",
    "logging_steps": "log_steps",
}


def parse_set(pairs: Sequence[str]) -> dict[str, str]:
    """`key=value` pairs as a mapping.

    Raises:
        InputError: a pair without "=".
    """
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise InputError(f"set: {pair!r} is no key=value, such as learning_rate=0.001")
        found[key.strip()] = value.strip()
    return found


def read_settings(path: Path) -> dict[str, Any]:
    """Settings from a TOML file; its tables, if any, only group them.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is not TOML.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"config: {path} does not exist; name a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} is not TOML: {error}") from None
    flat: dict[str, Any] = {}
    for key, value in found.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


def resolve(
    given: Mapping[str, Any], kinds: Sequence[type], aliases: Mapping[str, str]
) -> tuple[Any, ...]:
    """Sort settings into the dataclasses that have them.

    Args:
        given: field or another spelling of it → value, or its text.
        kinds: dataclasses without a field in common.
        aliases: other spelling → field.

    Returns:
        One instance for each of `kinds`.

    Raises:
        InputError: an unknown field, one given in two spellings, or a value of the wrong type.
    """
    owner = {field.name: kind for kind in kinds for field in fields(kind)}
    values: dict[type, dict[str, Any]] = {kind: {} for kind in kinds}
    for key, value in given.items():
        name = aliases.get(key, key)
        if name not in owner:
            near = get_close_matches(key, [*owner, *aliases], 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(owner))}"
            raise InputError(f"set: there is no {key!r}; {hint}")
        if name in values[owner[name]]:
            raise InputError(f"set: {key} and another spelling of {name} are both given; keep one")
        values[owner[name]][name] = None if value == "none" else value
    return tuple(_made(kind, values[kind]) for kind in kinds)


def _made(kind: type, values: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"set: {where}: {message} (found {first['input']!r})") from None


def described(kinds: Sequence[type]) -> list[tuple[str, str, str]]:
    """Field, default and sentence of everything that can be set."""
    rows = []
    for kind in kinds:
        hints = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            info = next(m for m in hints[field.name].__metadata__ if hasattr(m, "description"))
            default = "none" if field.default is None else str(field.default)
            rows.append((field.name, default, str(info.description)))
    return rows
