"""From what c2pa found in a file to a Credential: who signed, what is said, what is wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

import c2pa

from vermilion.errors import InputError
from vermilion.seal import claims, jumbf, verdicts
from vermilion.seal.authority import Authority
from vermilion.seal.findings import printable

State = Literal["ours", "trusted", "unknown-signer", "invalid", "none"]

LARGEST_JSON = 16_000_000  # characters
_MOST = 256  # actions, ingredients or problems of one manifest that are told
_DEEPEST = 64  # generations that are told


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that was done.

    Attributes:
        name: C2PA's: "c2pa.created", "c2pa.opened", "c2pa.edited", ...
        source_type: IPTC's DigitalSourceType, a URI; empty: not stated.
        agent: what did it: a model, a program; empty: not stated.
        when: as the signer says; None: not stated.
    """

    name: str
    source_type: str = ""
    agent: str = ""
    when: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a manifest says.

    Attributes:
        title: the content's name.
        asset_id: its number in the signer's library, if the signer is a Vermilion.
        model: what made it.
        prompt_digest: SHA-256 of the prompt, hex.
        prompt: the prompt, where it was not kept private.
        training_licence: the licence of what the model was trained on.
        label: the machine label as JSON, where the file itself cannot hold it; empty: none.
        own: what stands elsewhere under VERMILION, likewise.
        software: what wrote the manifest, with its version.
        actions: what was done, in order.
    """

    title: str = ""
    asset_id: str = ""
    model: str = ""
    prompt_digest: str = ""
    prompt: str | None = None
    training_licence: str = ""
    label: str = ""
    own: str = ""
    software: str = ""
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredient:
    """What a content was made from, as its signer says.

    Attributes:
        title: its name.
        relation: "parentOf": this was edited; "inputTo": it was used; "componentOf": it is a part.
        state: of its own credential, when it was used and now.
        issuer: who signed that.
        said: what that says.
        problems: what is wrong with it, in sentences.
        ingredients: what it was made from itself; told once, where it is named first.
    """

    title: str
    relation: str
    state: State
    issuer: str = ""
    said: Said = Said()
    problems: tuple[str, ...] = ()
    ingredients: tuple[Ingredient, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a file's credential says, and whether it may be believed.

    Attributes:
        state: "ours": signed here, and nothing was changed since. "trusted": the same, by a
            signer whose authority is trusted here. "unknown-signer": nothing was changed since it
            was signed by somebody; any name can be claimed. "invalid": the file or the credential
            was changed, or the certificate had expired; nothing it says can be relied on. "none".
        issuer: the signer's name, which proves nothing unless the state is ours or trusted.
        fingerprint: SHA-256 of the signer's certificate, hex.
        signed_at: when, with a time zone; None: not stated.
        time_proved: whether a time-stamp authority that is trusted here says so; else the signer
            alone does.
        said: what it says; empty without a manifest.
        ingredients: what the content was made from, each with its own.
        problems: what is wrong, in sentences.
        codes: the same in C2PA's codes.
        passed_over: whether another one lies beside the file, which was not looked at.
    """

    state: State
    issuer: str = ""
    fingerprint: str = ""
    signed_at: datetime | None = None
    time_proved: bool = False
    said: Said = Said()
    ingredients: tuple[Ingredient, ...] = ()
    problems: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    passed_over: bool = False

    @property
    def asset_id(self) -> str:
        """The content's number in the signer's library."""
        return self.said.asset_id

    @property
    def actions(self) -> tuple[Action, ...]:
        """What was done, in order."""
        return self.said.actions


@dataclass(frozen=True, slots=True)
class Opened:
    """What c2pa found.

    Attributes:
        active: label of the manifest that counts.
        state: Trusted, Valid or Invalid.
        manifests: label to manifest, as c2pa's reader tells them.
        results: c2pa's validation results.
        signers: label to the fingerprint of the certificate that signed it.
    """

    active: str
    state: str
    manifests: Mapping[str, Any]
    results: Mapping[str, Any]
    signers: Mapping[str, str]

    @classmethod
    def of(cls, reader: c2pa.Reader) -> Self:
        """Take over all that is needed of a reader.

        Raises:
            C2paError: it has no manifest, or what it has cannot be told.
        """
        text = reader.json()
        if len(text) > LARGEST_JSON:
            raise c2pa.C2paError(f"Other: it has more than {LARGEST_JSON} characters")
        try:
            what = json.loads(text)
            active = what["active_manifest"]
            state, manifests = what["validation_state"], what["manifests"]
            results = what["validation_results"]
            if active not in manifests:
                raise c2pa.C2paError("Other: it has no active manifest")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise c2pa.C2paError("Other: it cannot be told in JSON") from None
        store = io.BytesIO()
        reader.resource_to_stream(f"self#jumbf=/c2pa/{active}", store)
        try:
            signers = jumbf.signers(store.getvalue())
        except InputError as error:
            raise c2pa.C2paError(f"Other: {error}") from None
        return cls(active, state, manifests, results, signers)

    @property
    def prompts(self) -> list[str]:
        """JUMBF URIs of the assertions of ours in which a prompt stands."""
        return [
            f"self#jumbf=/c2pa/{label}/c2pa.assertions/{one['label']}"
            for label, manifest in self.manifests.items()
            for one in _list(_dict(manifest).get("assertions"))
            if _tells_prompt(_text(one.get("label")).split("__")[0], _dict(one.get("data")))
        ]


def _tells_prompt(label: str, data: Mapping[str, Any]) -> bool:
    if label == claims.OWN:
        return any(name != "source_type" for name in data)
    return label == claims.RECIPE and data.get("prompt") is not None


def failures(results: Mapping[str, Any]) -> tuple[str, ...]:
    """The codes of what c2pa found wrong with the active manifest."""
    return _codes(_dict(results.get("activeManifest")), "failure")


def interpret(opened: Opened, authority: Authority | None) -> Credential:
    """What was found, for people."""
    ours = frozenset() if authority is None else authority.fingerprints
    found = opened.manifests[opened.active]
    signature = _dict(found.get("signature_info"))
    fingerprint = opened.signers.get(opened.active, "")
    codes = failures(opened.results)
    deltas = _deltas(opened.results)
    below = [code for one in deltas.values() for code in one]
    said = _said(found)
    stamp = _time(signature.get("time"))
    proved = "timeStamp.trusted" in _codes(_dict(opened.results.get("activeManifest")), "success")
    claimed = [action.when for action in said.actions if action.when is not None]
    state: State = "invalid"
    if opened.state == "Trusted":
        state = "ours" if fingerprint in ours else "trusted"
    elif opened.state == "Valid":
        state = "unknown-signer"
    if state == "invalid" and not codes:
        codes = tuple(below) or ("general.error",)
    if verdicts.EXPIRED.intersection(codes):
        # An expired certificate is never found among the trusted: that says nothing more.
        codes = tuple(code for code in codes if code != verdicts.UNTRUSTED)
    return Credential(
        state=state,
        issuer=_name(signature),
        fingerprint=fingerprint,
        signed_at=stamp if stamp is not None else max(claimed, default=None),
        time_proved=stamp is not None and proved,
        said=said,
        ingredients=_ingredients(opened, opened.active, deltas, ours, set(), 0),
        problems=verdicts.sentences(codes)[:_MOST],
        codes=codes[:_MOST],
    )


def _ingredients(
    opened: Opened,
    label: str,
    deltas: Mapping[str, tuple[str, ...]],
    ours: frozenset[str],
    told: set[str],
    depth: int,
) -> tuple[Ingredient, ...]:
    """What a manifest names as its sources, and theirs.

    The sources of one that is named several times are told once, where it is named first: else
    a chain of pairs would double with every generation.
    """
    told.add(label)
    found = []
    for one in _list(opened.manifests[label].get("ingredients"))[:_MOST]:
        source = _text(one.get("active_manifest"))
        uri = f"self#jumbf=/c2pa/{label}/c2pa.assertions/{_text(one.get('label'))}"
        codes = failures(_dict(one.get("validation_results"))) + deltas.get(uri, ())
        known = source in opened.manifests
        manifest = opened.manifests[source] if known else {}
        below: tuple[Ingredient, ...] = ()
        if known and source not in told and depth < _DEEPEST:
            below = _ingredients(opened, source, deltas, ours, told, depth + 1)
        found.append(
            Ingredient(
                title=_text(one.get("title")),
                relation=_text(one.get("relationship")),
                state=_state(bool(source), known, codes, opened.signers.get(source, "") in ours),
                issuer=_name(_dict(manifest.get("signature_info"))),
                said=_said(manifest),
                problems=verdicts.sentences(codes)[:_MOST],
                ingredients=below,
            )
        )
    return tuple(found)


def _state(named: bool, known: bool, codes: Iterable[str], is_ours: bool) -> State:
    """Of an ingredient's own credential."""
    codes = set(codes)
    if not named:
        return "none"
    if not known or codes - {verdicts.UNTRUSTED}:
        return "invalid"
    if is_ours:
        return "ours"
    return "unknown-signer" if codes else "trusted"


def _said(manifest: Mapping[str, Any]) -> Said:
    recipe: Mapping[str, Any] = {}
    beside: dict[str, str] = {}
    actions: list[Action] = []
    for assertion in _list(manifest.get("assertions"))[:_MOST]:
        label, data = _text(assertion.get("label")), _dict(assertion.get("data"))
        if label == claims.RECIPE and not recipe:
            recipe = data
        elif label in (claims.LABEL, claims.OWN):
            beside.setdefault(label, json.dumps(data))
        elif label.split("__")[0] in ("c2pa.actions", "c2pa.actions.v2"):
            actions += [_action(one) for one in _list(data.get("actions"))]
    prompt = recipe.get("prompt")
    generator = next(iter(_list(manifest.get("claim_generator_info"))), {})
    software = f"{_text(generator.get('name'))} {_text(generator.get('version'))}".strip()
    return Said(
        title=_text(manifest.get("title")),
        asset_id=_text(recipe.get("asset_id")),
        model=_text(recipe.get("model")),
        prompt_digest=_text(recipe.get("prompt_sha256")),
        prompt=_text(prompt, claims.LONGEST_PROMPT) if isinstance(prompt, str) else None,
        training_licence=_text(recipe.get("training_data_licence")),
        label=beside.get(claims.LABEL, ""),
        own=beside.get(claims.OWN, ""),
        software=software or _text(manifest.get("claim_generator")),
        actions=tuple(actions[:_MOST]),
    )


def _action(one: Mapping[str, Any]) -> Action:
    agent = one.get("softwareAgent")
    return Action(
        name=_text(one.get("action")),
        source_type=_text(one.get("digitalSourceType")),
        agent=_text(agent.get("name") if isinstance(agent, dict) else agent),
        when=_time(one.get("when")),
    )


def _deltas(results: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What is wrong with ingredients now and was not when they were used, by assertion."""
    found: dict[str, tuple[str, ...]] = {}
    for one in _list(results.get("ingredientDeltas")):
        uri = _text(one.get("ingredientAssertionURI"))
        found[uri] = found.get(uri, ()) + _codes(_dict(one.get("validationDeltas")), "failure")
    return found


def _codes(results: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    codes = (_text(one.get("code")) for one in _list(results.get(kind)))
    return tuple(dict.fromkeys(code for code in codes if code))


def _name(signature: Mapping[str, Any]) -> str:
    return _text(signature.get("common_name")) or _text(signature.get("issuer"))


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value[:64])
    except ValueError:
        return None
    return when if when.tzinfo is not None else None


def _text(value: object, longest: int = claims.LONGEST) -> str:
    """A string of a stranger, cut to a length, in one piece for a terminal."""
    return printable(value[:longest]) if isinstance(value, str) else ""


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
