"""Templates print what they are given and can do nothing else."""

from __future__ import annotations

import re

import pytest

from vermilion.errors import InputError
from vermilion.line.plan import Result
from vermilion.line.template import compile_template, names_in, render


def test_values_lists_and_earlier_results_are_printed() -> None:
    source = "{{ name | upper }}{% for f in facts %} {{ f }}{% endfor %} {{ copy.text }}"
    values = {"name": "tea", "facts": ["a", "b"], "copy": Result(("one", "two"))}
    assert render(source, values, "t") == "TEA a b one\n\ntwo"
    assert names_in(source, "t") == {"name", "facts", "copy"}


def test_the_regex_filter_matches_just_the_value() -> None:
    pattern = render("{{ fact | regex }}", {"fact": "open 9-5 (daily)."}, "t")
    assert re.fullmatch(pattern, "open 9-5 (daily).")
    assert not re.fullmatch(pattern, "open 9-5 (daily)!")


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(1000000000) %}{% endfor %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ name.__init__ }}",
        "{{ name.format(1) }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%999999999d' % 1 }}",
        "{% for a in f %}{% for b in f %}{% for c in f %}x{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in f recursive %}{{ loop(a) }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% set x = 1 %}{{ x }}",
        "{{ f | map('upper') | list }}",
        "{{ name | attr('__class__') }}",
        "{{ name",
        "{{ name | center(1000000000) }}",
        "{{ self }}{{ self._TemplateReference__context }}",
    ],
)
def test_what_could_loop_or_reach_out_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="^steps.x.template") as caught:
        compile_template(source, "steps.x.template")
    assert "\n" not in str(caught.value)


def test_attributes_are_not_reached_by_subscript() -> None:
    with pytest.raises(InputError):
        render("{{ name['__class__'] }}", {"name": "tea"}, "t")


def test_an_unknown_value_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match="'colour' is undefined .there is: name"):
        render("{{ colour }}", {"name": "tea"}, "t")
