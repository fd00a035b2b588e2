"""What `ottla mirror translate` says of an offset that is not copied yet, and how scripts tell it from a mistake."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ottla.cli import mirror_translate
from ottla.cli.exit_codes import Exit
from ottla.client.types import TopicPartition
from tests.unit.cli.test_mirror_verify import FILE

COPY = TopicPartition("a.orders", 0)


@pytest.mark.parametrize(
    ("found", "more", "code", "out", "said"),
    [
        (7, [], Exit.DONE, "7\n", ""),
        (None, [], Exit.NOT_YET, "", "orders-0 is not copied up to offset 9 yet: `ottla mirror status`"),
        (None, ["--reverse"], Exit.NOT_YET, "", "the copy of orders-0 does not reach offset 9 yet"),
        (None, ["--json"], Exit.NOT_YET, None, "orders-0 is not copied up to offset 9 yet"),
    ],
)
def test_not_yet_has_an_exit_code_of_its_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: int | None,
    more: list[str],
    code: Exit,
    out: str | None,
    said: str,
) -> None:
    async def translated(*_: object) -> tuple[TopicPartition, int | None]:
        return COPY, found

    monkeypatch.setattr(mirror_translate, "_translate", translated)
    file = tmp_path / "mirror.toml"
    file.write_text(FILE)
    words = [str(file), "a->b", "orders-0", "9", *more]
    told = CliRunner().invoke(mirror_translate.translate, words, standalone_mode=False)
    assert told.return_value == code
    assert said in told.stderr
    if out is None:
        assert json.loads(told.stdout) == {"topic": "a.orders", "partition": 0, "offset": None}
    else:
        assert told.stdout == out
