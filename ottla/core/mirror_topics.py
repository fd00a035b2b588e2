"""The topic configs that make a topic a mirror of one in another cluster, and what their values say.

    (nothing) ── ottla.mirror.source ──▶ copying ── ottla.mirror.state = promoting ──▶ promoting ──▶ (nothing)
                                                                                        leaves ottla.mirror.promoted

Both cluster and topic are named by their ids: a topic that was deleted and made again is another one.
"""

import re
from typing import Final, NamedTuple, Self

MIRROR_PREFIX: Final = "ottla.mirror."
MIRROR_SOURCE: Final = "ottla.mirror.source"
MIRROR_STATE: Final = "ottla.mirror.state"
MIRROR_PROMOTED: Final = "ottla.mirror.promoted"

COPYING: Final = "copying"
PROMOTING: Final = "promoting"

_SOURCE: Final = re.compile(r"([A-Za-z0-9_-]{1,64})/([A-Za-z0-9_-]{1,64})/([A-Za-z0-9._-]{1,249})")


class MirrorSource(NamedTuple):
    """What a mirror topic mirrors: the value of `ottla.mirror.source`. Ids are in Kafka's text form."""

    cluster_id: str
    topic_id: str
    topic: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        match = _SOURCE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r}: write <cluster id>/<topic id>/<topic>")
        return cls(*match.groups())

    def __str__(self) -> str:
        return "/".join(self)


class Promoted(NamedTuple):
    """What a topic mirrored until it was promoted, and where each partition ended then: `ottla.mirror.promoted`."""

    source: MirrorSource
    end_offsets: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        source, _, ends = text.partition("@")
        if not all(end.isdecimal() for end in ends.split(",")):
            raise ValueError(f"{text!r}: write <cluster id>/<topic id>/<topic>@<end offset>,<end offset>…")
        return cls(MirrorSource.parse(source), tuple(int(end) for end in ends.split(",")))

    def __str__(self) -> str:
        return f"{self.source}@{','.join(map(str, self.end_offsets))}"


def why_no_source(text: str) -> str | None:
    """What is wrong with a value of `ottla.mirror.source`; empty: no mirror."""
    return _why_not(MirrorSource, text)


def why_not_promoted(text: str) -> str | None:
    """What is wrong with a value of `ottla.mirror.promoted`; empty: never was."""
    return _why_not(Promoted, text)


def _why_not(kind: type[MirrorSource] | type[Promoted], text: str) -> str | None:
    if text:
        try:
            kind.parse(text)
        except ValueError as error:
            return str(error)
    return None
