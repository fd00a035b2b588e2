import pytest

from ottla.coordinators.partitioning import coordinator_partition, java_string_hash


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("consumer-group", -1738392088),
        ("polygenelubricants", -(1 << 31)),
        ("žluťoučký", -1512236005),
        ("\U0001f600", 1772899),
    ],
)
def test_hash_is_the_one_of_java(text: str, value: int) -> None:
    assert java_string_hash(text) == value


def test_the_number_whose_absolute_value_java_cannot_hold_counts_as_zero() -> None:
    assert coordinator_partition("polygenelubricants", 50) == 0


def test_negative_hashes_fall_on_a_partition_too() -> None:
    assert coordinator_partition("consumer-group", 50) == 1738392088 % 50
