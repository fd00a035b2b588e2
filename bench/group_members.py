"""Members of one consumer group in a process of their own: `python -m bench.group_members BOOTSTRAP GROUP TOPIC COUNT`.

Each is a librdkafka consumer. On every change a line of JSON says how many partitions each of them has. The process
ends when its standard input does: then all members leave the group.
"""

import argparse
import json
import select
import sys
from typing import Any

from confluent_kafka import Consumer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.group_members", description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("group")
    parser.add_argument("topic")
    parser.add_argument("count", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the consumers")
    options = parser.parse_args()
    settings = dict(word.split("=", 1) for word in options.set)
    members = [_member(options, settings) for _ in range(options.count)]
    shares = [0] * len(members)
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        for member in members:
            member.poll(0)
        now = [len(member.assignment()) for member in members]
        if now != shares:
            shares = now
            print(json.dumps(shares), flush=True)
    for member in members:
        member.close()


def _member(options: argparse.Namespace, settings: dict[str, str]) -> Any:
    usual = {"bootstrap.servers": options.bootstrap, "group.id": options.group, "enable.auto.commit": False}
    member = Consumer({**usual, "log_level": 0, **settings})
    member.subscribe([options.topic])
    return member


if __name__ == "__main__":
    main()
