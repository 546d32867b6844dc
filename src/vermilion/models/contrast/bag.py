"""Short texts as vectors by the runs of characters in them: a student of a larger encoder.

    v(text) = W mean of E[g] over the text's runs of one, two and three characters

(Bojanowski et al. 2017, sec. 3.2, with hashed runs.) It needs no words, so that it serves scripts
without spaces, and knows no order beyond three characters. It learns to land on the vectors that
another encoder gives to a translation (Reimers & Gurevych 2020).

N texts, R runs of all of them, C features of a vector.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.errors import ModelError
from vermilion.models.contrast.config import check_size
from vermilion.models.files import TensorFiles, read_json, save_tensors, write_json, written_whole
from vermilion.nn.linear import Linear

MODEL_TYPE = "bag_of_characters"
_LONGEST_RUN = 3
_MOST_CHARACTERS = 512  # of a text that are looked at


class Bag(nn.Module):
    """The network.

    Args:
        buckets: rows of E; runs whose hashes share one share its features.
        width: features of a run.
        size: C.
    """

    def __init__(self, buckets: int, width: int, size: int) -> None:
        super().__init__()
        for name, value in (("buckets", buckets), ("width", width), ("size", size)):
            check_size(name, value)
        self.buckets, self.width, self.size = buckets, width, size
        self.runs = nn.EmbeddingBag(buckets, width, mode="mean")
        self.out = Linear(width, size)

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """What `forward` takes: buckets of all runs, (R,), and where each text begins, (N,)."""
        found: list[int] = []
        starts: list[int] = []
        for text in texts:
            starts.append(len(found))
            found += [crc32(run.encode()) % self.buckets for run in runs_of(text)]
        return torch.tensor(found, dtype=torch.int64), torch.tensor(starts, dtype=torch.int64)

    def forward(self, ids: Tensor, starts: Tensor) -> Tensor:
        """(R,), (N,) → (N, C), of any length."""
        y: Tensor = self.out(self.runs(ids, starts))
        return y

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A vector of length 1 for each text, (N, C), float32."""
        if not texts:
            return np.empty((0, self.size), np.float32)
        return np.asarray(F.normalize(self(*self.ids(texts)), dim=-1).numpy(), np.float32)

    def save(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write config.json and model.safetensors.

        Raises:
            StorageError: the disk is full or read-only.
        """
        config = {
            "model_type": MODEL_TYPE,
            "buckets": self.buckets,
            "width": self.width,
            "hidden_size": self.size,
        }
        with written_whole(folder) as staged:
            save_tensors({n: t.to(dtype) for n, t in self.state_dict().items()}, staged)
            write_json(staged / "config.json", config)

    @classmethod
    def from_folder(cls, folder: Path) -> Bag:
        """Open what `save` wrote, in evaluation mode, in float32, without gradients.

        Raises:
            ModelError: a file is missing, broken or of another kind.
        """
        config = read_json(folder / "config.json")
        if config.get("model_type") != MODEL_TYPE:
            raise ModelError(f"{folder}: model_type must be {MODEL_TYPE}; train it again")
        try:
            bag = cls(config["buckets"], config["width"], config["hidden_size"])
        except (KeyError, ValueError) as error:
            raise ModelError(f"{folder}: config.json: a field cannot be used: {error}") from None
        names = TensorFiles(folder).names
        state = load_file(folder / "model.safetensors")
        wanted = {name: tensor.shape for name, tensor in bag.state_dict().items()}
        if set(names) != set(wanted) or any(state[n].shape != s for n, s in wanted.items()):
            raise ModelError(f"{folder}: the weights do not fit config.json; train it again")
        bag.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        return bag.eval().requires_grad_(requires_grad=False)


def runs_of(text: str) -> list[str]:
    """Runs of one to three characters, in one form (NFKC) and in small letters; never empty."""
    plain = " ".join(unicodedata.normalize("NFKC", text[:_MOST_CHARACTERS]).casefold().split())
    edged = f"\x02{plain}\x03"  # so that a beginning is told from a middle
    return [
        edged[at : at + length]
        for length in range(1, _LONGEST_RUN + 1)
        for at in range(len(edged) - length + 1)
    ]
