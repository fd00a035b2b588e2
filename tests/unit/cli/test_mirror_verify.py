"""What `ottla mirror verify` says where there is nothing to compare."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ottla.cli import mirror_verify

FILE = """
[clusters.a]
bootstrap_servers = ["a:9092"]
[clusters.b]
bootstrap_servers = ["b:9092"]
[flows."a->b"]
topics = ["orders"]
"""


def test_it_says_so_when_nothing_is_copied_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> list[object]:
        return []

    monkeypatch.setattr(mirror_verify, "_verify", nothing)
    file = tmp_path / "mirror.toml"
    file.write_text(FILE)
    told = CliRunner().invoke(mirror_verify.verify, [str(file)])
    assert (told.exit_code, "nothing is copied yet" in told.output) == (0, True), told.output
    assert CliRunner().invoke(mirror_verify.verify, [str(file), "--json"]).output.strip() == "[]"
