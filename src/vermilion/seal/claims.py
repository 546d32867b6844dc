"""What a credential says, and how it is written down as a C2PA manifest.

Two assertions carry it. `c2pa.actions.v2` says in C2PA's own words that the content was created,
or opened and edited, with a model. `alt.vermilion.recipe` says the rest: the asset's id, the
digest of the prompt, the licence of the training data. Its label begins with the reversed name
`vermilion.alt`, because C2PA wants a domain name there and `.alt` is the one that RFC 9476 leaves
to names outside the domain name system: it is nobody's domain.

Of a format that cannot hold the machine label two more do: `alt.vermilion.label` is the label's
whole object, {"AIGC": {...}}, and `alt.vermilion.own` what stands elsewhere under VERMILION.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vermilion.errors import InputError
from vermilion.seal.carriers import tags
from vermilion.seal.formats import Format
from vermilion.seal.labels import EDITED_WITH_AI, MADE_BY_AI, Statement

RECIPE = "alt.vermilion.recipe"
LABEL = "alt.vermilion.label"
OWN = "alt.vermilion.own"
GENERATOR = "Vermilion"
LONGEST = 4096  # characters of one value, the prompt apart
LONGEST_PROMPT = 100_000  # characters
MOST_PARENTS = 64

_DIGEST = re.compile(r"[0-9a-f]{64}|")
_NO_CONTROLS = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is said of a content when it is signed.

    Attributes:
        title: its name for people. It is public: it must not hold a private prompt.
        asset_id: its number in the library.
        model: what made it; empty: no model took part here (a file of others that is labelled).
        prompt_digest: SHA-256 of the prompt's UTF-8, hex; empty: there was none.
        prompt: the prompt itself; None: it stays private.
        training_licence: the licence of what the model was trained on; empty: unknown.
        edited: whether the first parent was changed into this; False: it was made anew.
        source_type: IPTC's DigitalSourceType; empty: made by AI, or edited with AI.
        statement: what the file itself cannot hold; empty: it holds all.
        version: of this program.
        when: with a time zone.

    Raises:
        InputError: a value is too long or has characters that do not belong into text.
    """

    title: str
    asset_id: str
    model: str
    prompt_digest: str = ""
    prompt: str | None = None
    training_licence: str = ""
    edited: bool = False
    source_type: str = ""
    statement: Statement = field(default_factory=Statement)
    version: str
    when: datetime

    def __post_init__(self) -> None:
        for name in ("title", "asset_id", "model", "training_licence", "source_type", "version"):
            _check_text(name, getattr(self, name), LONGEST)
        if self.prompt is not None:
            _check_text("prompt", self.prompt, LONGEST_PROMPT)
        if _DIGEST.fullmatch(self.prompt_digest) is None:
            raise InputError("prompt_digest: must be a SHA-256, 64 hex digits in lower case")
        if self.when.tzinfo is None:
            raise InputError("when: must have a time zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """What a content was made from. Its own credential is kept inside the new one.

    Attributes:
        content: the file's bytes.
        form: the file's format.
        title: its name for people; public.
        sidecar: its credential where that lies beside it.
    """

    content: bytes
    form: Format
    title: str
    sidecar: bytes | None = None

    def __post_init__(self) -> None:
        _check_text("title", self.title, LONGEST)


def manifest(claim: Claim, form: Format, parents: Sequence[Parent]) -> dict[str, Any]:
    """A manifest in the form of C2PA's builder, without its ingredients.

    The ingredients have the labels `parent0`, `parent1`, ... and are added to the builder.

    Raises:
        InputError: an edit has no parent, or there are too many parents.
    """
    if claim.edited and not parents:
        raise InputError("edited: an edit needs the file that was edited as its first parent")
    if len(parents) > MOST_PARENTS:
        raise InputError(f"parents: {len(parents)}; a credential takes at most {MOST_PARENTS}")
    return {
        "claim_generator_info": [{"name": GENERATOR, "version": claim.version}],
        "title": claim.title,
        "format": form.media_type,
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "created": True,
                "data": {"actions": _actions(claim, len(parents))},
            },
            {"label": RECIPE, "created": True, "data": _recipe(claim, parents)},
            *_beside(claim.statement),
        ],
    }


def _beside(statement: Statement) -> list[dict[str, Any]]:
    """The assertions that hold what a file cannot."""
    found = []
    if statement.label is not None:
        found.append({"label": LABEL, "created": True, "data": json.loads(statement.label.outer())})
    if own := tags.own(statement, foreign=True):
        found.append({"label": OWN, "created": True, "data": json.loads(own)})
    return found


def redact(definition: dict[str, Any], addresses: Sequence[str]) -> None:
    """Let a manifest take assertions out of those of its ingredients (C2PA 2.2, 6.8).

    Args:
        definition: the manifest, which is changed.
        addresses: JUMBF URIs of the assertions.
    """
    definition["redactions"] = list(addresses)
    actions = definition["assertions"][0]["data"]["actions"]
    for address in addresses:
        reason = {"action": "c2pa.redacted", "reason": "c2pa.PII.present"}
        actions.append({**reason, "parameters": {"redacted": address}})


def ingredient(claim: Claim, number: int, parent: Parent) -> dict[str, Any]:
    """How a parent is named to C2PA's builder."""
    edited_from = claim.edited and number == 0
    return {
        "title": parent.title,
        "relationship": "parentOf" if edited_from else "inputTo",
        "label": f"parent{number}",
    }


def _actions(claim: Claim, parents: int) -> list[dict[str, Any]]:
    made: dict[str, Any] = {"when": claim.when.isoformat(timespec="seconds")}
    if claim.model:
        made["softwareAgent"] = {"name": claim.model}
    names = [f"parent{number}" for number in range(parents)]
    if not claim.edited:
        made["action"] = "c2pa.created"
        made["digitalSourceType"] = claim.source_type or MADE_BY_AI
        if names:
            made["parameters"] = {"ingredientIds": names}
        return [made]
    if claim.model:
        made["action"] = "c2pa.edited"
        made["digitalSourceType"] = claim.source_type or EDITED_WITH_AI
    else:
        made["action"] = "c2pa.edited.metadata"
        if claim.source_type:
            made["digitalSourceType"] = claim.source_type
    if names[1:]:
        made["parameters"] = {"ingredientIds": names[1:]}
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": names[:1]}}
    return [opened, made]


def _recipe(claim: Claim, parents: Sequence[Parent]) -> Mapping[str, Any]:
    recipe: dict[str, Any] = {
        "asset_id": claim.asset_id,
        "model": claim.model,
        "prompt_sha256": claim.prompt_digest,
        "prompt": claim.prompt,
        "training_data_licence": claim.training_licence,
        "parents": [
            {"title": one.title, "sha256": hashlib.sha256(one.content).hexdigest()}
            for one in parents
        ],
    }
    return {name: value for name, value in recipe.items() if value not in ("", None, [])}


def _check_text(name: str, value: str, longest: int) -> None:
    if len(value) > longest:
        raise InputError(f"{name}: {len(value)} characters; at most {longest} are signed")
    if _NO_CONTROLS.fullmatch(value) is None:
        raise InputError(f"{name}: has control characters; remove them")
