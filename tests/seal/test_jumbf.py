"""Which certificate signed: stores that could be read in two ways name none."""

from __future__ import annotations

import hashlib

import pytest

from vermilion.errors import InputError
from vermilion.seal import jumbf

OURS, THEIRS = b"the certificate of ours", b"the certificate of a forger"


def head(major: int, number: int) -> bytes:
    return bytes([major << 5 | number]) if number < 24 else bytes([major << 5 | 24, number])


def cbor(value: object) -> bytes:
    """A value of CBOR (RFC 8949); a dict may be given as a list of pairs, in a tuple."""
    match value:
        case int():
            return head(0, value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value)) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
        case tuple():
            return head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value)
    raise TypeError(value)


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (len(body) + 8).to_bytes(4, "big") + kind + body


def superbox(kind: bytes, label: str, *parts: bytes) -> bytes:
    named = box(b"jumd", kind.ljust(16, b"\0") + b"\3" + label.encode() + b"\0")
    return box(b"jumb", named, *parts)


def signature(
    protected: tuple[tuple[object, object], ...],
    unprotected: tuple[tuple[object, object], ...] = (),
    label: str = "c2pa.signature",
) -> bytes:
    cose = b"\xd2" + cbor([cbor(protected), unprotected, b"", b"signed"])
    return superbox(b"c2cs", label, box(b"cbor", cose))


def store(*signatures: bytes) -> bytes:
    return superbox(b"c2pa", "c2pa", superbox(b"c2ma", "urn:c2pa:1", *signatures))


@pytest.mark.parametrize("name", [33, "x5chain"])
def test_the_first_of_the_chain_is_the_signer(name: object) -> None:
    found = jumbf.signers(store(signature(((1, 6), (name, [OURS, THEIRS])))))
    assert found == {"urn:c2pa:1": hashlib.sha256(OURS).hexdigest()}
    found = jumbf.signers(store(signature((), ((name, OURS),))))
    assert found == {"urn:c2pa:1": hashlib.sha256(OURS).hexdigest()}


@pytest.mark.parametrize(
    "signatures",
    [
        [signature(((33, [OURS]), ("x5chain", [THEIRS])))],
        [signature(((33, [OURS]), (33, [THEIRS])))],
        [signature(((33, [OURS]),), (("x5chain", [THEIRS]),))],
        [signature(((33, [OURS]),)), signature(((33, [THEIRS]),))],
        [signature(((33, [OURS]),)), signature(((33, [THEIRS]),), label="another")],
        [],
    ],
)
def test_two_answers_are_none(signatures: list[bytes]) -> None:
    """A forger who is trusted for other reasons could else name our certificate beside theirs."""
    with pytest.raises(InputError, match="credential: "):
        jumbf.signers(store(*signatures))
