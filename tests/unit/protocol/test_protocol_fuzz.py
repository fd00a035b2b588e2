"""Hostile bytes: nothing but DecodeError, memory and time in proportion to the bytes."""

import sys
import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from ottla.core.errors import DecodeError
from ottla.protocol.apis import decode_request_header
from ottla.protocol.message import Message
from ottla.protocol.messages.describe_groups_request import DescribeGroupsRequest
from ottla.protocol.messages.describe_share_group_offsets_request import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsRequestTopic,
)
from ottla.protocol.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.protocol.wire import MAX_ELEMENTS
from tests.unit.protocol.protocol_samples import MESSAGES, Sampler, message_class
from tools.protocol.model import Field, MessageDefinition, StructDefinition

SAMPLES, MUTANTS_OF_A_SAMPLE = 8, 12
VERSIONS = [
    (message, version)
    for message in MESSAGES
    for version in range(message.top.versions.first, message.top.versions.last + 1)
]
# The smallest structs cost up to sixty times their two or three bytes, real ones about ten times; the number of all is
# limited (MAX_ELEMENTS). A message of no bytes costs its own object.
BYTES_PER_BYTE, BYTES_PER_MESSAGE = 64, 16_384


def mutate(random: Random, valid: bytes) -> bytes:
    """Bytes that are wrong in the ways in which a length, a count, a tag or a text can be."""
    mutant = bytearray(valid)
    for _ in range(random.randint(1, 4)):
        position = random.randrange(len(mutant) + 1)
        match random.randrange(6):
            case 0:
                mutant[position : position + 1] = random.randbytes(1)
            case 1:
                mutant[position : position + 4] = random.choice([b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", bytes(4)])
            case 2:
                mutant[position : position + 5] = b"\xff\xff\xff\xff\x0f"
            case 3:
                del mutant[position:]
            case 4:
                del mutant[position : position + random.randint(1, 8)]
            case _:
                mutant[position:position] = random.randbytes(random.randint(1, 8))
    return bytes(mutant)


def decodes_or_refuses(cls: type[Message], data: bytes, version: int) -> bool:
    return decoded(cls, data, version) is not None


def decoded(cls: type[Message], data: bytes, version: int) -> Message | None:
    try:
        message, end = cls.decode(data, version)
    except DecodeError:
        return None
    assert 0 <= end <= len(data)
    return message


@pytest.mark.parametrize(("message", "version"), VERSIONS, ids=lambda one: getattr(one, "name", one))
def test_mutants_raise_decode_errors_or_are_messages(message: MessageDefinition, version: int) -> None:
    random = Random(f"fuzz {message.name} {version}")
    cls, sampler = message_class(message), Sampler(random)
    for _ in range(SAMPLES):
        valid = sampler.message(message, version).encode(version)
        for _ in range(MUTANTS_OF_A_SAMPLE):
            mutant = decoded(cls, mutate(random, valid), version)
            if mutant is not None:
                again, _ = cls.decode(mutant.encode(version), version)
                assert repr(again) == repr(mutant)  # by text, because a NaN differs from itself
        decodes_or_refuses(cls, random.randbytes(random.choice([0, 1, 5, 40, 200])), version)


@pytest.mark.parametrize(("message", "version"), VERSIONS, ids=lambda one: getattr(one, "name", one))
def test_every_truncation_is_refused(message: MessageDefinition, version: int) -> None:
    cls, sampler = message_class(message), Sampler(Random(f"cut {message.name} {version}"))
    valid = min((sampler.message(message, version).encode(version) for _ in range(5)), key=len)
    for size in range(min(len(valid), 1000)):
        assert not decodes_or_refuses(cls, valid[:size], version)


def newest(message: MessageDefinition) -> int:
    return message.top.versions.last


def peak_of_decoding(cls: type[Message], data: bytes, version: int) -> int:
    cls.decode(cls().encode(version), version)  # whatever is allocated only once
    tracemalloc.start()
    try:
        decodes_or_refuses(cls, data, version)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def paths_to_arrays(message: MessageDefinition, struct: StructDefinition, version: int) -> Iterator[tuple[Field, ...]]:
    """The fields that lead from a struct to each array of structs below it."""
    for field in struct.fields:
        if field.is_struct and version in field.versions:
            if field.is_array:
                yield (field,)
            below = paths_to_arrays(message, message.struct(field.type), version)
            yield from ((field, *path) for path in below)


def with_elements(message: MessageDefinition, path: tuple[Field, ...], count: int) -> Message:
    """A message with `count` elements, the smallest that there are, in the array at the end of the path."""
    module = sys.modules[message_class(message).__module__]
    value: Any = [getattr(module, path[-1].type)()] * count
    for outer, inner in reversed(list(pairwise(path))):
        one = getattr(module, outer.type)(**{inner.name: value})
        value = [one] if outer.is_array else one
    return message_class(message)(**{path[0].name: value})


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: one.name)
def test_smallest_elements_cost_a_bounded_multiple_of_their_bytes(message: MessageDefinition) -> None:
    version = newest(message)
    for path in paths_to_arrays(message, message.top, version):
        data = with_elements(message, path, 300).encode(version)
        peak = peak_of_decoding(message_class(message), data, version)
        assert peak < BYTES_PER_BYTE * len(data) + BYTES_PER_MESSAGE


def test_elements_of_one_message_are_limited_in_all_arrays_together() -> None:
    partitions = [OffsetFetchRequestTopics(name="", partition_indexes=[])] * (MAX_ELEMENTS // 2)
    group = OffsetFetchRequestGroup(group_id="", topics=partitions)
    data = OffsetFetchRequest(groups=[group, group]).encode(8)
    started = time.process_time()
    with pytest.raises(DecodeError, match="more than 1048576 array elements"):
        OffsetFetchRequest.decode(data, 8)
    assert time.process_time() - started < 5


def test_four_numbers_of_an_array_count_as_an_element() -> None:
    numbers = [0] * (4 * MAX_ELEMENTS)
    listed = DescribeShareGroupOffsetsRequestTopic(partitions=numbers)

    def encode() -> bytes:
        group = DescribeShareGroupOffsetsRequestGroup(topics=[listed])
        return DescribeShareGroupOffsetsRequest(groups=[group]).encode(0)

    with pytest.raises(DecodeError, match="more than 1048576 array elements"):
        DescribeShareGroupOffsetsRequest.decode(encode(), 0)
    del numbers[: 4 * 3]  # the outer structs count too
    DescribeShareGroupOffsetsRequest.decode(encode(), 0)


def test_strings_of_an_array_count_as_elements() -> None:
    data = DescribeGroupsRequest(groups=[""] * (MAX_ELEMENTS + 1)).encode(5)
    assert peak_of_decoding(DescribeGroupsRequest, data, 5) < 100_000


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: one.name)
def test_mutants_are_refused_within_memory_and_time(message: MessageDefinition) -> None:
    random = Random(f"bounds {message.name}")
    cls, sampler, version = message_class(message), Sampler(random), newest(message)
    for _ in range(5):
        mutant = mutate(random, sampler.message(message, version).encode(version))
        started = time.process_time()
        peak = peak_of_decoding(cls, mutant, version)
        assert time.process_time() - started < 0.1 + 20e-6 * len(mutant)
        assert peak < BYTES_PER_BYTE * len(mutant) + BYTES_PER_MESSAGE


def test_random_request_headers() -> None:
    random = Random("headers")
    for _ in range(20_000):
        data = random.randbytes(random.randrange(30))
        try:
            _, end = decode_request_header(data)
        except DecodeError:
            continue
        assert end <= len(data)
