"""A server on this machine that imitates the part of the Hugging Face hub that serves downloads of datasets."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse


class Hub:
    """The content of the server, and a record of the requests.

    Attributes:
        files: content of each file, by (repository, path).
        commits: newest commit of each repository.
        requests: method and path of each request.
        cut: number of times that only the first half of a file is still to be sent, by path.
        resumed: files whose download was resumed.
        root: address of the server.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self.commits: dict[str, str] = {}
        self.requests: list[str] = []
        self.cut: dict[str, int] = {}
        self.resumed: list[str] = []
        self.root = ""

    def add(self, repo: str, path: str, content: bytes, commit: str) -> None:
        """Publishes a file."""
        self.files[repo, path] = content
        self.commits[repo] = commit


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Runs the server until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            path = unquote(urlparse(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/revision/(.+)", path):
                repo, revision = match.groups()
                if hub.commits.get(repo) not in (revision, None) and revision != "main" or repo not in hub.commits:
                    return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
                siblings = [{"rfilename": name} for owner, name in hub.files if owner == repo]
                info = {"id": repo, "sha": hub.commits[repo], "siblings": siblings}
                return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
            if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/(.+)", path):
                repo = match[1]
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for (owner, name), content in hub.files.items()
                    if owner == repo
                ]
                return self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
            match = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            content = hub.files.get((match[1], match[3])) if match else hub.files.get(("", path.lstrip("/")))
            if content is None:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
            if match:
                headers["X-Repo-Commit"] = hub.commits[match[1]]
            name = match[3] if match else path.lstrip("/")
            cut = body and hub.cut.get(name, 0) > 0
            if cut:
                hub.cut[name] -= 1
            if self.headers.get("Range"):
                hub.resumed.append(name)
            return self._send(200, content, headers, body, cut)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool, cut: bool = False) -> None:
            byte_range = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(byte_range[1]) if byte_range and status == 200 and body else 0
            self.send_response(206 if start else status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if body:
                self.wfile.write(content[start : start + (len(content) - start) // 2] if cut else content[start:])
            if cut:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.root = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
