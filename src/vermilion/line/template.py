"""Templates of recipes: Jinja2 in a sandbox that can neither loop for long nor reach out.

A template may print values, use the filters below (and `regex`, which makes a pattern that
matches just the value, and those of `line.phrases`, `line.quiz` and `line.subjects`), branch, and
go through lists that it is given, one within another at the deepest. It may not call anything,
compute, import, define macros or touch attributes that begin with an underscore.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vermilion.errors import InputError
from vermilion.line import phrases, quiz, subjects

FILTERS = (
    "capitalize", "default", "first", "join", "last", "length", "list", "lower", "replace",
    "title", "trim", "unique", "upper",
)  # fmt: skip
_TESTS = ("defined", "undefined", "none", "string", "in", "eq", "ne")
_FORBIDDEN = (
    nodes.Call, nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.Include, nodes.Import,
    nodes.FromImport, nodes.Extends, nodes.Block, nodes.Pow, nodes.Mul, nodes.Mod, nodes.Assign,
    nodes.AssignBlock, nodes.ScopedEvalContextModifier,
)  # fmt: skip
_DEEPEST_LOOP = 2


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.filters["regex"] = re.escape
    environment.filters.update({**phrases.FILTERS, **quiz.FILTERS, **subjects.FILTERS})
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    return environment


@cache
def compile_template(source: str, field: str) -> Template:
    """Read a template.

    Args:
        source: Jinja2.
        field: what the template is called in messages, e.g. "steps.body.template".

    Raises:
        InputError: it cannot be read, or it uses what is not allowed here.
    """
    environment = _environment()
    try:
        tree = environment.parse(source)
        _check(tree, field)
        return environment.from_string(tree)
    except TemplateSyntaxError as error:
        raise InputError(f"{field}, line {error.lineno}: {error.message}") from None
    except TemplateError as error:
        raise InputError(f"{field}: {error.message}") from None


def _check(tree: nodes.Template, field: str) -> None:
    for node in tree.find_all(_FORBIDDEN):
        what = type(node).__name__
        raise InputError(
            f"{field}, line {node.lineno}: {what} is not allowed in a template;"
            " print values, use filters, if and for"
        )
    for node in tree.find_all(nodes.Getattr):
        if node.attr.startswith("_"):
            raise InputError(
                f"{field}, line {node.lineno}: {node.attr!r} cannot be reached from a template;"
                " use the brief's fields and earlier steps"
            )
    _check_loops(tree, field, 0)


def _check_loops(node: nodes.Node, field: str, depth: int) -> None:
    if isinstance(node, nodes.For):
        depth += 1
        if depth > _DEEPEST_LOOP or node.recursive:
            raise InputError(f"{field}, line {node.lineno}: loops are nested too deep; use two")
    for child in node.iter_child_nodes():
        _check_loops(child, field, depth)


def names_in(source: str, field: str) -> set[str]:
    """Names of the values that a template uses."""
    compile_template(source, field)
    tree = _environment().parse(source)
    return meta.find_undeclared_variables(tree)


def render(source: str, values: Mapping[str, Any], field: str) -> str:
    """A template's text with these values, without white space around it.

    Raises:
        InputError: see `compile_template`; or it names a value that does not exist.
    """
    template = compile_template(source, field)
    try:
        return template.render(values).strip()
    except UndefinedError as error:
        known = ", ".join(sorted(values))
        raise InputError(f"{field}: {error.message} (there is: {known})") from None
    except (SecurityError, TypeError, ValueError) as error:
        raise InputError(f"{field}: {error}") from None
