"""EXIF: where A1111 puts its parameters, and other tools their keys, in JPEG, WebP and AVIF.

| tool | tag | holds |
| --- | --- | --- |
| A1111 | EXIF UserComment, UTF-16 big-endian | parameters |
| Fooocus | UserComment in the first directory, MakerNote | parameters, fooocus_scheme |
| ComfyUI | Make, Model and the tags before, as "name:JSON" | workflow, prompt |

What stands there and is none of that (a camera's maker, a person's comment) stays.

Source: EXIF 2.32, 4.6.5 (UserComment).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vermilion.seal import parameters
from vermilion.seal.carriers import ifd
from vermilion.seal.carriers.ifd import Directory, Tiff
from vermilion.seal.carriers.statements import check
from vermilion.seal.labels import Label, Statement

USER_COMMENT, _MAKER_NOTE, _VERSION = 0x9286, 0x927C, 0x9000
_COMFY_TAGS = range(0x0100, 0x0111)  # it counts down from Model, one tag for each key
_COMFY_KEYS = ("prompt", "workflow")
_SCHEMES = ("fooocus", "a1111")
_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"


@dataclass(slots=True)
class Words:
    """What EXIF says that a Statement can hold, and in which tags it stands.

    Attributes:
        parameters: in A1111's form, or Fooocus' JSON.
        label: the machine label, where a producer put it into the comment.
        foreign: keys of other tools.
        main: tags of the first directory that hold any of it, and the foreign key's name.
        inner: tags of EXIF's directory, likewise.
        taken: whether UserComment holds something else.
    """

    parameters: str = ""
    label: str = ""
    foreign: dict[str, str] = field(default_factory=dict)
    main: dict[int, str] = field(default_factory=dict)
    inner: dict[int, str] = field(default_factory=dict)
    taken: bool = False


def decoded(comment: bytes) -> str:
    """A UserComment's words. The standard leaves the order of UTF-16 open; tools differ."""
    if comment.startswith(_UNICODE):
        data = comment[len(_UNICODE) :]
        data = data[: len(data) // 2 * 2]
        # Most words have more signs below U+0100 than signs whose low byte is zero.
        big = data[0::2].count(0) >= data[1::2].count(0)
        return data.decode("utf-16-be" if big else "utf-16-le", "replace").rstrip("\0")
    words = comment.removeprefix(_ASCII).removeprefix(bytes(8)).rstrip(b"\0")
    return words.decode("utf-8", "replace")


def words_of(tiff: Tiff) -> Words:
    """Read what a Statement can hold.

    Raises:
        InputError: damaged.
    """
    words = Words()
    inner = tiff.exif()
    for directory, tags in ((inner, words.inner), (tiff.first, words.main)):
        if directory is not None:
            _comment(tiff, directory, tags, words)
            _scheme(tiff, directory, tags, words)
    _comfy(tiff, words)
    return words


def _comment(tiff: Tiff, directory: Directory, tags: dict[int, str], words: Words) -> None:
    entry = directory.entries.get(USER_COMMENT)
    if entry is None:
        return
    text = decoded(tiff.value(entry))
    if text.startswith('{"AIGC"'):
        words.label = words.label or text
        tags[USER_COMMENT] = ""
    elif is_parameters(text):
        words.parameters = words.parameters or text
        tags[USER_COMMENT] = ""
    elif text.strip() and directory is not tiff.first:
        words.taken = True


def is_parameters(text: str) -> bool:
    """Whether a comment says how a picture was made, in a form that some tool reads."""
    fooocus = text.startswith("{") and '"base_model"' in text and '"prompt"' in text
    return fooocus or parameters.recognised(text)


def _scheme(tiff: Tiff, directory: Directory, tags: dict[int, str], words: Words) -> None:
    entry = directory.entries.get(_MAKER_NOTE)
    if entry is not None and entry.size <= 16:
        scheme = tiff.value(entry).rstrip(b"\0").decode("latin-1")
        if scheme in _SCHEMES and USER_COMMENT in tags:
            words.foreign.setdefault("fooocus_scheme", scheme)
            tags[_MAKER_NOTE] = "fooocus_scheme"


def _comfy(tiff: Tiff, words: Words) -> None:
    for tag in _COMFY_TAGS:
        entry = tiff.first.entries.get(tag)
        if entry is None or entry.type != ifd.ASCII:
            continue
        name, _, text = tiff.value(entry).rstrip(b"\0").decode("utf-8", "replace").partition(":")
        if name.lower() in _COMFY_KEYS and text.startswith("{"):
            words.foreign.setdefault(name.lower(), text)
            words.main[tag] = name.lower()


def read(block: bytes) -> Words:
    """What an EXIF block says; it begins with the TIFF header.

    Raises:
        InputError: damaged.
    """
    return words_of(Tiff(block, "EXIF"))


def into(statement: Statement, words: Words) -> Statement:
    """A statement, from XMP, with what EXIF says besides.

    Raises:
        InputError: the label in EXIF is damaged.
    """
    label = statement.label
    if label is None and words.label:
        label = Label.parse(words.label)
    return replace(
        statement,
        label=label,
        parameters=words.parameters or statement.parameters,
        foreign={**statement.foreign, **words.foreign},
    )


def write(block: bytes, statement: Statement, largest: int) -> tuple[bytes, Statement]:
    """Put into EXIF what other tools look for there.

    Args:
        block: that the file has, from its TIFF header; empty: none.
        statement: what the file shall say.
        largest: bytes that the block may have.

    Returns:
        The block, empty if there was none and nothing to say; and that part of the statement
        which EXIF does not hold: XMP has to.

    Raises:
        InputError: damaged.
    """
    check(statement)
    words = read(block) if block else Words()
    main: dict[int, ifd.Value | None] = {}
    inner: dict[int, ifd.Value | None] = {}
    kept: set[str] = set()
    for tags, changes in ((words.main, main), (words.inner, inner)):
        for tag, key in tags.items():
            if key and statement.foreign.get(key) == words.foreign[key]:
                kept.add(key)
            else:
                changes[tag] = None
    rest = {k: v for k, v in statement.foreign.items() if k not in kept}
    left = replace(statement, foreign=rest)
    fits = is_parameters(statement.parameters) and not words.taken
    if fits and words.parameters == statement.parameters and not words.label:
        for tags, changes in ((words.main, main), (words.inner, inner)):
            if USER_COMMENT in tags:
                changes.pop(USER_COMMENT)
        return _changed(block, main, inner), replace(left, parameters="")
    if fits:
        comment = _UNICODE + statement.parameters.encode("utf-16-be")
        said = inner | {USER_COMMENT: (ifd.UNDEFINED, comment)}
        if not block:
            said[_VERSION] = (ifd.UNDEFINED, b"0232")
        new = _changed(block or ifd.empty(), main, said)
        if len(new) <= largest and decoded(comment) == statement.parameters:
            return new, replace(left, parameters="")
    return _changed(block, main, inner), left


def _changed(
    block: bytes, main: dict[int, ifd.Value | None], inner: dict[int, ifd.Value | None]
) -> bytes:
    return Tiff(block, "EXIF").changed(main, inner) if block else block
