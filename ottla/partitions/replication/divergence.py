"""Where the logs of a leader and a follower part, found by leader epochs (KIP-101, KIP-279, KIP-595).

A follower says where its log ends and in which epoch its last record was written. The leader answers where that epoch
ended in its own log; if that is not where the follower stands, the follower cuts at the smaller of what both caches say
and asks again. High watermarks play no part in it: they lag, and cutting there loses records that were acknowledged.
"""

from dataclasses import dataclass

from ottla.partitions.epoch_cache import UNDEFINED_EPOCH, EpochCache


@dataclass(frozen=True, slots=True)
class LogView:
    """What one side knows of its own log."""

    epochs: EpochCache
    log_start_offset: int
    log_end_offset: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """The follower's log is a beginning of the leader's: the leader sends from its end on."""


@dataclass(frozen=True, slots=True)
class Diverged:
    """`epoch`: the largest one of the leader's that is not above the follower's; `end_offset`: where it ended."""

    epoch: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class BeginAnew:
    """The leader has no record any more that would follow the follower's last one: its log starts at `offset`."""

    offset: int


def compare(leader: LogView, end_offset: int, last_epoch: int) -> Agreed | Diverged | BeginAnew:
    """The leader's answer to a follower whose log ends at `end_offset`, with a last record of `last_epoch` (-1: none).

    The leader's cache must know the epoch that it leads in, so that no follower can name a later one.
    """
    if end_offset < leader.log_start_offset:
        return BeginAnew(leader.log_start_offset)
    if last_epoch == UNDEFINED_EPOCH:  # no record that could differ
        return Agreed() if end_offset <= leader.log_end_offset else Diverged(last_epoch, leader.log_end_offset)
    epoch, epoch_end = leader.epochs.end_offset_for(last_epoch, leader.log_end_offset)
    if epoch_end < 0:  # nothing is known of that epoch or an earlier one: the logs have nothing in common
        return Diverged(last_epoch, leader.log_start_offset)
    if epoch != last_epoch or epoch_end < end_offset:
        return Diverged(epoch, epoch_end)
    return Agreed()


def cut_at(follower: LogView, diverged: Diverged) -> int:
    """Where the follower cuts its log before it asks again; at most its log end."""
    own_epoch, own_end = follower.epochs.end_offset_for(diverged.epoch, follower.log_end_offset)
    cut = diverged.end_offset
    if own_epoch != UNDEFINED_EPOCH and own_end >= 0:
        cut = min(cut, own_end)
    return min(cut, follower.log_end_offset)
