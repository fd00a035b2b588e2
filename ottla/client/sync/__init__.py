"""The clients for code without asyncio: the same names, arguments and errors, with calls that block.

    from ottla.client.sync import Producer

    with Producer(bootstrap_servers="localhost:10092") as producer:
        producer.send("greetings", b"hello").result()

All of them run on one loop in a thread of their own, so they work in a script, in Jupyter and inside a web framework's
worker threads, whatever loop is there. In a coroutine use `ottla.client`: a blocking call would hold up its loop.
After a fork the clients of the parent raise `ClientForked`.
"""

from ottla.client.sync.admin import Admin
from ottla.client.sync.consumer import Consumer
from ottla.client.sync.producer import Delivery, Producer

__all__ = ["Admin", "Consumer", "Delivery", "Producer"]
