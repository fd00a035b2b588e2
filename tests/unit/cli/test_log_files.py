"""What `ottla log verify` and `ottla log dump` see in files."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ottla.cli.exit_codes import Exit
from ottla.cli.log import log
from ottla.cli.log_files import OFFSET_ENTRY, TIME_ENTRY, verify
from ottla.records.batch import HEADER_BYTES, Record, encode_batch


def batch(base_offset: int, count: int = 3) -> bytes:
    records = [Record(base_offset + n, 1000 + n, b"k%d" % n, b"v%d" % n, (("h", b"x"),)) for n in range(count)]
    return encode_batch(records, base_offset=base_offset, leader_epoch=4)


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """Three batches of three records, from offset 10 on."""
    path = tmp_path / "topic-0" / f"{10:020}.log"
    path.parent.mkdir()
    path.write_bytes(b"".join(batch(10 + 3 * n) for n in range(3)))
    return path


def test_an_intact_segment_is_counted(segment: Path) -> None:
    verdict = verify(segment, is_last=True)
    assert (verdict.batches, verdict.records, verdict.next_offset) == (3, 9, 19)
    assert (verdict.damage, verdict.note, verdict.valid_bytes) == ([], "", segment.stat().st_size)


def test_a_flipped_bit_is_damage_at_its_batch(segment: Path) -> None:
    data = bytearray(segment.read_bytes())
    size = len(data) // 3
    data[size + HEADER_BYTES + 2] ^= 1
    segment.write_bytes(data)
    verdict = verify(segment, is_last=True)
    assert verdict.damage[0].startswith(f"the batch at byte {size}: the CRC is")
    assert verdict.batches == 1


def test_a_cut_off_batch_is_a_note_at_the_end_and_damage_elsewhere(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes()[:-5])
    assert "the next start cuts off" in verify(segment, is_last=True).note
    assert "cut off" in verify(segment, is_last=False).damage[0]


def test_reserved_space_is_no_damage_but_a_hole_is(segment: Path) -> None:
    whole = segment.read_bytes()
    segment.write_bytes(whole + bytes(100_000))
    assert verify(segment, is_last=False).damage == []
    segment.write_bytes(whole + bytes(100_000) + whole)
    assert verify(segment, is_last=False).damage


def test_offsets_that_go_back_are_damage(segment: Path) -> None:
    segment.write_bytes(batch(13) + batch(10))
    assert "begins with offset 10, expected 16 or more" in verify(segment, is_last=True).damage[0]


def test_an_index_that_leads_elsewhere_is_damage(segment: Path) -> None:
    size = segment.stat().st_size // 3
    index = segment.with_suffix(".index")
    index.write_bytes(OFFSET_ENTRY.pack(5, size))
    assert verify(segment, is_last=True).damage == []
    index.write_bytes(OFFSET_ENTRY.pack(5, size + 1))
    assert "where no batch begins" in verify(segment, is_last=True).damage[0]
    index.write_bytes(OFFSET_ENTRY.pack(8, size))
    assert "offset 18 at byte" in verify(segment, is_last=True).damage[0]


def test_a_time_index_beyond_the_log_is_damage(segment: Path) -> None:
    index = segment.with_suffix(".timeindex")
    index.write_bytes(TIME_ENTRY.pack(1002, 5) + bytes(12))
    assert verify(segment, is_last=True).damage == []
    index.write_bytes(TIME_ENTRY.pack(1002, 50))
    assert "names offset 60" in verify(segment, is_last=True).damage[0]


def test_the_exit_code_tells_of_damage(segment: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(log, ["verify", str(segment.parent)], standalone_mode=False)
    assert (good.return_value, "ok" in good.output) == (Exit.DONE, True)
    segment.write_bytes(segment.read_bytes()[:-1] + b"!")
    bad = runner.invoke(log, ["verify", "--json", str(segment.parent)], standalone_mode=False)
    assert bad.return_value == Exit.DAMAGED
    assert json.loads(bad.output)["damage"]


def test_dump_shows_batches_and_records(segment: Path) -> None:
    runner = CliRunner()
    lines = runner.invoke(log, ["dump", "--json", "--records", str(segment)]).output.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["base_offset"] for row in rows if "base_offset" in row] == [10, 13, 16]
    assert rows[0]["leader_epoch"] == 4
    assert rows[1] == {"offset": 10, "timestamp": 1000, "key": "k0", "value": "v0", "headers": [["h", "x"]]}
    assert "key=k1" in runner.invoke(log, ["dump", "--records", str(segment.parent)]).output


def test_dump_of_damage_is_an_error(segment: Path) -> None:
    segment.write_bytes(b"x" * 100)
    assert CliRunner().invoke(log, ["dump", str(segment)]).exit_code != 0
