"""The line that every export passes. This is the file to read first.

    content ─stamp→ marked, watermarked ─label→ ─sign→ ─read back→ released, in the ledger

`Sealer` holds what the work needs: the authority that signs, the key of the watermarks and the
ledger, all in one folder that is made when it is first used. A file that does not read back as
it should is not released.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vermilion import __version__
from vermilion.errors import InputError, SealError
from vermilion.seal import carriers, credentials, resemblance, rights, verify
from vermilion.seal.authority import Authority
from vermilion.seal.claims import Claim, Parent
from vermilion.seal.formats import Format
from vermilion.seal.labels import EDITED_WITH_AI, MADE_BY_AI, Label, Statement
from vermilion.seal.ledger import Entry, Ledger
from vermilion.seal.order import About, Sealed, SealOptions
from vermilion.seal.parameters import to_parameters
from vermilion.seal.resemblance import Known, Resemblance
from vermilion.seal.shelf import Shelf
from vermilion.seal.stamp import Stamped, Work, stamp
from vermilion.seal.watermark.key import Key, derive
from vermilion.seal.watermark.text import GreenList

if TYPE_CHECKING:
    from vermilion.seal.marks.sound import Spoken


class Sealer:
    """Seals files. Safe to use from several threads.

    Args:
        folder: where the authority, the key and the ledger live; made when they are first used.
        producer: who makes the content, for the label: a name or a code of printable ASCII
            without spaces.
        known: what a content is compared with, beside the ledger; None: nothing.
        voice: speaks the mark of sounds in a language (ISO 639-1); None: nobody does.
    """

    def __init__(
        self,
        folder: Path,
        producer: str = "Vermilion",
        *,
        known: Known | None = None,
        voice: Callable[[str], Spoken] | None = None,
    ) -> None:
        self.folder, self.producer = folder, producer
        self.known, self._voice = known, voice

    @cached_property
    def authority(self) -> Authority:
        """Who signs here."""
        return Authority.open(self.folder / "authority")

    @cached_property
    def key(self) -> bytes:
        """Of the watermarks, 32 bytes."""
        return Key.open(self.folder).content

    @cached_property
    def ledger(self) -> Ledger:
        """Of all that was sealed here. Its head carries a code that needs the key to be made."""
        secret = derive(self.key, "ledger")

        def sign(message: bytes) -> bytes:
            return hmac.digest(secret, message, "sha256")

        def is_good(message: bytes, signature: bytes) -> bool:
            return hmac.compare_digest(sign(message), signature)

        return Ledger.open(self.folder / "ledger", sign=sign, verify=is_good)

    def greens(self, vocab_size: int) -> Callable[[Sequence[int]], NDArray[np.bool_]]:
        """Which tokens are green in texts that a model of this vocabulary writes here."""
        return GreenList(self.key, vocab_size).green

    def seal(
        self,
        content: bytes,
        form: Format,
        about: About,
        options: SealOptions | None = None,
        target: Format | None = None,
    ) -> Sealed:
        """Seal a file for release.

        Args:
            content: the file, as the library keeps it.
            form: its format.
            about: the asset.
            options: how it is sealed; None: with a mark, private.
            target: the format to write, of the same medium; None: the file's own.

        Raises:
            InputError: the file cannot be read or marked, or its licence forbids the use.
            SealError: what came out did not read back; it is not released.
            StorageError: the folder of the seal cannot be read or written.
        """
        options = SealOptions() if options is None else options
        target = form if target is None else target
        _check_rights(about, options)
        spoken = self._spoken(about, target) if options.spoken and options.mark else None
        compared = self.known is not None
        stamped = stamp(Work(content, form, target, about, options, self.key, spoken, compared))
        label = self._label(about)
        statement = self._statement(label, about, options)
        inside, beside = (statement, Statement()) if target.labels else (Statement(), statement)
        labelled = carriers.write(stamped.content, target, inside)
        signed = credentials.sign(
            labelled,
            target,
            replace(claim_of(about, options), statement=beside),
            about.sources,
            self.authority,
            private=options.private,
        )
        verdict = verify.examine(
            signed.content,
            target,
            signed.sidecar,
            authority=self.authority,
            key=self.key,
            thorough=False,
            expected=stamped.expected,
        )
        _must_read_back(verdict, label, about, options)
        entry = _entry(content, signed.content, target, about, options, stamped)
        near, close = self._closest(entry, about, stamped)
        number = self.ledger.append(entry)
        if self.known is not None:
            self.known.keep(about.asset_id, stamped.bare)
        remarks = [*signed.notes, *([] if close is None else [f"it is {close}"])]
        for remark in remarks:
            options.tell(f"{about.asset_id}: {remark}")
        notes: dict[str, Any] = {
            **stamped.notes,
            "format": target.suffix,
            "label": label.inner(),
            "ledger": number,
            "originality": {"score": 1.0} if near is None else near.facts(),
            "found": {finding.what: finding.words for finding in verdict.findings},
            **({"remarks": remarks} if remarks else {}),
        }
        return Sealed(content=signed.content, form=target, sidecar=signed.sidecar, notes=notes)

    def _spoken(self, about: About, target: Format) -> Spoken | None:
        """The spoken mark of a sound; None: it is no sound.

        Raises:
            InputError: nobody is there to speak it, or not in that language.
        """
        if target.medium != "sound":
            return None
        if self._voice is None:
            raise InputError(
                "spoken: no voice is at hand here to speak the mark; leave it out, and the mark is"
                " tones"
            )
        return self._voice(about.language)

    def _closest(
        self, entry: Entry, about: About, stamped: Stamped
    ) -> tuple[Resemblance | None, Resemblance | None]:
        """The closest thing that is known and no relative, and the closest that is worth a remark.

        Other works of models that were made here are not: of eight hearts each is like the others,
        and a person who asked for eight knows it. The notes and `verify` have them all the same.
        """
        originals, known, bare = {entry.original_sha256}, self.known, stamped.bare
        shelf = None if known is None else known.shelf(but=about.asset_id)
        learnt = None if known is None or not about.model else known.trained_on(about.model)
        # A copy of what was sealed here has a mark already; with a second one it is further away.
        seen = (stamped.prints, bare)
        matches = [match for prints in seen for match in self.ledger.find(prints=prints)]
        found = [
            *resemblance.sealed(matches, originals),
            *resemblance.kept(shelf, bare, originals),
            *resemblance.trained_on(learnt, bare, about.model),
        ]
        family = dict.fromkeys(about.family, "which it was made from")
        if found and shelf is not None:
            family |= shelf.relatives(about.asset_id, about.family)
        near, _ = resemblance.closest(found, {about.asset_id}, family)
        if about.model and shelf is not None:
            found = [one for one in found if not _made_here(one, shelf)]
        other, relative = resemblance.closest(found, {about.asset_id}, family)
        return near, other or relative

    def verify(
        self,
        content: bytes,
        form: Format,
        sidecar: bytes | None = None,
        hidden: verify.Hidden | None = None,
    ) -> verify.Verdict:
        """Look at a file; see `verify.examine`. Keys are not made for it where there are none.

        Raises:
            InputError: the file is damaged or not of that format.
            StorageError: the folder of the seal cannot be read.
        """
        has_key = Key.is_in(self.folder)
        return verify.examine(
            content,
            form,
            sidecar,
            authority=self.authority if Authority.is_in(self.folder / "authority") else None,
            key=self.key if has_key else None,
            ledger=self.ledger if has_key else None,
            hidden=hidden,
            known=self.known,
        )

    def source(self, content: bytes, form: Format, about: About) -> Parent:
        """A file as something that another was made from, with a credential of its own.

        Raises:
            InputError: it is damaged.
        """
        claim = claim_of(about, SealOptions())
        signed = credentials.sign(content, form, claim, about.sources, self.authority)
        return Parent(content=signed.content, form=form, title=claim.title, sidecar=signed.sidecar)

    def seal_all(
        self, orders: Sequence[tuple[bytes, Format, About]], options: SealOptions | None = None
    ) -> list[Sealed]:
        """Seal many files side by side, a thread for each core; see `seal`.

        Large pictures take both of two cores. Small files spend much of their time in Python,
        which one thread at a time runs; processes were no quicker before hundreds of them, since
        they have to start, and were slower for large pictures, which travel between them.
        """

        def one(order: tuple[bytes, Format, About]) -> Sealed:
            content, form, about = order
            return self.seal(content, form, about, options)

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            return list(pool.map(one, orders))

    def _label(self, about: About) -> Label:
        """Our label; where the file came with one, its producer stays and we are who spreads it."""
        first = None if about.said is None else about.said.label
        if first is None or first.content_producer == self.producer:
            return Label(content_producer=self.producer, produce_id=about.asset_id)
        return Label(
            label=first.label,
            content_producer=first.content_producer,
            produce_id=first.produce_id,
            reserved_code1=first.reserved_code1,
            content_propagator=self.producer,
            propagate_id=about.asset_id,
        )

    def _statement(self, label: Label, about: About, options: SealOptions) -> Statement:
        source_type = about.source_type or (EDITED_WITH_AI if about.edited else MADE_BY_AI)
        if options.private:
            return Statement(label=label, source_type=source_type)
        if about.said is not None:
            return replace(about.said, label=label, source_type=source_type)
        return Statement(
            label=label,
            source_type=source_type,
            parameters=to_parameters(about.recipe),
            recipe=about.recipe,
        )


def _check_rights(about: About, options: SealOptions) -> None:
    if not options.commercial:
        return
    use = rights.commercial_use(about.licence)
    if use == "forbidden":
        raise InputError(
            f"commercial: {about.asset_id} was made by {about.model or 'a model'}, whose licence"
            f" {about.licence} forbids commercial use; make it with another model, or export it"
            " without --commercial"
        )
    if use == "unknown":
        raise InputError(
            f"commercial: the licence of {about.asset_id} ({about.licence or 'none is stated'}) is"
            " not known to allow commercial use; read it, and export without --commercial"
        )


def claim_of(about: About, options: SealOptions) -> Claim:
    """What the credential says of an asset."""
    digest = hashlib.sha256(about.prompt.encode()).hexdigest() if about.prompt else ""
    return Claim(
        title=about.title or about.asset_id,
        asset_id=about.asset_id,
        model=about.model,
        prompt_digest=digest,
        prompt=None if options.private or not about.prompt else about.prompt,
        training_licence=about.training_data,
        edited=about.edited,
        source_type=about.source_type,
        version=__version__,
        when=datetime.now(UTC),
    )


def _must_read_back(
    verdict: verify.Verdict, label: Label, about: About, options: SealOptions
) -> None:
    """Fail closed: everything that was put in has to be found in what is released.

    Not so the watermark: a flat or tiny picture has no room for it, which the notes say.
    """
    needed: tuple[verify.What, ...] = ("signature", "signer", "label", "source")
    wrong = []
    for what in (*needed, "mark") if options.mark else needed:
        finding = verdict[what]
        if finding is None:
            wrong.append(f"{what}: it was not found")
        elif finding.state in ("bad", "absent"):
            wrong.append(f"{what}: {finding.words}")
    if verdict.label != label:
        wrong.append("label: it is not the one that was written")
    if verdict.credential.asset_id != about.asset_id:
        wrong.append("signature: it names another asset")
    if wrong:
        raise SealError(
            f"{about.asset_id} was not released, because its seal does not read back: "
            + "; ".join(wrong)
        )


def _entry(
    original: bytes,
    released: bytes,
    form: Format,
    about: About,
    options: SealOptions,
    stamped: Stamped,
) -> Entry:
    return Entry(
        action="sealed" if options.mark else "opted-out",
        asset_id=about.asset_id,
        sha256=hashlib.sha256(released).hexdigest(),
        original_sha256=hashlib.sha256(original).hexdigest(),
        format=form.suffix,
        phash=stamped.prints.picture,
        soundprint=stamped.prints.sound,
        filmprint=stamped.prints.film,
        minhash=stamped.prints.text,
        opt_outs=() if options.mark else ("visible mark",),
        reason=options.reason,
    )


def _made_here(one: Resemblance, shelf: Shelf) -> bool:
    """Whether a model made it here: its own works are no strangers to one another."""
    kept = None if one.where == "training-set" else shelf.get(one.name)
    return kept is not None and kept.made_here
