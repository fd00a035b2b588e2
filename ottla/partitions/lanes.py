"""Many jobs of one kind beside each other: syncs of different files cost a fraction when the disk sees several at once.

A few long disk jobs share them, rather than one each: a hop to a thread and back costs as much as a small sync.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from ottla.core.ports import Disk

# One thread of the pool is left to whoever waits for a commit.
LANES: Final = 3


def run_in_lanes(
    disk: Disk, jobs: Sequence[Callable[[], object]], done: Callable[[dict[int, Exception]], None]
) -> None:
    """Run all jobs, in any order; then `done` with the errors of those that failed, by their place in `jobs`."""
    errors: dict[int, Exception] = {}
    lanes = [range(first, len(jobs), LANES) for first in range(min(LANES, len(jobs)))]
    left = len(lanes)

    def run(lane: range) -> None:
        for n in lane:
            try:
                jobs[n]()
            except Exception as error:  # whose it is, `done` knows
                errors[n] = error

    def ended(_: None, error: Exception | None) -> None:
        nonlocal left
        assert error is None
        left -= 1
        if not left:
            done(errors)

    for lane in lanes:
        disk.submit(partial(run, lane), ended)
    if not lanes:
        done(errors)
