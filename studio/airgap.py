"""Proof of offline: connections to other machines fail in this process, and what was tried is kept."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from studio.errors import OfflineError


class Airgap:
    """Blocks every connection and look-up that leaves this machine. Loopback and unix sockets stay.

    Attributes:
        attempts: hosts something tried to reach, in order.
    """

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self._kept = (socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo)

    def close(self) -> None:
        """From now on, until `open`, nothing gets out."""
        connect, connect_ex, getaddrinfo = self._kept

        def guarded_connect(sock: socket.socket, address: Any) -> None:
            self._check(sock.family, address)
            connect(sock, address)

        def guarded_connect_ex(sock: socket.socket, address: Any) -> int:
            self._check(sock.family, address)
            return connect_ex(sock, address)

        def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host is not None and not _is_local(host):
                self._refuse(host)
            return getaddrinfo(host, *args, **kwargs)

        socket.socket.connect = guarded_connect  # type: ignore[method-assign,assignment]
        socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign,assignment]
        socket.getaddrinfo = guarded_getaddrinfo

    def __enter__(self) -> Airgap:
        self.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()

    def open(self) -> None:
        socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = self._kept  # type: ignore[method-assign]

    def _check(self, family: int, address: Any) -> None:
        if family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            self._refuse(address[0])

    def _refuse(self, host: Any) -> None:
        name = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
        self.attempts.append(name)
        raise OfflineError(f"A connection to {name} was refused: the studio is offline.", "Start it online.")


def _is_local(host: Any) -> bool:
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    if name in ("localhost", ""):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
