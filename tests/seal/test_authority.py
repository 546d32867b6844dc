"""Who signs: made once, kept private, replaced without losing the past."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.seal import signing
from vermilion.errors import InputError, StorageError
from vermilion.seal.authority import Authority

DAY = timedelta(days=1)


def chain(
    key: object,
    *,
    signs: bool = True,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    identifies: bool = True,
    critical: bool = False,
    begins: datetime | None = None,
    ends: datetime | None = None,
) -> bytes:
    """A certificate as a company's authority would issue it, and that authority's."""
    now = datetime.now(UTC)
    authority_key = ec.generate_private_key(ec.SECP384R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company CA")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company signer")])

    def usage(signing: bool, certs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(signing, False, False, False, False, certs, certs, False, False)

    top = (
        x509.CertificateBuilder(
            issuer, issuer, authority_key.public_key(), 1, now - DAY, now + 9 * DAY
        )
        .add_extension(x509.BasicConstraints(True, 0), True)
        .add_extension(usage(False, True), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), False)
        .sign(authority_key, hashes.SHA384())
    )
    end = (
        x509.CertificateBuilder(
            issuer, subject, key.public_key(), 2, begins or now - DAY, ends or now + 9 * DAY
        )
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(usage(signs, False), True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if identifies:
        end = end.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False
        )
    end = end.sign(authority_key, hashes.SHA384())
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (end, top))


def pem(key: object, password: bytes | None = None) -> bytes:
    protection = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "seal" / "authority"


def test_it_is_made_once(folder: Path) -> None:
    first = Authority.open(folder)
    assert Authority.open(folder) == first
    assert first.fingerprints == {first.fingerprint}
    assert len(first.fingerprint) == 64


def test_two_are_strangers(tmp_path: Path) -> None:
    one, other = (Authority.open(tmp_path / name) for name in ("a", "b"))
    assert one.current.name != other.current.name
    assert one.fingerprint != other.fingerprint


def test_its_certificates_are_what_c2pa_asks_for(folder: Path) -> None:
    end, top = x509.load_pem_x509_certificates(Authority.open(folder).current.chain.encode())
    end.verify_directly_issued_by(top)
    top.verify_directly_issued_by(top)
    extensions = end.extensions
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.EMAIL_PROTECTION]
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject = top.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == subject.digest
    assert top.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert end.not_valid_after_utc > datetime.now(UTC) + 99 * 365 * DAY
    assert "local authority" in end.issuer.rfc4514_string()


def test_its_names_say_nothing_about_the_person(folder: Path) -> None:
    end, top = x509.load_pem_x509_certificates(Authority.open(folder).current.chain.encode())
    words = (end.subject.rfc4514_string() + top.subject.rfc4514_string()).lower()
    for private in (os.environ.get("USER", "root"), os.uname().nodename, Path.home().name):
        assert private.lower() not in words


def test_the_authoritys_own_key_is_nowhere(folder: Path) -> None:
    Authority.open(folder)
    kept = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert sum(text.count("PRIVATE KEY") for text in kept) == 2  # BEGIN and END of the signer's


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_its_key_is_private(folder: Path) -> None:
    authority = Authority.open(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "authority.json").stat().st_mode) == 0o600
    assert "PRIVATE" not in repr(authority)
    assert "PRIVATE" not in json.dumps(authority.facts())
    (folder / "authority.json").chmod(0o640)
    with pytest.raises(InputError, match="others may read this key.*chmod 600"):
        Authority.open(folder)


def test_of_processes_that_start_at_once_one_wins(folder: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from vermilion.seal.authority import Authority\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(Authority.open(pathlib.Path(sys.argv[1])).fingerprint)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    names = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert names == {Authority.open(folder).fingerprint}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("CERTIFICATE", "CERTIFICAT"),
        lambda text: json.dumps({**json.loads(text), "key": "x"}),
        lambda text: json.dumps({**json.loads(text), "time_stamps": 3}),
    ],
)
def test_a_damaged_file_is_named(folder: Path, damage: object) -> None:
    Authority.open(folder)
    path = folder / "authority.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=r"authority\.json: damaged; restore it"):
        Authority.open(folder)


def test_a_part_that_a_crash_left_does_no_harm(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    (folder / "authority.json.part").write_text("{")
    assert Authority.open(folder) == Authority.open(folder)


def test_a_key_of_another_certificate_is_damage(folder: Path, tmp_path: Path) -> None:
    Authority.open(folder)
    other = Authority.open(tmp_path / "other")
    path = folder / "authority.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "key": other.current.key}))
    with pytest.raises(InputError, match="damaged"):
        Authority.open(folder)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["p256", "p384", "p521", "ed25519", "rsa"],
)
def test_a_certificate_of_ones_own(folder: Path, key: object) -> None:
    before = Authority.open(folder)
    old = signing.sign("png", before)
    after = before.replace(chain(key), pem(key), "https://stamp.example.org/tsa")
    assert after.current.time_stamps == "https://stamp.example.org/tsa"
    after = after.replace(chain(key), pem(key))
    assert after == Authority.open(folder)
    assert after.current.name == "Company signer"
    new = signing.sign("png", after)
    assert signing.read(new, "png", after).state == "ours"
    # What was signed before stays ours; who knows only the old one does not know the new one.
    assert signing.read(old, "png", after).state == "ours"
    assert signing.read(new, "png", before).state == "unknown-signer"
    state, _ = signing.by_c2pa(new.content, signing.FORMATS["png"], None, after.current.issuers)
    assert state == "Trusted"


def test_a_colleagues_certificate_of_the_same_authority_is_not_ours(
    folder: Path, tmp_path: Path
) -> None:
    """The authority above a certificate signs many people's: the certificate itself is pinned."""
    import dataclasses

    colleague = Authority.open(tmp_path / "colleague")
    trusting = dataclasses.replace(Authority.open(folder), trusted=colleague.current.issuers)
    found = signing.read(signing.sign("png", colleague), "png", trusting)
    assert found.state == "trusted"
    assert found.fingerprint == colleague.fingerprint


def test_trusted_authorities_are_read_from_their_folder(folder: Path, tmp_path: Path) -> None:
    other = Authority.open(tmp_path / "other")
    authority = Authority.open(folder)
    (folder / "trusted").mkdir()
    (folder / "trusted" / "friend.pem").write_text(other.current.issuers)
    authority = Authority.open(folder)
    assert signing.read(signing.sign("png", other), "png", authority).state == "trusted"
    (folder / "trusted" / "friend.pem").write_text("hello")
    with pytest.raises(InputError, match=r"friend\.pem: no certificates"):
        Authority.open(folder)


def test_certificates_that_cannot_sign_are_refused(folder: Path) -> None:
    authority = Authority.open(folder)
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    right = chain(key)
    ends_only = right[: right.index(b"-----END CERTIFICATE-----") + 26]
    now = datetime.now(UTC)
    for cert, private_key, words in (
        (right, pem(other), "not that of the first certificate"),
        (right, pem(key, b"secret"), "has a password"),
        (right, b"hello", "no private key"),
        (b"hello", pem(key), "no certificates in PEM form"),
        (ends_only, pem(key), "the issuer's certificate is missing"),
        (chain(key, signs=False), pem(key), "may not sign"),
        (chain(key, purpose=ExtendedKeyUsageOID.SERVER_AUTH), pem(key), "for other purposes"),
        (chain(key, identifies=False), pem(key), "has no authorityKeyIdentifier"),
        (chain(key, ends=now - DAY / 2), pem(key), "expired on"),
        (chain(key, begins=now + DAY), pem(key), "is valid only from"),
        (ends_only + chain(other), pem(key), "did not issue"),
        (right, pem(rsa.generate_private_key(65537, 1024)), "2048 bits"),
        (right, pem(dsa.generate_private_key(1024)), "C2PA signs with"),
        (right, pem(ec.generate_private_key(ec.SECP256K1())), "C2PA signs with"),
        (b"x" * 200_000, pem(key), "larger than"),
    ):
        with pytest.raises(InputError, match=words):
            authority.replace(cert, private_key)
    for address in ("stamp.example.org", "ftp://x", "http://", "http://x:99999/", "http://é"):
        with pytest.raises(InputError, match="tsa: .* is no address"):
            authority.replace(right, pem(key), address)
    assert Authority.open(folder) == authority


def test_a_lost_file_is_not_replaced_in_silence(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    Authority.open(folder).replace(chain(key), pem(key))
    (folder / "authority.json").unlink()
    with pytest.raises(StorageError, match="is missing though"):
        Authority.open(folder)


def test_facts(folder: Path) -> None:
    facts = Authority.open(folder).facts()
    assert facts["expired"] is False
    assert facts["algorithm"] == "es256"
    assert facts["earlier"] == 0
