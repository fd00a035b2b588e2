"""The hand-written form of offsets' records is that of the generated codecs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.coordinators.groups import offset_codec
from ottla.coordinators.groups.records import GroupRecordCodec
from ottla.core.errors import DecodeError, EncodeError
from ottla.core.types import ZERO_UUID, Uuid
from ottla.protocol.messages.offset_commit_key import OffsetCommitKey
from ottla.protocol.messages.offset_commit_value import OffsetCommitValue

NAMES = st.text(max_size=40)
INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
TOPIC_IDS = st.one_of(st.just(ZERO_UUID), st.binary(min_size=16, max_size=16).map(Uuid))


@given(NAMES, NAMES, INT32)
def test_keys(group: str, topic: str, partition: int) -> None:
    key = OffsetCommitKey(group=group, topic=topic, partition=partition)
    encoded = offset_codec.encode_key(group, topic, partition)
    assert encoded == b"\0\1" + key.encode(0)
    assert offset_codec.decode_key(encoded) == key


@given(st.lists(st.tuples(st.sampled_from(["", "g", "gt"]), st.sampled_from(["", "t", "tt"]), INT32)))
def test_keys_one_after_the_other(places: list[tuple[str, str, int]]) -> None:
    decoder = offset_codec.KeyDecoder()
    for group, topic, partition in places:
        decoded = decoder.decode(offset_codec.encode_key(group, topic, partition))
        assert (decoded.group, decoded.topic, decoded.partition) == (group, topic, partition)


@given(INT64, INT32, NAMES, INT64, st.one_of(st.just(-1), INT64), TOPIC_IDS)
def test_values(offset: int, epoch: int, metadata: str, time_ms: int, expire_ms: int, topic_id: Uuid) -> None:
    stored = offset_codec.encode_value(offset, epoch, metadata, time_ms, expire_ms, topic_id)
    version = 4 if expire_ms == -1 else 1
    value = OffsetCommitValue(
        offset=offset,
        leader_epoch=epoch,
        metadata=metadata,
        commit_timestamp=time_ms,
        expire_timestamp=expire_ms,
        topic_id=topic_id,
    )
    assert stored == version.to_bytes(2, "big") + value.encode(version)
    offset_codec.check_value(stored)
    decoded = offset_codec.decode_value(stored)
    assert (decoded.offset, decoded.metadata, decoded.commit_timestamp) == (offset, metadata, time_ms)
    assert decoded.expire_timestamp == expire_ms


@given(st.binary(max_size=60), st.sampled_from([b"", b"\0\4", b"\0\1", b"\0\4" + bytes(12) + b"\1"]))
def test_a_value_is_found_good_exactly_when_it_can_be_read(noise: bytes, start: bytes) -> None:
    stored = start + noise

    def fails(read: object) -> bool:
        assert callable(read)
        try:
            read(stored)
        except DecodeError:
            return True
        return False

    assert fails(offset_codec.check_value) == fails(offset_codec.decode_value)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_values_of_all_versions_are_read(version: int) -> None:
    value = OffsetCommitValue(offset=7, metadata="m", commit_timestamp=5)
    record = GroupRecordCodec().decode(
        offset_codec.encode_key("g", "t", 3), version.to_bytes(2, "big") + value.encode(version)
    )
    assert record is not None
    assert offset_codec.decode_value(record.value).offset == 7


@pytest.mark.parametrize("cut", range(16))
def test_a_key_that_is_cut_off_is_an_error(cut: int) -> None:
    whole = offset_codec.encode_key("gr", "topic", 3)
    decoder = offset_codec.KeyDecoder()
    decoder.decode(whole)
    for key in (whole[:cut], whole + whole[: cut + 1]):
        with pytest.raises(DecodeError):
            decoder.decode(key)


def test_values_of_later_versions_are_an_error() -> None:
    with pytest.raises(DecodeError):
        offset_codec.check_value(b"\0\5" + bytes(40))


def test_names_have_a_limit() -> None:
    with pytest.raises(EncodeError):
        offset_codec.encode_key("g" * 32_768, "t", 0)
