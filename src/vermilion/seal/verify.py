"""What a file says about itself, and whether it is true: each thing apart, in words for people.

file, sidecar → Verdict: signature, signer, label, source, mark, watermark, ledger, originality
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from vermilion.errors import InputError, MissingExtraError
from vermilion.seal import carriers, credentials, fingerprints
from vermilion.seal.authority import Authority
from vermilion.seal.credentials import Credential
from vermilion.seal.formats import Format
from vermilion.seal.labels import EDITED_WITH_AI, MADE_BY_AI, Label, Statement
from vermilion.seal.ledger import Ledger, Match
from vermilion.seal.marks import tells, text
from vermilion.seal.media import pictures
from vermilion.seal.originality import Measure, Near, Prints, score
from vermilion.seal.watermark import picture as picture_watermark
from vermilion.seal.watermark import text as text_watermark
from vermilion.seal.watermark.payload import Found

What = Literal[
    "signature", "signer", "label", "source", "mark", "watermark", "ledger", "originality"
]
State = Literal["good", "bad", "absent", "unknown"]

_MEASURES: Mapping[str, Measure] = {"picture": "picture", "sound": "sound", "text": "text"}

Hidden = Callable[[str], text_watermark.Found | None]
"""Looks for the watermark of a text that our engine wrote."""

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
        words: for people, a sentence without its full stop.
        facts: for machines, JSON values only.
    """

    what: What
    state: State
    words: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All that was found in a file.

    Attributes:
        findings: one for each thing that was looked at.
        statement: what the file says outside its credential.
        credential: what its credential says.
        asset_id: which of our assets it is, if anything says so that can be relied on.
        summary: one sentence for people.
    """

    findings: tuple[Finding, ...]
    statement: Statement
    credential: Credential
    asset_id: str
    summary: str

    @property
    def label(self) -> Label | None:
        """The machine label."""
        return self.statement.label

    @property
    def exit_code(self) -> int:
        """0, or the number in `EXIT_CODES` of the first thing that is bad or absent."""
        failed = [f.what for f in self.findings if f.state in ("bad", "absent")]
        return min((EXIT_CODES[what] for what in failed), default=0)

    def __getitem__(self, what: What) -> Finding | None:
        """The finding about one thing."""
        return next((finding for finding in self.findings if finding.what == what), None)


@dataclass(frozen=True, slots=True)
class Seen:
    """A file's content, decoded once for all that looks at it.

    Attributes:
        watermark: what the detector found; None: nothing of this kind can be looked for.
        why: why not, in words.
        prints: its fingerprints.
    """

    watermark: Found | text_watermark.Found | None
    why: str
    prints: Prints


def examine(
    content: bytes,
    form: Format,
    sidecar: bytes | None,
    *,
    authority: Authority,
    key: bytes,
    ledger: Ledger | None = None,
    hidden: Hidden | None = None,
) -> Verdict:
    """Look at a file.

    Args:
        content: its bytes.
        form: its format.
        sidecar: the credential that lies beside it, if one does.
        authority: who we are.
        key: of our watermarks.
        ledger: what was sealed here; None: it is not asked.
        hidden: looks for the watermark of a text that our engine wrote; None: nobody does.

    Raises:
        InputError: the file is damaged or not of that format.
    """
    credential = credentials.read(content, form, sidecar, authority)
    findings = [*_signature(credential)]
    statement = Statement()
    try:
        statement = carriers.read(content, form)
        findings += [_label(statement), _source(statement, form)]
    except InputError as error:
        findings.append(Finding("label", "bad", str(error).rstrip(".")))
    if form.medium in ("text", "document"):
        findings.append(_mark(content, form))
    seen = look(content, form, key, hidden)
    findings.append(_watermark(seen))
    known = ""
    if ledger is not None:
        digest = hashlib.sha256(content).hexdigest()
        matches = ledger.find(sha256=digest, prints=seen.prints)
        finding, known = _ledger(matches, digest)
        findings += [finding, _originality(matches, known)]
    asset_id = _asset_id(credential, seen.watermark, known)
    return Verdict(
        findings=tuple(findings),
        statement=statement,
        credential=credential,
        asset_id=asset_id,
        summary=_summary(findings, credential, statement, asset_id),
    )


def look(
    content: bytes,
    form: Format,
    key: bytes,
    hidden: Hidden | None = None,
) -> Seen:
    """Decode a file once: its watermark and its fingerprints.

    Raises:
        InputError: it is damaged.
    """
    if form.medium == "picture":
        frame = pictures.decode(content, form).frames[0]
        prints = Prints(picture=fingerprints.phash(frame))
        if min(frame.shape[:2]) < picture_watermark.SMALLEST:
            return Seen(
                None, f"pictures below {picture_watermark.SMALLEST} pixels hold none", prints
            )
        return Seen(picture_watermark.detect(frame, key), "", prints)
    if form.medium == "sound":
        return _heard(content, form, key)
    if form.medium in ("text", "document"):
        words = text.text_of(content, form)
        said = words.decode("utf-8", "replace") if form.medium == "text" else ""
        prints = Prints(text=fingerprints.minhash(said)) if said else Prints()
        found = hidden(said) if hidden is not None and said else None
        return Seen(found, "nothing here can look for one in this text", prints)
    return Seen(None, f"a .{form.suffix} holds none", Prints())


def _heard(content: bytes, form: Format, key: bytes) -> Seen:
    try:
        sounds = import_module("vermilion.seal.media.sounds")
        sound = sounds.decode(content, form)
    except MissingExtraError as error:
        return Seen(None, str(error), Prints())
    watermark = import_module("vermilion.seal.watermark.sound")
    seconds = len(sound.wave) / sound.sample_rate
    if seconds < 0.2:
        return Seen(None, "it is too short", Prints())
    prints = Prints(sound=fingerprints.soundprint(sound.wave, sound.sample_rate))
    if seconds < watermark.SHORTEST:
        return Seen(None, f"sound below {watermark.SHORTEST:g} s holds none", prints)
    return Seen(watermark.detect(sound.wave, sound.sample_rate, key), "", prints)


def _signature(credential: Credential) -> list[Finding]:
    """What the credential proves, and who signed it."""
    facts = {
        "state": credential.state,
        "issuer": credential.issuer,
        "fingerprint": credential.fingerprint,
        "signed_at": None if credential.signed_at is None else credential.signed_at.isoformat(),
        "time_proved": credential.time_proved,
        "asset_id": credential.asset_id,
        "model": credential.said.model,
        "codes": list(credential.codes),
    }
    if credential.state == "none":
        return [Finding("signature", "absent", "there is no credential", facts)]
    if credential.state == "invalid":
        words = " ".join(credential.problems).rstrip(".") or "the credential does not hold"
        return [Finding("signature", "bad", words, facts)]
    intact = Finding("signature", "good", "nothing was changed since it was signed", facts)
    signer = {
        "ours": Finding("signer", "good", f"signed here, by {credential.issuer}"),
        "trusted": Finding("signer", "good", f"signed by {credential.issuer}, who is trusted here"),
        "unknown-signer": Finding(
            "signer",
            "bad",
            f"signed by somebody who is not known here and calls themselves {credential.issuer!r}",
        ),
    }[credential.state]
    return [intact, signer]


def _label(statement: Statement) -> Finding:
    label = statement.label
    if label is None:
        return Finding("label", "absent", "there is no machine label (GB 45438-2025)")
    said = {"1": "made by AI", "2": "possibly made by AI", "3": "suspected to be made by AI"}
    words = f"{said[label.label]}; producer {label.content_producer}, number {label.produce_id}"
    if label.content_propagator:
        words += f"; spread by {label.content_propagator}, number {label.propagate_id}"
    return Finding("label", "good", words, {"AIGC": label.inner()})


def _source(statement: Statement, form: Format) -> Finding:
    found = statement.source_type
    if found in (MADE_BY_AI, EDITED_WITH_AI):
        return Finding("source", "good", f"IPTC: {found.rpartition('/')[2]}")
    if found:
        return Finding("source", "unknown", f"IPTC: {found}")
    return Finding("source", "absent", f"no IPTC digital source type in this .{form.suffix}")


def _mark(content: bytes, form: Format) -> Finding:
    words = text.mark_of(content, form)
    if words and tells(words):
        return Finding("mark", "good", f"it says: {words}")
    return Finding("mark", "absent", "no line says that AI made it")


def _watermark(seen: Seen) -> Finding:
    found = seen.watermark
    if found is None:
        return Finding("watermark", "unknown", f"not looked for: {seen.why}")
    asset_id = found.asset_id if isinstance(found, Found) else None
    facts = {"probability": found.probability, "asset_id": asset_id}
    if not found.present:
        # Texts have one only where it was asked for.
        state: State = "absent" if isinstance(found, Found) else "unknown"
        return Finding("watermark", state, "ours was not found in it", facts)
    chance = f"chance gives this once in {1 / max(found.probability, 1e-300):.2g}"
    if not isinstance(found, Found):
        return Finding("watermark", "good", f"ours, in its choice of words ({chance})", facts)
    if asset_id is None:
        return Finding("watermark", "good", f"ours, its number cannot be read ({chance})", facts)
    return Finding("watermark", "good", f"ours, of asset {asset_id} ({chance})", facts)


def _ledger(matches: list[Match], digest: str) -> tuple[Finding, str]:
    """What the ledger knows, and the id of the asset that it knows the file as."""
    if not matches:
        return Finding("ledger", "absent", "nothing like it was sealed here"), ""
    entry, distance = matches[0].entry, matches[0].distance
    facts = {
        "asset_id": entry.asset_id,
        "number": entry.number,
        "time": entry.time,
        "measure": matches[0].measure,
        "distance": distance,
    }
    when = entry.time[:10]
    if digest in (entry.sha256, entry.original_sha256):
        which = "this very file was" if digest == entry.sha256 else "its unsealed original was"
        return Finding("ledger", "good", f"{which} sealed here on {when}", facts), entry.asset_id
    words = f"it resembles asset {entry.asset_id}, which was sealed here on {when}"
    return Finding("ledger", "good", words, facts), entry.asset_id


def _originality(matches: list[Match], known: str) -> Finding:
    """Whether it is a copy of something else that was sealed here, or close to it."""
    near = closest_other(matches, {known})
    if near is None:
        return Finding("originality", "good", "nothing else that was sealed here is close to it")
    state: State = "bad" if near.score == 0 else "unknown"
    how = "a copy of" if near.score == 0 else "close to"
    words = f"{how} asset {near.name} ({near.measure}, originality {near.score:.2f})"
    facts = {"asset_id": near.name, "distance": near.distance, "score": near.score}
    return Finding("originality", state, words, facts)


def closest_other(matches: Sequence[Match], own: Collection[str]) -> Near | None:
    """The closest asset among what the ledger found, but for those of these ids."""
    others = [
        Near(match.entry.asset_id, measure, match.distance, score(measure, match.distance))
        for match in matches
        if match.entry.asset_id not in own and (measure := _MEASURES.get(match.measure)) is not None
    ]
    return min(others, key=lambda near: near.score, default=None)


def _asset_id(
    credential: Credential, watermark: Found | text_watermark.Found | None, ledger: str
) -> str:
    if credential.state == "ours":
        return credential.asset_id
    if isinstance(watermark, Found) and watermark.present and watermark.asset_id is not None:
        return watermark.asset_id
    return ledger


def _summary(
    findings: list[Finding], credential: Credential, statement: Statement, asset_id: str
) -> str:
    if credential.state == "ours":
        return f"Made by AI and sealed here as {asset_id}; nothing was changed since."
    if credential.state == "invalid":
        whose = f" It was sealed here as {asset_id}." if asset_id else ""
        return f"Changed since it was signed, or its credential is damaged.{whose}"
    if asset_id:
        return f"It was made here as {asset_id}, and has lost its credential or was changed."
    if credential.state == "trusted":
        return f"Signed by {credential.issuer}, who is trusted here; nothing was changed since."
    if credential.state == "unknown-signer":
        return "Unchanged since somebody signed it who is not known here."
    if statement.label is not None or statement.source_type in (MADE_BY_AI, EDITED_WITH_AI):
        return "It says that AI made it, and nothing proves that."
    return "Nothing says that AI made it, which does not prove that a person did."
