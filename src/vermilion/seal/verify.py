"""What a file says about itself, and whether it is true: each thing apart, in words for people.

file, sidecar → Verdict: signature, signer, label, source, mark, watermark, ledger, originality
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from vermilion.errors import InputError
from vermilion.seal import carriers, credentials
from vermilion.seal.authority import Authority
from vermilion.seal.carriers import tags
from vermilion.seal.credentials import Credential
from vermilion.seal.findings import EXIT_CODES, Finding, State, What
from vermilion.seal.formats import Format
from vermilion.seal.labels import EDITED_WITH_AI, MADE_BY_AI, Label, Statement
from vermilion.seal.ledger import Ledger
from vermilion.seal.looking import Hidden, Seen, Watermark, look
from vermilion.seal.marks import drawing, tells, text
from vermilion.seal.marks.expected import Expected
from vermilion.seal.recollection import Recollection
from vermilion.seal.resemblance import Known

__all__ = ["EXIT_CODES", "Finding", "Hidden", "Verdict", "What", "examine", "stated"]

_NEVER = 1e-12  # a smaller chance is told as this one: nobody can imagine it


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All that was found in a file.

    Attributes:
        findings: one for each thing that was looked at.
        statement: what the file says outside its credential; of a text, inside it.
        credential: what its credential says.
        asset_id: which of our assets it is, by our credential, our watermark, or the same bytes in
            the ledger; empty: none of these says so. What it only resembles is told in the finding
            about the ledger.
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


def examine(
    content: bytes,
    form: Format,
    sidecar: bytes | None,
    *,
    authority: Authority | None,
    key: bytes | None,
    ledger: Ledger | None = None,
    hidden: Hidden | None = None,
    thorough: bool = True,
    expected: Expected | None = None,
    known: Known | None = None,
) -> Verdict:
    """Look at a file.

    Args:
        content: its bytes.
        form: its format.
        sidecar: the credential that lies beside it, if one does.
        authority: who we are; None: nobody yet.
        key: of our watermarks; None: there are none yet.
        ledger: what was sealed here; None: it is not asked.
        hidden: looks for the watermark of a text that our engine wrote; None: nobody does.
        thorough: as `look`.
        expected: likewise.
        known: what is known beside the ledger; None: nothing.

    Raises:
        InputError: the file is damaged or not of that format.
    """
    credential = credentials.read(content, form, sidecar, authority)
    findings = [*_signature(credential)]
    statement = Statement()
    try:
        statement = stated(content, form, credential)
        findings += [_label(statement), _source(statement, form)]
    except InputError as error:
        findings.append(Finding("label", "bad", str(error).rstrip(".")))
    seen = look(content, form, key, hidden, thorough=thorough, expected=expected)
    mark = seen.mark if expected is not None else _mark(content, form)
    if mark is not None:
        findings.append(mark)
    findings.append(_watermark(seen, credential))
    asked = None
    if ledger is not None:
        digest = hashlib.sha256(content).hexdigest()
        found = seen.watermark
        named = found.asset_id if found is not None and found.present else None
        asked = Recollection(ledger, digest, seen.prints, credential, known, named or "")
        findings += [asked.whether_known(), asked.whether_original()]
    asset_id = _asset_id(credential, seen.watermark, asked)
    return Verdict(
        findings=tuple(findings),
        statement=statement,
        credential=credential,
        asset_id=asset_id,
        summary=_summary(credential, statement, asset_id, asked),
    )


def stated(content: bytes, form: Format, credential: Credential) -> Statement:
    """What a file says of itself; of a format that cannot hold a label, its credential does.

    Args:
        content: the file.
        form: its format.
        credential: of the file.

    Raises:
        InputError: the file, or what it says, is damaged.
    """
    found = carriers.read(content, form)
    said = credential.said
    if form.labels or found != Statement() or not (said.label or said.own):
        return found
    return tags.statement_of(said.label or None, said.own or None)


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
    beside = "; the .c2pa beside it is of another file and was not used, remove it"
    unchanged = "nothing was changed since it was signed" + beside * credential.passed_over
    intact = Finding("signature", "good", unchanged, facts)
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


def _mark(content: bytes, form: Format) -> Finding | None:
    """The mark of files that hold it as words; others do not tell a stranger that they have one."""
    if form.medium == "drawing":
        words = drawing.words_of(drawing.mark_of(content))
    elif form.medium in ("text", "document"):
        words = text.mark_of(content, form)
    else:
        return None
    if words and tells(words):
        return Finding("mark", "good", f"it says: {words}")
    return Finding("mark", "absent", "no line says that AI made it")


def _watermark(seen: Seen, credential: Credential) -> Finding:
    found = seen.watermark
    if found is None:
        return Finding("watermark", "unknown", f"not looked for: {seen.why}")
    facts = {"probability": found.probability, "asset_id": found.asset_id}
    if not found.present:
        words = _no_watermark(found, credential)
        state: State = "absent" if words is None else "unknown"
        return Finding("watermark", state, words or "ours was not found in it", facts)
    chance = f"by chance less than once in {1 / max(found.probability, _NEVER):.0e}"
    if not found.names_asset:
        return Finding("watermark", "good", f"ours, in its choice of words ({chance})", facts)
    if found.asset_id is None:
        return Finding("watermark", "good", f"ours, its number cannot be read ({chance})", facts)
    return Finding("watermark", "good", f"ours, of asset {found.asset_id} ({chance})", facts)


def _no_watermark(found: Watermark, credential: Credential) -> str | None:
    """Why a watermark that was not found need not be there; None: it should be."""
    if not found.names_asset:  # texts have one only where it was asked for
        return "ours was not found in it"
    if credential.state == "ours":  # nothing was changed, so nobody took it out
        return "none; it is too plain or too short to hold one"
    if credential.state == "trusted":
        return "not ours, as it was sealed elsewhere"
    return None


def _asset_id(
    credential: Credential, watermark: Watermark | None, asked: Recollection | None
) -> str:
    if credential.state == "ours":
        return credential.asset_id
    if watermark is not None and watermark.present and watermark.asset_id is not None:
        return watermark.asset_id
    return "" if asked is None else asked.sealed or asked.unsealed


def _summary(
    credential: Credential, statement: Statement, asset_id: str, asked: Recollection | None
) -> str:
    if credential.state == "ours":
        how = "Made with parts" if statement.source_type == EDITED_WITH_AI else "Made"
        return f"{how} by AI and sealed here as {asset_id}; nothing was changed since."
    if credential.state == "invalid":
        whose = f" It was sealed here as {asset_id}." if asset_id else ""
        return f"Changed since it was signed, or its credential is damaged.{whose}"
    if asked is not None and asset_id and asset_id == asked.unsealed:
        if asked.was_sealed:
            return f"The unsealed original of {asset_id}, which was sealed here."
        return f"The very bytes of {asset_id}, which is kept here and was never sealed."
    if asset_id:
        return f"It was sealed here as {asset_id}, and has lost its credential or was changed."
    if credential.state == "trusted":
        return f"Signed by {credential.issuer}, who is trusted here; nothing was changed since."
    if credential.state == "unknown-signer":
        return "Unchanged since somebody signed it who is not known here."
    if asked is not None and asked.alike is not None:
        what = asked.alike.what.removeprefix("asset ")
        return f"It resembles {what}; that does not prove where it is from."
    if statement.label is not None or statement.source_type in (MADE_BY_AI, EDITED_WITH_AI):
        return "It says that AI made it, and nothing proves that."
    return "Nothing says that AI made it, which does not prove that a person did."
