"""Send records with asyncio: python examples/produce.py [HOST:PORT]"""

import asyncio
import sys

from ottla.client import Producer, json_serializer, string_serializer


async def main(server: str) -> None:
    async with Producer(
        bootstrap_servers=server, key_serializer=string_serializer, value_serializer=json_serializer
    ) as producer:
        # `send` returns once the record is accepted; records of one key go to one partition, in order.
        deliveries = [
            await producer.send("orders", {"order": number, "total": number * 10}, key=f"customer-{number % 3}")
            for number in range(10)
        ]
        # A delivery is done once the record is on stable storage of every in-sync replica.
        for delivery in deliveries:
            metadata = await delivery
            print(f"{metadata.topic}-{metadata.partition} at offset {metadata.offset}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "localhost:10092"))
