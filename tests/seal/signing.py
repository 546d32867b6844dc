"""What the tests of credentials share: small files of every kind, a claim, a stranger."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import c2pa

from tests.seal import pictures_files, sound_files
from vermilion.seal import certificates, credentials
from vermilion.seal.authority import Authority, Signing
from vermilion.seal.credentials import Claim, Credential, Signed
from vermilion.seal.formats import FORMATS, Format

WORDS = {
    "txt": "A seal is a promise.\n\n本文由AI生成\n",
    "md": "---\ntitle: Tea\n---\n\n# Tea\n\nA *seal* is a promise.\n",
    "html": "<!doctype html><html><head><title>Tea</title></head><body>A seal.</body></html>\n",
    "json": '{"title": "Tea", "text": "A seal is a promise."}\n',
}


@functools.cache
def small(suffix: str) -> bytes:
    """A small file of any format, written by others."""
    if suffix in WORDS:
        return WORDS[suffix].encode()
    if suffix in ("mp4", "mov", "webm", "mkv"):
        return sound_files.film(suffix, seconds=0.3)
    if FORMATS[suffix].medium == "sound":
        return sound_files.sound(suffix, seconds=0.2)
    return pictures_files.small(suffix)


def claim(**changes: object) -> Claim:
    """What is said of a picture of a cat."""
    said = Claim(
        title="cat.png",
        asset_id="abcd1234",
        model="sticker-1",
        prompt_digest="0" * 63 + "a",
        training_licence="CC0-1.0",
        version="0.1.0",
        when=datetime(2026, 11, 25, 12, 30, tzinfo=UTC),
    )
    return dataclasses.replace(said, **changes)  # type: ignore[arg-type]


def sign(suffix: str, authority: Authority, **changes: object) -> Signed:
    """A small signed file."""
    return credentials.sign(small(suffix), FORMATS[suffix], claim(**changes), [], authority)


def read(signed: Signed, suffix: str, authority: Authority | None) -> Credential:
    """What its credential says."""
    return credentials.read(signed.content, FORMATS[suffix], signed.sidecar, authority)


def valid_until(ends: datetime, time_stamps: str | None = None) -> Signing:
    """A chain that expires then, made as ours is."""
    begins = ends - timedelta(days=365.25 * 1) + timedelta(days=1)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return begins

    with patch.object(certificates, "datetime", Clock), patch.object(certificates, "_YEARS", 1):
        chain, key = certificates.issue()
    return Signing.of(chain.encode(), key.encode(), time_stamps)


def stranger(folder: Path, authority: Authority) -> Authority:
    """An authority whose certificates have the same names as those of another."""
    number = authority.current.name.rsplit(" ", 1)[1]

    def same_name(common: str, name: object = certificates._name) -> object:
        return name(common[: -len(number)] + number)  # type: ignore[operator]

    with patch.object(certificates, "_name", same_name):
        return Authority.open(folder)


def by_c2pa(content: bytes, form: Format, sidecar: bytes | None, anchors: str) -> tuple[str, dict]:
    """State and active manifest as c2pa's own reader has them, set up without any of our code."""
    context = c2pa.Context.from_dict({"version": 1, "trust": {"user_anchors": anchors}})
    with c2pa.Reader(form.media_type, io.BytesIO(content), sidecar, context=context) as reader:
        return reader.get_validation_state(), reader.get_active_manifest()


def flips(length: int, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Random offsets, each with what its byte is XORed with; every one when there are few."""
    random_ = random.Random(seed)
    offsets = range(length) if length <= count else random_.sample(range(length), count)
    for offset in offsets:
        yield offset, random_.randrange(1, 256)


def outside(content: bytes, form: Format) -> list[range]:
    """The parts of a file that its credential leaves out of the hash, as c2pa's reader tells."""
    with c2pa.Reader(form.media_type, io.BytesIO(content)) as reader:
        details = json.loads(reader.detailed_json())
    store = details["manifests"][details["active_manifest"]]["assertion_store"]
    hashed = store.get("c2pa.hash.data")
    if hashed is not None:
        return [range(e["start"], e["start"] + e["length"]) for e in hashed["exclusions"]]
    excluded = {e["xpath"][1:].encode() for e in store["c2pa.hash.bmff.v3"]["exclusions"]}
    found, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] in excluded:
            found.append(range(at, at + size))
        at += size
    return found
