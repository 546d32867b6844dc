"""Text to token ids and back, and the chat template. The work is done by `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers import Tokenizer as FastTokenizer

from vermilion.errors import InputError, ModelError
from vermilion.models.files import read_json
from vermilion.models.lm.chat import MARK, Marks, render

# Token types in GGUF metadata (llama.cpp's llama_token_type).
_CONTROL, _USER_DEFINED = 3, 4

_QWEN2 = ("qwen2", "deepseek-r1-qwen")
_LLAMA3 = ("llama-bpe", "llama3", "llama-v3")

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
    if name in _QWEN2:
        return _split_like_gpt4("")
    if name in _LLAMA3:
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
            reason = str(error).partition("\n")[0]
            raise ModelError(f"{path}: this is not a tokenizer ({reason})") from None
        # What somebody trained with, and saved.
        fast.no_truncation()
        fast.no_padding()
        config: dict[str, Any] = {}
        if (folder / "tokenizer_config.json").exists():
            config = read_json(folder / "tokenizer_config.json")
        template = config.get("chat_template")
        if isinstance(template, list):  # several, by name
            named = [t for t in template if isinstance(t, dict) and t.get("name") == "default"]
            template = named[0].get("template") if named else None
        if (folder / "chat_template.jinja").exists():
            template = (folder / "chat_template.jinja").read_text("utf-8", errors="replace")
        special = {}
        for role in ("bos_token", "eos_token"):
            token = config.get(role)
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                special[role] = token
        return cls(fast, chat_template=template, special=special)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """Build the tokenizer that a GGUF file describes.

        Raises:
            ModelError: a kind of tokenizer other than byte-level BPE, or a broken one.
        """
        kind = metadata.get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise ModelError(f"tokenizer.ggml.model: {kind!r} is not supported; known is gpt2")
        try:
            return cls._from_gguf(metadata)
        except ModelError:
            raise
        except KeyError as error:
            raise ModelError(f"GGUF metadata: the field {error.args[0]!r} is missing") from None
        except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
            reason = str(error).partition("\n")[0]
            raise ModelError(f"tokenizer.ggml: this is not a tokenizer ({reason})") from None

    @classmethod
    def _from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        tokens: list[str] = metadata["tokenizer.ggml.tokens"]
        merges = [tuple(pair.split(" ", 1)) for pair in metadata["tokenizer.ggml.merges"]]
        pre = metadata.get("tokenizer.ggml.pre", "default")
        fast = FastTokenizer(
            models.BPE(
                vocab={token: i for i, token in enumerate(tokens)},
                merges=merges,
                ignore_merges=pre in _LLAMA3,  # words of the vocabulary are taken whole
            )
        )
        if pre in _QWEN2:
            fast.normalizer = normalizers.NFC()
        fast.pre_tokenizer = _pre_tokenizer(pre)
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
        bos = special.get("bos_token")
        # llama.cpp's rule for files that do not say it.
        if bos is not None and metadata.get("tokenizer.ggml.add_bos_token", pre in _LLAMA3):
            fast.post_processor = processors.TemplateProcessing(
                single=[bos, "$A"],
                pair=[bos, "$A", bos, "$B:1"],
                special_tokens=[(bos, metadata["tokenizer.ggml.bos_token_id"])],
            )
        return cls(fast, chat_template=metadata.get("tokenizer.chat_template"), special=special)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Special tokens written in it are recognised; none are added."""
        return self.fast.encode(text, add_special_tokens=False).ids

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a text in which special tokens count as ordinary characters."""
        return self._plain.encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode_plain` of many texts, in as many threads as there are cores."""
        return [e.ids for e in self._plain.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def _plain(self) -> FastTokenizer:
        """A copy that takes no notice of special tokens; texts may be encoded in many threads."""
        plain = FastTokenizer.from_str(self.fast.to_str())
        plain.encode_special_tokens = True
        return plain

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a text that is to be continued, as `encode_plain`.

        What the published tokenizer puts before every text is put before it: Llama's begins
        with <|begin_of_text|>, GPT-2's with nothing.
        """
        return self._beginning + self.encode_plain(text)

    @cached_property
    def _beginning(self) -> list[int]:
        """The special tokens that the tokenizer's post-processor puts before a text."""
        sample = self.fast.encode("a", add_special_tokens=True)
        first = sample.special_tokens_mask.index(0)
        return sample.ids[:first]

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation, see `chat`.

        Only the template may open and close turns: a special token that somebody wrote into a
        message counts as ordinary characters.
        """
        return self.encode_disarmed(self.chat(self.disarmed(messages)))

    def disarmed(self, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """The messages with marks in place of the special tokens in them.

        `encode_disarmed` puts them back as ordinary characters when the template is filled in.
        """
        return [{**m, "content": self._marks.put(m["content"])} for m in messages]

    def encode_disarmed(self, text: str) -> list[int]:
        """Token ids of a conversation whose messages were `disarmed` before they were put in."""
        if MARK not in text:
            return self.encode(text)
        ids: list[int] = []
        for part, special in self._marks.take(text):
            ids += self.encode(part) if special else self.encode_plain(part)
        return ids

    @cached_property
    def _marks(self) -> Marks:
        added = self.fast.get_added_tokens_decoder().values()
        return Marks([token.content for token in added if token.special])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return self.fast.decode(list(ids), skip_special_tokens=True)

    def chat(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """The text that asks the model for its next answer in a conversation.

        Args:
            messages: each with "role" (system, user, assistant) and "content".
            add_generation_prompt: whether an answer is asked for; without it, the conversation
                as it stands.

        Raises:
            InputError: the model has no chat template.
            ModelError: its template cannot be rendered.
        """
        if self.chat_template is None:
            raise InputError("this model has no chat template; it continues plain text only")
        return render(
            self.chat_template, messages, self.special, add_generation_prompt=add_generation_prompt
        )

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
