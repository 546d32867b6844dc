"""Certificates and keys: how ours are made, and what is asked of those that people bring.

C2PA signs with a chain: an end-entity certificate first, then the authority that issued it. The
rules that `check` enforces are C2PA's certificate profile (specification 2.2, section 14.5).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vermilion.errors import InputError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_YEARS = 100  # an untimestamped credential is worth nothing once its certificate has expired
_CLOCK_SLACK = timedelta(days=1)
_LARGEST = 100_000  # bytes of a PEM file; a chain of four has about 8,000
_LONGEST_CHAIN = 8
_LEAST_RSA_BITS = 2048
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_PURPOSES = frozenset(
    (
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"),  # document signing
        x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1"),  # C2PA claim signing
    )
)


def issue() -> tuple[str, str]:
    """A new authority and a certificate that it issued, valid for a hundred years.

    The authority's own key is forgotten: it issues this one certificate and never another, so
    that nobody can steal it. The names hold a part of its public key's hash and nothing about
    the person or the machine.

    Returns:
        The chain and the key of its first certificate, both PEM.
    """
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    number = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()).digest.hex()[:8]
    issuer = _name(f"Vermilion local authority {number}")
    begins = datetime.now(UTC) - _CLOCK_SLACK
    ends = begins + timedelta(days=365.25 * _YEARS)

    def certificate(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, extensions: Sequence[_Extension]
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer_name=issuer,
            subject_name=subject,
            public_key=public,
            serial_number=x509.random_serial_number(),
            not_valid_before=begins,
            not_valid_after=ends,
        )
        for extension, critical in (
            *extensions,
            (x509.SubjectKeyIdentifier.from_public_key(public), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical)
        return builder.sign(authority_key, hashes.SHA256())

    top = certificate(
        issuer,
        authority_key.public_key(),
        ((x509.BasicConstraints(ca=True, path_length=0), True), (_usage(authority=True), True)),
    )
    end = certificate(
        _name(f"Vermilion signer {number}"),
        key.public_key(),
        (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(authority=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
        ),
    )
    return to_pem((end, top)), key_to_pem(key)


def to_pem(chain: Sequence[x509.Certificate]) -> str:
    """Certificates as text."""
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode("ascii") for c in chain)


def key_to_pem(key: PrivateKey) -> str:
    """A private key as text (PKCS #8, without a password)."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode("ascii")


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's DER form, 64 hex digits."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def read_chain(pem: bytes, field: str) -> tuple[x509.Certificate, ...]:
    """Certificates from a PEM file.

    Raises:
        InputError: it holds none, too many, or damaged ones; the message begins with `field`.
    """
    if len(pem) > _LARGEST:
        raise InputError(f"{field}: larger than {_LARGEST} bytes; give the chain alone, as PEM")
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(
            f"{field}: no certificates in PEM form (-----BEGIN CERTIFICATE-----)"
        ) from None
    if len(chain) > _LONGEST_CHAIN:
        raise InputError(f"{field}: {len(chain)} certificates; at most {_LONGEST_CHAIN} are read")
    return chain


def read_key(pem: bytes, field: str) -> PrivateKey:
    """A private key from a PEM file.

    Raises:
        InputError: it is none, has a password, or is of a kind that C2PA does not sign with.
    """
    if len(pem) > _LARGEST:
        raise InputError(f"{field}: larger than {_LARGEST} bytes; give the private key alone")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise InputError(
            f"{field}: the key has a password; give one without it"
            " (openssl pkey -in KEY -out KEY.plain), which is then kept readable for you alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{field}: no private key in PEM form") from None
    if not isinstance(key, PrivateKey):
        raise InputError(f"{field}: {_kinds()}")
    algorithm(key, field)
    return key


def algorithm(key: PrivateKey, field: str = "key") -> str:
    """What C2PA calls the way this key signs: es256, es384, es512, ps256 or ed25519.

    Raises:
        InputError: C2PA signs with no such key.
    """
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise InputError(f"{field}: an RSA key needs {_LEAST_RSA_BITS} bits or more")
        return "ps256"
    if key.curve.name not in _CURVES:
        raise InputError(f"{field}: {_kinds()}")
    return _CURVES[key.curve.name]


def check(chain: Sequence[x509.Certificate], key: PrivateKey, when: datetime) -> None:
    """Whether others can check what this key signs with this chain.

    Args:
        chain: the signer's certificate first, each one's issuer after it.
        key: of the first.
        when: a time at which all have to be valid.

    Raises:
        InputError: they do not match, are not valid then, or are not made for signing.
    """
    first = chain[0]
    if first.public_key() != key.public_key():
        raise InputError(
            "key: it is not that of the first certificate; put the signer's certificate first"
        )
    for certificate in chain:
        name = common_name(certificate.subject)
        if certificate.not_valid_after_utc <= when:
            raise InputError(
                f"cert: {name} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
            )
        if certificate.not_valid_before_utc > when:
            raise InputError(
                f"cert: {name} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d};"
                " check this machine's clock"
            )
    if len(chain) < 2:
        raise InputError(
            "cert: the issuer's certificate is missing; append it after yours, since C2PA refuses"
            " a certificate that stands alone"
        )
    for lower, upper in itertools.pairwise(chain):
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature):
            raise InputError(
                f"cert: {common_name(upper.subject)} did not issue {common_name(lower.subject)};"
                " put each issuer right after what it issued"
            ) from None
    _check_purpose(first)


def common_name(name: x509.Name) -> str:
    """The name for people: its common name, else its organisation, else all of it."""
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        found = name.get_attributes_for_oid(kind)
        if found:
            return str(found[0].value)
    return name.rfc4514_string()


_Extension = tuple[x509.ExtensionType, bool]


def _check_purpose(certificate: x509.Certificate) -> None:
    wanted = "ask its issuer for one for signing documents or e-mail"
    try:
        extensions = certificate.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise InputError(f"cert: the signer's has no {error.oid._name}; {wanted}") from None
    except ValueError:
        raise InputError(f"cert: the signer's is damaged; {wanted}") from None
    if not usage.digital_signature:
        raise InputError(f"cert: the signer's may not sign (digitalSignature); {wanted}")
    if usage.key_cert_sign:
        raise InputError(f"cert: the first is an authority's; {wanted}, and put it first")
    if not _PURPOSES.intersection(purposes):
        raise InputError(f"cert: the signer's is for other purposes; {wanted}")


def _kinds() -> str:
    return "C2PA signs with P-256, P-384, P-521, Ed25519 or RSA of 2048 bits and more"


def _name(common: str) -> x509.Name:
    return x509.Name(
        (
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, common),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        )
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
