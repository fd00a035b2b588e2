"""Which sockets stand behind an address."""

import socket

import pytest

from ottla.core.errors import ConfigError
from ottla.node.listeners import Bound, Endpoint, bind, parse_endpoint, parse_listeners


def close(bound: Bound) -> None:
    for one in bound.sockets:
        one.close()


def test_localhost_is_bound_on_both_loopback_addresses_with_one_port() -> None:
    bound = bind(Endpoint("localhost", 0))
    try:
        names = [one.getsockname() for one in bound.sockets]
        assert {name[0] for name in names} == {"127.0.0.1", "::1"}
        assert {name[1] for name in names} == {bound.endpoint.port} != {0}
    finally:
        close(bound)


def test_a_port_in_use_is_told_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"localhost:{port}: the port is in use"):
            bind(Endpoint("localhost", port))


def test_a_port_in_use_on_ipv6_alone_is_told_too() -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="the port is in use"):
            bind(Endpoint("localhost", taken.getsockname()[1]))


def test_an_unknown_host_is_told() -> None:
    with pytest.raises(ConfigError, match="the host is unknown"):
        bind(Endpoint("no-such-host.invalid", 0))


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(ConfigError, match="no such address"):
        bind(Endpoint("192.0.2.1", 0))


def test_texts_and_endpoints_agree() -> None:
    assert parse_endpoint("[::1]:5", "x") == Endpoint("::1", 5)
    assert str(Endpoint("::1", 5, "PLAINTEXT")) == "PLAINTEXT://[::1]:5"
    assert parse_listeners("internal://:1, EXTERNAL://h:2", "x") == (
        Endpoint("", 1, "INTERNAL"),
        Endpoint("h", 2, "EXTERNAL"),
    )
