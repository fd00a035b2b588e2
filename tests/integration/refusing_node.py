"""A node that refuses every fortieth batch of an idempotent producer, as one with too few replicas in sync would.

`python -m tests.integration.refusing_node … MODULE SETTINGS`: stands before a node's command.
"""

import runpy
import sys
from itertools import count
from typing import Any

from ottla.broker.produce import Produce
from ottla.core.errors import ApiError, ErrorCode
from ottla.records.header import read_header

EVERY = 40


def main() -> None:
    """Become the node."""
    honest, numbers = Produce._append, count(1)

    def refuse(self: Produce, topic: Any, batch: Any, *arguments: Any) -> None:
        if read_header(batch).producer_id >= 0 and next(numbers) % EVERY == 0:
            raise ApiError(ErrorCode.NOT_ENOUGH_REPLICAS, "this one, and not the next")
        honest(self, topic, batch, *arguments)

    Produce._append = refuse  # type: ignore[method-assign, assignment]
    sys.argv = sys.argv[-2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
