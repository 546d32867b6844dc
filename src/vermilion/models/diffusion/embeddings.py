"""Learnt words: textual inversion (Gal et al. 2022). A word that stands for one vector or several.

A file holds the vectors under the name "emb_params", as the webui writes it, or under the word
itself, as diffusers does. The vectors take the place of those of tokens; the text tower reads them
like any other.

K vectors, D features, V tokens of the tower's vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vermilion.errors import InputError, ModelError

_WEBUI = "emb_params"


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A learnt word.

    Attributes:
        word: how it is written in a prompt.
        vectors: what it stands for, (K, D), float32.
    """

    word: str
    vectors: Tensor

    @classmethod
    def read(cls, path: Path, word: str = "") -> Learnt:
        """Read a safetensors file.

        Args:
            path: of the file.
            word: how it is to be written in a prompt; empty: as the file says, or else the
                file's name without its ending.

        Raises:
            ModelError: it is broken or holds no learnt word, or one for a larger model.
        """
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: cannot be read ({error}); fetch it again") from None
        if "clip_g" in tensors:
            raise ModelError(
                f"{path}: the word was learnt by Stable Diffusion XL; name one of Stable Diffusion"
                " 1"
            )
        name = _WEBUI if _WEBUI in tensors else next(iter(tensors), "")
        if len(tensors) > 1 and name != _WEBUI:
            raise ModelError(f"{path}: holds {len(tensors)} tensors, and a learnt word is one")
        found = tensors.get(name)
        if found is None or found.dim() not in (1, 2) or not found.is_floating_point():
            raise ModelError(f"{path}: holds no learnt word; its vectors are of shape (K, D)")
        vectors = found.float().reshape(-1, found.shape[-1])  # (K, D)
        return cls(word or (path.stem if name == _WEBUI else name), vectors)


class Words:
    """The learnt words that a tower knows besides its own.

    Args:
        tokenize: gives a text's tokens without ends.
        vocab_size: V; the vectors of learnt words have the ids from there on.
        size: D.
        learnt: the words; of two that are written alike the last one counts.

    Attributes:
        extra: the vectors, (K, D), of all of them; None where there is none.

    Raises:
        InputError: a word has no name.
        ModelError: a word's vectors are of another size.
    """

    def __init__(
        self,
        tokenize: Callable[[str], Sequence[int]],
        vocab_size: int,
        size: int,
        learnt: Iterable[Learnt] = (),
    ) -> None:
        self._tokenize = tokenize
        self._ids: dict[str, range] = {}
        rows: list[Tensor] = []
        for one in learnt:
            if not one.word.strip():
                raise InputError("word: a learnt word has to have a name; give it one")
            if one.vectors.shape[1] != size:
                raise ModelError(
                    f"{one.word}: its vectors have {one.vectors.shape[1]} features and the model"
                    f" reads {size}; it was learnt by another model"
                )
            first = vocab_size + sum(map(len, rows))
            self._ids[one.word] = range(first, first + len(one.vectors))
            rows.append(one.vectors)
        self.extra = torch.cat(rows) if rows else None
        # Longest first: a word may begin with another. Letters beside it make it another word.
        longest = sorted(self._ids, key=len, reverse=True)
        self._split = re.compile("|".join(map(_alone, longest)))

    def tokenize(self, text: str) -> list[int]:
        """Tokens of a text without ends; of a learnt word, those of its vectors in a row."""
        if not self._ids:
            return list(self._tokenize(text))
        ids: list[int] = []
        place = 0
        for found in self._split.finditer(text):
            ids += [*self._tokenize(text[place : found.start()]), *self._ids[found[0]]]
            place = found.end()
        return [*ids, *self._tokenize(text[place:])]


def _alone(word: str) -> str:
    before = r"(?<!\w)" if word[0].isalnum() else ""
    after = r"(?!\w)" if word[-1].isalnum() else ""
    return f"{before}{re.escape(word)}{after}"
