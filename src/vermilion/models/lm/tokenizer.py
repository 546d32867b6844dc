"""Text to token ids and back, and the chat template. The work is done by `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from llguidance import LLTokenizer
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from vermilion.errors import InputError, ModelError

# Token types in GGUF metadata (llama.cpp's llama_token_type).
_CONTROL, _USER_DEFINED = 3, 4

# How GGUF's `tokenizer.ggml.pre` splits text before the merges, as the published
# tokenizer.json of each family does it.
_GPT4_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{DIGITS}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(use_regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _split_like_gpt4(digits: str) -> pre_tokenizers.PreTokenizer:
    pattern = Regex(_GPT4_SPLIT.replace("{DIGITS}", digits))
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), _byte_level(use_regex=False)]
    )


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    if name == "smollm":
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), _byte_level(use_regex=True)]
        )
    if name in ("gpt-2", "default"):
        return _byte_level(use_regex=True)
    if name in ("qwen2", "deepseek-r1-qwen"):
        return _split_like_gpt4("")
    if name in ("llama-bpe", "llama3", "llama-v3"):
        return _split_like_gpt4("{1,3}")
    raise ModelError(
        f"tokenizer.ggml.pre: {name!r} is not supported; known are smollm, gpt-2, qwen2, llama-bpe"
    )


class Tokenizer:
    """A byte-level BPE tokenizer and the model's chat template.

    Args:
        fast: the tokenizer.
        chat_template: Jinja2 source, or None for a model that was not tuned for chat.
        special: tokens by role, "bos_token" and "eos_token", for the template.
        vocab_size: number of the network's logits; at least the tokenizer's own size.
    """

    def __init__(
        self,
        fast: FastTokenizer,
        *,
        chat_template: str | None = None,
        special: Mapping[str, str] | None = None,
    ) -> None:
        self.fast = fast
        self.chat_template = chat_template
        self.special = dict(special or {})

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json, tokenizer_config.json and chat_template.jinja.

        Raises:
            ModelError: tokenizer.json is missing or broken.
        """
        path = folder / "tokenizer.json"
        if not path.exists():
            raise ModelError(f"{folder}: tokenizer.json is missing; pull the model again")
        try:
            fast = FastTokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
            raise ModelError(f"{path}: this is not a tokenizer ({error})") from None
        config: dict[str, Any] = {}
        if (folder / "tokenizer_config.json").exists():
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        template = config.get("chat_template")
        if (folder / "chat_template.jinja").exists():
            template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        special = {}
        for role in ("bos_token", "eos_token"):
            token = config.get(role)
            if token is not None:
                special[role] = token["content"] if isinstance(token, dict) else token
        return cls(fast, chat_template=template, special=special)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """Build the tokenizer that a GGUF file describes.

        Raises:
            ModelError: a kind of tokenizer other than byte-level BPE.
        """
        kind = metadata.get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise ModelError(f"tokenizer.ggml.model: {kind!r} is not supported; known is gpt2")
        tokens: list[str] = metadata["tokenizer.ggml.tokens"]
        merges = [tuple(pair.split(" ", 1)) for pair in metadata["tokenizer.ggml.merges"]]
        fast = FastTokenizer(
            models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
        )
        fast.pre_tokenizer = _pre_tokenizer(metadata.get("tokenizer.ggml.pre", "default"))
        fast.decoder = decoders.ByteLevel()
        types = metadata.get("tokenizer.ggml.token_type", [])
        control = [t for t, kind in zip(tokens, types, strict=False) if kind == _CONTROL]
        added = [t for t, kind in zip(tokens, types, strict=False) if kind == _USER_DEFINED]
        fast.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
        fast.add_tokens([AddedToken(t, normalized=False) for t in added])
        special = {
            f"{role}_token": tokens[metadata[f"tokenizer.ggml.{role}_token_id"]]
            for role in ("bos", "eos")
            if f"tokenizer.ggml.{role}_token_id" in metadata
        }
        return cls(fast, chat_template=metadata.get("tokenizer.chat_template"), special=special)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Special tokens written in it are recognised; none are added."""
        return self.fast.encode(text, add_special_tokens=False).ids

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a text in which special tokens count as ordinary characters."""
        self.fast.encode_special_tokens = True
        try:
            return self.fast.encode(text, add_special_tokens=False).ids
        finally:
            self.fast.encode_special_tokens = False

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return self.fast.decode(list(ids), skip_special_tokens=True)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text that asks the model for its next answer in a conversation.

        Args:
            messages: each with "role" (system, user, assistant) and "content".

        Raises:
            InputError: the model has no chat template.
            ModelError: its template cannot be rendered.
        """
        if self.chat_template is None:
            raise InputError("this model has no chat template; it continues plain text only")
        sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        sandbox.globals["raise_exception"] = _refuse
        try:
            template = sandbox.from_string(self.chat_template)
            return template.render(messages=messages, add_generation_prompt=True, **self.special)
        except TemplateError as error:
            raise ModelError(f"the model's chat template cannot be rendered: {error}") from None

    @cached_property
    def grammar_tokenizer(self) -> LLTokenizer:
        """The same vocabulary as llguidance reads it. Takes a moment; made when first used."""
        return LLTokenizer(self.fast.to_str(), eos_token=self.eos_id)

    @property
    def eos_id(self) -> int | None:
        """Id of the token that ends a text, or None."""
        token = self.special.get("eos_token")
        return None if token is None else self.fast.token_to_id(token)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json as transformers reads them."""
        self.fast.save(str(folder / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": self.chat_template,
            **self.special,
        }
        text = json.dumps({k: v for k, v in config.items() if v is not None}, indent=2)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _refuse(message: str) -> None:
    raise TemplateError(message)
