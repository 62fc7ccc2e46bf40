"""A small hub on this machine: the part of the Hugging Face API that downloads need, and its misbehaviours.

with FakeHub() as hub:
    hub.add("owner/name", {"model.onnx": b"..."})
    hub.cut = 1000            # the next answers end after 1000 bytes
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_FROM = 200  # bytes from which a file is kept in LFS, and so has a published sha256


class FakeHub:
    """Attributes that tests set:
    cut: end the body of file answers after so many bytes, once each; flip: flip one bit of every file answer, so many
    times; ignore_range: answer 200 with everything; gated: answer 403; listing: replaces the answer of the API.
    """

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range
        self.cut: list[int] = []
        self.flip = 0
        self.ignore_range = self.gated = False
        self.listing = None
        self.status = 0

    def add(self, repo, files):
        self.repos[repo] = files

    def __enter__(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub._answer(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_):
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request):
        path = unquote(urlsplit(request.path).path)
        self.requests.append((request.command, path, request.headers.get("Range", "")))
        if self.status:
            return self._send(request, self.status, b"{}", {})
        if self.gated:
            return self._send(request, 403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "accept it"})
        if found := re.fullmatch(r"/api/models/(.+?)(/revision/.+)?", path):
            return self._api(request, found[1])
        if found := re.fullmatch(r"/(.+?/.+?)/resolve/([^/]+)/(.+)", path):
            return self._file(request, found[1], found[3])
        return self._send(request, 404, b"{}", {})

    def _api(self, request, repo):
        if self.listing is not None:
            return self._send(request, 200, json.dumps(self.listing).encode(), {})
        if repo not in self.repos:
            return self._send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        siblings = [sibling(name, data) for name, data in self.repos[repo].items()]
        info = {"id": repo, "sha": COMMIT, "siblings": siblings, "gated": False, "cardData": {"license": "mit"}}
        return self._send(request, 200, json.dumps(info).encode(), {})

    def _file(self, request, repo, name):
        data = self.repos.get(repo, {}).get(name)
        if data is None:
            return self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        start = int(re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "bytes=0-"))[1])
        partial = "Range" in request.headers and not self.ignore_range
        body = data[start:] if partial else data
        headers = {"ETag": f'"{etag(data)}"', "X-Repo-Commit": COMMIT}
        if partial:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.flip and body:
            self.flip -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        return self._send(request, 206 if partial else 200, body, headers, self.cut.pop(0) if self.cut else None)

    def _send(self, request, status, body, headers, cut=None):
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            request.close_connection = True


def etag(data):
    if len(data) >= LFS_FROM:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sibling(name, data):
    lfs = {"sha256": etag(data), "size": len(data), "pointerSize": 130} if len(data) >= LFS_FROM else None
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return {"rfilename": name, "size": len(data), "blobId": blob, **({"lfs": lfs} if lfs else {})}
