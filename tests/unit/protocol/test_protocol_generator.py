import pytest

from tools.protocol.extract import parse_default, parse_versions, shorten
from tools.protocol.generate import generate
from tools.protocol.model import Versions, snake_case


def test_committed_files_are_what_the_generator_writes() -> None:
    stale = [str(path) for path, text in generate().items() if path.read_text() != text]
    assert stale == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ThrottleTimeMs", "throttle_time_ms"),
        ("KRaftVersionFeature", "k_raft_version_feature"),
        ("groupInstanceId", "group_instance_id"),
        ("From", "from_"),
    ],
)
def test_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("0+", (2, 9)), ("4", (4, 4)), ("0-3", (2, 3)), ("12+", (12, 9)), ("none", (1, 0))]
)
def test_versions_are_clipped_to_the_message(text: str, expected: tuple[int, int]) -> None:
    assert parse_versions(text, 2, 9) == expected


@pytest.mark.parametrize(
    ("inner", "within", "expected"),
    [
        (Versions(0, 9), Versions(2, 5), None),
        (Versions(3, 9), Versions(2, 5), "version >= 3"),
        (Versions(0, 3), Versions(2, 5), "version <= 3"),
        (Versions(3, 4), Versions(2, 5), "3 <= version <= 4"),
        (Versions(5, 9), Versions(2, 5), "version == 5"),
    ],
)
def test_condition_of_a_range(inner: Versions, within: Versions, expected: str | None) -> None:
    assert inner.condition(within) == expected


def test_defaults() -> None:
    assert parse_default("int32", "0x7fffffff") == 0x7FFFFFFF
    assert parse_default("bool", "false") is False
    assert parse_default("[]int32", "null") is None
    assert parse_default("string", "") == ""


def test_nothing_but_the_layout_is_taken_over() -> None:
    field = {"name": "A", "type": "[]B", "versions": "1+", "about": "prose", "fields": [
        {"name": "C", "type": "int8", "versions": "1+", "entityType": "x", "ignorable": True},
    ]}  # fmt: skip
    raw = {"name": "M", "type": "data", "validVersions": "0-2", "flexibleVersions": "2+", "fields": [field]}
    assert shorten(raw) == {
        "name": "M",
        "kind": "data",
        "versions": [0, 2],
        "flexible": 2,
        "fields": [{"name": "A", "type": "[]B", "versions": [1, 2]}],
        "structs": {"B": [{"name": "C", "type": "int8", "versions": [1, 2]}]},
    }
