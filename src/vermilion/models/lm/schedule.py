"""Many callers, one network: texts join and leave its batch at every step.

A step reads one token of each text that is being written, and parts of the prompts of those that
have just come. A text waits while there is no room for it; it never fails for that. What an
earlier or a present text has read is not read again by one that begins the same.

V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock

from llguidance import LLMatcher
from torch import Tensor

from vermilion.errors import InputError, VermilionError
from vermilion.models.lm import grammar
from vermilion.models.lm.decoder import Decoder, Memory
from vermilion.models.lm.logits import Row
from vermilion.models.lm.request import Piece, Request
from vermilion.models.lm.sample import Choice, choose
from vermilion.models.lm.text_stream import TextStream
from vermilion.models.lm.tokenizer import Tokenizer

_READ = 512  # tokens of prompts that a step reads at most
_WORTH = 16  # tokens from which on a common beginning is worth waiting for
_KEPT = 256  # finished texts that are remembered at most


@dataclass(slots=True, eq=False)
class Writing:
    """A request while it is being worked on.

    Attributes:
        index: of the request among those that its caller has sent with it.
        pieces: new text that the caller has not fetched.
        memory: what was read of `row.ids`; None while it waits and when it is done.
        failed: why it ended without a last piece.
        done: there will be no further piece.
        cancelled: nobody wants it any longer.
    """

    index: int
    request: Request
    row: Row
    text: TextStream
    matcher: LLMatcher | None
    pieces: deque[Piece] = field(default_factory=deque)
    memory: Memory | None = None
    failed: VermilionError | None = None
    done: bool = False
    cancelled: bool = False
    logprob: float = 0.0
    choices: list[Choice] = field(default_factory=list)

    @property
    def read(self) -> int:
        """How many of its tokens the network has read."""
        return 0 if self.memory is None else self.memory.length

    @property
    def unread(self) -> list[int]:
        """The tokens that it has still to read."""
        return self.row.ids[self.read :]


class Scheduler:
    """Continues many texts side by side; may be used from several threads.

    There is no thread of its own: whoever waits for a piece takes the next step for all.

    Args:
        decoder: reads tokens.
        tokenizer: its tokenizer.
        max_batch: most texts that are written at once; the others wait.

    Attributes:
        lock: held during a step.
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, max_batch: int) -> None:
        self.decoder, self.tokenizer, self.max_batch = decoder, tokenizer, max_batch
        self.lock = RLock()
        self._waiting: list[Writing] = []
        self._active: list[Writing] = []
        self._kept: list[tuple[list[int], Memory]] = []  # the latest last

    def submit(self, writings: Sequence[Writing]) -> None:
        """Let texts wait for their turn."""
        with self.lock:
            self._waiting += writings

    def cancel(self, writings: Sequence[Writing]) -> None:
        """Let go of texts; the next step is without them."""
        for writing in writings:
            writing.cancelled = True
        with self.lock:
            self._drop()

    def advance(self, writings: Sequence[Writing]) -> None:
        """See that one of these texts has a piece, or all are done, or take a step towards it."""
        with self.lock:
            if any(w.pieces or w.failed for w in writings) or all(w.done for w in writings):
                return  # another caller has taken the step
            self._step()

    def _step(self) -> None:
        self._drop()
        self._admit()
        work, tokens, left = [], [], _READ
        for writing in self._active:
            part = writing.unread
            if len(part) > 1:  # a prompt
                part = part[:left]
                left -= len(part)
            if part:
                work.append(writing)
                tokens.append(part)
        if not work:
            return
        try:
            logits = self.decoder.extend([w.memory for w in work if w.memory], tokens)
        except VermilionError as error:
            for writing in work:
                self._fail(writing, error)
            return
        ready = [i for i, writing in enumerate(work) if not writing.unread]
        if ready:
            self._write([work[i] for i in ready], logits[ready])

    def _drop(self) -> None:
        self._waiting = [w for w in self._waiting if not w.cancelled]
        for writing in [w for w in self._active if w.cancelled]:
            self._end(writing)

    def _fail(self, writing: Writing, error: VermilionError) -> None:
        writing.failed = error
        self._end(writing)

    def _end(self, writing: Writing) -> None:
        """A text leaves the batch; what it has read is remembered while there is room."""
        writing.done = True
        if writing in self._active:
            self._active.remove(writing)
        memory, writing.memory = writing.memory, None
        if memory is None:
            return
        if not self.decoder.keeps or writing.failed is not None:
            self.decoder.free(memory)
            return
        self._kept.append((writing.row.ids[: memory.length], memory))
        if len(self._kept) > _KEPT:
            self.decoder.free(self._kept.pop(0)[1])

    def _admit(self) -> None:
        """Take those who wait into the batch, in order, as far as there is room."""
        for writing in list(self._waiting):
            if len(self._active) >= self.max_batch:
                break
            if not self._make_room(writing):
                if self._active:
                    break  # whoever comes later does not overtake
                self._waiting.remove(writing)
                self._fail(writing, self._too_long(writing))
                continue
            memory, common = self._known(writing.row.ids)
            if self._is_coming(writing.row.ids, common):
                continue
            self._waiting.remove(writing)
            writing.memory = (
                self.decoder.start() if memory is None else self.decoder.fork(memory, common)
            )
            self._active.append(writing)

    def _most(self, writing: Writing) -> int:
        """How many tokens a text can come to."""
        longest = len(writing.request.ids) + writing.request.max_new_tokens
        return min(longest, self.decoder.config.max_position_embeddings)

    def _make_room(self, writing: Writing) -> bool:
        """Whether a text has room beside the others, all at their longest; forgets what it must."""
        needed = self.decoder.room(None, self._most(writing))
        needed += sum(self.decoder.room(w.memory, self._most(w)) for w in self._active)
        while needed > self.decoder.capacity - self.decoder.used and self._kept:
            self.decoder.free(self._kept.pop(0)[1])
        return needed <= self.decoder.capacity - self.decoder.used

    def _too_long(self, writing: Writing) -> InputError:
        needed = self.decoder.room(None, self._most(writing)) / 1e6
        return InputError(
            f"max_new_tokens: the prompt and {writing.request.max_new_tokens} new tokens need"
            f" {needed:.0f} MB of memory and there are {self.decoder.capacity / 1e6:.0f} MB for"
            " texts; lower it, or raise VERMILION_CACHE_MEMORY"
        )

    def _known(self, ids: list[int]) -> tuple[Memory | None, int]:
        """The memory that shares the longest beginning with a text, and how long that is."""
        best: Memory | None = None
        longest = 0
        known = [(w.row.ids, w.memory) for w in self._active if w.memory is not None]
        for other, memory in known + self._kept[::-1]:
            # At least one token has to be read: logits are not remembered.
            common = _common(ids, other, min(len(ids) - 1, memory.length))
            if common > longest:
                best, longest = memory, common
        for place, (_, memory) in enumerate(self._kept):
            if memory is best:
                self._kept.append(self._kept.pop(place))
                break
        return best, longest

    def _is_coming(self, ids: list[int], common: int) -> bool:
        """Whether a text in the batch is about to read more of the same beginning."""
        return any(
            _common(ids, other.row.ids, len(ids) - 1) >= max(common, other.read) + _WORTH
            for other in self._active
            if len(other.unread) > 1
        )

    def _write(self, writings: Sequence[Writing], logits: Tensor) -> None:
        """Choose the next token of each text; logits are (B, V)."""
        try:
            choices = self._choose(writings, logits)
        except VermilionError as error:
            if len(writings) == 1:
                self._fail(writings[0], error)
                return
            for i, writing in enumerate(writings):  # one of them is to blame
                self._write([writing], logits[i : i + 1])
            return
        for writing, choice in zip(writings, choices, strict=True):
            try:
                self._append(writing, choice)
            except VermilionError as error:
                self._fail(writing, error)

    def _choose(self, writings: Sequence[Writing], logits: Tensor) -> list[Choice]:
        led = [(w, w.matcher) for w in writings if w.matcher is not None]
        if led:
            masks = grammar.allowed([m for _, m in led], self.tokenizer, logits.shape[1])
            for (writing, _), mask in zip(led, masks, strict=True):
                writing.row.allowed = mask
        choices = choose(logits, [w.row for w in writings])
        for i, writing in enumerate(writings):
            if not choices[i].certain:
                (choices[i],) = choose(self.decoder.alone(writing.row.ids), [writing.row])
        return choices

    def _append(self, writing: Writing, choice: Choice) -> None:
        """Take a text's next token; let the text go when it is its last."""
        writing.row.append(choice.token)
        if writing.request.sampling.logprobs is not None:
            writing.choices.append(choice)
        writing.logprob += choice.logprob
        text, finish = self._read(writing, choice.token)
        if text or finish is not None:
            choices, writing.choices = tuple(writing.choices), []
            made = writing.row.step
            writing.pieces.append(
                Piece(writing.index, text, finish, made, writing.logprob, choices)
            )
        if finish is not None:
            self._end(writing)

    def _read(self, writing: Writing, token: int) -> tuple[str, str | None]:
        """The new text, and why it ends here, if it does."""
        complete = writing.matcher is not None and grammar.follow(writing.matcher, token)
        if token in writing.row.ends:
            return writing.text.rest(), "stop"
        text, stopped = writing.text.add(token)
        if stopped:
            return text, "stop"
        if complete:
            return text + writing.text.rest(), "stop"
        context = self.decoder.config.max_position_embeddings
        if writing.row.step >= writing.request.max_new_tokens or len(writing.row.ids) >= context:
            return text + writing.text.rest(), "length"
        return text, None


def _common(first: list[int], second: list[int], most: int) -> int:
    """How many tokens two texts have in common at their beginning, at most `most`."""
    low, high = 0, min(len(first), len(second), most)
    while low < high:  # slices are compared faster than tokens one by one
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
