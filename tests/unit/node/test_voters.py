"""The members that a quorum begins with."""

from pathlib import Path

import pytest

from ottla.core.errors import ConfigError, StorageError
from ottla.core.types import NodeId, Uuid, format_uuid
from ottla.node.data_directory import (
    VOTERS,
    DataDirectory,
    Formatting,
    Identity,
    format_directory,
    is_formatted,
    random_uuid,
)
from ottla.node.voters import Voter, membership, parse_voters
from ottla.raft.core.membership import Member

DIRECTORY = Uuid(bytes(range(16)))
TEXT = f"1@localhost:12092:{format_uuid(DIRECTORY)},2@[::1]:12093:{format_uuid(DIRECTORY)}"


def formatting(voters: str = TEXT) -> Formatting:
    identity = Identity(cluster_id=random_uuid(), node_id=NodeId(1), directory_id=DIRECTORY)
    return Formatting(identity=identity, secret=b"secret", voters=parse_voters(voters))


def test_the_text_form_is_kafkas() -> None:
    voters = parse_voters(TEXT)
    assert voters[1] == Voter(node_id=NodeId(2), endpoint="[::1]:12093", directory_id=DIRECTORY)
    assert ",".join(map(str, voters)) == TEXT
    assert membership(voters).endpoints[Member(NodeId(1), DIRECTORY)] == "localhost:12092"


@pytest.mark.parametrize("text", ["", "1", "1@host:DIR", "a@host:1:" + format_uuid(DIRECTORY), "1@host:0:x", "1@:5:x"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_voters(text)


def test_no_node_stands_twice() -> None:
    one = f"1@localhost:12092:{format_uuid(DIRECTORY)}"
    with pytest.raises(ConfigError, match="stands twice"):
        parse_voters(f"{one},{one}")


def test_a_formatted_directory_opens_with_its_voters_and_is_not_formatted_again(tmp_path: Path) -> None:
    path = tmp_path / "node-1"
    given = formatting()
    assert not is_formatted(path)
    format_directory(path, given)
    assert is_formatted(path)
    with DataDirectory.open(path, NodeId(1)) as data:
        assert data.identity == given.identity
        assert data.secret == b"secret"
        assert data.bootstrap == membership(given.voters)
    with pytest.raises(StorageError, match="is formatted already, for node 1"):
        format_directory(path, formatting())
    again = formatting()
    format_directory(path, again, fresh=True)
    with DataDirectory.open(path, NodeId(1)) as data:
        assert data.identity == again.identity


def test_a_damaged_list_is_named(tmp_path: Path) -> None:
    format_directory(tmp_path, formatting())
    (tmp_path / VOTERS).write_text("nonsense")
    with (
        DataDirectory.open(tmp_path, NodeId(1)) as data,
        pytest.raises(StorageError, match=r"quorum\.voters is damaged"),
    ):
        _ = data.bootstrap


def test_a_node_that_waits_to_be_added_begins_with_nobody(tmp_path: Path) -> None:
    identity = Identity(cluster_id=random_uuid(), node_id=NodeId(4), directory_id=DIRECTORY)
    format_directory(tmp_path, Formatting(identity=identity, secret=b"s", voters=()))
    with DataDirectory.open(tmp_path, NodeId(4)) as data:
        assert not data.bootstrap.members


def test_a_directory_that_nobody_formatted_is_a_cluster_of_its_own(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path, NodeId(3)) as data:
        assert data.bootstrap.voters == {Member(NodeId(3), data.identity.directory_id)}
