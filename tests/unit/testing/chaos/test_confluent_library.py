"""What librdkafka's binding does oddly is made good: a fatal error that comes as a SystemError."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from ottla.testing.chaos.clients.confluent_library import _Thread
from ottla.testing.chaos.clients.port import Failure, Remedy


async def test_a_fatal_error_under_a_broken_delivery_report_is_that_error() -> None:
    def flush() -> None:
        raise SystemError("returned a result with an exception set") from KafkaException(
            KafkaError(KafkaError._FENCED, "an old epoch", True)
        )

    calls = _Thread("test")
    with pytest.raises(Failure) as told:
        await calls.call(flush)
    assert told.value.remedy is Remedy.CLOSE
    calls.end()


async def test_any_other_system_error_is_none_of_the_cluster() -> None:
    def flush() -> None:
        raise SystemError("of the interpreter")

    calls = _Thread("test")
    with pytest.raises(SystemError):
        await calls.call(flush)
    calls.end()
