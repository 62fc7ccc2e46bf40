import socket

import pytest

from studio.errors import OfflineError


def test_other_machines_are_out_of_reach(airgap):
    with pytest.raises(OfflineError, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OfflineError):
        socket.getaddrinfo("example.org", 443)
    assert airgap.attempts[-2:] == ["192.0.2.1", "example.org"]


def test_this_machine_is_in_reach():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()
