"""The engine of models that know pictures and words: both become vectors in one space.

N items, M texts, D features of a vector, H W of a picture, C channels.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vermilion.data.pictures import Decoding, decode
from vermilion.data.pictures.decoding import Resample
from vermilion.errors import InputError, ModelError, NotFoundError
from vermilion.models.contrast.bag import Bag
from vermilion.models.contrast.encode import ContrastEncoder, Prepare
from vermilion.models.contrast.io import STUDENT, load_preprocess, load_tower
from vermilion.models.contrast.net import CLIP
from vermilion.models.files import TensorFiles, read_json
from vermilion.models.lm.encode import Encoder
from vermilion.nn import quantized
from vermilion.runtime.cards import Card
from vermilion.runtime.device import choose_device
from vermilion.runtime.engines import OnPiece
from vermilion.runtime.store import Store
from vermilion.settings import Settings
from vermilion.types import Prompt, Sample

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]
# Texts with such a character go to the student, where there is one.
_OTHER_SCRIPT = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
# Pillow's numbers of filters, as Decoding calls them.
_FILTERS: Mapping[int, Resample] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
_DECODERS = 2
_TOWERS = ("resnet", "clip_vision_model")


class ContrastEngine:
    """A CLIP, one with the words of another model, or a picture tower alone.

    A picture tower that was trained beside a locked encoder of texts names that in config.json
    (`text_config.name`). It is opened from the store.

    Attributes:
        encoder: the model.
        words: whether there is a text tower.
        size: D, the features of a vector.
    """

    def __init__(self, encoder: ContrastEncoder, *, words: bool = True) -> None:
        self.encoder, self.words, self.size = encoder, words, encoder.size
        self.device = str(encoder.clip.visual_projection.weight.device)
        self.parameters = sum(weight.numel() for weight in encoder.clip.parameters())
        self.versions: Mapping[str, str] = {
            "torch": torch.__version__,
            "tokenizers": version("tokenizers"),
            "pillow": version("pillow"),
        }

    @classmethod
    def memory(cls, card: Card, path: Path) -> int:
        """About how many bytes the opened model takes: its weights as float32."""
        return TensorFiles(path).count() * 4

    @classmethod
    def open(cls, card: Card, path: Path, settings: Settings) -> Self:
        """Open a folder of transformers or open_clip, or one of `vermilion train`.

        With the setting dtype int8 a picture tower's products are of bytes on a CPU: about twice
        as fast, with vectors that are a few parts in a hundred off.

        Raises:
            ModelError: the files are broken or not supported, or its encoder of texts is missing.
        """
        device = choose_device(settings)
        engine = cls._open(card, path, settings, device)
        if settings.dtype == "int8" and device == "cpu" and quantized.available():
            quantized.quantize(engine.encoder.clip.vision_model)
        return engine

    @classmethod
    def _open(cls, card: Card, path: Path, settings: Settings, device: str) -> Self:
        known = path / "config.json"
        config = read_json(known) if known.exists() else {}
        text = config.get("text_config") or {}
        if config.get("model_type") in _TOWERS and not text:
            return cls(_alone(path, device), words=False)
        if text.get("model_type") != "other":
            return cls(ContrastEncoder.from_folder(path, device))
        name = str(text.get("name", ""))
        student = path / STUDENT if (path / STUDENT).is_dir() else None
        prepare = words_of(card.name, name, student, settings, device)
        return cls(ContrastEncoder.from_folder(path, device, text=prepare))

    def embed_pictures(self, pictures: Sequence[Pixels]) -> Vectors:
        """A vector for each picture.

        Args:
            pictures: N of them, uint8 (H, W, 3) or (H, W, 4) with straight alpha; what is clear
                becomes white.

        Returns:
            (N, D), float32, of length 1.

        Raises:
            InputError: one is no picture.
        """
        return self.encoder.pictures(pictures)

    def embed_files(self, contents: Iterable[bytes]) -> Vectors:
        """A vector for each picture's file, (N, D), float32, of length 1.

        JPEG is decoded at the scale that is needed, and the next pictures are decoded while
        vectors of those before are made. The middle is cut out before the picture is resized, not
        after, so that the numbers are not to the last digit those of `embed_pictures`.

        Args:
            contents: N files in any format of `data.pictures`; taken a batch at a time.

        Raises:
            InputError: one is no picture.
        """
        preprocess = self.encoder.preprocess
        crop, named = preprocess.crop, _FILTERS.get(preprocess.resample)
        if crop is None or preprocess.resize != min(crop) or named is None:
            how = Decoding(channels=4)
            return self.encoder.pictures(decode(content, None, how) for content in contents)
        decoding = Decoding(resample=named)
        ready = replace(preprocess, resize=None, crop=None)
        encoder = copy(self.encoder)
        encoder.preprocess = ready
        with ThreadPoolExecutor(_DECODERS) as pool:
            return encoder.pictures(
                _ahead(pool, lambda c: decode(c, crop, decoding), contents, 2 * encoder.batch_size)
            )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, (M, D), float32, of length 1, to compare with pictures.

        Raises:
            InputError: the model has no text tower.
        """
        if not self.words:
            raise InputError(
                "model: it was trained on pictures alone and knows no words; give it pictures"
            )
        return self.encoder.texts(texts)

    def probabilities(self, pictures: Vectors, texts: Vectors) -> Vectors:
        """How likely each text belongs to each picture: (N, D), (M, D) → (N, M), rows sum to 1."""
        return self.encoder.probabilities(pictures, texts)

    def generate(
        self, prompts: Sequence[Prompt], on_piece: OnPiece | None = None
    ) -> Iterator[tuple[int, Sample]]:
        """Nothing: it makes nothing.

        Raises:
            InputError: always.
        """
        raise InputError(
            "model: this one turns pictures and words into vectors and makes nothing; name another"
        )


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[bytes], Pixels], items: Iterable[bytes], most: int
) -> Iterator[Pixels]:
    """Results in order, of which at most so many are made before they are asked for."""
    waiting: deque[Future[Pixels]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _alone(path: Path, device: str) -> ContrastEncoder:
    """A picture tower whose own features are the vectors."""
    tower = load_tower(path, device)
    clip = CLIP(tower, nn.Identity(), text_size=tower.size, projection_dim=None)
    clip.visual_projection.weight = nn.Parameter(torch.eye(tower.size), requires_grad=False)
    clip.eval().requires_grad_(requires_grad=False).to(device)

    def prepare(texts: Sequence[str]) -> Tensor:
        raise InputError("model: it knows no words")

    return ContrastEncoder(clip, load_preprocess(path), prepare)


def words_of(
    model: str, name: str, student: Path | None, settings: Settings, device: str
) -> Prepare:
    """What turns texts into the vectors that a tower was trained beside.

    Args:
        model: the tower's name, for messages.
        name: of the encoder of texts, in the store.
        student: folder of its student, to which texts of other scripts go.
        settings: where the store is.
        device: where the encoder goes.

    Raises:
        ModelError: one of the two is missing or broken.
    """
    encoder = _text_encoder(model, name, settings, device)
    bag = None if student is None else Bag.from_folder(student)

    def prepare(texts: Sequence[str]) -> Tensor:
        found = encoder.encode(texts, normalize=True)  # (M, C)
        if bag is not None:
            other = [n for n, text in enumerate(texts) if _OTHER_SCRIPT.search(text)]
            found[other] = bag.encode([texts[n] for n in other])
        return torch.from_numpy(found)

    return prepare


def _text_encoder(model: str, name: str, settings: Settings, device: str) -> Encoder:
    """The encoder of texts that a picture tower was trained beside."""
    if not name:
        raise ModelError(f"{model}: its config.json names no encoder of texts; train it again")
    try:
        card, path = Store(settings.models_dir).locate(name)
    except NotFoundError as error:
        raise ModelError(f"{model}: it reads words with {name}: {error}") from None
    if card.family != "encoder":
        raise ModelError(f"{model}: {name} is no encoder of texts; pull the one that it names")
    return Encoder.from_folder(path, device=device)
