"""Measures by which the best of several drafts is chosen, where a recipe's step names one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vermilion.line import verse

MEASURES: Mapping[str, Callable[[str], Mapping[str, float]]] = {"verse": verse.measures}
"""By name: a function of the text that gives its figures, each better the higher it is."""
