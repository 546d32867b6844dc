"""Label and credential in one file: the label is written first, and survives being signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.seal import pictures_files as files
from tests.seal.pictures_files import ALL, ANIMATED, FULL, LABEL
from tests.seal.signing import claim
from vermilion.seal import carriers, credentials
from vermilion.seal.authority import Authority
from vermilion.seal.labels import Statement


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder: Path = tmp_path_factory.mktemp("authority")
    return Authority.open(folder)


CASES = [
    *(pytest.param(suffix, files.small, id=suffix) for suffix in ALL),
    *(pytest.param(suffix, files.animated, id=f"{suffix}-frames") for suffix in ANIMATED),
]


@pytest.mark.parametrize(("suffix", "make"), CASES)
def test_label_sign_label_sign(suffix: str, make: object, authority: Authority) -> None:
    assert callable(make)
    form, content = files.form(suffix), make(suffix)
    private = Statement(label=LABEL)

    def sign(content: bytes) -> bytes:
        return credentials.sign(content, form, claim(), [], authority).content

    def state(content: bytes) -> str:
        return credentials.read(content, form, None, authority).state

    signed = sign(carriers.write(content, form, FULL))
    assert (carriers.read(signed, form), state(signed)) == (FULL, "ours")
    # What was signed is found out to have been changed, not found to be gone.
    changed = carriers.write(signed, form, private)
    assert (carriers.read(changed, form), state(changed)) == (private, "invalid")
    again = sign(changed)
    assert (carriers.read(again, form), state(again)) == (private, "ours")
    late = sign(carriers.write(sign(content), form, FULL))
    assert (carriers.read(late, form), state(late)) == (FULL, "ours")
    if form.medium == "picture":
        for one in (signed, changed, again, late):
            assert files.frames(one) == files.frames(content)
