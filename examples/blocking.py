"""The same without asyncio, for scripts, notebooks and web frameworks: python examples/blocking.py [HOST:PORT]"""

import sys

from ottla.client import ClientError, ErrorCode
from ottla.client.sync import Admin, Consumer, Producer


def main(server: str) -> None:
    with Admin(bootstrap_servers=server) as admin:
        try:
            admin.create_topic("greetings", num_partitions=1)
        except ClientError as error:
            if error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                raise

    with Producer(bootstrap_servers=server) as producer:
        producer.send("greetings", b"hello")
        last = producer.send("greetings", b"world").result(timeout=10)

    with Consumer("greetings", bootstrap_servers=server, auto_offset_reset="earliest") as consumer:
        for record in consumer:
            print(record.offset, record.value)
            if record.offset == last.offset:
                break


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "localhost:10092")
