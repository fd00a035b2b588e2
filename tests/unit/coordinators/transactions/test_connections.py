import pytest

from ottla.coordinators.transactions.connections import Connections
from ottla.core.errors import ApiError


def test_the_connection_of_init_producer_id_binds_nothing() -> None:
    connections = Connections()
    connections.initialized("x")  # on a connection that is younger than those of all that follows, as aiokafka does
    connections.turn_written()
    connections.check("x", 3)
    connections.used("x", 3)
    with pytest.raises(ApiError):
        connections.check("x", 2)


def test_one_that_is_taken_back_leaves_the_bond_as_it_was() -> None:
    connections = Connections()
    connections.used("x", 3)
    connections.initialized("x")
    connections.take_back()
    with pytest.raises(ApiError):
        connections.check("x", 2)
