"""What a drawing shows: names made into words, words into a concept, emoji by their code.

A concept is an emoji's hexcode, or `label:` and the words of a name. Its family is a set of words
without those that change little in a picture (man, woman, face ...); the split is by family, so
that "woman astronaut" is not held out while "man astronaut" is trained on.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from vermilion.data.corpora.packages import members
from vermilion.errors import FetchError

_TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
_TONE = re.compile(r"-1f3f[b-f]", re.I)
_NUMBER_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
# Before these a number is not the number of a variant.
_COUNTED = {"number", "digit", "keycap", "clock", "dice", "circle", "square", "code", "index"}
_COUNTED |= {"beaufort", "level", "stage", "color"}
_ALIKE = {"man", "woman", "person", "men", "women", "people", "face", "facing", "right", "left"}
_ALIKE_BUT = {"right", "left"}  # only with "facing"
_LINKS = {"a", "an", "the", "of", "and", "with", "in", "on", "for", "to", "s"}
_LONGEST = 60

# Trademarks and characters that belong to somebody.
_BRANDS = """
logo logos brand adobe airbnb alipay amazon android apache aws azure bing blogger bluetooth chrome
codepen debian deezer discord disney docker dribbble dropbox ebay evernote facebook figma firefox
flickr fxemoji gentoo gimp github gitlab gmail gnome google hulu ikea imdb inkscape instagram java
javascript kickstarter linkedin linux lyx mastercard mastodon microsoft mozilla nasa netflix nikon
nintendo nodejs nvidia openclipart outlook paypal photoshop php pinterest playstation postgresql
python quora react reddit safari samsung shopify sketchup skype slack snapchat soundcloud spotify
stripe svelte teamviewer telegram tesla tiktok tinder trello tumblr tux twitch twitter typescript
uber ubuntu unsplash velocette viber vimeo visa vk wechat whatsapp wikipedia wordpress xbox yahoo
yelp youtube batman dalek darth vader gameboy hulk ironman lego mario mickey minion pacman pikachu
pokemon pokeball sonic spiderman spongebob starwars stormtrooper superman tetris walle yoda
"""
BRANDS = frozenset(_BRANDS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a drawing shows.

    Attributes:
        concept: hexcode of an emoji, or `label:` and words.
        label: in English.
        tags: in English.
        label_zh: in Chinese, "" where there is none.
        tags_zh: in Chinese.
    """

    concept: str
    label: str
    tags: tuple[str, ...] = ()
    label_zh: str = ""
    tags_zh: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """What the split goes by."""
        return family(self.label)


def words(text: str) -> list[str]:
    """The words of a name or a label, in small letters; marks above letters are taken off."""
    plain = unicodedata.normalize("NFKD", text.replace("'", "").replace("’", "").replace("“", ""))
    return re.findall(r"[a-z]+|\d+", plain.encode("ascii", "ignore").decode().lower())


def squeezed(text: str) -> str:
    """Letters and digits alone: names that differ in hyphens and spaces are the same."""
    return "".join(words(text))


def singular(word: str) -> str:
    """A word without the s of the plural, roughly: both forms come out the same."""
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def family(label: str) -> str:
    """The words that tell a picture apart, in the order of the alphabet.

    Args:
        label: in English.
    """
    every = words(label)
    alike = _ALIKE if "facing" in every else _ALIKE - _ALIKE_BUT
    bare = {singular(word) for word in every if word not in alike and word not in _LINKS}
    return " ".join(sorted(bare or {singular(word) for word in every}))


def icon_words(name: str) -> list[str]:
    """The words of an icon's name without the number of its variant."""
    every = words(name)
    while len(every) > 1 and (every[-1].isdigit() or every[-1] in _NUMBER_WORDS):
        if every[-2] in _COUNTED or len(every[-2]) < 2:
            break
        every = every[:-1]
    if every and every[-1] == "alt" and len(every) > 1:
        every = every[:-1]
    if len(every) == 1 and len(every[0]) == 1:
        every = ["digit" if every[0].isdigit() else "letter", every[0]]
    return every


def is_toned(name: str, others: Iterable[str]) -> bool:
    """Whether a name is that of a drawing in a skin tone: the same drawing is there without.

    Args:
        name: as the set has it.
        others: all names of the set, best as a set.
    """
    if _TONE.search(name) or "skin-tone" in name:
        return True
    return any(
        name.endswith(f"-{tone}") and name.removesuffix(f"-{tone}") in others for tone in _TONES
    )


def branded(every: Sequence[str]) -> bool:
    """Whether a trademark or somebody's character is named, in one word or two beside another.

    Args:
        every: words of a name.
    """
    pairs = {first + second for first, second in pairwise(every)}
    return not BRANDS.isdisjoint(pairs.union(every))


@dataclass(slots=True)
class Emoji:
    """The emoji by their code and by the names they go by.

    Attributes:
        by_code: subjects by hexcode in capitals without FE0F.
        by_label: hexcodes by squeezed label.
        by_name: hexcodes by squeezed name: labels, then short codes, then Unicode's names.
    """

    by_code: Mapping[str, Subject]
    by_label: Mapping[str, str]
    by_name: dict[str, str] = field(default_factory=dict)

    def coded(self, code: str) -> Subject | None:
        """The subject of a hexcode, in any spelling."""
        return self.by_code.get(bare_code(code))

    def named(self, name: str) -> Subject | None:
        """The subject of a name as sets of emoji have them."""
        bare = re.sub(r"-\d+$", "", name)
        flag = "flag-" + re.sub(r"^flag-(?:for-)?(?:flag-)?|flag$", "", bare)
        for form in (name, bare, flag, _keycap(name)):
            code = self.by_name.get(squeezed(form))
            if code is not None:
                return self.by_code[code]
        return None


_DIGITS = {word: number for number, word in enumerate(("zero", *_NUMBER_WORDS[:9]))}


def _keycap(name: str) -> str:
    """The name of a digit's emoji: "digit-two" and "2" are "keycap-2"."""
    bare = name.removeprefix("digit-")
    return f"keycap-{_DIGITS.get(bare, bare)}"


def parted(every: Iterable[str], known: Container[str]) -> list[str]:
    """Words that were written without spaces, parted; none where one cannot be.

    Args:
        every: words, of which some are several.
        known: words that there are; those of two letters and fewer are not trusted.
    """
    out: list[str] = []
    for word in every:
        best: list[list[str] | None] = [[]] + [None] * len(word)
        for end in range(1, len(word) + 1):
            for start in range(end):
                piece, before = word[start:end], best[start]
                good = piece in _LINKS or (len(piece) > 2 and piece in known) or piece == word
                if good and before is not None and (piece != word or word in known):
                    now = best[end]
                    if now is None or len(before) + 1 < len(now):
                        best[end] = [*before, piece]
        whole = best[-1]
        if whole is None:
            return []
        out += whole
    return out


def bare_code(code: str) -> str:
    """A hexcode in capitals without variation selectors."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def read_emoji(path: Path) -> Emoji:
    """The emoji in the package of labels.

    Raises:
        FetchError: a file that there should be is not in it.
    """
    wanted = {"en/data.json", "zh/data.json"}
    wanted |= {f"en/shortcodes/{kind}.json" for kind in ("cldr", "github", "joypixels")}
    files = {
        short: json.loads(content)
        for name, content in members(path)
        if (short := name.removeprefix("package/")) in wanted
    }
    if missing := sorted(wanted - {"en/shortcodes/cldr.json"} - files.keys()):
        raise FetchError(f"{path}: there is no {missing[0]} in it; fetch it again")
    chinese = {bare_code(entry["hexcode"]): entry for entry in files["zh/data.json"]}
    by_code: dict[str, Subject] = {}
    for entry in files["en/data.json"]:
        code = bare_code(entry["hexcode"])
        here = chinese.get(code, {})
        by_code[code] = Subject(
            concept=code,
            label=entry["label"],
            tags=tuple(tag for tag in entry.get("tags", ()) if tag != entry["label"]),
            label_zh=here.get("label", ""),
            tags_zh=tuple(tag for tag in here.get("tags", ()) if tag != here.get("label")),
        )
    by_label: dict[str, str] = {}
    for code, subject in by_code.items():
        by_label.setdefault(squeezed(subject.label), code)
    emoji = Emoji(by_code, by_label, dict(by_label))
    for code, subject in by_code.items():
        emoji.by_name.setdefault(squeezed(re.sub(r"\(.*?\)|[!:]", "", subject.label)), code)
    for kind in ("cldr", "github", "joypixels"):
        for code, names in files.get(f"en/shortcodes/{kind}.json", {}).items():
            for name in [names] if isinstance(names, str) else names:
                if bare_code(code) in by_code:
                    emoji.by_name.setdefault(squeezed(name), bare_code(code))
    for code in by_code:
        if "-" not in code and (named := unicodedata.name(chr(int(code, 16)), "")):
            emoji.by_name.setdefault(squeezed(named), code)
    return emoji
