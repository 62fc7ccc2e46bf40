"""What stands before the page: who may ask, from where, how much, how slowly, and which of Gradio's doors stay shut.

Gradio itself accepts POSTs from foreign pages, any Host, bodies of any size, keeps what strangers post to its queue,
and serves files under its folders. The page needs four of its routes; all others are closed rather than configured.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import re
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from apps.visitors import Visitors
from studio.config import Config

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PICTURE_BYTES = 41 * 2**20
BODY_BYTES = 2 * 2**20
# A model is streamed to disk, which has to have the room for it; everything else is held in memory.
LIMITS = (
    ("/face/upload", PICTURE_BYTES),
    ("/api/v1/assets", PICTURE_BYTES),
    ("/face/models/import", 64 * 2**30),
    ("/face/pictures", 2 * 2**30),
    ("/gradio_api/", 256 * 2**10),
)
BODY_GRACE_S = 30.0  # a body may take as long, and longer as it comes
BODY_RATE = 16 * 2**10  # bytes a second
AT_ONCE = 24  # requests of one visitor; a browser opens six connections for all its tabs
TOO_LARGE = "That is more than the studio takes at once."
NO_COOKIE = "The studio tells its visitors apart by a cookie, and this browser sent none."
ALLOW_COOKIE = "Reload the page. If that does not help, allow cookies for it or open it in a window of its own."
BUG = "Something went wrong inside the studio. It is written to the log."
TOO_SLOW = "The rest of it did not come in time."
SAFE = ("GET", "HEAD", "OPTIONS")
# Of Gradio's routes those that the page itself calls, and not what it offers beside them at the top.
OPEN = re.compile(r"/gradio_api/(?:run/predict|heartbeat/[a-z0-9]{1,32}|startup-events|app_id)/?")
CLOSED = re.compile(
    r"/(?:monitoring|config|logout|login|login_check|token|user|pwa_icon|manifest\.json|docs|redoc|openapi\.json)(?:/|$)"
)
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {ancestors}"
)
_ANCESTORS = {"space": "'self' https://huggingface.co https://*.hf.space"}


class Guard:
    """ASGI middleware around the whole app. What it lets through carries `owner` in the scope's state.

    Args:
        app: what it protects.
        config: its mode says which Host names are believed (a public page has no name to protect), and whether
            visitors are told apart.
    """

    def __init__(self, app: App, config: Config) -> None:
        self._app = app
        self._names = None if config.mode == "space" else own_names(config.host)
        self._shared = config.mode == "local"
        self._visitors = Visitors(config)
        self._busy: Counter[str] = Counter()
        self._headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"content-security-policy", _POLICY.format(ancestors=_ANCESTORS.get(config.mode, "'self'")).encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no tab speaks over a websocket
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await answer(send, *refusal)
        owner, more = self._visitors.owner(headers), self._headers
        address = self._visitors.address(scope.get("client"), headers)
        if not owner and scope["path"] == "/" and scope["method"] == "GET":
            owner, cookie = self._visitors.welcome(address, headers)
            more = [*more, (b"set-cookie", cookie)] if owner else more
        if not owner and scope["method"] not in SAFE and not scope["path"].startswith("/gradio_api/"):
            return await answer(send, 403, NO_COOKIE, ALLOW_COOKIE)
        limit = next((size for start, size in LIMITS if scope["path"].startswith(start)), BODY_BYTES)
        counted = Counted(receive, limit)
        if counted.is_declared_too_large(scope):
            return await answer(send, 413, TOO_LARGE)
        scope.setdefault("state", {})["owner"] = owner
        visitor = owner if owner else address
        if not self._shared and self._busy[visitor] >= AT_ONCE:
            return await answer(send, 429, "You asked for too much at once.", "Wait for some of it.", 1)
        self._busy[visitor] += 1
        sealed = Sealed(send, counted, more)
        try:
            await self._app(scope, counted, sealed)
        except Exception:
            if counted.refusal is None:  # else the app only stumbled over the cut body
                log.exception("%s %s", scope["method"], scope["path"])
            if not sealed.has_begun:
                await answer(send, *(counted.refusal or (500, BUG)))
        finally:
            self._busy[visitor] -= 1
            if not self._busy[visitor]:
                del self._busy[visitor]

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = host_name(headers.get("host", ""))
        if self._names is not None and host not in self._names and not is_address(host):
            return 421, "This page is not served under that name."
        if is_foreign(headers) and not is_visit(scope, headers):
            return 403, "Another page asked for this; only the studio's own page may."
        path = scope["path"]
        if path.startswith("/gradio_api") and not OPEN.fullmatch(path):
            return 404, "There is nothing here."
        if CLOSED.match(path) and not (self._shared and path == "/openapi.json"):
            return 404, "There is nothing here."
        return None


class Sealed:
    """A `send` that adds headers; after a body that was cut, the refusal is the answer, whatever the app makes of it.

    Attributes:
        has_begun: whether an answer is on its way.
    """

    def __init__(self, send: Send, counted: Counted, more: Headers) -> None:
        self._send = send
        self._counted = counted
        self._more = more
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        is_start = message["type"] == "http.response.start"
        self.has_begun |= is_start
        if self._counted.refusal is not None:
            if is_start:
                await answer(self._send, *self._counted.refusal)
            return
        if is_start:
            message = {**message, "headers": [*message.get("headers", []), *self._more]}
        await self._send(message)


class Counted:
    """A `receive` that ends at a limit, whatever the headers said, and does not wait for ever.

    Attributes:
        refusal: code and message once it ended before the body did.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0
        self._begun = time.monotonic()
        self._is_complete = False
        self.refusal: tuple[int, str] | None = None

    def is_declared_too_large(self, scope: Scope) -> bool:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        return not declared.isdigit() or int(declared) > self._limit

    async def __call__(self) -> Message:
        if self._is_complete:  # what comes now is the news that the client is gone
            return await self._receive()
        left = self._begun + BODY_GRACE_S + self._seen / BODY_RATE - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, left))
        except TimeoutError:
            self.refusal = (408, TOO_SLOW)
        else:
            self._seen += len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
            if self._seen > self._limit:
                self.refusal = (413, TOO_LARGE)
        return message if self.refusal is None else {"type": "http.disconnect"}


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


def is_visit(scope: Scope, headers: dict[str, str]) -> bool:
    """Whether the browser goes to the page itself: somebody followed a link."""
    return scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"


async def answer(send: Send, code: int, message: str, hint: str = "", wait: float | None = None) -> None:
    """A short JSON answer; `wait` is after how many seconds it is worth to try again."""
    body = json.dumps({"message": message, "hint": hint}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if wait is not None:
        headers.append((b"retry-after", str(math.ceil(wait)).encode()))
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
