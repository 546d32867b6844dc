"""What is sealed and how, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vermilion.errors import InputError
from vermilion.seal.claims import Parent
from vermilion.seal.formats import Format
from vermilion.seal.labels import Statement
from vermilion.seal.marks import Place
from vermilion.seal.marks.stamp import Style


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the seal says of an asset.

    Attributes:
        asset_id: of the library, which becomes the label's ProduceID and the watermark.
        title: a few words for people.
        language: ISO 639-1 code of the content, which the mark is worded in.
        model: name of the model that made it; empty: not known.
        licence: of that model, an SPDX expression; empty: not known.
        training_data: licences of what the model was trained on, in words; empty: not known.
        prompt: what was asked for.
        recipe: all that makes it again, as `types.Asset.recipe`.
        edited: whether it is a file from elsewhere, or one that a model changed, not made by one
            alone; the first source is that file.
        source_type: IPTC's DigitalSourceType; empty: made by AI, or edited with AI.
        sources: what it was made from, with their own credentials, which stay in the chain.
        family: ids of other assets that it may resemble: its parents, versions of itself.
        said: what a file from elsewhere says of its making. The producer of its label stays; the
            rest is kept in public exports only. None: made here.
    """

    asset_id: str
    title: str = ""
    language: str = "en"
    model: str = ""
    licence: str = ""
    training_data: str = ""
    prompt: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    edited: bool = False
    source_type: str = ""
    sources: tuple[Parent, ...] = ()
    family: tuple[str, ...] = ()
    said: Statement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealOptions:
    """How an export is sealed.

    Attributes:
        mark: whether it carries a mark that people see or hear. The machine label, the
            watermark and the credential stay without it.
        reason: why it has no mark; kept in the ledger. Needed where `mark` is False.
        private: whether the prompt and the settings stay out of the file.
        commercial: whether it is meant for commercial use, which the licence must allow.
        place: of a visible mark; see `marks.picture`.
        style: of a visible mark; see `marks.picture`.
        spoken: whether the mark of a sound is a spoken sentence, not tones.
        tell: is told what a person should know of a file: what it is close to, what was left out
            of it.

    Raises:
        InputError: the mark is left out without a reason.
    """

    mark: bool = True
    reason: str = ""
    private: bool = True
    commercial: bool = False
    place: Place = "bottom-right"
    style: Style = "auto"
    spoken: bool = False
    tell: Callable[[str], None] = field(default=lambda words: None, compare=False)

    def __post_init__(self) -> None:
        if not self.mark and not self.reason.strip():
            raise InputError(
                "reason: an export without a visible mark needs one, which is kept in the ledger;"
                ' say --reason "..."'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A file that is ready to be released.

    Attributes:
        content: its bytes.
        form: its format.
        sidecar: the credential, where the format cannot hold it; else None.
        notes: what was stamped, found and read back, JSON values only.
    """

    content: bytes
    form: Format
    sidecar: bytes | None
    notes: Mapping[str, Any]
