"""Which addresses a port answers on."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

from fusion.serving.access import AccessPolicy
from fusion.serving.health import Health
from fusion.serving.ports import listen
from fusion.settings import Settings
from fusion.status import ServiceStatus
from tests.running import free_ports


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("::", {"127.0.0.1", "::1"}),
        ("0:0::0", {"127.0.0.1", "::1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("", {"127.0.0.1"}),
        ("127.0.0.1", {"127.0.0.1"}),
        ("::1", {"::1"}),
    ],
)
def test_a_port_answers_where_it_should(host: str, reached: set[str]) -> None:
    (port,) = free_ports(1)
    with contextlib.ExitStack() as opened:
        for listener in listen(host, port):
            opened.enter_context(listener)
        assert {address for address in ("127.0.0.1", "::1") if answers(address, port)} == reached


def test_a_name_with_two_addresses_is_listened_to_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def both(host: str, *rest: Any, **options: Any) -> Any:
        names = ("::1", "127.0.0.1") if host == "somewhere" else (host,)
        return [found for name in names for found in real(name, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    test_a_port_answers_where_it_should("somewhere", {"127.0.0.1", "::1"})


def test_a_proxy_is_trusted_over_a_socket_for_both() -> None:
    access = AccessPolicy(Settings(trusted_proxies="10.1.0.0/16"), Health(ServiceStatus()))
    assert access._is_proxy("::ffff:10.1.2.3")
    assert access._is_proxy("::ffff:127.0.0.1")
    assert not access._is_proxy("::ffff:10.2.2.3")
