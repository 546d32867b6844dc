"""C2PA's codes for what is wrong with a credential, in plain words.

The codes are those of C2PA's specification 2.2, section 15.2.2, and of c2pa's library.
"""

from __future__ import annotations

from collections.abc import Iterable

UNTRUSTED = "signingCredential.untrusted"
EXPIRED = frozenset(("signingCredential.expired", "claimSignature.outsideValidity"))

_CHANGED = "The file was changed after it was signed."
_CREDENTIAL_CHANGED = "The credential itself was changed after it was signed."
_MALFORMED = "The credential breaks the rules of C2PA; it cannot be relied on."
_PARENT = "The credential of something this was made from was changed or is missing."
_STAMP = "The time stamp is damaged or belongs to another file."
_EXPIRED = (
    "The signer's certificate had expired, and no time stamp that can be trusted proves that the"
    " file was signed before."
)

_SENTENCES = {
    UNTRUSTED: "The signer is not among those that are trusted here.",
    "signingCredential.invalid": "The signer's certificate is not made for signing content.",
    "signingCredential.expired": _EXPIRED,
    "claimSignature.outsideValidity": _EXPIRED,
    "signingCredential.ocsp.revoked": "The signer's certificate was revoked.",
    "signingCredential.ocsp.unknown": "The signer's certificate is unknown to its issuer.",
    "claimSignature.mismatch": _CREDENTIAL_CHANGED,
    "claimSignature.missing": "The credential has no signature.",
    "assertion.dataHash.mismatch": _CHANGED,
    "assertion.bmffHash.mismatch": _CHANGED,
    "assertion.boxesHash.mismatch": _CHANGED,
    "assertion.boxesHash.unknownBox": _CHANGED,
    "assertion.collectionHash.mismatch": _CHANGED,
    "assertion.collectionHash.incorrectFileCount": _CHANGED,
    "assertion.dataHash.additionalExclusionsPresent": (
        "The credential leaves more parts of the file unprotected than it needs to."
    ),
    "assertion.hashedURI.mismatch": _CREDENTIAL_CHANGED,
    "hashedURI.mismatch": _CREDENTIAL_CHANGED,
    "hashedURI.missing": _CREDENTIAL_CHANGED,
    "assertion.missing": _CREDENTIAL_CHANGED,
    "assertion.undeclared": _CREDENTIAL_CHANGED,
    "assertion.outsideManifest": _CREDENTIAL_CHANGED,
    "claim.missing": "The credential is empty.",
    "claim.hardBindings.missing": "The credential is not bound to any content.",
    "assertion.inaccessible": "A part of the credential lies elsewhere and is not fetched.",
    "manifest.inaccessible": "The credential lies on the network and is not fetched.",
    "algorithm.unsupported": "The credential uses an algorithm that is not known here.",
    "algorithm.deprecated": "The credential uses an algorithm that is no longer safe.",
    "ingredient.hashedURI.mismatch": _PARENT,
    "ingredient.manifest.missing": _PARENT,
    "ingredient.manifest.mismatch": _PARENT,
    "ingredient.claimSignature.missing": _PARENT,
    "ingredient.claimSignature.mismatch": _PARENT,
    "timeStamp.mismatch": _STAMP,
    "timeStamp.malformed": _STAMP,
    "timeStamp.outsideValidity": "The time stamp's certificate was not valid at that time.",
    "timeStamp.untrusted": "The time-stamp authority is not among those that are trusted here.",
}


def sentence(code: str) -> str:
    """What a code says, for people."""
    known = _SENTENCES.get(code)
    if known is not None:
        return known
    if code.startswith("cawg."):
        return f"The statement of who made it cannot be verified ({code})."
    if code.startswith(("assertion.", "claim.", "manifest.", "general.")):
        return f"{_MALFORMED[:-1]} ({code})."
    return f"C2PA reports {code}."


def sentences(codes: Iterable[str]) -> tuple[str, ...]:
    """What several codes say, each sentence once."""
    return tuple(dict.fromkeys(sentence(code) for code in codes))
