"""Credentials: what is signed is what is read, by us and by c2pa's own reader."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import av
import c2pa
import pypdf
import pytest
import soundfile
from PIL import Image

from tests.seal import signing
from vermilion.errors import InputError
from vermilion.seal import claims, credentials, jumbf, verdicts
from vermilion.seal.authority import Authority
from vermilion.seal.credentials import Claim, Parent
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import EDITED_WITH_AI, MADE_BY_AI

KINDS = list(FORMATS)
PNG = FORMATS["png"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("seal") / "authority")


@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_is_signed_and_read_back(suffix: str, authority: Authority) -> None:
    form = FORMATS[suffix]
    signed = signing.sign(suffix, authority)
    assert (signed.sidecar is None) == form.embeds
    if not form.embeds:
        assert signed.content == signing.small(suffix)
    assert signed.notes == ()
    found = signing.read(signed, suffix, authority)
    assert found.state == "ours"
    assert found.problems == found.codes == found.ingredients == ()
    assert found.fingerprint == authority.fingerprint
    assert found.issuer == authority.current.name
    assert (found.signed_at, found.time_proved) == (signing.claim().when, False)
    assert (found.asset_id, found.said.model) == ("abcd1234", "sticker-1")
    assert found.said.prompt_digest == "0" * 63 + "a"
    assert found.said.training_licence == "CC0-1.0"
    assert (found.said.title, found.said.software) == ("cat.png", "Vermilion 0.1.0")
    (action,) = found.actions
    assert (action.name, action.source_type) == ("c2pa.created", MADE_BY_AI)
    assert (action.agent, action.when) == ("sticker-1", signing.claim().when)
    # c2pa's own reader, which knows nothing of us but the certificate above ours.
    state, manifest = signing.by_c2pa(
        signed.content, form, signed.sidecar, authority.current.issuers
    )
    assert state == "Trusted"
    recipe = next(a for a in manifest["assertions"] if a["label"] == claims.RECIPE)
    assert recipe["data"]["asset_id"] == "abcd1234"
    assert not any("thumbnail" in a["label"] for a in manifest["assertions"])
    assert "thumbnail" not in manifest
    # Whoever knows nobody sees a stranger, and nothing that is wrong.
    assert signing.read(signed, suffix, None).state == "unknown-signer"


@pytest.mark.parametrize("suffix", [k for k in KINDS if FORMATS[k].embeds])
def test_a_signed_file_is_still_the_same_content(suffix: str, authority: Authority) -> None:
    content, plain = signing.sign(suffix, authority).content, signing.small(suffix)
    medium = FORMATS[suffix].medium
    if medium == "picture":
        assert Image.open(io.BytesIO(content)).tobytes() == Image.open(io.BytesIO(plain)).tobytes()
    elif suffix in ("wav", "flac", "mp3"):
        assert soundfile.read(io.BytesIO(content))[0].tolist() == (
            soundfile.read(io.BytesIO(plain))[0].tolist()
        )
    elif medium in ("sound", "film"):
        with av.open(io.BytesIO(content)) as signed, av.open(io.BytesIO(plain)) as before:
            packets = [[bytes(p) for p in file.demux() if p.size] for file in (signed, before)]
        assert packets[0] == packets[1]
    elif suffix == "pdf":
        reader = pypdf.PdfReader(io.BytesIO(content))
        assert len(reader.pages) == 1
        assert reader.metadata["/Title"] == "Tea"
    else:
        assert b"<rect" in content


def test_a_prompt_stays_private_unless_asked(authority: Authority) -> None:
    prompt = "a red cat 红猫"
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    private = signing.sign("png", authority, prompt_digest=digest)
    assert prompt.encode() not in private.content
    assert signing.read(private, "png", authority).said.prompt is None
    shown = signing.sign("png", authority, prompt_digest=digest, prompt=prompt)
    assert signing.read(shown, "png", authority).said.prompt == prompt


@pytest.mark.parametrize("suffix", ["png", "mp4", "pdf", "txt"])
def test_three_generations_are_read_back(suffix: str, authority: Authority) -> None:
    form = FORMATS[suffix]
    first = signing.sign(suffix, authority, asset_id="aaaa0001", title="first")
    one = Parent(content=first.content, form=form, title="one", sidecar=first.sidecar)
    content = signing.small(suffix)
    edit = signing.claim(asset_id="aaaa0002", title="second", edited=True)
    second = credentials.sign(content, form, edit, [one], authority)
    two = Parent(content=second.content, form=form, title="two", sidecar=second.sidecar)
    edit = signing.claim(asset_id="aaaa0003", title="third", edited=True)
    third = credentials.sign(content, form, edit, [two], authority)
    found = signing.read(third, suffix, authority)
    assert found.state == "ours"
    assert [a.name for a in found.actions] == ["c2pa.opened", "c2pa.edited"]
    assert found.actions[1].source_type == EDITED_WITH_AI
    (below,) = found.ingredients
    assert (below.title, below.relation, below.state) == ("two", "parentOf", "ours")
    assert below.said.asset_id == "aaaa0002"
    (lowest,) = below.ingredients
    assert (lowest.title, lowest.state, lowest.said.asset_id) == ("one", "ours", "aaaa0001")
    assert lowest.ingredients == ()
    state, _ = signing.by_c2pa(third.content, form, third.sidecar, authority.current.issuers)
    assert state == "Trusted"


def test_what_was_used_is_named_and_unsigned_parents_work(
    authority: Authority, tmp_path: Path
) -> None:
    foreign = signing.sign("jpg", Authority.open(tmp_path / "other"))
    parents = [
        Parent(content=b"A cat.", form=FORMATS["txt"], title="words"),
        Parent(content=foreign.content, form=FORMATS["jpg"], title="photo"),
    ]
    made = credentials.sign(signing.small("png"), PNG, signing.claim(), parents, authority)
    found = signing.read(made, "png", authority)
    assert found.state == "ours"
    assert [(i.title, i.relation, i.state) for i in found.ingredients] == [
        ("words", "inputTo", "none"),
        ("photo", "inputTo", "unknown-signer"),
    ]
    _, manifest = signing.by_c2pa(made.content, PNG, None, authority.current.issuers)
    recipe = next(a["data"] for a in manifest["assertions"] if a["label"] == claims.RECIPE)
    assert recipe["parents"][0]["sha256"] == hashlib.sha256(b"A cat.").hexdigest()


@pytest.mark.parametrize("suffix", ["png", "txt"])
def test_a_damaged_parent_is_told(suffix: str, authority: Authority) -> None:
    form = FORMATS[suffix]
    signed = signing.sign(suffix, authority)
    content = bytearray(signed.content)
    content[-20] ^= 1
    if suffix == "png":  # its checksum is mended, so that it can be read
        content = bytearray(signed.content)
        content += b"more"
    parent = Parent(content=bytes(content), form=form, title="broken", sidecar=signed.sidecar)
    edit = signing.claim(edited=True)
    found = signing.read(
        credentials.sign(signing.small(suffix), form, edit, [parent], authority), suffix, authority
    )
    assert found.state == "ours"
    assert found.ingredients[0].state == "invalid"
    assert found.ingredients[0].problems == ("The file was changed after it was signed.",)


def test_a_family_that_doubles_is_told_in_time(authority: Authority) -> None:
    """Each of 16 generations has the two before it as sources: 2,000 ways lead to the first."""
    parents: list[Parent] = []
    for number in range(16):
        signed = credentials.sign(
            b"A text.", FORMATS["txt"], signing.claim(), parents[-2:], authority
        )
        parents.append(
            Parent(
                content=signed.content,
                form=FORMATS["txt"],
                title=str(number),
                sidecar=signed.sidecar,
            )
        )
    found = signing.read(signed, "txt", authority)
    assert found.state == "ours"
    assert len(repr(found)) < 100_000


def test_labelling_a_file_of_others_names_no_model(authority: Authority) -> None:
    parent = Parent(content=signing.small("png"), form=PNG, title="given")
    said = signing.claim(model="", edited=True, source_type=MADE_BY_AI)
    signed = credentials.sign(signing.small("png"), PNG, said, [parent], authority)
    found = signing.read(signed, "png", authority)
    assert found.actions[1].name == "c2pa.edited.metadata"
    assert found.actions[1].agent == ""
    assert found.actions[1].source_type == MADE_BY_AI


def test_signing_again_replaces_the_credential(authority: Authority) -> None:
    for suffix in ("png", "jpg", "pdf", "mp3"):
        once = signing.sign(suffix, authority)
        form = FORMATS[suffix]
        twice = credentials.sign(once.content, form, signing.claim(title="new"), [], authority)
        assert signing.read(twice, suffix, authority).said.title == "new"
        assert abs(len(twice.content) - len(once.content)) < 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"title": "x" * 5000}, "title: 5000 characters"),
        ({"model": "a\x00b"}, "model: has control characters"),
        ({"prompt_digest": "abc"}, "prompt_digest: must be a SHA-256"),
        ({"when": datetime(2026, 1, 1)}, "when: must have a time zone"),
    ],
)
def test_claims_are_checked(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        signing.claim(**changes)


def test_an_edit_needs_its_parent(authority: Authority) -> None:
    with pytest.raises(InputError, match="an edit needs the file that was edited"):
        signing.sign("png", authority, edited=True)


def test_what_is_no_file_of_its_format_cannot_be_signed(authority: Authority) -> None:
    with pytest.raises(InputError, match="file: cannot be signed as png"):
        credentials.sign(b"hello", PNG, signing.claim(), [], authority)
    with pytest.raises(InputError, match="file: cannot be signed as png"):
        credentials.sign(b"", PNG, signing.claim(), [], authority)


def test_an_expired_certificate_does_not_sign(authority: Authority) -> None:
    expired = signing.valid_until(datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(InputError, match="expired on 2026-01-01; renew it"):
        signing.sign("png", dataclasses.replace(authority, current=expired))


# What strangers send.


@pytest.mark.parametrize("suffix", KINDS)
def test_unsigned_and_broken_files_are_reported(suffix: str, authority: Authority) -> None:
    form = FORMATS[suffix]
    assert credentials.read(signing.small(suffix), form, None, authority).state == "none"
    signed = signing.sign(suffix, authority)
    for content in (b"", b"hello", signed.content[:20], signed.content[:-9]):
        found = credentials.read(content, form, signed.sidecar, authority)
        assert found.state in ("invalid", "none")
    for sidecar in (b"", b"hello", bytes(5000), (signed.sidecar or b"x" * 300)[:-200]):
        found = credentials.read(signed.content, form, sidecar, authority)
        # The one inside counts, whatever lies beside it.
        assert found.state == ("ours" if form.embeds else "invalid")
        assert found.passed_over == form.embeds
        assert bool(found.problems) is not form.embeds


def box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def nested(depth: int) -> bytes:
    """Boxes in boxes in boxes."""
    name = bytes.fromhex("6332617300110010800000aa00389b71") + b"\x03c2pa.assertions\0"
    described = box(b"jumd", name)
    step = len(described) + 8
    return b"".join(
        (step * (depth - i)).to_bytes(4, "big") + b"jumb" + described for i in range(depth)
    )


@pytest.mark.parametrize(
    "store",
    [nested(10), nested(100_000), bytes(15_000_000), box(b"jumb", b"\x81" * 1_000_000)],
    ids=["nested", "deep", "zeros", "arrays"],
)
def test_bombs_are_reported(store: bytes, authority: Authority) -> None:
    assert credentials.read(b"A text.", FORMATS["txt"], store, authority).state == "invalid"
    png = signing.small("png")
    chunk = len(store).to_bytes(4, "big") + b"caBX" + store + bytes(4)
    assert credentials.read(png[:33] + chunk + png[33:], PNG, None, authority).state == "invalid"


def test_a_sidecar_that_is_too_large_is_refused(authority: Authority) -> None:
    with pytest.raises(InputError, match="larger than 16000000 bytes"):
        credentials.read(b"A text.", FORMATS["txt"], bytes(16_000_001), authority)


def test_a_credential_on_the_network_is_not_fetched(authority: Authority) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        where = f"http://127.0.0.1:{listener.getsockname()[1]}/x.c2pa"
        builder = c2pa.Builder(
            {
                "claim_generator_info": [{"name": "other"}],
                "assertions": [
                    {
                        "label": "c2pa.actions.v2",
                        "data": {
                            "actions": [{"action": "c2pa.created", "digitalSourceType": MADE_BY_AI}]
                        },
                    }
                ],
            }
        )
        builder.set_no_embed()
        builder.set_remote_url(where)
        current = authority.current
        signer = c2pa.Signer.from_info(
            c2pa.C2paSignerInfo(b"es256", current.chain.encode(), current.key.encode(), None)
        )
        out = io.BytesIO()
        builder.sign(signer, "image/png", io.BytesIO(signing.small("png")), out)
        found = credentials.read(out.getvalue(), PNG, None, authority)
        assert found.state == "none"
        assert found.codes == ("manifest.inaccessible",)
        assert where in found.problems[0]
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_signers_refuses_what_is_damaged() -> None:
    for store in (b"\0", b"\0\0\0\x04jumb", box(b"jumb", box(b"jumb", b""))):
        with pytest.raises(InputError, match="credential: "):
            jumbf.signers(store)


def test_every_failure_code_has_words() -> None:
    assert verdicts.sentence("assertion.dataHash.mismatch").startswith("The file was changed")
    assert "assertion.json.invalid" in verdicts.sentence("assertion.json.invalid")
    assert verdicts.sentence("of.tomorrow") == "C2PA reports of.tomorrow."
    twice = ("assertion.dataHash.mismatch", "assertion.bmffHash.mismatch")
    assert len(verdicts.sentences(twice)) == 1


# Side by side, and across a fork.


def test_many_at_once(authority: Authority) -> None:
    def both(number: int) -> str:
        signed = signing.sign("png", authority, asset_id=f"{number:08}")
        return signing.read(signed, "png", authority).asset_id

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(both, range(64))) == [f"{n:08}" for n in range(64)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_signs_too(authority: Authority) -> None:
    signing.sign("png", authority)
    child = os.fork()
    if child == 0:
        state = "failed"
        try:
            state = signing.read(signing.sign("png", authority), "png", authority).state
        finally:
            os._exit(0 if state == "ours" else 1)
    assert os.waitpid(child, 0)[1] == 0


# Time stamps.


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A time-stamp authority on this machine, answered by OpenSSL: its address and its root."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    from tests.seal.test_authority import chain, pem

    folder = tmp_path_factory.mktemp("tsa")
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    certificates = chain(key, purpose=ExtendedKeyUsageOID.TIME_STAMPING, critical=True)
    end = certificates.index(b"-----END CERTIFICATE-----\n") + 26
    (folder / "one.pem").write_bytes(certificates[:end])
    (folder / "root.pem").write_bytes(certificates[end:])
    (folder / "key.pem").write_bytes(pem(key))
    (folder / "serial").write_text("01")
    (folder / "conf").write_text(
        f"[tsa]\ndefault_tsa=t\n[t]\nserial={folder}/serial\ncrypto_device=builtin\n"
        f"signer_cert={folder}/one.pem\ncerts={folder}/root.pem\nsigner_key={folder}/key.pem\n"
        "signer_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256,sha384,sha512\n"
        "ess_cert_id_alg=sha256\n"
    )

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["content-length"])))
            subprocess.run(
                [
                    "openssl",
                    "ts",
                    "-reply",
                    "-config",
                    "conf",
                    "-queryfile",
                    "query",
                    "-out",
                    "reply",
                ],
                cwd=folder,
                check=True,
                capture_output=True,
            )
            reply = (folder / "reply").read_bytes()
            self.send_response(200)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", certificates[end:].decode()
        server.shutdown()


def test_a_time_stamp_outlives_the_certificate(
    authority: Authority, stamps: tuple[str, str]
) -> None:
    from datetime import timedelta

    address, root = stamps
    soon = datetime.now(UTC) + timedelta(seconds=4)
    expiring = signing.valid_until(soon, address)
    trusting = dataclasses.replace(authority, current=expiring, trusted=root)
    doubting = dataclasses.replace(trusting, trusted="")
    signed = signing.sign("png", trusting)
    assert signed.notes == ()
    found = signing.read(signed, "png", trusting)
    assert (found.state, found.time_proved) == ("ours", True)
    assert abs(found.signed_at - datetime.now(UTC)) < timedelta(seconds=10)
    found = signing.read(signed, "png", doubting)
    assert (found.state, found.time_proved) == ("ours", False)
    while datetime.now(UTC) <= soon + timedelta(seconds=1.1):
        pass
    assert signing.read(signed, "png", trusting).state == "ours"
    assert signing.read(signed, "png", doubting).state == "invalid"


def test_without_an_answer_it_signs_without_a_stamp(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_silent_until", {})
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    current = dataclasses.replace(authority.current, time_stamps=address)
    stamped = dataclasses.replace(authority, current=current)
    for _ in range(2):
        signed = signing.sign("png", stamped)
        assert signed.notes == (
            f"{address} gave no time stamp, so the time of signing is not proved",
        )
        found = signing.read(signed, "png", stamped)
        assert (found.state, found.time_proved) == ("ours", False)
    assert list(credentials._silent_until) == [address]


def test_a_claim_is_told_in_json(authority: Authority) -> None:
    found = signing.read(signing.sign("png", authority), "png", authority)
    assert json.dumps(dataclasses.asdict(found), default=str)
    assert isinstance(signing.claim(), Claim)
