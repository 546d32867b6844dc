"""What a safety check found, and what follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Setting = Literal["flag", "refuse"]
Action = Literal["pass", "flag", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of one check.

    Attributes:
        kind: what was looked at: "text" or "picture".
        action: "pass": nothing was found; "flag": keep it and mark it; "refuse": do not make or
            release it.
        score: 0 to 1. Of a text, that of the gravest rule that it breaks; of a picture, what the
            model says.
        rule: the name of that rule or model; empty: no rule was broken.
        category: what the rule is about, such as "minors" or "explicit".
        found: the words that broke it, as they were read.
    """

    kind: Literal["text", "picture"]
    action: Action
    score: float
    rule: str = ""
    category: str = ""
    found: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values, for an asset's notes."""
        return {**asdict(self), "found": list(self.found)}

    def __str__(self) -> str:
        if not self.rule:
            return f"{self.kind}: nothing was found"
        words = f" ({', '.join(self.found)})" if self.found else ""
        return f"{self.kind}: {self.category}, rule {self.rule}, score {self.score:.2f}{words}"
