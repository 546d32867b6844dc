"""Who signed: the signing certificates inside a C2PA manifest store.

A store is a tree of JUMBF boxes (ISO 19566-5). Each manifest has a box `c2pa.signature` that holds
a COSE signature (RFC 9052), and its header `x5chain` (RFC 9360) holds the certificates. c2pa
verifies all of it and tells the signer's name, but not which certificate it was: that is read
here, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from vermilion.errors import InputError

_DEEPEST = 16
_MOST_MANIFESTS = 1024
_SIGNATURE, _SIGNATURE_TYPE = "c2pa.signature", b"c2cs"
_X5CHAIN = 33
_PADDING = frozenset(("pad", "pad2"))
# Time stamps and revocation answers are signed by others, and certificates by their issuers.
_UNSIGNED = _PADDING | {"sigTst", "sigTst2", "rVals", "x5chain", _X5CHAIN}
_SIGN1 = 18  # the CBOR tag of a COSE signature with one signer


def signers(store: bytes) -> dict[str, str]:
    """The fingerprint of the certificate that signed each manifest.

    Args:
        store: a manifest store, the box `c2pa` and all in it.

    Returns:
        Manifest label to the SHA-256 of the certificate's DER form, hex.

    Raises:
        InputError: the store is damaged.
    """
    found: dict[str, str] = {}
    for kind, content in _boxes(store):
        if kind != b"jumb":
            continue
        for inner_kind, inner in _boxes(content):
            if inner_kind != b"jumb":
                continue
            label = _label(inner)
            if label in found or len(found) >= _MOST_MANIFESTS:
                raise InputError("credential: the same manifest twice, or too many manifests")
            found[label] = hashlib.sha256(_certificate(inner)).hexdigest()
    return found


def _certificate(manifest: bytes) -> bytes:
    """The DER form of the certificate that signed it.

    Whatever could be read in two ways is refused: c2pa may have verified the other one.
    """
    signatures = [
        inner
        for kind, content in _boxes(manifest)
        if kind == b"jumb" and (_label(content) == _SIGNATURE or _type(content) == _SIGNATURE_TYPE)
        for inner_kind, inner in _boxes(content)
        if inner_kind == b"cbor"
    ]
    if len(signatures) != 1:
        raise InputError(f"credential: a manifest has {len(signatures)} signatures, not one")
    return _first_of_chain(signatures[0])


def _first_of_chain(cose: bytes) -> bytes:
    message, end = _cbor(cose, 0, 0)
    if isinstance(message, tuple) and message[0] == _SIGN1:
        message = message[1]
    if not isinstance(message, list) or len(message) != 4 or end != len(cose):
        raise InputError("credential: a signature is no COSE_Sign1")
    protected, unprotected = message[:2]
    # Signers leave room there and fill it with zeros; nothing signs it, so nothing may hide in it.
    if isinstance(unprotected, dict):
        for name, value in unprotected.items():
            zeros = isinstance(value, bytes) and not any(value)
            if name not in _UNSIGNED or (name in _PADDING and not zeros):
                raise InputError("credential: the padding of a signature was changed")
    # In the protected header it is signed; older files have it in the other.
    headers = _cbor(protected, 0, 0)[0] if isinstance(protected, bytes) and protected else {}
    chains = [
        header[name]
        for header in (headers, unprotected)
        if isinstance(header, dict)
        for name in (_X5CHAIN, "x5chain")
        if name in header
    ]
    if len(chains) != 1:
        raise InputError(f"credential: a signature names {len(chains)} chains, not one")
    first = chains[0][0] if isinstance(chains[0], list) and chains[0] else chains[0]
    if not isinstance(first, bytes):
        raise InputError("credential: a signature names no certificate")
    return first


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        begins = at + 8
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16], "big")
            begins = at + 16
        elif size == 0:
            size = len(content) - at
        if size < begins - at or at + size > len(content):
            raise InputError("credential: a box is cut off")
        yield content[at + 4 : at + 8], content[begins : at + size]
        at += size


def _label(superbox: bytes) -> str:
    """The name that a box's first part, its description, gives it."""
    kind, description = next(_boxes(superbox), (b"", b""))
    # 16 bytes of type, one of switches (bit 1: a label follows, ending in a zero byte).
    if kind != b"jumd" or len(description) < 18 or not description[16] & 2:
        return ""
    return description[17:].split(b"\0", 1)[0].decode("utf-8", "replace")


def _type(superbox: bytes) -> bytes:
    """The first four bytes of a box's type, which name it."""
    kind, description = next(_boxes(superbox), (b"", b""))
    return description[:4] if kind == b"jumd" else b""


def _cbor(content: bytes, at: int, depth: int) -> tuple[Any, int]:
    """One value of CBOR (RFC 8949) and where it ends; a tag is a pair of its number and value."""
    if at >= len(content) or depth > _DEEPEST:
        raise InputError("credential: a signature is cut off or nested too deep")
    major, short = content[at] >> 5, content[at] & 31
    at += 1
    if short >= 28:
        raise InputError("credential: a signature has a value of unknown length")
    number = short
    if 24 <= short < 28:
        wide = 1 << (short - 24)
        if at + wide > len(content):
            raise InputError("credential: a signature is cut off")
        number = int.from_bytes(content[at : at + wide], "big")
        at += wide
    return _cbor_value(content, at, depth, major, number)


def _cbor_value(content: bytes, at: int, depth: int, major: int, number: int) -> tuple[Any, int]:
    if major in (2, 3):
        if at + number > len(content):
            raise InputError("credential: a signature is cut off")
        raw = content[at : at + number]
        return (raw if major == 2 else raw.decode("utf-8", "replace")), at + number
    if major == 4:
        items = []
        for _ in range(number):
            item, at = _cbor(content, at, depth + 1)
            items.append(item)
        return items, at
    if major == 5:
        entries = {}
        for _ in range(number):
            key, at = _cbor(content, at, depth + 1)
            value, at = _cbor(content, at, depth + 1)
            if isinstance(key, int | str):
                if key in entries:
                    raise InputError("credential: a signature says the same thing twice")
                entries[key] = value
        return entries, at
    if major == 6:
        value, at = _cbor(content, at, depth + 1)
        return (number, value), at
    # 0 and 1 are whole numbers; of the simple values (7) none is looked at here.
    return (number if major == 0 else -1 - number if major == 1 else None), at
