"""What turns prompts into what a diffusion network is told: a text tower, or a list of classes.

Here the rooms meet: towers of `models.contrast` and `models.lm` give tensors, and
`models.diffusion` takes them.

N texts, T tokens, L tokens of a chunk, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.errors import InputError, ModelError
from vermilion.models.contrast.config import TextConfig
from vermilion.models.contrast.net import TextTransformer
from vermilion.models.contrast.tokenizer import Tokenizer
from vermilion.models.diffusion.adapters import Adapter, Merged
from vermilion.models.diffusion.embeddings import Learnt, Words
from vermilion.models.diffusion.guidance import Condition
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.prompt import Ends, chunks, encode, parse
from vermilion.models.lm.encode import Encoder
from vermilion.models.weights import Part, Tensors, fill, laid_out

Wanted = Sequence[tuple[Adapter, float]]


class Tower(Protocol):
    """What reads prompts for a diffusion network.

    Attributes:
        parameters: how many weights it has.
        guides: whether there is a way without a condition, so that guidance can be used.
    """

    parameters: int
    guides: bool

    def chunks(self, text: str) -> int:
        """How many chunks a text takes; texts that are read together are brought to one number."""
        ...

    def condition(self, texts: Sequence[str], *, chunks: int = 1, skip: int = 0) -> Condition:
        """What the network is told.

        Args:
            texts: N of them; an empty one stands for no condition.
            chunks: how many each is brought to, at least those of the longest.
            skip: layers of the tower that are left out at its end.

        Raises:
            InputError: a text or the number of layers cannot be used.
        """
        ...

    def use(self, wanted: Wanted, learnt: Sequence[Learnt]) -> None:
        """Have these adapters and learnt words from now on, and no others.

        Raises:
            InputError: it can have none.
            ModelError: one was made for another model.
        """
        ...


class ClipTower:
    """The text tower of CLIP, of Stable Diffusion 1.

    Args:
        net: the tower.
        tokenizer: its tokenizer.
    """

    guides = True

    def __init__(self, net: TextTransformer, tokenizer: Tokenizer) -> None:
        if len(tokenizer) > net.config.vocab_size:
            raise ModelError(
                f"tokenizer: has {len(tokenizer)} tokens and the text tower {net.config.vocab_size}"
                "; they belong to different models"
            )
        self.net, self._tokenizer = net, tokenizer
        self.parameters = sum(weight.numel() for weight in net.parameters())
        comma = tokenizer.ids(",")
        self._ends = Ends(
            # A tokenizer may not know how many tokens its tower reads.
            min(tokenizer.max_length, net.config.max_position_embeddings),
            tokenizer.bos_id,
            tokenizer.eos_id,
            tokenizer.pad_id,
            comma[0] if len(comma) == 1 else None,
        )
        self._merged = Merged(net, "tower")
        self._words = Words(tokenizer.ids, net.config.vocab_size, net.size)

    def chunks(self, text: str) -> int:
        """How many chunks a text takes."""
        return len(chunks(text, self._words.tokenize, self._ends))

    def use(self, wanted: Wanted, learnt: Sequence[Learnt]) -> None:
        """See `Tower.use`."""
        tokens, size = self.net.config.vocab_size, self.net.size
        words = Words(self._tokenizer.ids, tokens, size, learnt)
        self._merged.use(wanted)
        self._words = words

    def condition(self, texts: Sequence[str], *, chunks: int = 1, skip: int = 0) -> Condition:
        """See `Tower.condition`: context (N, L chunks, D)."""
        layers = self.net.config.num_hidden_layers
        if not 0 <= skip < layers:
            raise InputError(f"clip_skip: must be 0 to {layers - 1} for this model (found {skip})")
        weight = self.net.embeddings.token_embedding.weight
        extra = self._words.extra
        extra = None if extra is None else extra.to(weight)  # (K, D)

        @torch.inference_mode()
        def hidden(ids: Tensor) -> Tensor:
            # One by one: what a text gives must not depend on the others, not in the last digit.
            rows = ids.to(weight.device)[:, None]  # (M, 1, L)
            return torch.cat([self.net.hidden(row, skip, extra=extra) for row in rows])

        found = encode(texts, self._words.tokenize, hidden, self._ends, least=chunks)
        return Condition(context=found)  # (N, T, D)


def clip_tower(
    config: Mapping[str, Any],
    tensors: Tensors,
    words: Path,
    *,
    where: str,
    device: str,
    dtype: torch.dtype,
) -> ClipTower:
    """Open the text tower of a pipeline.

    Args:
        config: its config.json.
        tensors: its weights, under the names of transformers.
        words: folder of its tokenizer.
        where: the model lies, for messages.
        device: where the weights go.
        dtype: of the weights.

    Raises:
        ModelError: it is none of CLIP, or a part is missing or broken.
    """
    if config.get("model_type") != "clip_text_model":
        raise ModelError(
            f"{where}: its text encoder is {config.get('model_type')!r}; known is clip_text_model"
        )
    sizes = TextConfig.from_transformers(config)
    # transformers writes the names with this beginning, and since version 5 without it.
    inner = Part(tensors, "text_model.")
    found = inner if inner.names else tensors
    net = laid_out(lambda: TextTransformer(sizes), sizes.num_hidden_layers, found, where)
    fill(net, found, where, device, dtype)
    net.eval().requires_grad_(requires_grad=False)
    return ClipTower(net, Tokenizer.from_folder(words))


class SentenceTower:
    """A BERT, such as all-MiniLM-L6-v2, for networks that were trained here.

    Training and painting both read texts through it.

    Args:
        encoder: the model.
        max_tokens: L, vectors that the network gets of a text, ends included; 0 beyond its own.
        pooled: whether the network is told one vector for the whole text too.
        tokens: whether it is told those of the tokens.

    Attributes:
        size: D.
    """

    guides = True

    def __init__(
        self, encoder: Encoder, max_tokens: int, *, pooled: bool = False, tokens: bool = True
    ) -> None:
        found = map(encoder.fast.token_to_id, ("[CLS]", "[SEP]", "[PAD]"))
        ids = [number for number in found if number is not None]
        if len(ids) < 3:
            raise ModelError("text_encoder: its tokenizer lacks [CLS], [SEP] or [PAD]")
        self.encoder, self.size = encoder, encoder.size
        self._pooled, self._tokens = pooled, tokens
        self.parameters = sum(weight.numel() for weight in encoder.net.parameters())
        comma = encoder.fast.token_to_id(",")
        length = min(max_tokens, encoder.max_length)
        self._ends = Ends(length, ids[0], ids[1], ids[2], comma)

    def _tokenize(self, text: str) -> Sequence[int]:
        return self.encoder.fast.encode(text, add_special_tokens=False).ids

    def chunks(self, text: str) -> int:
        """How many chunks a text takes."""
        return len(chunks(text, self._tokenize, self._ends)) if self._tokens else 1

    def use(self, wanted: Wanted, learnt: Sequence[Learnt]) -> None:
        """See `Tower.use`: the UNet's adapters alone."""
        if learnt or any(adapter.tower for adapter, _ in wanted):
            raise InputError("loras: this model's text encoder is a common one and takes none")

    @torch.inference_mode()
    def _hidden(self, ids: Tensor) -> Tensor:
        """(M, L) → (M, L, D); 0 where there is padding."""
        net, rows = self.encoder.net, []
        for row in ids.to(net.embedding.weight.device)[:, None]:
            mask = row != self._ends.pad  # (1, L)
            length = int(mask.sum())
            vectors = net(row[:, :length], mask[:, :length]).float()  # (1, length, D)
            rows.append(F.pad(vectors, (0, 0, 0, ids.shape[1] - length)))  # (1, L, D)
        return torch.cat(rows)

    def condition(self, texts: Sequence[str], *, chunks: int = 1, skip: int = 0) -> Condition:
        """See `Tower.condition`: context (N, L chunks, D), and pooled (N, D) if wanted."""
        if skip:
            raise InputError("clip_skip: this model's text encoder is none of CLIP; leave it out")
        context = None
        if self._tokens:
            context = encode(texts, self._tokenize, self._hidden, self._ends, least=chunks)
        if not self._pooled:
            return Condition(context=context)  # (N, T, D)
        # Weights have no place in one vector for all; the words count as they are.
        words = ["".join(span.text for span in parse(text)) for text in texts]
        vectors = [torch.from_numpy(self.encoder.encode([word])) for word in words]
        return Condition(context=context, pooled=torch.cat(vectors))  # (N, D)


class Classes:
    """What a network that knows classes, or nothing at all, is told.

    Args:
        manifest: names of the classes.
        count: how many there are, with the one that stands for none; 0: the network knows none.
        null: which one that is, where the manifest names none.
    """

    parameters = 0

    def __init__(self, manifest: Manifest, count: int, null: int | None = None) -> None:
        self._count = count
        self._null = null if manifest.null_class is None else manifest.null_class
        names = manifest.classes or tuple(map(str, range(count - (self._null is not None))))
        self._names = Manifest(classes=names)
        self.guides = count > 0 and self._null is not None

    def chunks(self, text: str) -> int:
        """Always one."""
        return 1

    def use(self, wanted: Wanted, learnt: Sequence[Learnt]) -> None:
        """See `Tower.use`."""
        if learnt or any(adapter.tower for adapter, _ in wanted):
            raise InputError("loras: this model reads no texts and takes none of them")

    def condition(self, texts: Sequence[str], *, chunks: int = 1, skip: int = 0) -> Condition:
        """See `Tower.condition`: labels (N,), or nothing."""
        if not self._count:
            return Condition()
        labels = [self._label(text) for text in texts]
        return Condition(labels=torch.tensor(labels))  # (N,)

    def _label(self, text: str) -> int:
        if not text.strip() and self._null is not None:
            return self._null
        return self._names.label(text)
