"""Texts to vectors: similar texts lie close together (Reimers & Gurevych 2019, Sentence-BERT).

Reads the folders of sentence-transformers and those of a plain BERT.

N texts, B batch, T tokens, C features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer, Encoding
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor
from torch.nn import functional as F

from vermilion.errors import ModelError
from vermilion.models.files import TensorFiles, read_json, read_json_list
from vermilion.models.lm.encoder import EncoderConfig, EncoderNet
from vermilion.models.lm.io import fill
from vermilion.models.lm.names import BERT

# Tokens in a batch, padding included: what lies between the layers then stays in a CPU's cache.
BATCH_TOKENS = 1024
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


class Encoder:
    """A network with its tokenizer, and how the vectors of tokens become one of the text.

    Args:
        net: the network, in evaluation mode.
        fast: the tokenizer.
        max_length: most tokens of a text, those at its ends included; the rest is cut off.
        pooling: "mean" of the tokens' vectors, the one of the first token ("cls"), or "max".
        normalize: whether a text's vector is of length 1, so that a dot product is the cosine.
    """

    def __init__(
        self,
        net: EncoderNet,
        fast: FastTokenizer,
        *,
        max_length: int,
        pooling: str = "mean",
        normalize: bool = False,
    ) -> None:
        self.net, self.fast = net, fast
        self.max_length, self.pooling, self.normalize = max_length, pooling, normalize
        fast.no_padding()
        fast.enable_truncation(max_length)

    @property
    def size(self) -> int:
        """C, the features of a vector."""
        return self.net.config.hidden_size

    @classmethod
    def from_folder(
        cls, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Encoder:
        """Open a folder of sentence-transformers, or of a BERT whose vectors are averaged.

        Raises:
            ModelError: a file is missing or broken, or the network is none of a BERT.
        """
        config = EncoderConfig.from_transformers(read_json(folder / "config.json"))
        tensors = TensorFiles(folder)
        if config.num_hidden_layers > len(tensors.names):
            raise ModelError(f"{folder}: there are fewer tensors than layers; pull it again")
        with torch.device("meta"):
            net = EncoderNet(config)
        fill(net, tensors, BERT, str(folder), device, dtype, tied={})
        pooling, normalize = _modules(folder)
        return cls(
            net.eval().requires_grad_(requires_grad=False),
            _tokenizer(folder),
            max_length=_max_length(folder, config.max_position_embeddings),
            pooling=pooling,
            normalize=normalize,
        )

    def encode(self, texts: Sequence[str], *, normalize: bool | None = None) -> NDArray[np.float32]:
        """A vector for each text.

        Args:
            texts: N of them; what is beyond `max_length` tokens is not looked at.
            normalize: whether the vectors are of length 1; None: as the model was published.

        Returns:
            (N, C), float32. What a text gives does not depend on the others but in the last
            digits (1e-6).
        """
        out = np.empty((len(texts), self.size), dtype=np.float32)
        unit = self.normalize if normalize is None else normalize
        for numbers, ids, mask in self._batches(texts):
            with torch.inference_mode():
                pooled = self._pool(self.net(ids, mask).float(), mask)  # (B, C)
                out[numbers] = (F.normalize(pooled, dim=-1) if unit else pooled).cpu().numpy()
        return out

    def encode_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """A vector for each token of each text, for a network that looks at words.

        Args:
            texts: N of them, at least one.

        Returns:
            The vectors, (N, T, C), float32, 0 where a text is shorter than the longest; and
            where there are tokens, (N, T), bool.
        """
        batches = list(self._batches(texts))
        longest = max(ids.shape[1] for _, ids, _ in batches)
        device = self.net.embedding.weight.device
        vectors = torch.zeros(len(texts), longest, self.size, device=device)
        masks = torch.zeros(len(texts), longest, dtype=torch.bool, device=device)
        for numbers, ids, mask in batches:
            with torch.inference_mode():
                found = self.net(ids, mask).float() * mask[..., None]  # (B, T, C)
            vectors[numbers, : ids.shape[1]] = found
            masks[numbers, : ids.shape[1]] = mask
        return vectors, masks

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Texts of about the same length together: their numbers, ids and mask, (B, T)."""
        encoded: list[Encoding] = self.fast.encode_batch(list(texts))
        # A text without any token, where the tokenizer adds none, is looked at as one of padding.
        sizes = [max(len(one.ids), 1) for one in encoded]
        order = sorted(range(len(texts)), key=sizes.__getitem__)
        while order:
            longest = sizes[order[-1]]
            numbers = [order.pop() for _ in range(min(len(order), max(BATCH_TOKENS // longest, 1)))]
            ids = torch.zeros(len(numbers), longest, dtype=torch.int64)  # (B, T)
            for row, number in enumerate(numbers):
                ids[row, : len(encoded[number].ids)] = torch.tensor(encoded[number].ids)
            lengths = torch.tensor([[sizes[number]] for number in numbers])  # (B, 1)
            mask = torch.arange(longest) < lengths  # (B, T)
            device = self.net.embedding.weight.device
            yield numbers, ids.to(device), mask.to(device)

    def _pool(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C) → (B, C); padding does not count."""
        if self.pooling == "cls":
            return vectors[:, 0]
        there = mask[..., None]  # (B, T, 1)
        if self.pooling == "max":
            return vectors.masked_fill(~there, -torch.inf).amax(dim=1)
        return (vectors * there).sum(dim=1) / there.sum(dim=1)


def _modules(folder: Path) -> tuple[str, bool]:
    """What sentence-transformers does after the network: pooling, and whether it normalises."""
    path = folder / "modules.json"
    if not path.exists():
        return "mean", False
    steps = read_json_list(path)
    kinds = [str(step.get("type", "")).rpartition(".")[2] for step in steps]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"{path}: the modules {', '.join(kinds)} are not supported; known are Transformer,"
            " Pooling, Normalize"
        )
    settings = read_json(folder / str(steps[1].get("path", "1_Pooling")) / "config.json")
    chosen = sorted(
        name for name, on in settings.items() if name.startswith("pooling_mode_") and on
    )
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise ModelError(
            f"{path.parent}: the pooling {', '.join(chosen) or 'none'} is not supported; known are"
            f" {', '.join(_POOLINGS)}"
        )
    return _POOLINGS[chosen[0]], "Normalize" in kinds


def _max_length(folder: Path, most: int) -> int:
    path = folder / "sentence_bert_config.json"
    given = read_json(path).get("max_seq_length") if path.exists() else None
    if given is None:
        return most
    if type(given) is not int or given < 3:
        raise ModelError(f"{path}: max_seq_length: must be a whole number above 2")
    return min(given, most)


def _tokenizer(folder: Path) -> FastTokenizer:
    """WordPiece: tokenizer.json, or the vocab.txt of older folders."""
    path, words = folder / "tokenizer.json", folder / "vocab.txt"
    try:
        if path.exists():
            return FastTokenizer.from_str(path.read_text(encoding="utf-8"))
        if words.exists():
            config = folder / "tokenizer_config.json"
            lower = read_json(config).get("do_lower_case", True) if config.exists() else True
            made: Any = BertWordPieceTokenizer(str(words), lowercase=bool(lower))
            return FastTokenizer.from_str(made.to_str())
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{folder}: this is not a tokenizer ({reason}); pull it again") from None
    raise ModelError(f"{folder}: tokenizer.json is missing; pull the model again")
