"""Who signs: the local authority, or a certificate that its owner brought.

    authority/
        authority.json      the chain, its key, and the address of a time-stamp authority
        earlier/*.json      what signed before it was replaced
        trusted/*.pem       authorities of others whose signatures count as trusted; people put
                            them there by hand
        lock

Chain and key stand in one file, which is replaced whole, so that they always match. What is ours
is decided by the SHA-256 of the signing certificate, never by a name: names can be copied.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography import x509

from vermilion.errors import InputError, StorageError
from vermilion.seal import certificates, private

_FILE = "authority.json"
_MOST_EARLIER = 256
_LARGEST_TRUSTED = 4_000_000  # bytes; the public list of C2PA has about 150,000


@dataclass(frozen=True, slots=True)
class Signing:
    """A chain of certificates and the key of its first.

    Attributes:
        chain: the signer's certificate, then its issuers'; PEM.
        key: PEM; never shown.
        algorithm: es256, es384, es512, ps256 or ed25519.
        time_stamps: address of a time-stamp authority (RFC 3161); None: times are not proved.
        fingerprint: SHA-256 of the signer's certificate, hex.
        name: of the signer.
        issuer: of the authority above the signer.
        begins: when the certificate starts to be valid, UTC.
        ends: when the first certificate of the chain expires, UTC.
    """

    chain: str
    key: str = field(repr=False)
    algorithm: str
    time_stamps: str | None
    fingerprint: str
    name: str
    issuer: str
    begins: datetime
    ends: datetime

    @property
    def issuers(self) -> str:
        """The certificates above the signer's, PEM."""
        return certificates.to_pem(x509.load_pem_x509_certificates(self.chain.encode())[1:])

    @classmethod
    def of(cls, chain: bytes, key: bytes, time_stamps: str | None) -> Self:
        """Read a chain and a key. Whether they are fit for signing is not asked here.

        Raises:
            InputError: one of them cannot be read, or the address is none.
        """
        read = certificates.read_chain(chain, "cert")
        private_key = certificates.read_key(key, "key")
        if time_stamps is not None:
            _check_address(time_stamps)
        return cls(
            chain=certificates.to_pem(read),
            key=certificates.key_to_pem(private_key),
            algorithm=certificates.algorithm(private_key),
            time_stamps=time_stamps,
            fingerprint=certificates.fingerprint(read[0]),
            name=certificates.common_name(read[0].subject),
            issuer=certificates.common_name(read[0].issuer),
            begins=max(one.not_valid_before_utc for one in read),
            ends=min(one.not_valid_after_utc for one in read),
        )

    def check(self, when: datetime) -> None:
        """Whether others can check what is signed with it at that time.

        Raises:
            InputError: its parts do not match, are not valid then, or are not made for signing.
        """
        read = certificates.read_chain(self.chain.encode(), "cert")
        certificates.check(read, certificates.read_key(self.key.encode(), "key"), when)

    def to_json(self) -> bytes:
        """As the file holds it."""
        what = {"chain": self.chain, "key": self.key, "time_stamps": self.time_stamps}
        return json.dumps(what, indent=1).encode()


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs here, who signed here before, and whom else people here trust.

    Attributes:
        folder: where it lives.
        current: what signs now.
        earlier: what signed before it was replaced; it still counts as ours.
        trusted: certificates of others' authorities, PEM; empty: none.
    """

    folder: Path
    current: Signing
    earlier: tuple[Signing, ...] = ()
    trusted: str = ""

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether there is an authority, or was one: then `open` makes none."""
        return (folder / _FILE).exists() or any((folder / "earlier").glob("*.json"))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The authority in this folder, made when there is none yet.

        Two processes that start at once get the same one.

        Raises:
            InputError: its file is damaged, or others may read its key.
            StorageError: the folder cannot be written or read.
        """
        content = private.read(folder / _FILE)
        if content is None:
            with private.exclusive(folder):
                content = private.read(folder / _FILE)
                if content is None:
                    if any((folder / "earlier").glob("*.json")):
                        raise StorageError(
                            f"{folder}: {_FILE} is missing though the authority was used before;"
                            " restore it from a backup, or move the folder away to start a new"
                            " one, to which the files signed before are strangers"
                        )
                    content = _new().to_json()
                    private.write(folder / _FILE, content)
        current = _parse(folder / _FILE, content)
        return cls(folder, current, _earlier(folder / "earlier"), _trusted(folder / "trusted"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate that signs now, hex."""
        return self.current.fingerprint

    @property
    def fingerprints(self) -> frozenset[str]:
        """SHA-256 of every certificate that is or was ours, hex."""
        return frozenset(one.fingerprint for one in (self.current, *self.earlier))

    @property
    def anchors(self) -> str:
        """The certificates above all that is or was ours, PEM."""
        return "".join(one.issuers for one in (self.current, *self.earlier))

    def replace(self, cert: bytes, key: bytes, tsa: str | None = None) -> Self:
        """Sign with one's own certificate from now on. What signed before stays ours.

        Args:
            cert: the chain, PEM: one's own certificate first, each issuer after it.
            key: of the first certificate, PEM, without a password.
            tsa: address of a time-stamp authority, asked at every signature; None: none is.

        Raises:
            InputError: they do not match, are not valid now, or are not made for signing.
            StorageError: the folder cannot be written.
        """
        wanted = Signing.of(cert, key, tsa)
        wanted.check(datetime.now(UTC))
        with private.exclusive(self.folder):
            content = private.read(self.folder / _FILE)
            before = self.current if content is None else _parse(self.folder / _FILE, content)
            if before.fingerprint != wanted.fingerprint:
                with private.storage(self.folder):
                    (self.folder / "earlier").mkdir(mode=0o700, exist_ok=True)
                aside = self.folder / "earlier" / f"{before.fingerprint}.json"
                private.write(aside, before.to_json())
            private.write(self.folder / _FILE, wanted.to_json())
        return self.open(self.folder)

    def facts(self) -> dict[str, Any]:
        """What `vermilion doctor` tells; nothing in it is secret."""
        return {
            "folder": str(self.folder),
            "signer": self.current.name,
            "issuer": self.current.issuer,
            "fingerprint": self.fingerprint,
            "algorithm": self.current.algorithm,
            "expires": self.current.ends.date().isoformat(),
            "expired": self.current.ends <= datetime.now(UTC),
            "time_stamps": self.current.time_stamps,
            "earlier": len(self.earlier),
            "trusts_others": bool(self.trusted),
        }


def _new() -> Signing:
    chain, key = certificates.issue()
    return Signing.of(chain.encode(), key.encode(), None)


def _parse(path: Path, content: bytes) -> Signing:
    broken = f"{path}: damaged; restore it from a backup, or remove it to begin a new authority"
    try:
        what = json.loads(content)
        chain, key, stamps = (what[name] for name in ("chain", "key", "time_stamps"))
        if not (isinstance(chain, str) and isinstance(key, str)):
            raise InputError(broken)
        if not (stamps is None or isinstance(stamps, str)):
            raise InputError(broken)
        signing = Signing.of(chain.encode(), key.encode(), stamps)
        # At the time it began it was valid, whatever the clock says now.
        signing.check(signing.begins)
    except (ValueError, KeyError, TypeError, RecursionError, InputError):
        raise InputError(broken) from None
    return signing


def _earlier(folder: Path) -> tuple[Signing, ...]:
    found = []
    for path in sorted(folder.glob("*.json"))[:_MOST_EARLIER]:
        content = private.read(path)
        if content is not None:
            found.append(_parse(path, content))
    return tuple(found)


def _trusted(folder: Path) -> str:
    pem, size = [], 0
    for path in sorted(folder.glob("*.pem")):
        with private.storage(folder):
            content = path.read_bytes()
        size += len(content)
        if size > _LARGEST_TRUSTED:
            raise InputError(f"{folder}: more than {_LARGEST_TRUSTED} bytes; remove some")
        try:
            chain = x509.load_pem_x509_certificates(content)
        except ValueError:
            raise InputError(f"{path}: no certificates in PEM form; remove it") from None
        pem.append(certificates.to_pem(chain))
    return "".join(pem)


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        right = parts.scheme in ("http", "https") and bool(parts.hostname)
        right = right and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right or len(address) > 2048 or not address.isascii() or not address.isprintable():
        raise InputError(
            f"tsa: {address[:80]!r} is no address; write one such as http://timestamp.example.org"
        )
