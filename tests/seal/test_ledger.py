"""The ledger: what a crash leaves, what a forger changes, and what is found again."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from vermilion.errors import InputError, StorageError
from vermilion.seal import fingerprints
from vermilion.seal.ledger import Entry, Ledger
from vermilion.seal.originality import Prints

Lines = list[bytes]


def entry(number: int, **more: object) -> Entry:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return Entry(action="sealed", asset_id=f"{number:08d}", sha256=digest, format="png", **more)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger.open(tmp_path / "seal")
    made.append(*map(entry, range(1, 6)))
    return made


def lines(ledger: Ledger) -> Lines:
    return (ledger.folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)


def change(ledger: Ledger, how: Callable[[Lines], Lines]) -> None:
    changed = how(lines(ledger))
    (ledger.folder / "ledger.jsonl").write_bytes(b"".join(changed))


def forged(line: bytes) -> bytes:
    """The line with another asset and a hash that fits."""
    content = json.dumps(
        {**json.loads(line)["entry"], "asset_id": "forged00"}, sort_keys=True, separators=(",", ":")
    )
    return (
        f'{{"entry":{content},"sha256":"{hashlib.sha256(content.encode()).hexdigest()}"}}\n'
    ).encode()


def test_each_line_holds_the_hash_of_the_one_before(ledger: Ledger) -> None:
    previous = "0" * 64
    for number, line in enumerate(lines(ledger), 1):
        read = json.loads(line)
        content = line[len(b'{"entry":') : line.rindex(b',"sha256"')]
        assert read["entry"]["previous"] == previous
        assert read["entry"]["number"] == number
        previous = read["sha256"]
        assert hashlib.sha256(content).hexdigest() == previous
    audit = ledger.audit()
    assert audit.ok
    assert (audit.entries, audit.actions, audit.head) == (5, {"sealed": 5}, previous)


def test_the_files_are_for_their_owner_alone(ledger: Ledger) -> None:
    if os.name == "posix":
        for name in ("ledger.jsonl", "head.json"):
            assert (ledger.folder / name).stat().st_mode & 0o077 == 0


CHANGES: dict[str, tuple[Callable[[Lines], Lines], tuple[str, int]]] = {
    "edited": (
        lambda a: [*a[:2], a[2].replace(b"00000003", b"00000009"), *a[3:]],
        ("edited", 3),
    ),
    "edited and hashed anew": (lambda a: [*a[:2], forged(a[2]), *a[3:]], ("edited", 3)),
    "the last edited and hashed anew": (lambda a: [*a[:4], forged(a[4])], ("head", 0)),
    "removed": (lambda a: a[:1] + a[3:], ("removed", 2)),
    "the first removed": (lambda a: a[1:], ("removed", 1)),
    "swapped": (lambda a: [a[0], a[2], a[1], *a[3:]], ("reordered", 3)),
    "written twice": (lambda a: [*a[:3], a[1], *a[3:]], ("reordered", 4)),
    "broken": (lambda a: [*a[:3], b"nothing\n", a[4]], ("broken", 4)),
    "the tail cut off": (lambda a: a[:3], ("cut", 3)),
    "all cut off": (lambda a: [], ("cut", 0)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_audit_says_which_line_was_changed(ledger: Ledger, name: str) -> None:
    how, expected = CHANGES[name]
    change(ledger, how)
    problems = ledger.audit().problems
    assert (problems[0].kind, problems[0].line) == expected, problems
    assert len(problems) == 1


@given(st.data())
def test_no_changed_byte_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ledger = Ledger.open(tmp_path_factory.mktemp("seal"))
    ledger.append(entry(1), entry(2, opt_outs=("visible mark",), reason="a poster"), entry(3))
    content = bytearray((ledger.folder / "ledger.jsonl").read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    (ledger.folder / "ledger.jsonl").write_bytes(content)
    audit = ledger.audit()
    # The last line feed alone looks like a torn line, whose entry the head then misses.
    assert not audit.ok


def test_a_cut_tail_stays_noticed_after_more_was_written(ledger: Ledger) -> None:
    change(ledger, lambda a: a[:3])
    Ledger.open(ledger.folder).append(entry(6))
    audit = ledger.audit()
    assert [(p.kind, p.line) for p in audit.problems] == [("damaged", 4)]
    assert "entries 4 to 5 were missing" in audit.problems[0].text


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"number":"5"}', b"[1]"])
def test_a_lost_head_is_noted(ledger: Ledger, content: bytes | None) -> None:
    head = ledger.folder / "head.json"
    head.unlink() if content is None else head.write_bytes(content)
    assert [p.kind for p in ledger.audit().problems] == ["head"]
    assert ledger.append(entry(6)) == 7
    assert [p.kind for p in ledger.audit().problems] == ["damaged"]


@pytest.mark.parametrize("kept", [1, 40, 200])
def test_a_torn_line_is_repaired_and_said(ledger: Ledger, kept: int) -> None:
    torn = lines(ledger)[0][:kept]
    change(ledger, lambda a: [*a, torn])
    assert ledger.audit().ok
    assert "line 6 is torn" in ledger.audit().notes[0]
    assert len(ledger) == 5
    ledger.append(entry(6))
    audit = ledger.audit()
    assert audit.ok
    assert audit.actions == {"sealed": 6, "repaired": 1}
    assert f"a torn line of {kept} bytes" in audit.notes[0]


def test_a_head_that_a_crash_left_behind_is_caught_up_with(ledger: Ledger) -> None:
    old = (ledger.folder / "head.json").read_bytes()
    ledger.append(entry(6))
    (ledger.folder / "head.json").write_bytes(old)
    audit = ledger.audit()
    assert audit.ok
    assert "entries 6 to 6 are not in the head yet" in audit.notes[0]
    assert ledger.append(entry(7)) == 7
    assert ledger.audit().ok
    assert ledger.audit().notes == ()


def test_an_older_ledger_is_noticed_by_who_knows_a_later_entry(ledger: Ledger) -> None:
    old = {p.name: p.read_bytes() for p in ledger.folder.iterdir()}
    ledger.append(entry(6))
    known = ledger.audit().head
    assert ledger.audit(known=known).ok
    for name, content in old.items():
        (ledger.folder / name).write_bytes(content)
    assert ledger.audit().ok
    assert [p.kind for p in ledger.audit(known=known).problems] == ["unknown"]


def test_a_signed_head_cannot_be_written_by_others(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()

    def verify(message: bytes, signature: bytes) -> bool:
        try:
            key.public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True

    ledger = Ledger.open(tmp_path, sign=key.sign, verify=verify)
    ledger.append(entry(1), entry(2), entry(3))
    assert ledger.audit().ok
    assert ledger.audit().is_signed
    # Somebody cuts the tail off and writes a head that fits.
    change(ledger, lambda a: a[:2])
    last = json.loads(lines(ledger)[1])
    size = sum(map(len, lines(ledger)))
    head = {"number": 2, "sha256": last["sha256"], "size": size, "signature": "AAAA"}
    (tmp_path / "head.json").write_text(json.dumps(head))
    assert Ledger.open(tmp_path).audit().ok
    assert [p.kind for p in ledger.audit().problems] == ["head"]
    ledger.append(entry(4))
    assert [p.kind for p in ledger.audit().problems] == ["damaged"]


APPEND = """
import sys
from pathlib import Path
from vermilion.seal.ledger import Entry, Ledger
ledger = Ledger.open(Path(sys.argv[1]))
for i in range(40):
    ledger.append(Entry(action="exported", asset_id=f"{sys.argv[2]}{i:04d}"))
"""


def test_several_processes_append_at_once(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path), f"pid{n}"]) for n in range(3)
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    ledger = Ledger.open(tmp_path)
    audit = ledger.audit()
    assert audit.ok
    assert audit.notes == ()
    assert audit.entries == 120
    for n in range(3):
        assert [ledger.find(asset_id=f"pid{n}{i:04d}")[0].entry.action for i in range(40)]


def test_a_process_that_is_killed_leaves_whole_entries(tmp_path: Path) -> None:
    code = APPEND.replace("range(40)", "range(10**6)").replace(
        "    ledger", "    print(i, flush=True); ledger"
    )
    command = [sys.executable, "-c", code, str(tmp_path), "pid"]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(12):
                process.stdout.readline()
            process.kill()
    ledger = Ledger.open(tmp_path)
    ledger.append(entry(1))
    assert ledger.audit().ok
    assert ledger.audit().entries >= 34


def test_a_full_disk_leaves_the_ledger_as_it_was(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = lines(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match="No space left"):
            ledger.append(entry(6))
    assert lines(ledger) == before
    assert ledger.append(entry(6)) == 6


def test_a_head_that_the_disk_refuses_takes_its_entry_along(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    before = lines(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        with pytest.raises(StorageError, match="No space left"):
            ledger.append(entry(6))
    assert lines(ledger) == before
    assert ledger.find(asset_id="00000006") == []
    assert ledger.append(entry(6)) == 6
    assert ledger.audit().ok
    assert sorted(path.name for path in ledger.folder.iterdir()) == [
        "head.json",
        "ledger.jsonl",
        "lock",
    ]


def test_a_ledger_that_was_put_back_is_read_anew(ledger: Ledger) -> None:
    older = lines(ledger)[:2]
    assert len(ledger) == 5
    change(ledger, lambda now: older)
    Ledger.open(ledger.folder).append(*map(entry, range(11, 21)))
    assert ledger.find(asset_id="00000004") == []
    assert ledger.find(asset_id="00000015")[0].entry.asset_id == "00000015"


@pytest.mark.parametrize("phash", ['"-1"', '"' + "f" * 17 + '"', '"0x_12"', "17", "[]"])
def test_a_hash_that_is_none_breaks_nothing(ledger: Ledger, phash: str) -> None:
    def spoil(now: Lines) -> Lines:
        return [*now, b'{"entry":{"phash":%s},"sha256":"%s"}\n' % (phash.encode(), b"0" * 64)]

    change(ledger, spoil)
    assert ledger.find(prints=Prints(picture=17)) == []
    assert [problem.kind for problem in ledger.audit().problems] == ["broken"]


def test_a_file_is_found_by_its_hash_its_asset_and_its_likeness(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = int(rng.integers(2**63))
    sound, text = rng.bytes(64), fingerprints.minhash("the tea is ready " * 9)
    ledger = Ledger.open(tmp_path)
    ledger.append(
        entry(1, phash=picture, original_sha256="ab" * 32),
        entry(2, soundprint=sound),
        entry(3, minhash=text),
        entry(4, phash=int(rng.integers(2**63))),
    )
    other = Ledger.open(tmp_path)
    assert other.find(sha256=entry(1).sha256.upper())[0].entry.number == 1
    assert other.find(sha256="ab" * 32)[0].entry.number == 1
    assert other.find(asset_id="00000002")[0].entry.soundprint == sound
    near = other.find(prints=Prints(picture=picture ^ 0b1011))
    assert [(m.entry.number, m.measure, m.distance) for m in near] == [(1, "picture", 3)]
    assert other.find(prints=Prints(picture=picture ^ 0xFFFFFF)) == []
    assert len(other.find(prints=Prints(picture=picture), within=64)) == 2
    assert other.find(prints=Prints(sound=sound))[0].entry.number == 2
    assert other.find(prints=Prints(text=text))[0].entry.minhash == text
    # What another process adds is found too.
    ledger.append(entry(5))
    assert other.find(sha256=entry(5).sha256)[0].entry.number == 5


def test_the_latest_entry_about_a_file_comes_first(ledger: Ledger) -> None:
    ledger.append(Entry(action="exported", sha256=entry(2).sha256))
    found = ledger.find(sha256=entry(2).sha256)
    assert [match.entry.action for match in found] == ["exported", "sealed"]
    assert found[1].entry.time < found[0].entry.time


def test_leaving_a_mark_out_needs_a_reason() -> None:
    for values in ({"action": "opted-out"}, {"action": "exported", "opt_outs": ("label",)}):
        with pytest.raises(InputError, match="reason"):
            Entry(**values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="action"):
        Entry(action="burnt")  # type: ignore[arg-type]


@given(
    st.builds(
        Entry,
        action=st.sampled_from(["sealed", "imported"]),
        asset_id=st.text(),
        phash=st.none() | st.integers(0, 2**64 - 1),
        soundprint=st.none() | st.binary(min_size=64, max_size=64),
        filmprint=st.none() | st.binary(min_size=64, max_size=64),
        opt_outs=st.tuples(st.text()),
        reason=st.text(min_size=1).filter(str.strip),
    )
)
def test_an_entry_comes_back_as_it_was(made: Entry) -> None:
    assert Entry.from_json(json.loads(made.to_json("0" * 64))) == made


def test_an_empty_ledger_is_whole(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "none")
    assert ledger.audit().ok
    assert len(ledger) == 0
    assert ledger.find(sha256="00") == []
