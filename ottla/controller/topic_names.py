"""Which names a topic may have (Kafka's rules)."""

import re
from typing import Final

MAX_LENGTH: Final = 249  # a directory `<name>-<partition>` fits in a file name of 255 bytes

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


def why_invalid(name: str) -> str | None:
    """What is wrong with the name, as text for a client; None when nothing is."""
    if not name:
        return "A topic name must not be empty."
    if name in (".", ".."):
        return "A topic must not be named '.' or '..'."
    if len(name) > MAX_LENGTH:
        return f"A topic name has at most {MAX_LENGTH} characters; this one has {len(name)}."
    if not _LEGAL.fullmatch(name):
        return f"Topic name {name!r} is illegal: use only ASCII letters, digits, '.', '_' and '-'."
    return None


def collision_key(name: str) -> str:
    """Names with the same key must not exist together: metrics show '.' as '_'."""
    return name.replace(".", "_")
