"""What is done to signed files, and that it is found out."""

from __future__ import annotations

import dataclasses
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from tests.seal import signing
from vermilion.seal import carriers, credentials
from vermilion.seal.authority import Authority
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import MADE_BY_AI, Label, Statement

FLIPS = 40  # of each kind; benchmarks/tamper.py tries 1,000
KINDS = list(FORMATS)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("seal") / "authority")


@pytest.mark.parametrize("suffix", KINDS)
def test_a_changed_byte_is_found_out(suffix: str, authority: Authority) -> None:
    """Else it lies outside the hash, and nothing that anybody reads has changed."""
    form = FORMATS[suffix]
    signed = signing.sign(suffix, authority)
    before = signing.read(signed, suffix, authority)
    assert before.state == "ours"
    size = len(signed.content)
    whole = bytearray(signed.content + (signed.sidecar or b""))
    parts = [range(size, len(whole))] if signed.sidecar else signing.outside(signed.content, form)
    missed = 0
    for offset, mask in signing.flips(len(whole), FLIPS, seed=7):
        whole[offset] ^= mask
        content, sidecar = bytes(whole[:size]), bytes(whole[size:]) or None
        found = credentials.read(content, form, sidecar, authority)
        whole[offset] ^= mask
        if found.state in ("ours", "trusted"):
            assert any(offset in part for part in parts), offset
            assert found == before
            missed += 1
    assert missed <= FLIPS // 8


@pytest.mark.parametrize("suffix", KINDS)
def test_appended_bytes_are_found_out(suffix: str, authority: Authority) -> None:
    signed = signing.sign(suffix, authority)
    longer = dataclasses.replace(signed, content=signed.content + b"and more")
    found = signing.read(longer, suffix, authority)
    assert found.state == "invalid"
    assert found.problems


def test_a_credential_of_another_file_is_found_out(authority: Authority) -> None:
    text = signing.sign("txt", authority)
    other = dataclasses.replace(text, content=b"Another text.\n")
    found = signing.read(other, "txt", authority)
    assert found.state == "invalid"
    assert found.problems == ("The file was changed after it was signed.",)
    # Inside a file: the chunk of one PNG is put into another.
    signed = signing.sign("png", authority).content
    chunk = signed[33 : 33 + 12 + int.from_bytes(signed[33:37], "big")]
    assert chunk[4:8] == b"caBX"
    plain = io.BytesIO()
    Image.new("RGB", (48, 32)).save(plain, "PNG")
    moved = plain.getvalue()[:33] + chunk + plain.getvalue()[33:]
    found = credentials.read(moved, FORMATS["png"], None, authority)
    assert found.state == "invalid"
    assert found.codes == ("assertion.dataHash.mismatch",)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "mp3", "flac", "wav"])
def test_an_edited_label_is_found_out(suffix: str, authority: Authority) -> None:
    form = FORMATS[suffix]
    label = Label(content_producer="maker", produce_id="abcd1234")
    statement = Statement(label=label, source_type=MADE_BY_AI)
    content = carriers.write(signing.small(suffix), form, statement)
    signed = credentials.sign(content, form, signing.claim(), [], authority)
    assert carriers.read(signed.content, form).label == label
    assert signing.read(signed, suffix, authority).state == "ours"
    other = Statement(label=Label(content_producer="thief", produce_id="abcd1234"))
    changed = carriers.write(signed.content, form, other)
    assert credentials.read(changed, form, None, authority).state == "invalid"


def test_an_added_text_is_found_out(authority: Authority) -> None:
    signed = signing.sign("png", authority).content
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Someone")
    buffer = io.BytesIO()
    Image.open(io.BytesIO(signed)).save(buffer, "PNG", pnginfo=text)
    assert credentials.read(buffer.getvalue(), FORMATS["png"], None, authority).state == "none"


@pytest.mark.parametrize("suffix", ["png", "mp4", "pdf", "txt"])
def test_a_forger_of_the_same_name_is_a_stranger(
    suffix: str, authority: Authority, tmp_path: Path
) -> None:
    forger = signing.stranger(tmp_path / "forger", authority)
    assert forger.current.name == authority.current.name
    assert forger.current.issuer == authority.current.issuer
    forged = signing.sign(suffix, forger)
    assert signing.read(forged, suffix, forger).state == "ours"
    found = signing.read(forged, suffix, authority)
    assert found.state == "unknown-signer"
    assert found.issuer == authority.current.name
    assert found.fingerprint == forger.fingerprint
    assert found.problems == ("The signer is not among those that are trusted here.",)


def test_a_forger_who_appends_our_certificates_is_a_stranger(
    authority: Authority, tmp_path: Path
) -> None:
    forger = signing.stranger(tmp_path / "forger", authority)
    first = forger.current.chain.split("-----END CERTIFICATE-----\n")[0]
    first += "-----END CERTIFICATE-----\n"
    for chain in (
        first + authority.current.issuers,
        first + authority.current.chain,
        forger.current.chain + authority.current.chain,
    ):
        mixed = dataclasses.replace(
            forger, current=dataclasses.replace(forger.current, chain=chain)
        )
        assert signing.read(signing.sign("png", mixed), "png", authority).state == "unknown-signer"


def test_an_expired_certificate_is_reported(authority: Authority) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    expiring = dataclasses.replace(authority, current=signing.valid_until(soon))
    signed = signing.sign("png", expiring)
    assert signing.read(signed, "png", expiring).state == "ours"
    while datetime.now(UTC) <= soon + timedelta(seconds=1.1):
        pass
    found = signing.read(signed, "png", expiring)
    assert found.state == "invalid"
    assert len(found.problems) == 1
    assert "had expired" in found.problems[0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tiff"])
def test_what_is_drawn_again_has_no_credential(suffix: str, authority: Authority) -> None:
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(signing.sign(suffix, authority).content))
    picture.save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    assert credentials.read(buffer.getvalue(), FORMATS[suffix], None, authority).state == "none"
