"""Scenarios of the core as transcripts that read like prose, compared exactly.

After a change that is meant, write them anew and read the difference: OTTLA_WRITE_TRANSCRIPTS=1 pytest <this file>.
"""

import os
from pathlib import Path

import pytest

from tests.unit.raft.core.transcript import play

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    expected = path.read_text("utf-8")
    played = play(expected)
    if os.environ.get("OTTLA_WRITE_TRANSCRIPTS"):
        path.write_text(played, "utf-8")
    else:
        assert played == expected
