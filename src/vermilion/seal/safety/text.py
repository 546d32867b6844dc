"""Texts, held against rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vermilion.seal.safety.decision import Decision, Setting
from vermilion.seal.safety.folding import han, latin
from vermilion.seal.safety.rules import ALWAYS, Rule, Rules

_TOLD = 8  # words of a broken rule that are told

Span = tuple[int, int]


def check_text(text: str, rules: Rules | None = None, setting: Setting = "flag") -> Decision:
    """Hold a prompt or a written text against rules, in whatever languages it is.

    The gravest rule that it breaks decides. What sexualises children is refused whatever the
    setting says.

    Args:
        text: of any length.
        rules: None: those that come with Vermilion.
        setting: what is done where a rule does not say it itself.
    """
    rules = Rules.load() if rules is None else rules
    forms = {"en": latin(text), "zh": han(text)}
    for rule in rules.rules:
        found = tuple(dict.fromkeys(_broken(rule, forms[rule.language])))
        if found:
            always = rule.category == ALWAYS
            return Decision(
                kind="text",
                action="refuse" if always else rule.action or setting,
                score=rule.score,
                rule=rule.name,
                category=rule.category,
                found=found[:_TOLD],
            )
    return Decision(kind="text", action="pass", score=0.0)


def _broken(rule: Rule, form: str) -> Iterator[str]:
    """The words in a folded text that break a rule."""
    groups = [_spans(pattern, rule.but, form) for pattern in rule.groups]
    if not all(groups):
        return
    excuses = _spans(rule.unless, None, form) if rule.unless is not None else []

    def close(one: Span, other: Span) -> bool:
        between = form[min(one[1], other[1]) : max(one[0], other[0])]
        gap = between.count(" ") if rule.language == "en" else len(between)
        return gap <= rule.within

    for first in groups[0]:
        near = [next((s for s in group if close(first, s)), None) for group in groups[1:]]
        spans = [first, *(span for span in near if span is not None)]
        if None in near or any(close(span, excuse) for span in spans for excuse in excuses):
            continue
        yield from (form[start:end] for start, end in spans)


def _spans(pattern: re.Pattern[str], but: re.Pattern[str] | None, form: str) -> list[Span]:
    """Where a pattern is found outside of what does not count."""
    found = [match.span() for match in pattern.finditer(form)]
    if not found or but is None:
        return found
    spared = [match.span() for match in but.finditer(form)]
    return [s for s in found if not any(a <= s[0] and s[1] <= b for a, b in spared)]
