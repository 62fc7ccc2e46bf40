"""Who is asking. Where strangers share a page, each browser has an id in a cookie that only the studio can sign and no
script can read; on a machine of one's own everybody is "local".
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from studio import files
from studio.config import Config

LOCAL = "local"
COOKIE = "studio"
GONE = f"{COOKIE}=; Path=/; Max-Age=0"
KEY = "visitors.key"
SPACE_S = 7 * 86_400  # as long as a space keeps results
NEW_AT_ONCE = 20  # visitors of one address
NEW_EVERY_S = 3.0  # and then one more
_VALUE = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})")


class Visitors:
    """Signs the ids of visitors and knows them again.

    Args:
        config: in local mode there is one owner and no cookie; the key is kept in the home.
    """

    def __init__(self, config: Config) -> None:
        self._key = None if config.mode == "local" else key(config.home)
        self._behind_proxy = config.mode == "space"
        self._new = Allowance(NEW_AT_ONCE, 1 / NEW_EVERY_S)

    def owner(self, headers: dict[str, str]) -> str:
        """Whose request it is; "" for a stranger without a valid cookie."""
        if self._key is None:
            return LOCAL
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        match = _VALUE.fullmatch(morsel.value) if morsel is not None else None
        return match[1] if match and hmac.compare_digest(match[2], self._signature(match[1])) else ""

    def address(self, client: object, headers: dict[str, str]) -> str:
        """Where a request came from: behind a space's proxy what the proxy says, else the other end of the line."""
        forwarded = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        if self._behind_proxy and forwarded:
            return forwarded[:64]
        return str(client[0]) if isinstance(client, tuple | list) and client else ""

    def welcome(self, address: str, headers: dict[str, str]) -> tuple[str, bytes]:
        """A new owner and the Set-Cookie for them; both empty where this address had too many just now.

        A space is shown in a frame of another site's page, to which a browser only gives a partitioned cookie.
        """
        if self._new.take(address):
            return "", b""
        id_ = secrets.token_hex(16)
        framed = self._behind_proxy and headers.get("x-forwarded-proto", "").lower() == "https"
        rules = "SameSite=None; Secure; Partitioned" if framed else "SameSite=Strict"
        lasts = f"; Max-Age={SPACE_S}" if self._behind_proxy else ""  # a kiosk's browser forgets when it is closed
        return id_, f"{COOKIE}={id_}.{self._signature(id_)}; Path=/; HttpOnly; {rules}{lasts}".encode()

    def _signature(self, id_: str) -> str:
        assert self._key is not None
        return hmac.new(self._key, id_.encode(), hashlib.sha256).hexdigest()


class Allowance:
    """So much for each key: `most` at once, and it comes back at `rate` a second..

    Args:
        most: what a key may take at once.
        rate: what comes back a second.
    """

    KEYS = 10_000

    def __init__(self, most: float, rate: float) -> None:
        self._most = most
        self._rate = rate
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Takes one; 0.0, or the seconds until there is one (then nothing is taken)."""
        now = time.monotonic()
        before, at = self._spent.get(key, (0.0, now))
        spent = max(0.0, before - (now - at) * self._rate) + 1
        if spent > self._most:
            return (spent - self._most) / self._rate
        self._spent[key] = spent, now
        self._spent.move_to_end(key)
        if len(self._spent) > self.KEYS:
            self._spent.popitem(last=False)
        return 0.0


def key(home: Path) -> bytes:
    """The key of this home, made at the first call, for the eyes of its user only."""
    path = home / KEY
    files.make(home)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
    except FileExistsError:
        pass
    found = path.read_bytes()
    if len(found) != 32:  # cut short when the disk was full
        path.unlink()
        return key(home)
    return found
