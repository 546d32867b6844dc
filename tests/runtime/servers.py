"""Two servers on the loopback address: a package index and a model hub, each in few routes."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" + "0" * 34


def wheel(files: Mapping[str, bytes], project: str = "tiny_model", version: str = "1.0") -> bytes:
    """A wheel that pip accepts, with these files in it."""
    about = f"{project}-{version}.dist-info"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return buffer.getvalue()


class Server:
    """What both servers share: files that can be had in part, and a line that may break.

    Attributes:
        requests: (method, path, Range header) of every request, in order.
        cuts: how many more downloads are cut off in the middle.
        hold: set it to an Event to make downloads stop in the middle until it is set.
        held: set when a download has stopped there.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None]] = []
        self.cuts = 0
        self.hold: threading.Event | None = None
        self.held = threading.Event()
        self.url = ""

    def answer(self, request: Handler) -> None:
        raise NotImplementedError

    def downloads(self) -> list[str | None]:
        """The Range headers of the downloads so far."""
        return [
            part
            for method, path, part in self.requests
            if method == "GET" and ("/files/" in path or "/resolve/" in path)
        ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.owner.requests.append((self.command, self.path, self.headers.get("Range")))
        self.owner.answer(self)

    do_HEAD = do_GET

    def reply(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def reply_json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply_file(self, content: bytes, headers: Mapping[str, str]) -> None:
        owner, start = self.owner, 0
        headers = {"Accept-Ranges": "bytes", **headers}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted is not None:
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "HEAD" or (owner.cuts == 0 and owner.hold is None):
            self.reply(200 if wanted is None else 206, content[start:], headers)
            return
        hold, half = owner.hold, (start + len(content)) // 2
        self.send_response(200 if wanted is None else 206)
        for name, value in {"Content-Length": str(len(content) - start), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[start:half])
        self.wfile.flush()
        if hold is not None:
            owner.held.set()
            hold.wait(30)
        owner.cuts = max(0, owner.cuts - 1)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class Index(Server):
    """A package index (PEP 503) with one distribution."""

    def __init__(self, content: bytes, name: str = "tiny_model-1.0-py3-none-any.whl") -> None:
        super().__init__()
        self.content, self.name = content, name

    def answer(self, request: Handler) -> None:
        if request.path == "/simple/tiny-model/":
            page = f'<!DOCTYPE html><a href="/files/{self.name}">{self.name}</a>'
            request.reply(200, page.encode(), {"Content-Type": "text/html"})
        elif request.path == f"/files/{self.name}":
            tag = hashlib.sha256(self.content).hexdigest()
            request.reply_file(self.content, {"ETag": f'"{tag}"'})
        else:
            request.reply(404, b"", {})


class Hub(Server):
    """The few routes of a model hub that its client asks for.

    Attributes:
        files: name → content, all of one repository `owner/tiny`.
        stated: name → a SHA-256 to state instead of the true one.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__()
        self.files, self.stated = dict(files), dict[str, str]()

    def answer(self, request: Handler) -> None:
        path = request.path.partition("?")[0]
        if path.startswith("/api/models/owner/gated"):
            error = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}
            request.reply(401, b"", error)
        elif re.fullmatch(r"/api/models/owner/tiny(/revision/(main|[0-9a-f]{40}))?", path):
            request.reply_json(self._model())
        elif path.startswith("/api/models/owner/tiny/revision/"):
            request.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/models/owner/tiny/tree/"):
            request.reply_json([self._entry(name) for name in self.files])
        elif match := re.fullmatch(r"/owner/tiny/resolve/[^/]+/(.+)", path):
            self._file(request, match[1])
        elif path.startswith("/api/models/"):
            request.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        else:
            request.reply(404, b"", {})

    def _lfs(self, name: str) -> dict[str, Any] | None:
        if name.endswith(".json"):
            return None
        sha256 = self.stated.get(name) or hashlib.sha256(self.files[name]).hexdigest()
        return {"sha256": sha256, "oid": sha256, "size": len(self.files[name]), "pointerSize": 120}

    def _oid(self, name: str) -> str:
        content = self.files[name]
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def _model(self) -> dict[str, Any]:
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": self._oid(name),
                **({"lfs": self._lfs(name)} if self._lfs(name) else {}),
            }
            for name, content in self.files.items()
        ]
        about = {"license": "apache-2.0", "language": ["en", "zh"]}
        return {
            "id": "owner/tiny",
            "sha": COMMIT,
            "siblings": siblings,
            "cardData": about,
            "tags": [],
        }

    def _entry(self, name: str) -> dict[str, Any]:
        entry = {"type": "file", "path": name, "oid": self._oid(name)}
        lfs = self._lfs(name)
        return {**entry, "size": len(self.files[name]), **({"lfs": lfs} if lfs else {})}

    def _file(self, request: Handler, name: str) -> None:
        if name not in self.files:
            request.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        lfs = self._lfs(name)
        tag = lfs["oid"] if lfs else self._oid(name)
        request.reply_file(self.files[name], {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run a server on a free port of the loopback address."""
    handler = type("BoundHandler", (Handler,), {"owner": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            if server.hold is not None:
                server.hold.set()
            http.shutdown()
            thread.join()
