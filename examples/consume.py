"""Read a topic from its beginning with asyncio: python examples/consume.py [HOST:PORT]"""

import asyncio
import sys

from ottla.client import Consumer, json_deserializer, string_deserializer


async def main(server: str) -> None:
    async with Consumer(
        "orders",
        bootstrap_servers=server,
        auto_offset_reset="earliest",
        key_deserializer=string_deserializer,
        value_deserializer=json_deserializer,
    ) as consumer:
        # `async for record in consumer` never ends; this reads what is there now.
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await consumer.poll(timeout_ms=1000)).values():
                for record in records:
                    print(record.partition, record.offset, record.key, record.value)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "localhost:10092"))
