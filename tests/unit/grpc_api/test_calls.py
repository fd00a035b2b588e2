"""What a request says of who sent it."""

import pytest

from ottla.grpc_api.calls import address_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:5", ("127.0.0.1", 5)),
        ("ipv6:%5B::1%5D:5", ("::1", 5)),
        ("ipv6:%5Bfe80::1%25eth0%5D:5", ("fe80::1%eth0", 5)),
        ("ipv6:[::1]:5", ("::1", 5)),
    ],
)
def test_a_peer_is_named_by_its_address_and_not_as_a_uri(peer: str, address: tuple[str, int]) -> None:
    assert address_of(peer) == address
