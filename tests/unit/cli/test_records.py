"""What `ottla produce` makes of a line, and `ottla consume` of a record."""

import json
from typing import Any

import pytest

from ottla.cli.consume import Start, _renderer, parse_start
from ottla.cli.produce import Line, _header, _json_line, _plain_line
from ottla.client.types import ConsumerRecord, TimestampType
from ottla.core.errors import ConfigError


def record(key: bytes | None, value: bytes | None, **fields: Any) -> ConsumerRecord[bytes | None, bytes | None]:
    values: dict[str, Any] = {
        "topic": "t",
        "partition": 0,
        "offset": 7,
        "timestamp": 9,
        "timestamp_type": TimestampType.CREATE_TIME,
        "key": key,
        "value": value,
        "headers": (),
    }
    return ConsumerRecord(**{**values, **fields})


def test_a_line_is_a_value() -> None:
    assert _plain_line(b"a:b", None, (), None) == Line(None, b"a:b", (), None, None)


def test_the_first_separator_splits_key_and_value() -> None:
    assert _plain_line(b"k::v::w", b"::", (("h", b"x"),), 3) == Line(b"k", b"v::w", (("h", b"x"),), 3, None)
    with pytest.raises(ValueError, match="no '::'"):
        _plain_line(b"kv", b"::", (), None)


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ({"value": "text"}, b"text"),
        ({"value": None}, None),
        ({"value": {"base64": "/w=="}}, b"\xff"),
        ({"value": {"a": [1, "é"]}}, '{"a":[1,"é"]}'.encode()),
        ({"value": 5}, b"5"),
    ],
)
def test_json_values_become_bytes(row: dict[str, object], value: bytes | None) -> None:
    assert _json_line(json.dumps(row).encode(), (), None).value == value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"valu": "x"}', 'there is no "value"'),
        (b'{"value": {"base64": "!"}}', "not base64"),
        (b'{"value": 1, "headers": ["a"]}', "headers: write"),
        (b'{"value": 1, "headers": "ab"}', "headers: write"),
        (b'{"value": 1, "timestamp": "now"}', 'timestamp: "now" is not a whole number'),
        (b'{"value": 1, "partition": true}', "partition: true is not a whole number"),
    ],
)
def test_what_is_no_record_is_told(line: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        _json_line(line, (), None)


@pytest.mark.parametrize("headers", [[["a", "1"], ["b", None]], {"a": "1", "b": None}])
def test_headers_of_a_json_line_are_pairs_or_an_object(headers: object) -> None:
    line = json.dumps({"value": "v", "headers": headers}).encode()
    assert _json_line(line, (("c", b"3"),), None).headers == (("a", b"1"), ("b", None), ("c", b"3"))


def test_json_lines_come_back_as_they_went() -> None:
    rendered = _renderer("json", None)([record(b"k", b"\xff\x00", headers=(("h", None), ("i", b"1")))])
    line = _json_line(rendered, (), None)
    assert line == Line(b"k", b"\xff\x00", (("h", None), ("i", b"1")), 0, 9)


def test_raw_is_the_value_and_a_newline() -> None:
    records = [record(None, b"a"), record(b"k", None), record(None, b"b\n")]
    assert _renderer("raw", None)(records) == b"a\n\nb\n\n"
    assert _renderer("raw", None)([]) == b""
    assert _renderer("raw", ": ")(records[1:]) == b"k: \n: b\n\n"


def test_hex_tells_null_from_empty() -> None:
    assert _renderer("hex", None)([record(None, b""), record(b"\x01", b"\xff")]) == b"- \n01 ff\n"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("beginning", Start(place="beginning")),
        ("end", Start(place="end")),
        ("12", Start(offset=12)),
        ("-3", Start(last=3)),
        ("@1700000000000", Start(time_ms=1_700_000_000_000)),
        ("2023-11-14T22:13:20Z", Start(time_ms=1_700_000_000_000)),
        ("2023-11-14T23:13:20+01:00", Start(time_ms=1_700_000_000_000)),
    ],
)
def test_where_reading_starts(text: str, start: Start) -> None:
    assert parse_start(text) == start


@pytest.mark.parametrize("text", ["soon", "", "1.5", "@now"])
def test_an_unknown_start_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write beginning, end"):
        parse_start(text)


def test_headers_need_a_name() -> None:
    assert _header("a=b=c") == ("a", b"b=c")
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        _header("=b")
