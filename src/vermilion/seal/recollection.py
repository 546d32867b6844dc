"""What is known here of a file: whether it was sealed or is kept here, and what it is close to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vermilion.seal import resemblance
from vermilion.seal.credential_reader import Credential, Ingredient
from vermilion.seal.findings import Finding, State
from vermilion.seal.ledger import Ledger, Match
from vermilion.seal.originality import Index, Prints
from vermilion.seal.resemblance import Known, Resemblance

_MOST_MATCHES = 50


class Recollection:
    """What the ledger, the library and a model's training set know of a file.

    Args:
        ledger: what was sealed here.
        digest: the file's SHA-256.
        prints: its fingerprints.
        credential: what it says of itself.
        known: what else is known; None: nothing.
        hidden: id of the asset that its watermark names; empty: none.

    Attributes:
        sealed: id of the asset whose released file has the same bytes; empty: there is none.
        unsealed: id of the asset whose original has the same bytes, from the ledger, or from what
            the library keeps; empty: there is none.
        was_sealed: whether that one was ever sealed.
        alike: what the file resembles most, where no bytes are the same. Strangers may make what
            looks alike, so this proves nothing.
    """

    def __init__(
        self,
        ledger: Ledger,
        digest: str,
        prints: Prints,
        credential: Credential,
        known: Known | None = None,
        hidden: str = "",
    ) -> None:
        self._digest, self._prints, self._credential = digest, prints, credential
        said = credential.asset_id if credential.state == "ours" else ""

        def nearness(match: Match) -> int:
            entry = match.entry
            same = (digest == entry.sha256, digest == entry.original_sha256)
            return [*same, bool(said) and entry.asset_id == said, True].index(True)

        self._ledger, self._said, self._hidden = ledger, said, hidden
        self._matches = sorted(
            ledger.find(sha256=digest, prints=prints, count=_MOST_MATCHES), key=nearness
        )
        first = self._matches[0].entry if self._matches else None
        self._closest = "" if first is None else first.asset_id
        self.sealed = self.unsealed = ""
        self.was_sealed = True
        if first is not None and digest == first.sha256:
            self.sealed = first.asset_id
        elif first is not None and digest == first.original_sha256:
            self.unsealed = first.asset_id
        self._shelf = None if known is None else known.shelf()
        # What a model of others was trained on is not known here, whatever its name.
        model = credential.said.model if credential.state in ("ours", "trusted") else ""
        self._trained_on: Index | None = None
        self._model = model
        if known is not None and model:
            self._trained_on = known.trained_on(model)
        same = [] if self._shelf is None else self._shelf.same(digest)
        if same and not self.sealed and not self.unsealed:
            self.unsealed, self.was_sealed = same[0].asset_id, False
        self._other, self._relative = self._closest_others()
        self.alike = self._likeness()

    def _likeness(self) -> Resemblance | None:
        if self.sealed or self.unsealed:
            return None
        found = resemblance.sealed(self._matches, ())
        return next(found, self._other)

    def _closest_others(self) -> tuple[Resemblance | None, Resemblance | None]:
        """What else is close to it and was there before it, and the closest of its relatives.

        What came later copies it, and what has the same bytes unsealed is the same thing made
        again: one seed gives one result.
        """
        entries = [m.entry for m in self._matches if m.entry.asset_id == self._closest]
        first = min((entry.number for entry in entries), default=0)
        own = {self._closest, self._credential.asset_id, self.unsealed, self.sealed} - {""}
        originals = {self._digest, *(entry.original_sha256 for entry in entries)}
        earlier = [match for match in self._matches if match.entry.number < first]
        shelf = self._shelf
        times = [] if shelf is None else [one.time for name in own if (one := shelf.get(name))]
        found = [
            *resemblance.sealed(earlier, originals),
            *resemblance.kept(shelf, self._prints, originals, min(times, default="")),
            *resemblance.trained_on(self._trained_on, self._prints, self._model),
        ]
        family = dict.fromkeys(_relatives(self._credential.ingredients), "which it was made from")
        if found and shelf is not None:
            for name in own:
                family |= shelf.relatives(name)
        return resemblance.closest(found, own, family)

    def whether_known(self) -> Finding:
        """Whether it, or what it was made from, or something like it was sealed here."""
        if not self._matches:
            return self._unknown()
        first = self._matches[0]
        entry = first.entry
        facts = {
            "asset_id": entry.asset_id,
            "number": entry.number,
            "time": entry.time,
            "measure": first.measure,
            "distance": first.distance,
        }
        on = f"sealed here on {entry.time[:10]}"
        if self.sealed:
            return Finding("ledger", "good", f"this very file was {on}", facts)
        if self._digest == entry.original_sha256:
            return Finding("ledger", "good", f"its unsealed original was {on}", facts)
        if self._said and entry.asset_id == self._said:
            return self._added(facts, on)
        words = f"it resembles asset {entry.asset_id}, which was {on}"
        return Finding("ledger", "unknown", words, facts)

    def _unknown(self) -> Finding:
        """What is said of a file that nothing in the ledger is like."""
        for name in filter(None, (self._said, self._hidden)):
            for match in self._ledger.find(asset_id=name, count=1):
                entry = match.entry
                facts = {"asset_id": entry.asset_id, "number": entry.number, "time": entry.time}
                on = f"sealed here on {entry.time[:10]}"
                if name == self._said:
                    return self._added(facts, on)
                words = f"asset {name}, which its watermark names, was {on}"
                return Finding("ledger", "unknown", words, facts)
        state: State = "unknown" if self._credential.state == "trusted" else "absent"
        return Finding("ledger", state, "nothing like it was sealed here")

    def _added(self, facts: Mapping[str, Any], on: str) -> Finding:
        words = (
            f"asset {self._said} was {on}, but not as these bytes: something was changed or added"
            " that the credential does not cover"
        )
        return Finding("ledger", "bad", words, facts)

    def whether_original(self) -> Finding:
        """Whether it is close to something that was here before it, or that a model learnt from."""
        near = self._other
        if near is not None:
            state: State = "bad" if near.score == 0 else "unknown"
            return Finding("originality", state, str(near), near.facts())
        words = "nothing else that is known here is close to it"
        if self._relative is not None:
            words = f"{self._relative}; {words}"
            return Finding("originality", "good", words, self._relative.facts())
        if self._prints == Prints():
            words = "it has no fingerprint, so it was compared with nothing"
            return Finding("originality", "unknown", words)
        return Finding("originality", "good", words)


def _relatives(ingredients: Sequence[Ingredient]) -> set[str]:
    found = {one.said.asset_id for one in ingredients if one.said.asset_id}
    return found.union(*(_relatives(one.ingredients) for one in ingredients))
