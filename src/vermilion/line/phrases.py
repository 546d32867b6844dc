"""A brief's own words, bent so that they fit into a sentence; English, by its surface.

Patterns of recipes are built of these, so that a small model writes the words between what
the brief says and cannot change what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def word_list(name: str) -> tuple[str, ...]:
    """The words under the heading [`name`] in recipes/words.txt; # begins a comment."""
    text = (files("vermilion") / "recipes" / "words.txt").read_text(encoding="utf-8")
    part = text.partition(f"[{name}]\n")[2].partition("\n[")[0]
    lines = [line for line in part.splitlines() if not line.startswith("#")]
    return tuple(" ".join(lines).split())


_NAME = r"(?:[A-Z0-9][\w'’&-]*|[A-Z])(?: (?:of |and |the |& )?[A-Z0-9][\w'’&-]*)*"
_CALLED = re.compile(rf"\b(?:called|named) [\"“]?({_NAME})")
_IS_CALLED = re.compile(
    rf"^(?:[Tt]he|[Aa]n?) (?:\w+ )*?(\w+) (?:is|was) (?:called|named) ({_NAME})"
)
_APPOSITIVE = re.compile(rf"^({_NAME})\s*[,:(–—-] ?")
# "A roastery's" owns what follows; "a farmers'" and "a children's" say what sort it is.
_OWNED = re.compile(
    r"^(?:an? [^,]*?[a-z](?<!men)(?<!children)(?<!people)['’]s"
    r"|(?:my|our) [^,]*?[a-z](?:'s|s'|’s|s’)) (?=\w)"
)
_ORDER = re.compile(r"^(?:announce|introduce|present|promote|launch|advertise) +", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|my|our) ")
_KEPT = re.compile(r"^(?:the|this|these|your|two|three|four|five|\d|[A-Z])")
FINITE = frozenset(word_list("verbs"))
_WHEN_WHERE = frozenset(word_list("when_where"))
_ORDERS = frozenset(word_list("orders"))
_OBJECT = frozenset(word_list("after_verb"))
_PLACES = frozenset(word_list("places"))
_EVENTS = frozenset(word_list("events"))
_HEAD_ENDS = re.compile(
    r"[,:(]| (?:for|from|in|of|on|at|with|by|to|that|which|who|where|about|called|named) "
)
_LOWERED = re.compile(
    r"^(?:The|A|An|We|Our|It|Its|They|Their|Every|All|No|In|On|At|From|By|Each)\b"
)


def stem(word: str) -> str:
    """Enough of a stem to see that "roasts" and "roasted" are "roast"."""
    word = re.sub(r"['’]s?$", "", word)
    for ending in ("ing", "ers", "ed", "es", "er", "ery", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def called(subject: str) -> str:
    """What to call a subject in a sentence of those whose it is.

    "a bookshop called The Dry Page" → "The Dry Page"; "Pomelo, an app for cooks" → "Pomelo";
    "a small roastery's new dark roast" → "our new dark roast".
    """
    subject = without_order(subject)
    named = _CALLED.search(subject) or _APPOSITIVE.match(subject)
    if named:
        return named[1]
    owned = _OWNED.match(subject)
    if owned:
        return "our " + subject[owned.end() :]
    if _ARTICLE.match(subject):
        return _ARTICLE.sub("our ", subject)
    return subject if _KEPT.match(subject) else f"our {subject}"


def without_order(subject: str) -> str:
    """A subject without the order that it may begin with: "announce the reopening"."""
    return _ORDER.sub("", subject.strip(" ."))


def upfirst(text: str) -> str:
    """The text with a capital at its beginning; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def clause(fact: str) -> str:
    """A fact as it stands within a sentence: no full stop, no capital of a plain first word."""
    fact = fact.strip().rstrip(".!;, ")
    return fact[:1].lower() + fact[1:] if _LOWERED.match(fact) else fact


def hero(subject: str, facts: Iterable[str] = ()) -> str:
    """Who a story is about: a name that the brief gives, else "the lighthouse keeper"."""
    named = _CALLED.search(subject) or _APPOSITIVE.match(subject)
    if named:
        return named[1]
    for fact in facts:
        if (found := _IS_CALLED.match(fact)) and found[1].lower() in subject.lower().split():
            return found[2]
    return "the " + re.sub(r"^(?:an?|the|my|our) ", "", _HEAD_ENDS.split(subject, maxsplit=1)[0])


def meeting(subject: str, facts: Iterable[str] = ()) -> str:
    """Who a story is about, as one meets them: a name, else the whole subject."""
    name = hero(subject, facts)
    return subject if name.startswith("the ") else name


def lastword(text: str) -> str:
    """The last word of a text."""
    return (text.split() or [""])[-1]


def clauses(facts: Iterable[str]) -> list[str]:
    """`clause` of each."""
    return [clause(fact) for fact in facts]


def introduced(subject: str) -> str:
    """What to call a subject, with what it is: "The Dry Page, a rainy-day bookshop"."""
    subject = without_order(subject)
    named = _CALLED.search(subject)
    if named and not subject[named.end() :].strip():
        return f"{named[1]}, {subject[: named.start()].strip(' ,')}"
    return subject if _APPOSITIVE.match(subject) else called(subject)


def head_of(text: str) -> str:
    """The noun that a phrase is about: "our new app for students" → "app"."""
    text = without_order(text)
    named = _CALLED.search(text)
    if named:
        text = text[: named.start()]
    else:
        text = text[match.end() :] if (match := _APPOSITIVE.match(text)) else text
    found = _HEAD_ENDS.split(re.sub(r"^the ", "", _ARTICLE.sub("", text.strip())), maxsplit=1)[
        0
    ].split()
    return found[-1] if found else ""


def is_plural(text: str) -> bool:
    """Whether a phrase is about several things, by the ending of its noun."""
    return bool(re.search(r"[^su]s$", head_of(text)))


def sort_of(subject: str) -> str:
    """ "place", "event" or "thing": whether one visits it, takes part in it, or has it."""
    head = head_of(subject).lower()
    if head in _PLACES:
        return "place"
    return "event" if head in _EVENTS else "thing"


def told(fact: str, subject: str) -> str:
    """A pattern of the sentences, without the full stop, that state a fact word for word."""
    bare = clause(fact)
    first, *rest = bare.lower().split() or [""]
    then = rest[0] if rest else ""
    sort, plural = sort_of(subject), is_plural(subject)
    it, is_, has = ("They", "are", "have") if plural else ("It", "is", "has")
    there = "There are" if is_plural(bare) else "There is"
    whole, ways = upfirst(bare), []
    if (first in FINITE and (plural or first.endswith("s"))) or (
        first.endswith("s") and then in _OBJECT
    ):
        ways = [f"{it} {bare}"]
    elif first == "with":
        ways = [f"{it} {'come' if plural else 'comes'} {bare}"]
    elif first == "for":
        ways = [f"{it} {is_} {bare}"]
    elif first in _WHEN_WHERE:
        them = "them" if plural else "it"
        ways = {
            "place": ["Find us", "Visit us", "Come and see us"],
            "event": ["Join us", "Come and join us"],
        }.get(sort, [f"Find {them}", f"Look for {them}"])
        ways = [f"{way} {bare}" for way in ways]
    elif first in _ORDERS or first[:1].isdigit() or FINITE & set(rest) or bare[:1].isupper():
        ways = [whole]
    elif re.search(r"(?:[^e]ed|wn|ade|uilt|open|oven|able|free|proof|friendly)$", first) and (
        not rest or then in _WHEN_WHERE | {"by", "with", "of", "for", "to", "and"}
    ):
        ways = [f"We are {bare}" if sort == "place" else f"{it} {is_} {bare}"]
    elif re.search(r"(?:ed|welcome|free|friendly|proof)$", bare) and rest:
        ways = [whole]
    elif sort == "thing":
        ways = [f"{it} {has} {bare}", f"{it} {'come' if plural else 'comes'} with {bare}"]
    else:
        ways = [f"{there} {bare}", f"We have {bare}"]
    return anyof(ways)


def vocabulary(*given: str) -> str:
    """A pattern of one word: one that claims nothing, or one of those that are given."""
    own = {word for text in given for word in re.findall(r"[\w'’-]+", text.lower())}
    return "(?:" + "|".join(sorted(map(re.escape, {*word_list("plain"), *own}))) + ")"


def nth(items: Sequence[Any], number: int) -> Any:
    """The item of this number, from 1; after the last one the first follows; "" of none."""
    return items[(number - 1) % len(items)] if items else ""


def deal(items: Iterable[Any], hands: int) -> list[list[Any]]:
    """The items dealt out like cards, so that no two hands share one; empty hands are dropped."""
    dealt = list(items)
    return [hand for n in range(hands) if (hand := dealt[n::hands])]


def anyof(items: Iterable[str]) -> str:
    """A pattern that matches just one of these."""
    return "(?:" + "|".join(map(re.escape, items)) + ")"


FILTERS = {
    "called": called,
    "upfirst": upfirst,
    "introduced": introduced,
    "is_plural": is_plural,
    "sort_of": sort_of,
    "clause": clause,
    "hero": hero,
    "meeting": meeting,
    "lastword": lastword,
    "clauses": clauses,
    "told": told,
    "vocabulary": vocabulary,
    "nth": nth,
    "deal": deal,
    "anyof": anyof,
}
