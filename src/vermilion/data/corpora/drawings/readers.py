"""Drawings out of their packages, with what they show; nothing is drawn here."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vermilion.data.corpora.drawings.names import (
    Emoji,
    Subject,
    branded,
    icon_words,
    is_toned,
    parted,
    squeezed,
    words,
)
from vermilion.data.corpora.drawings.sources import DrawingSet
from vermilion.data.corpora.packages import members
from vermilion.errors import FetchError

# Where the picture's own names are Unicode's or those of emoji; elsewhere icons are named freely.
_SHARED_NAMES = ("noto", "twemoji", "fluent-emoji-flat")
_LOGOS = {"brand", "brands", "brand logo", "logos"}  # categories of trademarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A drawing that is not rasterised yet.

    Attributes:
        id: of its picture: the set's name and its own.
        set: that it is from.
        style: in words.
        subject: what it shows.
        content: an SVG document or a WebP file.
        trimmed: whether it is cut to what is drawn: pages of clip art have wide margins.
        author: of this drawing, where the set has many.
    """

    id: str
    set: DrawingSet
    style: str
    subject: Subject
    content: bytes
    trimmed: bool = False
    author: str = ""


class Words:
    """What is known about names: emoji, tags of icons, Chinese titles, English words."""

    def __init__(
        self,
        emoji: Emoji,
        *,
        names: Iterable[str] = (),
        tags: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None,
        chinese: Mapping[str, tuple[str, tuple[str, ...]]] | None = None,
    ) -> None:
        """Take in what the packages know.

        Args:
            emoji: with their labels.
            names: of icons, whose words are English.
            tags: by a set's name, then by an icon's.
            chinese: title and tags by an icon's name.
        """
        self.emoji = emoji
        self.tags = tags or {}
        self.chinese = {
            squeezed("-".join(icon_words(name))): found for name, found in (chinese or {}).items()
        }
        self.english = {word for name in names for word in words(name)}
        for subject in emoji.by_code.values():
            self.english.update(words(" ".join((subject.label, *subject.tags))))

    def icon(self, name: str, tags: tuple[str, ...] = ()) -> Subject | None:
        """What an icon shows, by its name; an emoji where one has that very label."""
        every = icon_words(name)
        label = " ".join(every)
        if not label or branded(words(name)):
            return None
        same = self.emoji.coded(self.emoji.by_label.get(squeezed(label), ""))
        title, more = self.chinese.get(squeezed(label), ("", ()))
        distinct = dict.fromkeys(tag for tag in (*tags, *(same.tags if same else ())) if tag)
        label = same.label if same else label  # one spelling, and so one family
        distinct.pop(label, None)
        return Subject(
            concept=same.concept if same else f"label:{'-'.join(every)}",
            label=label,
            tags=tuple(distinct),
            label_zh=title or (same.label_zh if same else ""),
            tags_zh=more or (same.tags_zh if same else ()),
        )


def shared_names(icons: Mapping[str, Any]) -> dict[str, str]:
    """Hexcode of an emoji by the name that sets of Iconify share for it, squeezed."""
    return {
        squeezed(name): code
        for prefix in _SHARED_NAMES
        if prefix in icons
        for code, name in icons[prefix].get("chars", {}).items()
    }


def iconify(drawn: DrawingSet, content: Mapping[str, Any], known: Words) -> Iterator[Drawing]:
    """The drawings of a set of Iconify.

    Args:
        drawn: the set.
        content: its file.
        known: emoji, tags.

    Raises:
        FetchError: the package names another licence than the one that was looked at.
    """
    said = content["info"]["license"]["spdx"]
    if said != (drawn.declared or drawn.licence):
        raise FetchError(
            f"{drawn.name}: its package says {said}, not {drawn.declared or drawn.licence};"
            " read its licence before it is used"
        )
    icons, taken = content["icons"], set()
    logos = {
        name
        for category, names in content.get("categories", {}).items()
        if " ".join(words(category)) in _LOGOS
        for name in names
    }
    codes = {name: code for code, name in content.get("chars", {}).items()}
    for name in sorted(icons, key=lambda name: _biggest_first(drawn, name)):
        icon, told = icons[name], drawn.style_of(name, icons)
        if icon.get("hidden") or told is None or name in logos:
            continue
        bare, style = told
        subject = _subject(drawn, bare, codes.get(name, ""), icons.keys(), known)
        if subject is None or (drawn.name == "fluent-color" and bare in taken):
            continue
        taken.add(bare)
        yield Drawing(
            id=f"{drawn.name}--{name}",
            set=drawn,
            style=style,
            subject=subject,
            content=_document(icon, content).encode(),
            trimmed=drawn.trimmed,
        )


def _biggest_first(drawn: DrawingSet, name: str) -> tuple[str, int]:
    """By name; of one icon in several sizes the biggest stands first."""
    if drawn.name == "fluent-color" and (size := re.search(r"-(\d+)$", name)):
        return name[: size.start()], -int(size[1])
    return name, 0


def _document(icon: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", defaults.get("width", 16))
    height = icon.get("height", defaults.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">'
        f"{icon['body']}</svg>"
    )


def _subject(drawn: DrawingSet, name: str, code: str, others: Any, known: Words) -> Subject | None:
    if drawn.name == "circle-flags":
        return known.emoji.coded(flag_code(name))
    if drawn.group != "emoji":
        return known.icon(name, known.tags.get(drawn.name, {}).get(name, ()))
    if is_toned(name, others) or (code and is_toned(code.lower(), ())):
        return None
    subject = known.emoji.coded(code) or known.emoji.named(name)
    return subject or known.icon("-".join(parted(words(name), known.english)))


# These codes of countries are pictures of the languages' flags: Arabic, Interlingue, Ido, Latin.
_LANGUAGES = {"ar", "ie", "io", "la"}


def flag_code(name: str) -> str:
    """Hexcode of a country's flag ("be") or of a part of one ("gb-eng"); "" for other names."""
    if name in _LANGUAGES:
        return ""
    if re.fullmatch(r"[a-z]{2}", name):
        return "-".join(f"{0x1F1E6 + ord(letter) - ord('a'):X}" for letter in name)
    if re.fullmatch(r"gb-[a-z]{3}", name):
        tags = "-".join(f"{0xE0000 + ord(letter):X}" for letter in name.replace("-", ""))
        return f"1F3F4-{tags}-E007F"
    return ""


def three_dimensional(drawn: DrawingSet, path: Path, known: Words) -> Iterator[Drawing]:
    """Emoji in three dimensions, one WebP file each, named by the hexcode."""
    files = dict(members(path))
    for name in sorted(files):
        code = PurePosixPath(name)
        if code.suffix == ".webp" and not is_toned(code.stem, ()):
            subject = known.emoji.coded(code.stem)
            if subject is not None:
                yield Drawing(
                    id=f"{drawn.name}--{code.stem}",
                    set=drawn,
                    style=drawn.styles[""],
                    subject=subject,
                    content=files[name],
                )


_FIELD = r"<dc:{0}\b[^>]*>(?:\s|<cc:Agent\b[^>]*>)*<dc:title[^>]*>(.*?)</dc:title>"
_CREATOR = re.compile(_FIELD.format("creator"), re.S)
_TITLE = re.compile(r"<dc:title[^>]*>(.*?)</dc:title>", re.S)
_KEYWORD = re.compile(r"<rdf:li[^>]*>(.*?)</rdf:li>", re.S)
# Flags, cards and the icons of themes have the title of their collection.
_SKIPPED = re.compile(r"/(?:flags|cards|logos|special|led|[\w-]+-theme|applications)/")
# Fonts differ from machine to machine; photographs are no drawings.
_UNDRAWN = (b"<text", b"<svg:text", b"flowRoot", b"<image", b"<svg:image")
_GPL = (b"GPL", b"General Public License")
_NOT_SHOWN = re.compile(
    r"nazi|swastika|hitler|strip+er|nude|naked|\bsex|porn|topless|pantyhose", re.I
)
_OFTEN = 4  # a title that more drawings have is that of a collection
_FILLERS = {"clipart", "clip", "art", "svg", "icon", "icons", "symbol", "drawing", "hash", "theme"}
_FILLERS |= {"collection", "by", "bw", "nicu", "various", "simple", "mapsym", "misc", "and", "in"}


def clip_art(drawn: DrawingSet, path: Path, known: Words) -> Iterator[Drawing]:
    """Clip art whose title says what it shows."""
    found: list[tuple[str, bytes, str, list[str], str]] = []
    for name, content in members(path):
        if name.endswith(".svg") and not _SKIPPED.search(name):
            if any(mark in content for mark in (*_UNDRAWN, *_GPL)):
                continue
            text = _metadata(content)
            keywords = [_plain(word) for word in _KEYWORD.findall(text)]
            found.append((name, content, _first(_TITLE, text), keywords, _first(_CREATOR, text)))
    found.sort()
    often = Counter(title for title, _ in {(f[2], PurePosixPath(f[0]).stem) for f in found})
    taken: set[str] = set()
    for name, content, title, keywords, author in found:
        tags = tuple(dict.fromkeys(word for word in keywords if _tells([word], known)))
        label = _title(words(title), known)
        said = " ".join((PurePosixPath(name).name, title, *keywords))
        stem = PurePosixPath(name).stem.strip("_.")
        if often[title] > _OFTEN or not label or stem in taken or _NOT_SHOWN.search(said):
            continue
        subject = known.icon("-".join(label), tags)
        flag = "flag" in (*label, *keywords) or squeezed(f"flag {title}") in known.emoji.by_label
        if subject is None or flag or branded(words(said)):
            continue
        taken.add(stem)
        yield Drawing(
            id=f"{drawn.name}--{re.sub(r'[^A-Za-z0-9_.-]', '_', stem)}",
            set=drawn,
            style=drawn.styles[""],
            subject=subject,
            content=content,
            trimmed=drawn.trimmed,
            author=author,
        )


def _metadata(content: bytes) -> str:
    """The part of a document that tells its title, keywords and author."""
    start, end = content.find(b"<metadata"), content.rfind(b"</metadata>")
    return content[start:end].decode("utf-8", errors="replace") if 0 <= start < end else ""


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return _plain(found[1]) if found else ""


def _plain(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html.unescape(text)).split())


_LEAST_ENGLISH = 0.6  # of a title's words; others are in Italian and French, or name somebody


def _title(every: list[str], known: Words) -> list[str]:
    """A title's English words; none where too few are English."""
    told = [word for word in every if len(word) > 2 and word not in _FILLERS]
    label = _tells(every, known)
    while label and len(label[-1]) < 3:
        label.pop()
    while label and len(label[0]) < 3:
        label.pop(0)
    enough = sum(word in known.english for word in told) >= _LEAST_ENGLISH * len(told)
    return label if enough else []


def _tells(every: list[str], known: Words) -> list[str]:
    """The words that are English and tell something; numbers and names are taken out."""
    bare = [word for word in every if len(word) > 1 and word not in _FILLERS]
    english = [w for w in bare if all(part in known.english for part in words(w))]
    return [word for word in english if not word.isdigit()][:6]
