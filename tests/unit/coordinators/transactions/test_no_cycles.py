"""What a request held is gone with its answer: else the garbage collector stops the loop for milliseconds."""

import gc

from ottla.core.errors import ErrorCode
from tests.unit.coordinators.transactions.transaction_fakes import JOBS, OTHER_JOBS, Node


def _transaction(node: Node, producer: tuple[int, int], version: int) -> None:
    """One of the older flow, whose successor comes before its markers are written."""
    node.markers.hold = True
    assert node.add(producer, JOBS, OTHER_JOBS, version=version) == [ErrorCode.NONE] * 2
    assert node.add(producer, JOBS, verify_only=True) == [ErrorCode.NONE]
    assert node.end(producer, version=4).take().error_code == ErrorCode.NONE
    assert node.add(producer, version=version) == [ErrorCode.CONCURRENT_TRANSACTIONS]
    assert node.add(producer, verify_only=True) == [ErrorCode.CONCURRENT_TRANSACTIONS]
    node.markers.write()
    node.run()


def test_a_transaction_leaves_nothing_to_the_collector() -> None:
    node = Node()
    producer = node.producer()
    _transaction(node, producer, 3)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            _transaction(node, producer, 3)
        assert gc.collect() == 0
    finally:
        gc.enable()
