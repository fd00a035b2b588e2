"""What a committed offset costs one node: `python -m bench.micro.commits [--peer ottla|kafka|both]`.

One partition a commit, as a consumer of one partition sends it (`bench.committing`). Processor time is the node's.
Ottla syncs each commit before it answers; `--set` gives the node other settings. Three nodes are measured by `python -m
bench --nodes 3 "offset commits, 100 clients"`.
"""

import argparse

from bench.committing import measure_commits
from bench.peers import Started, kafka, ottla
from bench.quantiles import quantile


def measure(started: Started, connection_count: int, in_flight: int, seconds: float) -> str:
    found = measure_commits(started.cluster, connection_count, in_flight, seconds)
    return (
        f"{started.cluster.name:6} {connection_count:4} connections, {in_flight:3} in flight each: "
        f"{found.count / found.took_s:8,.0f}/s  {found.cpu_s / found.count * 1e6:6.1f} µs CPU each  "
        f"p50 {quantile(found.waited_s, 0.5) * 1000:6.2f} ms  p99 {quantile(found.waited_s, 0.99) * 1000:6.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro.commits", description=__doc__)
    parser.add_argument("--peer", choices=("ottla", "kafka", "both"), default="ottla")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of Ottla's node")
    options = parser.parse_args()
    shapes = ((1, 100), (20, 5), (100, 1))
    peers = {"ottla": lambda: ottla(settings=tuple(options.set)), "kafka": kafka}
    for _ in range(options.rounds):
        for name in peers if options.peer == "both" else (options.peer,):
            with peers[name]() as started:
                for connection_count, in_flight in shapes:
                    print(measure(started, connection_count, in_flight, options.seconds), flush=True)


if __name__ == "__main__":
    main()
