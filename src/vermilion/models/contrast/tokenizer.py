"""CLIP's tokenizer: lower-cased byte-level BPE in which a word's last piece ends with </w>.

The work is done by `tokenizers` (Sennrich et al. 2016; Radford et al. 2021, sec. 2.4).

N texts, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Encoding,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

from vermilion.errors import InputError, ModelError
from vermilion.models.files import read_json, write_json

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
_SUFFIX = "</w>"
_LEAST = 514  # a byte each, within and at the end of a word, and the two tokens at the ends
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


class Tokenizer:
    """Texts to token ids that begin and end with CLIP's own tokens.

    Args:
        fast: the tokenizer.
        max_length: most tokens of a text, the two at its ends included.
        pad_token: fills a text up; CLIP's is the token that ends a text, Stable Diffusion 2's "!".

    Raises:
        ModelError: it lacks one of the tokens.
    """

    def __init__(
        self, fast: FastTokenizer, *, max_length: int = MAX_LENGTH, pad_token: str = EOS
    ) -> None:
        self.fast, self.max_length, self.pad_token = fast, max_length, pad_token
        fast.no_padding()
        fast.no_truncation()
        self.bos_id, self.eos_id, self.pad_id = (self._id(t) for t in (BOS, EOS, pad_token))

    def _id(self, token: str) -> int:
        number = self.fast.token_to_id(token)
        if number is None:
            raise ModelError(f"tokenizer: the token {token} is missing; this is none of CLIP")
        return number

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json, or the vocab.json and merges.txt of older folders.

        Raises:
            ModelError: a file is missing or broken.
        """
        whole, vocab, merges = (folder / n for n in ("tokenizer.json", "vocab.json", "merges.txt"))
        try:
            if whole.exists():
                fast = FastTokenizer.from_str(whole.read_text(encoding="utf-8"))
            elif vocab.exists() and merges.exists():
                fast = _assembled(*models.BPE.read_file(str(vocab), str(merges)))
            else:
                raise ModelError(
                    f"{folder}: tokenizer.json is missing, or vocab.json and merges.txt; pull the"
                    " model again"
                )
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
            reason = str(error).partition("\n")[0]
            raise ModelError(f"{folder}: this is not a tokenizer ({reason})") from None
        config: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if (folder / name).exists():
                config |= read_json(folder / name)
        pad = config.get("pad_token", EOS)
        pad = pad.get("content") if isinstance(pad, dict) else pad
        length = config.get("model_max_length", MAX_LENGTH)
        if not isinstance(pad, str) or not isinstance(length, int) or length < 3:
            raise ModelError(
                f"{folder}: tokenizer_config.json: pad_token or model_max_length cannot be used"
            )
        # transformers writes an absurd number where it knows none.
        return cls(fast, max_length=length if length < 10**6 else MAX_LENGTH, pad_token=pad)

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, *, max_length: int = MAX_LENGTH
    ) -> Tokenizer:
        """Learn a vocabulary from texts.

        Args:
            texts: captions.
            vocab_size: most tokens; 514 are there from the start, a byte each, within and at
                the end of a word, and the two that begin and end a text.
            max_length: most tokens of a text.

        Raises:
            InputError: the vocabulary has no room for the bytes.
        """
        if vocab_size < _LEAST:
            raise InputError(f"vocab_size: must be {_LEAST} at least (found {vocab_size})")
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        letters += [letter + _SUFFIX for letter in letters]
        fast = _assembled({}, [])
        # The trainer numbers what it meets at a word's end in any order, and equally frequent
        # pairs go by number; what it is told beforehand keeps its place.
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            special_tokens=letters,
            end_of_word_suffix=_SUFFIX,
            show_progress=False,
        )
        fast.train_from_iterator(texts, trainer)
        merges = [(a, b) for a, b in json.loads(fast.to_str())["model"]["merges"]]
        pieces = [*dict.fromkeys([*letters, *(a + b for a, b in merges)]), BOS, EOS]
        vocab = {piece: number for number, piece in enumerate(pieces)}
        return cls(_assembled(vocab, merges), max_length=max_length)

    def __len__(self) -> int:
        """How many tokens there are, added ones included."""
        return self.fast.get_vocab_size()

    def add(self, tokens: Sequence[str]) -> list[int]:
        """Add tokens, as of textual inversion, where they are not there; their ids."""
        self.fast.add_tokens(list(tokens))
        return [self._id(token) for token in tokens]

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, of any length, without those that begin and end it."""
        return self.fast.encode(text, add_special_tokens=False).ids

    def encode(self, texts: Sequence[str], *, longest: bool = False) -> Tensor:
        """Token ids of texts, begun and ended, cut to `max_length` and filled up.

        Args:
            texts: N of them.
            longest: fill up to the longest of the texts alone, not to `max_length`.

        Returns:
            (N, T), int64.
        """
        encoded: list[Encoding] = self.fast.encode_batch(list(texts), add_special_tokens=False)
        rows = [[self.bos_id, *one.ids[: self.max_length - 2], self.eos_id] for one in encoded]
        width = max(map(len, rows), default=2) if longest else self.max_length
        ids = torch.full((len(rows), width), self.pad_id)
        for row, given in zip(ids, rows, strict=True):
            row[: len(given)] = torch.tensor(given)
        return ids

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json as transformers reads them."""
        self.fast.save(str(folder / "tokenizer.json"))
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.max_length,
            "bos_token": BOS,
            "eos_token": EOS,
            "unk_token": EOS,
            "pad_token": self.pad_token,
        }
        write_json(folder / "tokenizer_config.json", config)


def _assembled(vocab: dict[str, int], merges: list[tuple[str, str]]) -> FastTokenizer:
    """CLIP's tokenizer around a vocabulary."""
    model = models.BPE(
        vocab=vocab,
        merges=merges,
        continuing_subword_prefix="",
        end_of_word_suffix=_SUFFIX,
        fuse_unk=False,
        unk_token=EOS,
    )
    fast = FastTokenizer(model)
    fast.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    if vocab:
        ends = ((EOS, vocab[EOS]), (BOS, vocab[BOS]))
        fast.post_processor = processors.RobertaProcessing(
            *ends, trim_offsets=False, add_prefix_space=False
        )
        fast.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in (BOS, EOS)])
    return fast
