"""A copier with aiokafka, whose transactions know nothing of groups' members.

So each name has partitions of its own, and is fenced as its transactional id is: who begins with it ends the
transaction of who was there before, and only then asks where to begin.
"""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from chaos.copiers import NAMES, TRANSACTION_TIMEOUT_S
from chaos.copying import ABORTS, BATCH, BATCH_S, COPY, GROUP, SOURCE, Stopping, Task, give_up, task

CALL_S = 30.0


async def copy(own: Task, stopping: Stopping) -> None:
    """Copy until told to stop."""
    producer = AIOKafkaProducer(
        bootstrap_servers=own.bootstrap,
        transactional_id=f"copier-{own.name}",
        transaction_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
        request_timeout_ms=5000,
    )
    await producer.start()
    own.step("began")
    consumer = AIOKafkaConsumer(
        bootstrap_servers=own.bootstrap,
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        request_timeout_ms=5000,
    )
    await consumer.start()
    consumer.assign([TopicPartition(SOURCE, number) for number in own.own_partitions(NAMES)])
    number = 0
    while not stopping:
        batch = await consumer.getmany(timeout_ms=int(BATCH_S * 1000), max_records=BATCH)
        if not batch:
            continue
        number += 1
        abort = own.random.random() < ABORTS
        key = own.key(number, sum(map(len, batch.values())), abort=abort)
        async with asyncio.timeout(CALL_S):
            await producer.begin_transaction()
            for partition, records in batch.items():
                for record in records:
                    await producer.send(COPY, record.value, key, partition=partition.partition)
            after = {partition: records[-1].offset + 1 for partition, records in batch.items()}
            await producer.send_offsets_to_transaction(after, GROUP)
            if abort:
                await producer.flush()
                await producer.abort_transaction()
                for partition, records in batch.items():
                    consumer.seek(partition, records[0].offset)
            else:
                await producer.commit_transaction()
        own.step("aborted" if abort else "committed")
    await consumer.stop()
    await producer.stop()


def main() -> None:
    """The process."""
    own = task()
    try:
        asyncio.run(copy(own, Stopping()))
    except (KafkaError, TimeoutError) as error:
        give_up(own, error, type(error).__name__)


if __name__ == "__main__":
    main()
