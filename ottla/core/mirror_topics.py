"""The topic configs that make a topic a mirror of one in another cluster, and what their values say.

    (nothing) ── ottla.mirror.source ──▶ copying ── ottla.mirror.state = promoting ──▶ promoting ──▶ (nothing)
                                                                                        leaves ottla.mirror.promoted

Both cluster and topic are named by their ids: a topic that was deleted and made again is another one.
"""

import re
from collections.abc import Mapping
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


def why_no_step(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    """Why a topic's configs may not become `after`; None: they may.

    Whoever promotes may have read what is no longer so, and another one be faster. The controller decides by this, one
    change after the other. So of all that promote a mirror at once the first notes where it ends, before anything is
    written behind it, and the others find it noted.
    """
    source, next_source = before.get(MIRROR_SOURCE, ""), after.get(MIRROR_SOURCE, "")
    note, next_note = before.get(MIRROR_PROMOTED, ""), after.get(MIRROR_PROMOTED, "")
    was_promoting, is_promoting = (one.get(MIRROR_STATE) == PROMOTING for one in (before, after))
    if is_promoting and not was_promoting and not next_source:
        return "it is no mirror topic: it was promoted, or never was one"
    if source and not next_source and not was_promoting:
        return (
            f"it is a mirror, and not being promoted: `ottla mirror promote`, or set {MIRROR_STATE}={PROMOTING} first"
        )
    if next_note and next_note != note and not (is_promoting and next_note.startswith(f"{next_source}@")):
        return f"it is not being promoted as a mirror of {next_note.partition('@')[0]}"
    if source and was_promoting and is_promoting and note and next_note != note:
        return f"it is being promoted already, and ends at {note.partition('@')[2]}"
    return None


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
