"""Content credentials: a C2PA manifest, signed by our authority, in the file or beside it.

    Claim, parents ─sign→ file or sidecar ─read→ Credential

Nothing here reaches the network, except that `sign` asks a time-stamp authority where one was set.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import c2pa

from vermilion.errors import InputError
from vermilion.seal.authority import Authority
from vermilion.seal.claims import Claim, Parent, ingredient, manifest, redact
from vermilion.seal.credential_reader import Credential, Opened, interpret
from vermilion.seal.formats import Format

__all__ = ["Claim", "Credential", "Parent", "Signed", "read", "sign"]

LARGEST_SIDECAR = 16_000_000  # bytes
SILENCE = 300.0  # seconds in which a time-stamp authority that failed is not asked again
_LARGEST_MANIFEST = 16  # MB, once decompressed
_SIDECAR_TYPE = "application/c2pa"

# Until when a time-stamp authority that failed is left alone: one that hangs costs 30 seconds.
_silent_until: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed file.

    Attributes:
        content: the file's bytes; unchanged where the credential lies beside it.
        sidecar: the credential, to be written beside the file (.c2pa); None: it is inside.
        notes: what a person should know, such as a time-stamp authority that did not answer.
    """

    content: bytes
    sidecar: bytes | None = None
    notes: tuple[str, ...] = ()


def sign(
    content: bytes,
    form: Format,
    claim: Claim,
    parents: Sequence[Parent],
    authority: Authority,
    *,
    private: bool = False,
) -> Signed:
    """Sign a file. Whatever is changed in it later is found out: sign last.

    A credential that the file had is replaced; give the file as a parent to keep it.

    Args:
        content: the finished file.
        form: its format.
        claim: what is said of it.
        parents: what it was made from; the first of an edit is what was edited.
        authority: who signs.
        private: whether the prompts that its parents' credentials tell are taken out of those, by
            C2PA's redaction: who signed them, and that nothing else was changed, stays provable.

    Raises:
        InputError: the file or a parent is damaged, or the authority's certificate has expired.
    """
    definition = manifest(claim, form, parents)
    ingredients = [_ingredient(claim, n, one, authority) for n, one in enumerate(parents)]
    address = authority.current.time_stamps
    notes: tuple[str, ...] = ()
    if private and (told := _prompts(parents, authority)):
        redact(definition, told)
        notes = ("the prompt of what it was made from was taken out of that one's credential",)
    if address is not None:
        if time.monotonic() >= _silent_until.get(address, 0.0):
            try:
                signed = _sign(content, form, definition, ingredients, authority, stamped=True)
                return replace(signed, notes=notes)
            except c2pa.C2paError:
                # What else could have failed fails below once more, and is told there.
                _silent_until[address] = time.monotonic() + SILENCE
        notes += (f"{address} gave no time stamp, so the time of signing is not proved",)
    try:
        signed = _sign(content, form, definition, ingredients, authority, stamped=False)
    except c2pa.C2paError as error:
        authority.current.check(datetime.now(UTC))
        raise InputError(f"file: cannot be signed as {form.suffix}: {_cause(error)}") from None
    return Signed(signed.content, signed.sidecar, notes)


def read(
    content: bytes,
    form: Format,
    sidecar: bytes | None = None,
    authority: Authority | None = None,
) -> Credential:
    """Read and verify a file's credential. A damaged one is reported, not raised.

    Args:
        content: the file.
        form: its format.
        sidecar: the credential that lies beside it; one inside goes before it.
        authority: who "ours" is, and whom else to trust; None: nobody is known.

    Raises:
        InputError: the sidecar is too large to be one.
    """
    if sidecar is not None and len(sidecar) > LARGEST_SIDECAR:
        raise InputError(f"sidecar: larger than {LARGEST_SIDECAR} bytes; it is no credential")
    if sidecar is None and not form.embeds:
        return Credential(state="none")
    if sidecar is not None and form.embeds and (inside := _inside(content, form, authority)):
        return replace(inside, passed_over=True)
    try:
        opened = _open(content, form, sidecar, authority)
    except c2pa.C2paError.ManifestNotFound:
        return Credential(state="none")
    except c2pa.C2paError as error:
        if str(error).startswith("Remote"):
            return Credential(
                state="none",
                problems=(f"Its credential is on the network, not in it: {_cause(error)}.",),
                codes=("manifest.inaccessible",),
            )
        return Credential(
            state="invalid",
            problems=(f"The file or its credential is damaged: {_cause(error)}.",),
            codes=("general.error",),
        )
    return interpret(opened, authority)


def _inside(content: bytes, form: Format, authority: Authority | None) -> Credential | None:
    """The credential inside a file, whatever lies beside it; None: there is none."""
    found = read(content, form, None, authority)
    return None if found.state == "none" else found


def _prompts(parents: Sequence[Parent], authority: Authority) -> list[str]:
    """Where the credentials of parents, and of theirs, tell a prompt: addresses of assertions."""
    found: dict[str, None] = {}
    for parent in parents:
        if parent.sidecar is None and not parent.form.embeds:
            continue
        try:
            inside = parent.form.embeds and _inside(parent.content, parent.form, authority)
            sidecar = None if inside else parent.sidecar
            opened = _open(parent.content, parent.form, sidecar, authority)
        except c2pa.C2paError:
            continue  # it has no credential, or a damaged one, which is not kept
        found |= dict.fromkeys(opened.prompts)
    return list(found)


def _open(
    content: bytes, form: Format, sidecar: bytes | None, authority: Authority | None
) -> Opened:
    context = _context(
        "" if authority is None else authority.anchors + authority.trusted, None, os.getpid()
    )
    with c2pa.Reader(form.media_type, io.BytesIO(content), sidecar, context=context) as reader:
        return Opened.of(reader)


def _sign(
    content: bytes,
    form: Format,
    definition: dict[str, Any],
    ingredients: Sequence[tuple[dict[str, Any], Parent, bytes | None]],
    authority: Authority,
    *,
    stamped: bool,
) -> Signed:
    current = authority.current
    address = current.time_stamps if stamped else None
    context = _context(authority.anchors + authority.trusted, address, os.getpid())
    signer = _signer(current.algorithm, current.chain, current.key, address, os.getpid())
    with c2pa.Builder(definition, context=context) as builder:
        if not form.embeds:
            builder.set_no_embed()
        for description, parent, store in ingredients:
            if store is not None:
                builder.add_resource(description["manifest_data"]["identifier"], io.BytesIO(store))
            builder.add_ingredient(description, parent.form.media_type, io.BytesIO(parent.content))
        out = io.BytesIO()
        store = builder.sign(signer, form.media_type, io.BytesIO(content), out)
    if form.embeds:
        return Signed(out.getvalue())
    return Signed(content, store)


def _ingredient(
    claim: Claim, number: int, parent: Parent, authority: Authority
) -> tuple[dict[str, Any], Parent, bytes | None]:
    """How a parent is named, and its credential where that lies beside it.

    c2pa finds a credential inside a parent by itself. One beside it is verified here, and both it
    and what was found are handed over.
    """
    described = ingredient(claim, number, parent)
    if parent.sidecar is None:
        return described, parent, None
    if parent.form.embeds and _inside(parent.content, parent.form, authority) is not None:
        return described, parent, None
    if len(parent.sidecar) > LARGEST_SIDECAR:
        raise InputError(f"sidecar: larger than {LARGEST_SIDECAR} bytes; it is no credential")
    try:
        opened = _open(parent.content, parent.form, parent.sidecar, authority)
    except c2pa.C2paError as error:
        raise InputError(
            f"sidecar: the credential of {parent.title} is damaged: {_cause(error)}; leave it out"
        ) from None
    described["active_manifest"] = opened.active
    described["manifest_data"] = {"format": _SIDECAR_TYPE, "identifier": f"parent{number}.c2pa"}
    described["validation_results"] = opened.results
    return described, parent, parent.sidecar


@lru_cache(maxsize=16)
def _context(anchors: str, time_stamps: str | None, _process: int) -> c2pa.Context:
    """How c2pa signs and reads; kept, since making one costs as much as a signature.

    The process's number is part of the key: c2pa's objects do not survive a fork.
    """
    host = None if time_stamps is None else urlsplit(time_stamps).hostname
    settings: dict[str, Any] = {
        "version": 1,
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "core": {
            "allowed_network_hosts": [] if host is None else [host],
            "allow_redirects": False,
            "max_decompressed_manifest_size_in_mb": _LARGEST_MANIFEST,
        },
    }
    if anchors:
        settings["trust"] = {"user_anchors": anchors}
    return c2pa.Context.from_dict(settings)


@lru_cache(maxsize=8)
def _signer(
    algorithm: str, chain: str, key: str, time_stamps: str | None, _process: int
) -> c2pa.Signer:
    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(algorithm.encode(), chain.encode(), key.encode(), time_stamps)
    )


def _cause(error: Exception) -> str:
    """The library's own words on one line, without its kind of error."""
    words = " ".join(str(error).split())
    _, _, rest = words.partition(": ")
    return (rest or words)[:200].rstrip(".")
