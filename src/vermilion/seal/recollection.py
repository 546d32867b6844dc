"""What the ledger says of a file: whether it was sealed here, and whether it copies what was."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vermilion.seal.credential_reader import Credential, Ingredient
from vermilion.seal.findings import Finding, State
from vermilion.seal.ledger import Ledger, Match
from vermilion.seal.originality import Measure, Near, Prints, score

_MOST_MATCHES = 50
_MEASURES: Mapping[str, Measure] = {"picture": "picture", "sound": "sound", "text": "text"}


class Recollection:
    """What the ledger knows of a file.

    Args:
        ledger: what was sealed here.
        digest: the file's SHA-256.
        prints: its fingerprints.
        credential: what it says of itself.

    Attributes:
        known: id of the asset whose released file or unsealed original has the same bytes; empty:
            there is none.
        alike: id of the asset that the file resembles most, where no bytes are the same; empty:
            there is none. Strangers may make what looks alike, so this proves nothing.
    """

    def __init__(self, ledger: Ledger, digest: str, prints: Prints, credential: Credential) -> None:
        self._digest, self._credential = digest, credential
        said = credential.asset_id if credential.state == "ours" else ""

        def nearness(match: Match) -> int:
            entry = match.entry
            same = (digest == entry.sha256, digest == entry.original_sha256)
            return [*same, bool(said) and entry.asset_id == said, True].index(True)

        self._matches = sorted(
            ledger.find(sha256=digest, prints=prints, count=_MOST_MATCHES), key=nearness
        )
        first = self._matches[0].entry if self._matches else None
        self._closest = "" if first is None else first.asset_id
        same = first is not None and digest in (first.sha256, first.original_sha256)
        self.known, self.alike = (self._closest, "") if same else ("", self._closest)

    def whether_known(self) -> Finding:
        """Whether it, or what it was made from, or something like it was sealed here."""
        if not self._matches:
            elsewhere = self._credential.state == "trusted"
            state: State = "unknown" if elsewhere else "absent"
            return Finding("ledger", state, "nothing like it was sealed here")
        first = self._matches[0]
        entry = first.entry
        facts = {
            "asset_id": entry.asset_id,
            "number": entry.number,
            "time": entry.time,
            "measure": first.measure,
            "distance": first.distance,
        }
        found: State = "good" if self.known else "unknown"
        if self._digest == entry.sha256:
            words = f"this very file was sealed here on {entry.time[:10]}"
        elif self._digest == entry.original_sha256:
            words = f"its unsealed original was sealed here on {entry.time[:10]}"
        else:
            words = (
                f"it resembles asset {entry.asset_id}, which was sealed here on {entry.time[:10]}"
            )
        return Finding("ledger", found, words, facts)

    def whether_original(self) -> Finding:
        """Whether it is close to something that was sealed here before it.

        What it was made from is close to it by nature, what came later copies it, and what has
        the same bytes unsealed is the same thing made again: one seed gives one result.
        """
        entries = [m.entry for m in self._matches if m.entry.asset_id == self._closest]
        own = [entry.number for entry in entries]
        relatives = _relatives(self._credential.ingredients)
        passed = {self._closest, self._credential.asset_id, *relatives}
        earlier = [match for match in self._matches if match.entry.number < min(own, default=0)]
        near = closest_other(earlier, passed, {entry.original_sha256 for entry in entries})
        if near is None:
            words = "nothing else that was sealed here before is close to it"
            return Finding("originality", "good", words)
        state: State = "bad" if near.score == 0 else "unknown"
        how = "a copy of" if near.score == 0 else "close to"
        words = f"{how} asset {near.name} ({near.measure}, originality {near.score:.2f})"
        facts = {"asset_id": near.name, "distance": near.distance, "score": near.score}
        return Finding("originality", state, words, facts)


def closest_other(
    matches: Sequence[Match], own: Collection[str], originals: Collection[str]
) -> Near | None:
    """The closest asset among what the ledger found, but for some.

    Args:
        matches: what the ledger found.
        own: ids of assets that do not count.
        originals: SHA-256 of unsealed files whose assets do not count either.
    """
    others = [
        Near(match.entry.asset_id, measure, match.distance, score(measure, match.distance))
        for match in matches
        if match.entry.asset_id not in own
        and match.entry.original_sha256 not in originals
        and (measure := _MEASURES.get(match.measure)) is not None
    ]
    return min(others, key=lambda near: near.score, default=None)


def _relatives(ingredients: Sequence[Ingredient]) -> set[str]:
    found = {one.said.asset_id for one in ingredients}
    return found.union(*(_relatives(one.ingredients) for one in ingredients))
