"""Many callers, one network: texts join and leave its batch at every step.

A step reads one token of each text that is being written, and parts of the prompts of those that
have just come. A text waits while there is no room for it; it never fails for that. What an
earlier or a present text has read is not read again by one that begins the same.

V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from llguidance import LLMatcher
from torch import Tensor

from vermilion.errors import InputError, ModelError
from vermilion.models.lm import grammar
from vermilion.models.lm.decoder import Decoder, Memory
from vermilion.models.lm.logits import Row
from vermilion.models.lm.request import Piece, Request
from vermilion.models.lm.sample import Choice, choose
from vermilion.models.lm.text_stream import TextStream
from vermilion.models.lm.tokenizer import Tokenizer
from vermilion.models.lm.turns import Turns

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
        done: there will be no further piece; said after the last piece or `failed`.
        cancelled: nobody wants it any longer.
    """

    index: int
    request: Request
    row: Row
    text: TextStream
    matcher: LLMatcher | None
    pieces: deque[Piece] = field(default_factory=deque)
    memory: Memory | None = None
    failed: Exception | None = None
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
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, max_batch: int) -> None:
        self.decoder, self.tokenizer, self.max_batch = decoder, tokenizer, max_batch
        self._turns = Turns()
        self._arrived: deque[Writing] = deque()  # any thread adds to it, without a turn
        self._waiting: list[Writing] = []
        self._active: list[Writing] = []
        self._kept: list[tuple[list[int], Memory]] = []  # the latest last

    def submit(self, writings: Sequence[Writing]) -> None:
        """Let texts wait for their turn."""
        self._arrived.extend(writings)

    def cancel(self, writings: Sequence[Writing]) -> None:
        """Let go of texts; the next step is without them. Never waits."""
        for writing in writings:
            writing.cancelled = True
        self._sweep()

    def advance(self, writings: Sequence[Writing]) -> None:
        """See that one of these texts has a piece, or all are done, or take a step towards it."""

        def served() -> bool:
            done = all(w.done for w in writings)
            return done or any(w.pieces or w.failed is not None for w in writings)

        with self._turn(served) as mine:
            if mine and not served():
                self._drop()
                self._admit()
                self._go_on()

    @contextmanager
    def pause(self, needed: int) -> Iterator[None]:
        """The decoder for a caller's own use; texts wait.

        Args:
            needed: bytes of memory that should be free. What is remembered is forgotten for them,
                and if that is not enough, the texts in the batch are finished first.
        """
        with self._turn():
            self._drop()
            while self._active and not self._forget(needed):
                self._go_on()
                self._turns.tell()
                self._drop()
            self._forget(needed)
            yield

    @contextmanager
    def _turn(self, served: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        try:
            with self._turns.take(served) as mine:
                yield mine
        finally:
            self._sweep()

    def _sweep(self) -> None:
        """Drop what was cancelled, unless somebody has a turn, who does it at the end.

        An iterator that is thrown away is closed wherever its thread happens to be, which may be
        in the middle of a step; so this neither waits nor touches anything without a turn.
        """
        while any(w.cancelled for w in self._active):
            with self._turns.take_if_free() as mine:
                if not mine:
                    return
                self._drop()

    def _go_on(self) -> None:
        """Read on in all texts of the batch, and write a token where all was read."""
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
            memories = [w.memory for w in work if w.memory is not None]
            logits = self.decoder.extend(memories, tokens)
            ready = [i for i, writing in enumerate(work) if not writing.unread]
            if ready:
                rows = logits if len(ready) == len(work) else logits[ready]
                self._write([work[i] for i in ready], rows)
        except BaseException as error:  # a step that is half done cannot be gone on with
            broken = ModelError("another text's caller broke off a step; ask again")
            reason = error if isinstance(error, Exception) else broken
            for writing in work:
                if not writing.done:
                    self._fail(writing, reason)
            if reason is broken:
                raise

    def _drop(self) -> None:
        while self._arrived:
            self._waiting.append(self._arrived.popleft())
        self._waiting = [w for w in self._waiting if not w.cancelled]
        for writing in [w for w in self._active if w.cancelled]:
            self._end(writing)

    def _fail(self, writing: Writing, error: Exception) -> None:
        writing.failed = error
        self._end(writing)

    def _end(self, writing: Writing) -> None:
        """A text leaves the batch; what it has read is remembered while there is room."""
        if writing in self._active:
            self._active.remove(writing)
        memory, writing.memory = writing.memory, None
        if memory is not None:
            if self.decoder.keeps and writing.failed is None and memory.length >= _WORTH:
                self._kept.append((writing.row.ids[: memory.length], memory))
            else:
                self.decoder.free(memory)
            if len(self._kept) > _KEPT:
                self.decoder.free(self._kept.pop(0)[1])
        writing.done = True

    def _admit(self) -> None:
        """Take those who wait into the batch, in order, as far as there is room."""
        for writing in self._waiting[: self.max_batch]:
            if len(self._active) >= self.max_batch:
                break
            if self._is_coming(writing.row.ids, self._known(writing.row.ids)[1]):
                continue
            fits = self.decoder.room(None, self._most(writing)) <= self.decoder.capacity
            if fits and not self._make_room(writing) and self._active:
                break  # whoever comes later does not overtake
            self._waiting.remove(writing)
            if fits:
                self._begin(writing)
            else:
                self._fail(writing, self._too_long(writing))

    def _begin(self, writing: Writing) -> None:
        """Take a text that has room into the batch."""
        memory, common = self._known(writing.row.ids)
        try:
            if memory is None:
                writing.memory = self.decoder.start()
            else:
                writing.memory = self.decoder.fork(memory, common)
        except Exception as error:  # noqa: BLE001 - torch raises RuntimeError without memory
            self._fail(writing, error)
            return
        self._active.append(writing)

    def _most(self, writing: Writing) -> int:
        """How many tokens a text can come to."""
        longest = len(writing.request.ids) + writing.request.max_new_tokens
        return min(longest, self.decoder.config.max_position_embeddings)

    def _make_room(self, writing: Writing) -> bool:
        """Whether a text has room beside the others, all at their longest; forgets what it must."""
        needed = self.decoder.room(None, self._most(writing))
        needed += sum(self.decoder.room(w.memory, self._most(w)) for w in self._active)
        return self._forget(needed)

    def _forget(self, needed: int) -> bool:
        """Forget finished texts, the oldest first, until there is room; whether there is."""
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
            most = min(len(ids) - 1, memory.length)
            if most > longest and ids[: longest + 1] == other[: longest + 1]:
                best, longest = memory, _common(ids, other, most)
        for place, (_, memory) in enumerate(self._kept):
            if memory is best:
                self._kept.append(self._kept.pop(place))
                break
        return best, longest

    def _is_coming(self, ids: list[int], common: int) -> bool:
        """Whether a text in the batch is about to read more of the same beginning."""
        for other in self._active:
            enough, left = max(common, other.read) + _WORTH, len(other.row.ids) - other.read
            if left > 1 and enough < len(ids) and ids[:enough] == other.row.ids[:enough]:
                return True
        return False

    def _write(self, writings: Sequence[Writing], logits: Tensor) -> None:
        """Choose the next token of each text; logits are (B, V)."""
        try:
            choices = self._choose(writings, logits)
        except Exception as error:  # noqa: BLE001 - a hook may raise anything
            if len(writings) == 1:
                self._fail(writings[0], error)
                return
            for i, writing in enumerate(writings):  # one of them is to blame
                self._write([writing], logits[i : i + 1])
            return
        for writing, choice in zip(writings, choices, strict=True):
            try:
                self._append(writing, choice)
            except Exception as error:  # noqa: BLE001 - likewise a tokenizer
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
