"""A server on this machine that speaks the part of the hub's protocol that downloads use."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v2", COMMIT)


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories.

    Attributes:
      repositories: folder by ORG/NAME.
      asked: method, path and the header `Range` of all requests.
      breaks: files of which the next answer is cut off half way, by name.
      lost: files that are listed and cannot be had, by name.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Path] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.breaks: list[str] = []
        self.lost: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serving(self):
        """Answers meanwhile."""
        thread = Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, format: str, *args: object) -> None:
        """Stays silent."""

    def answer(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append((self.command, path, self.headers.get("Range")))
        parts = path.removeprefix("api/models/").split("/")
        folder = self.server.repositories.get("/".join(parts[:2]))
        kind, revision, *name = [*parts[2:], "", ""]
        if folder is None:
            self.refuse("RepoNotFound")
        elif revision not in ("", *REVISIONS):
            self.refuse("RevisionNotFound")
        elif kind == "tree":
            self.send(json.dumps([entry(folder, file) for file in files(folder)]).encode())
        elif kind == "resolve":
            self.file(folder / "/".join(filter(None, name)))
        else:
            about = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": []}
            self.send(json.dumps(about).encode())

    def file(self, path: Path) -> None:
        if path.name in self.server.lost or not path.is_file():
            self.refuse("EntryNotFound")
            return
        data, headers = path.read_bytes(), {"ETag": f'"{digest(path)}"', "X-Repo-Commit": COMMIT}
        given = self.headers.get("Range")
        first = int(given.removeprefix("bytes=").split("-")[0]) if given else 0
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        cut = self.command == "GET" and path.name in self.server.breaks
        if cut:
            self.server.breaks.remove(path.name)
        self.send(data[first:], headers, 206 if first else 200, cut)

    def send(
        self, data: bytes, headers: dict[str, str] | None = None, status: int = 200, cut=False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = True

    def refuse(self, code: str) -> None:
        self.send(b"", {"X-Error-Code": code, "X-Error-Message": code}, 404)


def files(folder: Path) -> list[Path]:
    """All of them, those in folders below too."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def entry(folder: Path, path: Path) -> dict[str, object]:
    """What a listing says of a file."""
    name, size = path.relative_to(folder).as_posix(), path.stat().st_size
    return {"type": "file", "path": name, "size": size, "oid": digest(path)}
