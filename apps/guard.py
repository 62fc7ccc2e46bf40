"""What stands before the page: who may ask, from where, how much, and which of Gradio's doors stay shut.

Gradio itself accepts POSTs from foreign pages, any Host, bodies of any size, and serves files under its folders.
Nothing here needs its uploads, its file routes or its API, so they are closed rather than configured.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from studio.config import Config

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PICTURE_BYTES = 41 * 2**20
BODY_BYTES = 2 * 2**20
# A model is streamed to disk, which has to have the room for it; everything else is held in memory.
LIMITS = (
    ("/face/upload", PICTURE_BYTES),
    ("/api/v1/assets", PICTURE_BYTES),
    ("/face/models/import", 64 * 2**30),
    ("/face/pictures", 2 * 2**30),
)
TOO_LARGE = "That is more than the studio takes at once."
SAFE = ("GET", "HEAD", "OPTIONS")
# Files and calls of Gradio's that no tab uses.
CLOSED = re.compile(
    r"/(?:monitoring|config|logout|login|pwa_icon|manifest\.json)(?:/|$)"
    r"|/gradio_api/(?:upload|upload_progress|file[=/]|proxy=|stream/|call/|api/|info|openapi\.json|component_server|"
    r"custom_component|deep_link|process_recording|vibe|undo-vibe|runs|run-history|dev/|profiling|mcp|token|user|login)"
)
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {ancestors}"
)
_ANCESTORS = {"space": "'self' https://huggingface.co https://*.hf.space"}


class Guard:
    """ASGI middleware around the whole app.

    Args:
        app: what it protects.
        config: its mode says which Host names are believed; a public page ("space") has no name to protect.
    """

    def __init__(self, app: App, config: Config) -> None:
        self._app = app
        self._names = None if config.mode == "space" else own_names(config.host)
        self._headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"content-security-policy", _POLICY.format(ancestors=_ANCESTORS.get(config.mode, "'self'")).encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no tab speaks over a websocket
        refusal = self._refusal(scope)
        if refusal is not None:
            return await answer(send, *refusal)
        limit = next((size for start, size in LIMITS if scope["path"].startswith(start)), BODY_BYTES)
        counted = Counted(receive, limit)
        if counted.is_declared_too_large(scope):
            return await answer(send, 413, TOO_LARGE)
        return await self._app(scope, counted, self._sealed(send, counted))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        host = host_name(headers.get("host", ""))
        if self._names is not None and host not in self._names and not is_address(host):
            return 421, "This page is not served under that name."
        if scope["method"] not in SAFE and is_foreign(headers):
            return 403, "Another page asked for this; only the studio's own page may."
        if CLOSED.match(scope["path"]):
            return 404, "There is nothing here."
        return None

    def _sealed(self, send: Send, counted: Counted) -> Send:
        async def sealed(message: Message) -> None:
            if counted.is_over:  # whatever the app makes of the cut body, this is the answer
                if message["type"] == "http.response.start":
                    await answer(send, 413, TOO_LARGE)
                return
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        return sealed


class Counted:
    """A `receive` that ends at a limit, whatever the headers said."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0

    @property
    def is_over(self) -> bool:
        return self._seen > self._limit

    def is_declared_too_large(self, scope: Scope) -> bool:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        return not declared.isdigit() or int(declared) > self._limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.is_over else message


def own_names(host: str) -> frozenset[str]:
    """Names under which this machine may be asked: itself, and its own name on the local network."""
    machine = socket.gethostname().lower()
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower(), machine, f"{machine}.local"})


def host_name(value: str) -> str:
    """The name in a Host header, lower case, without port and brackets; "" when it is malformed."""
    try:
        return (urlsplit(f"//{value}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    """An IP address cannot be rebound to another machine, so it is believed."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_foreign(headers: dict[str, str]) -> bool:
    """Whether a browser says that another site's page asked. Clients that are no browsers say nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


async def answer(send: Send, code: int, message: str) -> None:
    """A short JSON answer."""
    body = json.dumps({"message": message, "hint": ""}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
