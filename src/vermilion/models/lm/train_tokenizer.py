"""Tokenizers made from one's own text, through the `tokenizers` library.

Both kinds can spell every text: what is not in the vocabulary is spelt in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from vermilion.models.lm.tokenizer import Tokenizer

END = "<|endoftext|>"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_level_bpe(texts: Iterable[str], vocab_size: int, *, chat: bool = False) -> Tokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019, section 2.2).

    Args:
        texts: what it is trained on.
        vocab_size: most tokens, the 256 bytes and special tokens included; a small text gives
            fewer.
        chat: whether there are tokens and a template for conversations (ChatML).
    """
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=_special(chat),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(texts, trainer)
    return _finished(fast, chat)


def characters(texts: Iterable[str], *, chat: bool = False) -> Tokenizer:
    """One token a character, for small or Chinese corpora.

    It is byte-level BPE without merges in which every character of the text is a word of its
    own, so that it opens wherever byte-level BPE does; characters not seen are spelt in bytes.
    """
    seen: set[str] = set()
    for text in texts:
        seen.update(text)
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = [spell.pre_tokenize_str(character)[0][0] for character in sorted(seen)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*_special(chat), *alphabet, *words])
    vocab = {token: number for number, token in enumerate(tokens)}
    fast = FastTokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    each = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    fast.pre_tokenizer = pre_tokenizers.Sequence([each, spell])
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([AddedToken(t, normalized=False) for t in _special(chat)])
    return _finished(fast, chat)


def _special(chat: bool) -> list[str]:
    return [END, TURN, TURN_END] if chat else [END]


def _finished(fast: FastTokenizer, chat: bool) -> Tokenizer:
    special = {"bos_token": END, "eos_token": TURN_END if chat else END}
    return Tokenizer(fast, chat_template=CHATML if chat else None, special=special)


def capped(texts: Iterable[str], limit: int) -> Iterator[str]:
    """Texts up to `limit` characters together: more adds next to nothing to a vocabulary."""
    for text in texts:
        yield text[:limit]
        limit -= len(text)
        if limit <= 0:
            return
