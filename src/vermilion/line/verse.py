"""Chinese regulated verse: what a poem is measured by, and what is wrong with one.

The rule of tones and rhymes is in `data.prosody`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from vermilion.data import prosody


@dataclass(frozen=True)
class Bounds:
    """The least that a poem has to keep of the rule, 0 to 1; see `prosody.Scores`."""

    tone: float = 0.0
    rhyme: float = 0.0


def measures(text: str) -> Mapping[str, float]:
    """How well a poem keeps the rule: "tone" and "rhyme", 0 to 1; both 0 without a form.

    Raises:
        MissingExtraError: pypinyin is not installed.
    """
    lines = prosody.lines_of(text)
    if not prosody.form_of(lines):
        return {"tone": 0.0, "rhyme": 0.0}
    scores = prosody.scores(lines)
    return {"tone": round(scores.tone, 4), "rhyme": round(scores.rhyme, 4)}


def fault(text: str, bounds: Bounds) -> str | None:
    """What is wrong with a poem, in a few words.

    Raises:
        MissingExtraError: pypinyin is not installed.
    """
    lines = prosody.lines_of(text)
    if not prosody.form_of(lines):
        forms = ", ".join(prosody.FORMS)
        return f"has none of the forms {forms}"
    again = _repeated(lines)
    if again:
        return f"says {again} twice"
    ends = [line[-1] for line in lines[1::2]]
    if len(set(ends)) < len(ends):
        return "rhymes a character with itself"
    found = measures(text)
    if found["rhyme"] < bounds.rhyme:
        return f"has {found['rhyme']:.0%} of its rhymes and should have {bounds.rhyme:.0%}"
    if found["tone"] < bounds.tone:
        return f"has {found['tone']:.0%} of its tones and should have {bounds.tone:.0%}"
    return None


def _repeated(lines: list[str]) -> str:
    """Two characters in a row that come twice, as they do in a line that comes twice; or ""."""
    pairs = Counter(line[i : i + 2] for line in lines for i in range(len(line) - 1))
    pair, times = pairs.most_common(1)[0]
    return pair if times > 1 else ""
