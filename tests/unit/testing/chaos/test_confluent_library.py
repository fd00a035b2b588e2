"""What librdkafka and its binding do oddly is made good: calls that never come back, errors that say something else."""

import asyncio
import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from ottla.testing.chaos.clients.confluent_library import _tell, _Thread
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


async def test_a_call_that_never_comes_back_ends_the_client() -> None:
    for_ever = threading.Event()
    calls = _Thread("test")
    try:
        for _ in range(2):
            with pytest.raises(Failure, match="come back") as told:
                await calls.call(for_ever.wait, limit_s=0.05)
            assert told.value.remedy is Remedy.CLOSE
            assert not told.value.is_known
    finally:
        for_ever.set()
        calls.end()


async def test_a_record_that_is_purged_while_it_waits_to_be_sent_again_may_have_been_appended() -> None:
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    _tell(told, KafkaError(KafkaError._PURGE_QUEUE), -1)
    with pytest.raises(Failure) as failure:
        await told
    assert not failure.value.is_known
