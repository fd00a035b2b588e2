"""Decay of what lies on a disk for long."""

from random import Random

from tests.sim.raft.host import DIRECTORY, Host


def flip_cold_bit(host: Host, random: Random) -> bool:
    """Change one bit of a snapshot or segment that is not being written; whether there was one.

    The newest frame is left alone: a journal cannot tell its damage from a torn write.
    """
    files = host.files
    if not files.exists(DIRECTORY):
        return False
    before, files.before = files.before, None  # this is not the node's doing: none of its operations fails here
    try:
        names = files.list_directory(DIRECTORY)
    finally:
        files.before = before
    cold = [*[n for n in names if n.endswith(".segment")][:-1], *[n for n in names if n.endswith(".snapshot")][-1:]]
    if not cold:
        return False
    host.bits_flipped = files.flip_bit(f"{DIRECTORY}/{random.choice(cold)}", random)
    return host.bits_flipped
