"""One thing that was looked at in a file, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

What = Literal[
    "signature", "signer", "label", "source", "mark", "watermark", "ledger", "originality"
]
State = Literal["good", "bad", "absent", "unknown"]

EXIT_CODES: Mapping[What, int] = {
    "signature": 10,
    "signer": 11,
    "label": 12,
    "source": 13,
    "mark": 14,
    "watermark": 15,
    "ledger": 16,
    "originality": 17,
}
"""What `vermilion verify` exits with: the first of these that is bad or absent."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: was looked at.
        state: "good"; "bad": it is wrong or was changed; "absent": it should be there and is not;
            "unknown": it cannot be told, or files of this kind have none, which is no failure.
        words: for people, a sentence without its full stop, on one line; what a terminal would
            obey or cannot show is replaced.
        facts: for machines, JSON values only.
    """

    what: What
    state: State
    words: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", " ".join(printable(self.words).split()))


def printable(text: str) -> str:
    """A stranger's text without what a terminal would obey, and half surrogate pairs."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
