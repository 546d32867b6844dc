"""The machine label of GB 45438-2025, and everything else that a file says about itself.

The label is one JSON object, whose values are strings of printable ASCII:

    {"AIGC": {"Label": "1", "ContentProducer": ..., "ProduceID": ..., "ReservedCode1": ...,
              "ContentPropagator": ..., "PropagateID": ..., "ReservedCode2": ...}}

The carriers of pictures, MP4 and MP3 hold the inner object. `carriers` knows where it stands in
each format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from vermilion.errors import InputError

MADE_BY_AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
EDITED_WITH_AI = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
LONGEST = 1024  # characters of one value that is read

_ALLOWED = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]*")
_KEYS = {
    "Label": "label",
    "ContentProducer": "content_producer",
    "ProduceID": "produce_id",
    "ReservedCode1": "reserved_code1",
    "ContentPropagator": "content_propagator",
    "PropagateID": "propagate_id",
    "ReservedCode2": "reserved_code2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The machine label.

    Attributes:
        label: "1" made by AI, "2" possibly, "3" suspected.
        content_producer: name or code of who makes it.
        produce_id: the producer's number of the content.
        reserved_code1: for the producer's own proof.
        content_propagator: name or code of who spreads it.
        propagate_id: the spreader's number of the content.
        reserved_code2: for the spreader's own proof.

    Raises:
        InputError: a value has a character that the standard does not allow: spaces, quotes,
            backslashes, and all that is not ASCII.
    """

    label: str = "1"
    content_producer: str
    produce_id: str
    reserved_code1: str = ""
    content_propagator: str = ""
    propagate_id: str = ""
    reserved_code2: str = ""

    def __post_init__(self) -> None:
        if self.label not in ("1", "2", "3"):
            raise InputError(f"Label: must be 1, 2 or 3 (found {self.label!r})")
        for key, name in _KEYS.items():
            value = getattr(self, name)
            if _ALLOWED.fullmatch(value) is None or len(value) > LONGEST:
                raise InputError(
                    f"{key}: {value[:40]!r} has a character that GB 45438-2025 does not allow,"
                    f" or is longer than {LONGEST}; use letters, digits and signs of ASCII"
                )

    def inner(self) -> str:
        """The inner object, as the carriers of pictures, MP4 and MP3 hold it."""
        values = asdict(self)
        return json.dumps({k: values[name] for k, name in _KEYS.items()}, separators=(",", ":"))

    def outer(self) -> str:
        """The whole object, with its key AIGC."""
        return f'{{"AIGC":{self.inner()}}}'

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a label, inner or whole object.

        Raises:
            InputError: it is none.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError("AIGC: the label is not JSON") from None
        if isinstance(value, dict) and isinstance(value.get("AIGC"), dict):
            value = value["AIGC"]
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise InputError("AIGC: the label is no JSON object of strings")
        known = {name: value[key] for key, name in _KEYS.items() if key in value}
        missing = [k for k in ("Label", "ContentProducer", "ProduceID") if k not in value]
        if missing:
            raise InputError(f"AIGC: the label lacks {', '.join(missing)}")
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a file says about itself, outside its credential.

    Attributes:
        label: the machine label; None: it has none.
        source_type: IPTC's DigitalSourceType, a URI; empty: not stated.
        parameters: how a picture was made, in the words of A1111; empty: not stated.
        recipe: the same for machines, JSON values only; empty: not stated.
        foreign: keys of other tools that are kept as they are (ComfyUI's "prompt" and
            "workflow", "invokeai_metadata", ...), name to text.
    """

    label: Label | None = None
    source_type: str = ""
    parameters: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
